// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Inclusive ranges: all of 2^64 is one, and no length of it is ever kept.
#pragma once

#include <cstdint>

namespace viommu::vhost {

inline constexpr std::uint64_t top_address = ~std::uint64_t{0};
inline constexpr std::uint64_t page_bytes = 4096;

struct Range {
  std::uint64_t first = 0;
  std::uint64_t last = 0;

  friend bool operator==(const Range&, const Range&) = default;
  [[nodiscard]] constexpr bool overlaps(const Range& other) const noexcept {
    return first <= other.last && other.first <= last;
  }
};
inline constexpr Range everything{0, top_address};

/// Whether [first, first + more] goes past 2^64.
[[nodiscard]] constexpr bool wraps(std::uint64_t first, std::uint64_t more) noexcept { return more > ~first; }

}  // namespace viommu::vhost
