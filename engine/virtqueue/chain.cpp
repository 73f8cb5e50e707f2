// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtqueue/chain.hpp"

#include <algorithm>

namespace viommu::virtqueue {
namespace {

/// Calls `each(gpa, offset in the range, count)` for the pieces of [offset, offset + size) of `segments`, until one
/// call fails. @return whether all pieces were there and none failed
template <class Each>
[[nodiscard]] bool for_each_piece(std::span<const Segment> segments, std::uint64_t offset, std::size_t size,
                                  const Each& each) noexcept {
  std::size_t done = 0;
  for (const Segment& segment : segments) {
    if (done == size) break;
    if (offset >= segment.size_bytes) {
      offset -= segment.size_bytes;
      continue;
    }
    const std::size_t count = std::min<std::uint64_t>(segment.size_bytes - offset, size - done);
    if (!each(segment.gpa + offset, done, count)) return false;
    done += count;
    offset = 0;
  }
  return done == size;
}

}  // namespace

bool Chain::read(const Memory& memory, std::uint64_t offset, std::span<std::byte> to) const noexcept {
  return for_each_piece(readable(), offset, to.size(), [&](Gpa gpa, std::size_t first, std::size_t count) {
    return memory.load(gpa, to.subspan(first, count));
  });
}

bool Chain::write(const Memory& memory, std::uint64_t offset, std::span<const std::byte> from) const noexcept {
  return for_each_piece(writable(), offset, from.size(), [&](Gpa gpa, std::size_t first, std::size_t count) {
    return memory.store(gpa, from.subspan(first, count));
  });
}

Problem Chain::add(const Memory& memory, const Descriptor& descriptor) noexcept {
  if (descriptor.length == 0) return Problem::none;
  const bool written = descriptor.device_writes;
  if (!written && first_writable_ != count_) return Problem::readable_after_writable;
  const Gpa last = descriptor.address + (descriptor.length - 1);
  if (last < descriptor.address) return Problem::address_wraps;
  if (!memory.backed({descriptor.address, last}, written)) return Problem::not_memory;

  std::uint64_t& bytes = written ? writable_bytes_ : readable_bytes_;
  bytes += descriptor.length;
  const bool goes_on = written ? count_ != first_writable_ : count_ != 0;
  if (goes_on) {
    Segment& before = segments_[count_ - 1];
    if (before.gpa + before.size_bytes == descriptor.address && descriptor.address.value != 0) {
      before.size_bytes += descriptor.length;
      return Problem::none;
    }
  }
  if (count_ == most_segments) return Problem::too_long;
  segments_[count_++] = {descriptor.address, descriptor.length};
  if (!written) first_writable_ = count_;
  return Problem::none;
}

}  // namespace viommu::virtqueue
