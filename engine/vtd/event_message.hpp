// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// An interrupt of the unit itself. Never remapped.
#pragma once

#include <cstdint>

namespace viommu::vtd {

struct EventMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;

  friend constexpr bool operator==(const EventMessage&, const EventMessage&) = default;
};

}  // namespace viommu::vtd
