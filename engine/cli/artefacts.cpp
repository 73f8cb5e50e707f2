// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/artefacts.hpp"

#include <algorithm>
#include <array>

#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::cli {
namespace {

constexpr std::uint64_t no_bits(const RegisterView&) { return 0; }

constexpr std::uint64_t pasid_without_prefix(const RegisterView& view) {
  const bool present = get(vtd::FaultRecordHigh{view.record_high}, vtd::frcd_high::pasid_present);
  return present ? 0 : mask_of(vtd::frcd_high::pasid);
}

/// Bits above the widest guest address the unit supports: SAGAW bit n stands for 30 + 9 * n bits.
constexpr std::uint64_t address_above_width(const RegisterView& view) {
  const unsigned widths = get(vtd::CapabilityRegister{view.capability}, vtd::cap::sagaw);
  for (unsigned width = 3; width != 0; --width)
    if (((widths >> width) & 1) != 0) return ~low_bits(vtd::address_bits_of(width));
  return 0;
}

constexpr std::uint64_t pasid_prefix(const RegisterView& view) {
  return view.scalable ? mask_of(vtd::frcd_high::pasid_present) : 0;
}

constexpr std::array rows{
    Artefact{"FRCD PV without PP", "the emulator writes ffff into PV of a request without a PASID", no_bits,
             pasid_without_prefix},
    Artefact{"FRCD FI above the width", "the emulator records address bits that no supported width has",
             address_above_width, no_bits},
    Artefact{"FRCD PP in scalable mode", "the emulator sets PP for requests without a PASID", no_bits, pasid_prefix},
};

struct Deviation {
  FaultReason recorded;
  FaultReason ours;
};
using enum FaultReason;
constexpr std::array deviations{
    Deviation{root_not_present, scalable_root_not_present},
    Deviation{context_not_present, scalable_context_not_present},
    Deviation{context_invalid, scalable_context_invalid},
    Deviation{context_invalid, pasid_entry_invalid},
    Deviation{context_invalid, second_top_table_unreadable},
    Deviation{address_beyond_width, second_beyond_width},
    Deviation{write_denied, stage_write_denied},
    Deviation{write_denied, second_entry_not_present},
    Deviation{read_denied, stage_read_denied},
    Deviation{read_denied, second_entry_not_present},
    Deviation{table_unreadable, second_table_unreadable},
    Deviation{root_unreadable, scalable_root_unreadable},
    Deviation{context_unreadable, scalable_context_unreadable},
    Deviation{root_reserved, scalable_root_reserved},
    Deviation{context_reserved, scalable_context_reserved},
    Deviation{entry_reserved, second_entry_reserved},
    Deviation{pasid_entry_invalid, pasid_entry_not_present},
};

}  // namespace

std::span<const Artefact> recording_artefacts() noexcept { return rows; }

bool is_deviation(std::uint8_t recorded, std::uint8_t ours) noexcept {
  return std::ranges::any_of(deviations, [&](const Deviation& each) {
    return static_cast<std::uint8_t>(each.recorded) == recorded && static_cast<std::uint8_t>(each.ours) == ours;
  });
}

RecordPlace fault_record_at(std::uint64_t capability, std::uint32_t offset, unsigned size) noexcept {
  constexpr unsigned record_bytes = 16;
  const vtd::CapabilityRegister cap{capability};
  const std::uint64_t first = std::uint64_t{get(cap, vtd::cap::fro)} * record_bytes;
  const std::uint64_t count = std::uint64_t{get(cap, vtd::cap::nfr)} + 1;
  if (offset < first || offset + size > first + count * record_bytes) return {};
  const auto byte = static_cast<unsigned>((offset - first) % record_bytes);
  return {true, offset - byte, byte};
}

std::uint64_t freed_bits(const Artefact& artefact, const RegisterView& view, unsigned byte, unsigned size) noexcept {
  const std::uint64_t word = byte < 8 ? artefact.low(view) : artefact.high(view);
  return (word >> (8 * (byte % 8))) & low_bits(8 * size);
}

}  // namespace viommu::cli
