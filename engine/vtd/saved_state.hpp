// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A unit's state as it travels: what the guest can see or waits for, and what the unit said it could do. Caches never:
// the first translation of the other side walks.
//
//   CAPS  VER 4, CAP 8, ECAP 8, HAW 4, fault compression 4
//   REGS  count 4, then {offset 4, value 8} of each register in the order of register_rows(), stored bits included
//   LTCH  commanded levels 4, RTADDR 8, IRTA 8, IQA 8 as they were latched
//   FRCD  count 4, next 4, first 4, then {low 8, high 8} of each fault record
//   PRQG  count 4, then {source 2, group 2, PASID 4 (all ones: none)} of each page group that waits for its answer
//
// in the form of engine/machine/state_image.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "engine/machine/state_image.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/page_groups.hpp"
#include "engine/vtd/register_image.hpp"

namespace viommu::vtd {

struct SavedState {
  RegisterImage registers;
  PageGroups groups;
};

using machine::FieldMismatch;
/// Nothing is wrong; or the unit does not fit, or the bytes do not.
using LoadProblem = std::variant<std::monostate, FieldMismatch, machine::StateProblem>;

/// What a unit is, besides its state.
struct UnitIdentity {
  const Capabilities& capabilities;
  bool compress_faults = false;
};

/// @return the bytes it takes; written only where there is room for all of it
std::size_t write_state(const SavedState& state, const UnitIdentity& unit, std::span<std::byte> room) noexcept;

/// Checks everything but what the registers themselves say (RegisterFile::adopt). `state` receives it.
[[nodiscard]] LoadProblem read_state(std::span<const std::byte> bytes, const UnitIdentity& unit,
                                     SavedState& state) noexcept;

namespace section {
using machine::SectionName;
inline constexpr SectionName capabilities = SectionName::of("CAPS");
inline constexpr SectionName registers = SectionName::of("REGS");
inline constexpr SectionName latched = SectionName::of("LTCH");
inline constexpr SectionName fault_records = SectionName::of("FRCD");
inline constexpr SectionName page_groups = SectionName::of("PRQG");
}  // namespace section

}  // namespace viommu::vtd
