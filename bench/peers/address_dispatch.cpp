// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/address_dispatch.hpp"

#include <algorithm>
#include <cstring>

namespace viommu::bench {
namespace {

bool access_ram(void* opaque, std::uint64_t offset, void* data, std::size_t size, bool is_write) {
  std::byte* const host = static_cast<std::byte*>(opaque) + offset;
  if (is_write) {
    std::memcpy(host, data, size);
  } else {
    std::memcpy(data, host, size);
  }
  return true;
}

}  // namespace

AddressDispatch::Section ram_section(std::uint64_t first, std::uint64_t last, std::byte* host) {
  return {first, last, &access_ram, host};
}

void AddressDispatch::add(const Section& section) {
  const auto place = std::lower_bound(sections_.begin(), sections_.end(), section.first,
                                      [](const Section& one, std::uint64_t first) { return one.first < first; });
  sections_.insert(place, section);
  most_recently_used_ = 0;
}

const AddressDispatch::Section* AddressDispatch::find(std::uint64_t gpa) const {
  if (sections_.empty()) return nullptr;
  const Section& recent = sections_[most_recently_used_];
  if (gpa >= recent.first && gpa <= recent.last) return &recent;
  const auto after = std::upper_bound(sections_.begin(), sections_.end(), gpa,
                                      [](std::uint64_t address, const Section& one) { return address < one.first; });
  if (after == sections_.begin()) return nullptr;
  const auto found = after - 1;
  if (gpa > found->last) return nullptr;
  most_recently_used_ = static_cast<std::size_t>(found - sections_.begin());
  return &*found;
}

// Never inlined: what it models is a call into another part of the emulator.
[[gnu::noinline]] bool AddressDispatch::dispatch(std::uint64_t gpa, void* data, std::size_t size, bool is_write) const {
  const Section* const section = find(gpa);
  if (section == nullptr || size - 1 > section->last - gpa) return false;
  return section->access(section->opaque, gpa - section->first, data, size, is_write);
}

}  // namespace viommu::bench
