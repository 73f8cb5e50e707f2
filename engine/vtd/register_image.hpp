// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// All that a register file is, as plain numbers: what a saved state has of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/vtd/register_map.hpp"

namespace viommu::vtd {

struct FaultLogImage {
  static constexpr std::size_t most_records = 256;
  struct Record {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
  };

  std::size_t count = 0;  ///< records that the unit has
  std::uint32_t next = 0;
  std::uint32_t first = 0;
  std::array<Record, most_records> records{};
};

/// Why an image cannot be that of a register file.
struct Misfit {
  enum class Part : std::uint8_t { registers, latched, fault_records } part = Part::registers;
  const char* words = nullptr;  ///< null: it can
};

struct RegisterImage {
  std::array<std::uint64_t, register_count> values{};  ///< as stored, in the order of register_rows()
  std::uint32_t commanded = 0;                         ///< levels of GCMD_REG
  std::uint64_t latched_root = 0;                      ///< RTADDR_REG as SRTP found it
  std::uint64_t latched_interrupt_table = 0;           ///< IRTA_REG as SIRTP did
  std::uint64_t latched_queue = 0;                     ///< IQA_REG as QIE did
  FaultLogImage faults;
};

}  // namespace viommu::vtd
