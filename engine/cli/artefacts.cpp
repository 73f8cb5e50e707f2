// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/artefacts.hpp"

#include <array>

#include "engine/base/bits.hpp"
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

constexpr std::array rows{
    Artefact{"FRCD PV without PP", "the emulator writes ffff into PV of a request without a PASID", no_bits,
             pasid_without_prefix},
    Artefact{"FRCD FI above the width", "the emulator records address bits that no supported width has",
             address_above_width, no_bits},
};

}  // namespace

std::span<const Artefact> recording_artefacts() noexcept { return rows; }

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
