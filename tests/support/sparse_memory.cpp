// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/sparse_memory.hpp"

#include <algorithm>
#include <cstring>

namespace viommu::test {

void SparseMemory::add_ram(std::uint64_t gpa, std::uint64_t length) { ram_.push_back({gpa, gpa + (length - 1)}); }

void SparseMemory::remove_ram(std::uint64_t gpa, std::uint64_t length) {
  const std::uint64_t last = gpa + (length - 1);
  std::vector<Extent> kept;
  for (const Extent& extent : ram_) {
    if (extent.last < gpa || extent.first > last) {
      kept.push_back(extent);
      continue;
    }
    if (extent.first < gpa) kept.push_back({extent.first, gpa - 1});
    if (extent.last > last) kept.push_back({last + 1, extent.last});
  }
  ram_ = std::move(kept);
  std::erase_if(pages_, [&](const auto& page) { return page.first << 12 >= gpa && (page.first << 12) + 4095 <= last; });
}

bool SparseMemory::is_ram(std::uint64_t gpa, std::uint64_t length) const {
  const std::uint64_t last = gpa + (length - 1);
  if (last < gpa) return false;
  return std::ranges::any_of(ram_, [&](const Extent& extent) { return extent.first <= gpa && last <= extent.last; });
}

std::optional<std::uint64_t> SparseMemory::load_u64(std::uint64_t gpa) const {
  std::uint64_t value = 0;
  if (gpa % sizeof value != 0 || !read(gpa, std::as_writable_bytes(std::span{&value, 1}))) return std::nullopt;
  return value;
}

bool SparseMemory::store_u64(std::uint64_t gpa, std::uint64_t value) {
  return gpa % sizeof value == 0 && write(gpa, std::as_bytes(std::span{&value, 1}));
}

bool SparseMemory::read(std::uint64_t gpa, std::span<std::byte> to) const {
  if (to.empty() || !is_ram(gpa, to.size())) return to.empty();
  for (std::size_t done = 0; done < to.size();) {
    const std::size_t offset = (gpa + done) % 4096;
    const std::size_t count = std::min(to.size() - done, std::size_t{4096} - offset);
    const auto page = pages_.find((gpa + done) >> 12);
    if (page == pages_.end()) {
      std::memset(to.data() + done, 0, count);
    } else {
      std::memcpy(to.data() + done, page->second.data() + offset, count);
    }
    done += count;
  }
  return true;
}

bool SparseMemory::write(std::uint64_t gpa, std::span<const std::byte> from) {
  if (from.empty() || !is_ram(gpa, from.size())) return from.empty();
  for (std::size_t done = 0; done < from.size();) {
    const std::size_t offset = (gpa + done) % 4096;
    const std::size_t count = std::min(from.size() - done, std::size_t{4096} - offset);
    std::memcpy(pages_[(gpa + done) >> 12].data() + offset, from.data() + done, count);
    done += count;
  }
  return true;
}

}  // namespace viommu::test
