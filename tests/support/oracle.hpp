// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The independent oracle: VT-d legacy-mode DMA remapping read literally from the specification.
//
// It remembers nothing, reads each table word once, one word a step, and shares no header with the library: its bit
// arithmetic is written from the figures of the specification a second time, so that a mistake in the library's layouts
// cannot repeat here. It is slow on purpose.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace viommu::oracle {

/// What the unit is and how the guest has set it up.
struct Unit {
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  unsigned haw = 0;  ///< host address width in bits
  bool translation_enabled = false;
  std::uint64_t root_table = 0;  ///< RTADDR_REG as the last SRTP command latched it
  unsigned major_version = 1;    ///< of VER_REG
};

/// One untranslated request of a device. An atomic is a request that reads and writes.
struct Request {
  std::uint16_t source_id = 0;
  std::optional<std::uint32_t> pasid = std::nullopt;
  std::uint64_t iova = 0;
  bool read = false;
  bool write = false;
  bool zero_length = false;
  unsigned length = 0;      ///< bytes, 0 when not known
  bool privileged = false;  ///< PR and ER: of a request with PASID
  bool execute = false;
};

struct Answer {
  enum Kind {
    translated,  ///< through page tables: gpa, page_mask, read and write hold
    identity,    ///< translation is off, or pass-through: the same, and gpa is the iova
    interrupt,   ///< a message to the interrupt address range, no memory access at all
    fault,       ///< reason and reported hold
  };
  Kind kind = fault;
  std::uint64_t gpa = 0;        ///< exact address of the first byte
  std::uint64_t page_mask = 0;  ///< size of the translated page, minus one
  bool read = false;
  bool write = false;
  std::uint8_t reason = 0;
  bool reported = false;  ///< the fault is logged: no FPD bit suppresses it
};

/// One aligned load of 8 bytes; nothing when there is no memory.
using ReadWord = std::function<std::optional<std::uint64_t>(std::uint64_t gpa)>;

[[nodiscard]] Answer translate(const Unit& unit, const ReadWord& read_word, const Request& request);

}  // namespace viommu::oracle
