// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The independent oracle of nested translation: one request through a first stage whose tables and pages lie behind a
// second stage, read literally from the specification. It shares no header with the library. It is slow on purpose.
#pragma once

#include <cstdint>

#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/second_stage_oracle.hpp"

namespace viommu::oracle {

/// What decides about nested translation.
struct NestedUnit {
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  unsigned haw = 0;                 ///< host address width in bits
  std::uint64_t pasid_entry_0 = 0;  ///< bits 63:0 of the PASID table entry
  std::uint64_t pasid_entry_1 = 0;  ///< bits 127:64
  std::uint64_t pasid_entry_2 = 0;  ///< bits 191:128
};

/// The unit as each stage sees it.
[[nodiscard]] FirstStageUnit first_stage_of(const NestedUnit& unit);
[[nodiscard]] SecondStageUnit second_stage_of(const NestedUnit& unit);

struct NestedAnswer {
  std::uint8_t reason = 0;  ///< 0: translated
  unsigned level = 0;       ///< of the first-stage entry that decided, or that could not be reached; 0: none
  bool at_page = false;     ///< the first stage was done with: what decided is the second stage of its page
  // Of a translation.
  std::uint64_t gpa = 0;        ///< exact address of the first byte
  std::uint64_t page_mask = 0;  ///< size of the page, minus one
  unsigned second_level = 0;    ///< of the second-stage entry that maps it, 1 for an SS-PTE
  bool first_dirty = false;     ///< D of the first-stage entry that maps the page
  bool second_dirty = false;    ///< D of the second-stage entry that maps it
  // Of a translation, and of a page that grants less than is asked: what both stages grant, or the first one alone
  // where that denies.
  bool read = false;
  bool write = false;
};

[[nodiscard]] NestedAnswer translate_nested(const NestedUnit& unit, const ReadWord& read_word,
                                            const CompareExchange& compare_exchange, const FirstStageRequest& request);

}  // namespace viommu::oracle
