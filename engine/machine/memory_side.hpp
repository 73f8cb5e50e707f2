// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the machine asks about guest memory, for the function tables of front ends.
#pragma once

#include <optional>

#include "engine/base/address.hpp"
#include "engine/base/guest_memory.hpp"

namespace viommu::machine {

/// Last address of guest memory; nothing while there is none.
[[nodiscard]] inline std::optional<Gpa> memory_end(const GuestMemory& memory) noexcept {
  const RegionMap* const map = memory.map();
  if (map == nullptr || map->regions().empty()) return std::nullopt;
  return map->regions().back().range.last;
}

/// First address of a range that is in no region; nothing where all of it is in one or several.
[[nodiscard]] inline std::optional<Gpa> memory_hole(const GuestMemory& memory, GpaRange range) noexcept {
  const RegionMap* const map = memory.map();
  Gpa next = range.first;
  while (const Region* const region = map == nullptr ? nullptr : map->find(next)) {  // ends: `next` grows
    if (region->range.last >= range.last) return std::nullopt;
    next = region->range.last + 1;
  }
  return next;
}

}  // namespace viommu::machine
