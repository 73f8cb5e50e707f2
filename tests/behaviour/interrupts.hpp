// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A machine with an interrupt remapping table, and messages as devices write them.
#pragma once

#include <cstdint>
#include <optional>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/support/interrupt_oracle.hpp"

namespace viommu::test {

inline constexpr std::uint64_t cap_posting = std::uint64_t{1} << 59;
inline constexpr std::uint64_t cap_table_invalidates = std::uint64_t{1} << 62;  ///< ESIRTPS
inline constexpr std::uint64_t ecap_extended = 0x10;                            ///< EIM
inline constexpr std::uint64_t ecap_extended_required = std::uint64_t{1} << 61;
inline constexpr std::uint64_t ecap_remapping_required = std::uint64_t{1} << 62;

[[nodiscard]] inline viommu_vtd_options interrupt_options(std::uint64_t cap = 0, std::uint64_t ecap = 0) {
  viommu_vtd_options options = usual_options();
  options.capability |= cap;
  options.extended_capability |= ecap;
  return options;
}

namespace command {
inline constexpr std::uint32_t compatibility_format = 0x0080'0000;
}

/// The entry; and of a posted-interrupt descriptor its upper half, the vector's word and the control word.
inline constexpr unsigned most_loads_of_an_interrupt = 5;

/// A message in remappable format: handle in address bits 19:5 and 2, SHV in bit 3.
[[nodiscard]] constexpr std::uint64_t remappable(std::uint32_t handle, bool subhandle = false) {
  return 0xFEE0'0010 | (handle & 0x7FFF) << 5 | (handle >> 15) << 2 | (subhandle ? 8U : 0U);
}

/// An entry as the figure draws it: low word and high word.
struct InterruptEntry {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};
/// Fixed, edge, physical, EIME clear; only this source, all 16 bits of it.
[[nodiscard]] constexpr InterruptEntry entry_for(std::uint16_t source, std::uint8_t vector, std::uint8_t destination) {
  return {1 | std::uint64_t{vector} << 16 | std::uint64_t{destination} << 40, 0x40000 | std::uint64_t{source}};
}

class InterruptMachine : public Machine {
 public:
  static constexpr std::uint64_t interrupt_table = 0x4'0000;
  static constexpr std::uint64_t extended = 0x800;  ///< EIME of IRTA_REG

  explicit InterruptMachine(const viommu_vtd_options& options = interrupt_options()) : Machine{options} {}

  void put(std::uint32_t index, InterruptEntry entry, std::uint64_t table = interrupt_table) {
    REQUIRE(memory.store_u64(table + 16 * std::uint64_t{index} + 8, entry.high));
    REQUIRE(memory.store_u64(table + 16 * std::uint64_t{index}, entry.low));
  }
  /// SIRTP. @param low  S and EIME
  void set_table(std::uint64_t low = 7, std::uint64_t table = interrupt_table) {
    write(offset::interrupt_table, table | low, 8);
    command(command::interrupt_table);
  }
  /// SIRTP, then IRE. 256 entries, EIME clear.
  void remap(std::uint64_t low = 7, std::uint64_t table = interrupt_table) {
    set_table(low, table);
    command(command::interrupt_remapping);
  }

  viommu_routed interrupt(std::uint16_t source, std::uint64_t address, std::uint32_t data = 0,
                          std::uint16_t flags = 0) {
    const std::uint64_t before = loads;
    const viommu_routed routed = reader.interrupt(interrupt_message(source, address, data, flags));
    CHECK(loads - before <= most_loads_of_an_interrupt);
    return routed;
  }
  viommu_routed route(std::uint16_t source, std::uint64_t address, std::uint32_t data = 0, std::uint16_t flags = 0) {
    return engine.route(interrupt_message(source, address, data, flags));
  }
};

/// What a guest reads of a blocked interrupt: a write, with the index where a page would be.
[[nodiscard]] inline FaultRecord interrupt_record(std::uint16_t source, std::uint32_t index, std::uint8_t reason) {
  return fault_record(source, std::uint64_t{index} << 48, VIOMMU_WRITE, reason);
}

}  // namespace viommu::test
