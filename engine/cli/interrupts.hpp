// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Entries of the interrupt remapping table, decoded in the form that each one has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/cli/memory.hpp"
#include "engine/cli/tables.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::cli {

/// Which entries to show: those that are present, or all of a range.
struct InterruptRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0xFFFF;
  bool all = false;  // also those that are not present
};
/// `INDEX` or `FIRST-LAST`, hex; empty: every entry that is present.
[[nodiscard]] bool parse_interrupts(std::string_view text, std::optional<InterruptRange>& range);

/// One entry.
struct InterruptView {
  std::uint32_t index = 0;
  ShownWord low;
  ShownWord high;
  bool present = false;
  bool posted = false;
  Verdict verdict;  // what the entry does; a fault for one that blocks
};
struct InterruptTableView {
  std::uint64_t table = 0;
  std::uint32_t entries = 0;  // of the table
  bool extended = false;      // 32-bit destinations
  std::vector<InterruptView> list;
};
/// @param in_force  IRTA_REG as latched by SIRTP
[[nodiscard]] InterruptTableView interrupt_entries(const Memory& memory, const vtd::Capabilities& capabilities,
                                                   vtd::InterruptTableAddress in_force, const InterruptRange& range);

}  // namespace viommu::cli
