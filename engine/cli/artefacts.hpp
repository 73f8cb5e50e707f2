// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What recordings hold that no register of a unit would: bits that are compared as "any", each with its reason.
#pragma once

#include <cstdint>
#include <span>

namespace viommu::cli {

/// What decides which bits of a register a row frees.
struct RegisterView {
  std::uint64_t capability = 0;   // CAP_REG
  std::uint64_t record_high = 0;  // of a fault record: its upper word, as the engine has it
  bool scalable = false;          // the unit is in scalable mode
};

struct Artefact {
  const char* name;
  const char* reason;
  /// The bits of the fault record's words that may differ.
  std::uint64_t (*low)(const RegisterView& view);
  std::uint64_t (*high)(const RegisterView& view);
};

/// Every exception there is.
[[nodiscard]] std::span<const Artefact> recording_artefacts() noexcept;

/// Where a register read lies in the fault records: which record, and the offset in its 16 bytes.
struct RecordPlace {
  bool inside = false;
  std::uint32_t record_offset = 0;  // of the record in the register window
  unsigned byte = 0;                // 0..15
};
[[nodiscard]] RecordPlace fault_record_at(std::uint64_t capability, std::uint32_t offset, unsigned size) noexcept;

/// The bits of the `size` bytes at `byte` of a record that the row frees.
[[nodiscard]] std::uint64_t freed_bits(const Artefact& artefact, const RegisterView& view, unsigned byte,
                                       unsigned size) noexcept;

/// Whether the emulator says `recorded` where the specification says `ours`: in scalable mode it gives second-stage and
/// context faults the codes of legacy mode, and judges a PASID entry before it looks whether it is present.
[[nodiscard]] bool is_deviation(std::uint8_t recorded, std::uint8_t ours) noexcept;

}  // namespace viommu::cli
