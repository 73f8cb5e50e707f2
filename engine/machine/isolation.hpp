// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which devices can be handed to somebody apart from others: those that no other reaches, or can pose as, without its
// requests passing the unit. Functions that cannot be told apart, or reach one another, are a group:
//
//   one requester id        an alias, and whoever has it, or the id itself
//   one physical device     its functions, virtual ones too, unless both send what is for a neighbour up (ACS)
//   one open bridge         all behind a conventional bus, a port without ACS, or a switch that has such a port
//
// Bridges that are not told are none: what hangs on them is then as if on buses of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/ids.hpp"
#include "engine/machine/registry.hpp"

namespace viommu::machine {

/// A bridge, a root port or a port of a switch, by the numbers that buses have now.
struct Bridge {
  SourceId source;
  std::uint8_t secondary = 0;  ///< the buses behind it are [secondary, subordinate]
  std::uint8_t subordinate = 0;
  bool isolates = false;      ///< has ACS, or needs none: the upstream port of a switch
  bool conventional = false;  ///< a bus behind it on which devices see each other's requests

  [[nodiscard]] constexpr bool is_before(std::uint8_t bus) const noexcept {
    return secondary <= bus && bus <= subordinate;
  }
};

inline constexpr std::size_t most_bridges = 255;  ///< each has a bus of its own behind it

/// Whether the device can be isolated from all that bypass: it passes the unit, and so do all of its group. One that no
/// device was added for has no alias and no ACS, and passes.
/// Cost: all devices, as many times as the longest chain of its group has links; bridges with each other.
[[nodiscard]] bool isolatable(const Registry& registry, std::span<const Bridge> bridges, SourceId source) noexcept;

}  // namespace viommu::machine
