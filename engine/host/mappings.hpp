// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the kernel holds for one address space, each mapping as it was given: the kernel takes it back whole or not at
// all, so these, and not the guest's tables, decide what an unmap may ask for.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace viommu::host {

/// Inclusive: all of 2^64 is a range, and no length of it is ever kept.
struct Range {
  std::uint64_t first;
  std::uint64_t last;

  friend bool operator==(const Range&, const Range&) = default;
};

inline constexpr std::uint64_t top_address = ~std::uint64_t{0};
inline constexpr Range everything{0, top_address};

[[nodiscard]] constexpr bool contains(Range outer, Range inner) noexcept {
  return outer.first <= inner.first && inner.last <= outer.last;
}
/// Bytes of a range that is not everything.
[[nodiscard]] constexpr std::uint64_t length_of(Range range) noexcept { return range.last - range.first + 1; }

struct Mapping {
  Range range;
  std::uint64_t gpa;
  std::uint64_t hva;
  std::uint32_t rights;
};

class Mappings {
 public:
  using Map = std::map<std::uint64_t, Mapping>;  // by first address
  using Iterator = Map::const_iterator;

  /// The first mapping that has an address in `range` or above it.
  [[nodiscard]] Iterator from(Range range) const noexcept {
    auto next = map_.upper_bound(range.first);
    if (next == map_.begin()) return next;
    const auto before = std::prev(next);
    return before->second.range.last >= range.first ? before : next;
  }
  /// The end of those that have an address in `range`.
  [[nodiscard]] Iterator past(Range range) const noexcept { return map_.upper_bound(range.last); }
  [[nodiscard]] bool any(Range range) const noexcept { return from(range) != past(range); }

  [[nodiscard]] bool cut_at_first(Range range) const noexcept {
    const auto at = from(range);
    return at != map_.end() && at->second.range.first < range.first;
  }
  [[nodiscard]] bool cut_at_last(Range range) const noexcept {
    const auto end = past(range);
    return end != map_.begin() && std::prev(end)->second.range.last > range.last;
  }

  /// Overlaps none that is there. The only call that allocates, and may throw.
  void insert(const Mapping& mapping) {
    map_.emplace(mapping.range.first, mapping);
    bytes_ += length_of(mapping.range);
  }
  /// All that are wholly in `range`, which cuts none.
  void erase(Range range) noexcept {
    for (auto at = map_.lower_bound(range.first); at != map_.end() && at->second.range.last <= range.last;) {
      bytes_ -= length_of(at->second.range);
      at = map_.erase(at);
    }
  }

  [[nodiscard]] const Map& all() const noexcept { return map_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  Map map_;
  std::uint64_t bytes_ = 0;
};

}  // namespace viommu::host
