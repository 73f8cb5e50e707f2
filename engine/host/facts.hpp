// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What both backends make of the usable ranges of input addresses that the kernel tells.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

namespace viommu::host {

/// Bits of the highest usable address; 64 when the kernel names no range.
[[nodiscard]] inline std::uint32_t width_of(std::span<const viommu_range> ranges) noexcept {
  if (ranges.empty()) return 64;
  std::uint64_t highest = 0;
  for (const viommu_range& range : ranges) highest = std::max(highest, range.last);
  return static_cast<std::uint32_t>(std::bit_width(highest));
}

/// As many as fit.
inline void give(std::span<const viommu_range> ranges, viommu_range* to, std::uint32_t capacity) noexcept {
  if (to != nullptr) std::ranges::copy(ranges.first(std::min<std::size_t>(ranges.size(), capacity)), to);
}

}  // namespace viommu::host
