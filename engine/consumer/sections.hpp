// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory at its own addresses, as a consumer holds it.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/host_memory.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

namespace viommu::consumer {

struct Section {
  IovaRange range{};
  std::byte* host = nullptr;
  bool mmio = false;
  bool read_only = false;

  friend bool operator==(const Section&, const Section&) = default;
};
/// Ascending, none overlaps another.
class Sections {
 public:
  explicit Sections(const HostAllocator& allocator) noexcept : allocator_{allocator} {}
  [[nodiscard]] const HostAllocator& allocator() const noexcept { return allocator_; }
  /// Room for so many, once.
  [[nodiscard]] bool reserve(std::size_t count) noexcept { return sections_.reset(allocator_, count); }
  /// There is room.
  void insert(const Section& section) noexcept {
    std::size_t at = count_++;
    for (; at > 0 && section.range.first < sections_[at - 1].range.first; --at) sections_[at] = sections_[at - 1];
    sections_[at] = section;
  }
  void erase(std::size_t index) noexcept {
    std::copy(sections_.begin() + index + 1, sections_.begin() + count_, sections_.begin() + index);
    --count_;
  }
  void clear() noexcept { count_ = 0; }
  [[nodiscard]] std::span<const Section> span() const noexcept { return {sections_.begin(), count_}; }
  [[nodiscard]] std::size_t bytes() const noexcept { return sections_.size() == 0 ? 0 : sections_.bytes(); }

 private:
  HostAllocator allocator_;
  HostArray<Section> sections_;
  std::size_t count_ = 0;
};

}  // namespace viommu::consumer
