// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What an interrupt remapping table entry says. Source: VT-d, "Interrupt Remapping Table Entry".
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/interrupt_layouts.hpp"

namespace viommu::vtd {

/// One copy of an entry, with its two words.
struct InterruptEntry {
  InterruptEntryLow low;
  InterruptEntryHigh high;
};

[[nodiscard]] inline bool delivery_exists(DeliveryMode mode) noexcept {
  switch (mode) {
    case DeliveryMode::fixed:
    case DeliveryMode::lowest:
    case DeliveryMode::smi:
    case DeliveryMode::nmi:
    case DeliveryMode::init:
    case DeliveryMode::external: return true;
  }
  return false;
}

[[nodiscard]] inline Gpa descriptor_of(const InterruptEntry& entry) noexcept {
  // PDAL stands where address bits 31:6 are in the upper half of the word, above bits that are 0.
  constexpr std::uint64_t low = mask_of(interrupt_entry_low::descriptor);
  return {joined(high_half(entry.low.raw & low), get(entry.high, interrupt_entry_high::descriptor))};
}

/// Whether the entry is one that this unit can follow, in the form that IM chooses.
[[nodiscard]] inline bool well_formed(const InterruptEntry& entry, const Capabilities& capabilities,
                                      bool extended) noexcept {
  namespace l = interrupt_entry_low;
  namespace h = interrupt_entry_high;
  if (get(entry.high, h::check) == SourceCheck::reserved) return false;
  if (get(entry.low, l::posted)) {
    const std::uint64_t beyond = descriptor_of(entry).value & ~low_bits(capabilities.host_address_width);
    return capabilities.posted_interrupts && (entry.low.raw & reserved_mask(l::posted_rows)) == 0 &&
           (entry.high.raw & reserved_mask(h::posted_rows)) == 0 && beyond == 0;
  }
  const std::uint64_t reserved = extended ? reserved_mask(l::remapped_rows) : reserved_mask(l::xapic_rows);
  return (entry.low.raw & reserved) == 0 && (entry.high.raw & reserved_mask(h::remapped_rows)) == 0 &&
         delivery_exists(get(entry.low, l::delivery));
}

}  // namespace viommu::vtd
