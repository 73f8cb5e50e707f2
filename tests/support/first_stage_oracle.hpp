// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The independent oracle of first-stage translation: one request through one tree, read literally from the
// specification. It shares no header with the library: bits and levels are the figures', and what decides is taken from
// the raw capability registers and the raw PASID table entry. It is slow on purpose.
#pragma once

#include <cstdint>
#include <functional>

#include "tests/support/oracle.hpp"

namespace viommu::oracle {

/// What decides about first-stage translation.
struct FirstStageUnit {
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  unsigned haw = 0;                 ///< host address width in bits
  std::uint64_t pasid_entry_1 = 0;  ///< bits 127:64 of the PASID table entry
  std::uint64_t pasid_entry_2 = 0;  ///< bits 191:128
};

struct FirstStageRequest {
  std::uint64_t address = 0;
  bool read = false;
  bool write = false;
  bool supervisor = false;
  bool execute = false;
};

struct FirstStageAnswer {
  std::uint8_t reason = 0;  ///< 0: translated
  unsigned level = 0;       ///< of the entry that decided, 1 for a PTE; 0: none was looked at
  // Of a translation.
  std::uint64_t gpa = 0;        ///< exact address of the first byte
  std::uint64_t page_mask = 0;  ///< size of the page, minus one
  bool dirty = false;           ///< D of the entry that maps the page
  // Of a translation, and of a request that was blocked by a right alone.
  bool read = false;
  bool write = false;
};

/// A compare-exchange of 8 bytes: 0 done, 1 lost, negative where nothing can be written.
using CompareExchange = std::function<int(std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired)>;

[[nodiscard]] FirstStageAnswer translate_first_stage(const FirstStageUnit& unit, const ReadWord& read_word,
                                                     const CompareExchange& compare_exchange,
                                                     const FirstStageRequest& request);

}  // namespace viommu::oracle
