// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the machine has to know of a VT-d unit: can its guest announce mappings, which fields of CAP and ECAP have to
// fit the host, and how it is narrowed.
#pragma once

#include <span>

#include "engine/base/guest_memory.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/unit.hpp"

namespace viommu::vtd {

/// Every cell of CAP, then of ECAP, in the order of their bits, with its rules.
[[nodiscard]] std::span<const machine::CapabilityField> capability_fields() noexcept;

/// What is left of a unit with these widths: MGAW, and SAGAW without what is wider than the table that MGAW takes.
[[nodiscard]] Capabilities narrowed_to(const Capabilities& capabilities, machine::Widths widths) noexcept;

/// A unit and its memory, as the machine's function table sees them.
struct MachineSide {
  Unit& unit;
  const GuestMemory& memory;

  /// Good as long as this object.
  [[nodiscard]] machine::FrontEnd front_end() noexcept;
};

}  // namespace viommu::vtd
