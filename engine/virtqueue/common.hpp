// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What both rings decide alike: whether to notify, and whether a table may be followed.
#pragma once

#include <cstdint>

#include "engine/virtqueue/descriptor.hpp"
#include "engine/virtqueue/problem.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtqueue {

/// Whether one of the last `count` steps, of which the last led to `now`, left `event` behind. Positions are counted
/// modulo 2^16; a negative one of a packed ring comes out right.
[[nodiscard]] constexpr bool passed(std::uint16_t event, std::uint16_t now, std::uint32_t count) noexcept {
  return static_cast<std::uint16_t>(now - event - 1) < count;
}
static_assert(passed(4, 5, 1) && !passed(5, 5, 1) && !passed(3, 5, 1) && passed(3, 5, 2) && passed(0xFFFF, 0, 1));

/// What is wrong with a descriptor that refers to a table. Its WRITE flag does not count.
[[nodiscard]] constexpr Problem problem_of_indirect(const Features& features, const Descriptor& referring) noexcept {
  if (!features.indirect) return Problem::indirect_not_negotiated;
  if (referring.has_next) return Problem::indirect_with_next;
  if (referring.length == 0 || referring.length % descriptor_bytes != 0) return Problem::indirect_length;
  if (referring.address + (referring.length - 1) < referring.address) return Problem::address_wraps;
  return Problem::none;
}

}  // namespace viommu::virtqueue
