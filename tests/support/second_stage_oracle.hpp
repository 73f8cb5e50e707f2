// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The independent oracle of second-stage translation in scalable mode: one request through one tree, read literally
// from the specification. It shares no header with the library: bits and levels are the figures', and what decides is
// taken from the raw capability registers and the raw PASID table entry. It is slow on purpose.
#pragma once

#include <cstdint>

#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/oracle.hpp"

namespace viommu::oracle {

/// What decides about second-stage translation.
struct SecondStageUnit {
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  unsigned haw = 0;                 ///< host address width in bits
  std::uint64_t pasid_entry_0 = 0;  ///< bits 63:0 of the PASID table entry
  std::uint64_t pasid_entry_1 = 0;  ///< bits 127:64
};

struct SecondStageRequest {
  std::uint64_t address = 0;
  bool read = false;
  bool write = false;
};

struct SecondStageAnswer {
  std::uint8_t reason = 0;  ///< 0: translated
  unsigned level = 0;       ///< of the entry that decided, 1 for an SS-PTE; 0: none was looked at
  // Of a translation.
  std::uint64_t gpa = 0;        ///< exact address of the first byte
  std::uint64_t page_mask = 0;  ///< size of the page, minus one
  bool dirty = false;           ///< D of the entry that maps the page
  // Of a translation, and of a request that was blocked by one right alone.
  bool read = false;
  bool write = false;
};

/// 2^X - 1 with X the minimum of MGAW and the width that AW stands for.
[[nodiscard]] std::uint64_t highest_second_stage_input(const SecondStageUnit& unit);
/// SSADE.
[[nodiscard]] bool second_stage_flags_enabled(const SecondStageUnit& unit);

[[nodiscard]] SecondStageAnswer translate_second_stage(const SecondStageUnit& unit, const ReadWord& read_word,
                                                       const CompareExchange& compare_exchange,
                                                       const SecondStageRequest& request);

}  // namespace viommu::oracle
