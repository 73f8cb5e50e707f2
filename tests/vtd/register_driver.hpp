// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A register file as tests drive it: 32- and 64-bit accesses, and a unit that does at once what it is asked.
#pragma once

#include <cstdint>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/register_file.hpp"

namespace viommu::test {

inline constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
inline constexpr std::uint64_t ecap_remapping = 0xF0'0F4A;  // QI, IR, PT

inline vtd::Capabilities capable(std::uint64_t cap = cap_48, std::uint64_t ecap = ecap_remapping,
                                 unsigned host_address_width = 48, std::uint32_t version = 0x10) {
  return vtd::Capabilities::decode(version, cap, ecap, host_address_width);
}
inline std::uint64_t with_fault_records(unsigned count) {
  return with(vtd::CapabilityRegister{cap_48}, vtd::cap::nfr, count - 1).raw;
}

/// A blocked read of the page at 0x1000.
inline vtd::FaultEntry read_fault(std::uint16_t source) {
  return {{source}, FaultReason::read_denied, vtd::FaultedRequest::read, viommu::AddressType::untranslated, {0x1000}};
}

struct Registers {
  explicit Registers(const vtd::Capabilities& capabilities = capable(), vtd::RegisterFile::Options options = {})
      : file(capabilities, options) {}

  [[nodiscard]] std::uint32_t read32(std::uint64_t offset) const {
    return static_cast<std::uint32_t>(file.read(offset, 4).value);
  }
  [[nodiscard]] std::uint64_t read64(std::uint64_t offset) const { return file.read(offset, 8).value; }
  vtd::Actions write32(std::uint64_t offset, std::uint32_t value) { return file.write(offset, 4, value); }
  vtd::Actions write64(std::uint64_t offset, std::uint64_t value) { return file.write(offset, 8, value); }

  /// Writes GCMD_REG and completes what it asks for.
  vtd::Actions command(std::uint32_t value) {
    const vtd::Actions actions = write32(vtd::offset::global_command, value);
    if (actions.flush_write_buffer) file.complete_write_buffer_flush();
    if (actions.set_root_pointer) file.complete_root_pointer();
    if (actions.set_interrupt_table) file.complete_interrupt_table();
    if (actions.compatibility_format) file.complete_compatibility_format(*actions.compatibility_format);
    if (actions.queue) file.complete_queue(*actions.queue);
    if (actions.interrupt_remapping) file.complete_interrupt_remapping(*actions.interrupt_remapping);
    if (actions.translation) file.complete_translation(*actions.translation);
    return actions;
  }

  vtd::RegisterFile file;
};

}  // namespace viommu::test
