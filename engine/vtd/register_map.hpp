// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Register Descriptions": which register is where, and which of its bits software can read, write and clear.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/vtd/capabilities.hpp"

namespace viommu::vtd {

/// Byte offsets of the registers whose place is fixed.
namespace offset {
inline constexpr std::uint32_t version = 0x000;
inline constexpr std::uint32_t capability = 0x008;
inline constexpr std::uint32_t extended_capability = 0x010;
inline constexpr std::uint32_t global_command = 0x018;
inline constexpr std::uint32_t global_status = 0x01C;
inline constexpr std::uint32_t root_table = 0x020;
inline constexpr std::uint32_t context_command = 0x028;
inline constexpr std::uint32_t fault_status = 0x034;
inline constexpr std::uint32_t fault_event_control = 0x038;
inline constexpr std::uint32_t fault_event_data = 0x03C;
inline constexpr std::uint32_t fault_event_address = 0x040;
inline constexpr std::uint32_t fault_event_upper_address = 0x044;
inline constexpr std::uint32_t protected_memory_enable = 0x064;
inline constexpr std::uint32_t protected_low_base = 0x068;
inline constexpr std::uint32_t protected_low_limit = 0x06C;
inline constexpr std::uint32_t protected_high_base = 0x070;
inline constexpr std::uint32_t protected_high_limit = 0x078;
inline constexpr std::uint32_t queue_head = 0x080;
inline constexpr std::uint32_t queue_tail = 0x088;
inline constexpr std::uint32_t queue_address = 0x090;
inline constexpr std::uint32_t completion_status = 0x09C;
inline constexpr std::uint32_t completion_event_control = 0x0A0;
inline constexpr std::uint32_t completion_event_data = 0x0A4;
inline constexpr std::uint32_t completion_event_address = 0x0A8;
inline constexpr std::uint32_t completion_event_upper_address = 0x0AC;
inline constexpr std::uint32_t queue_error_record = 0x0B0;
inline constexpr std::uint32_t interrupt_table = 0x0B8;
inline constexpr std::uint32_t page_queue_head = 0x0C0;
inline constexpr std::uint32_t page_queue_tail = 0x0C8;
inline constexpr std::uint32_t page_queue_address = 0x0D0;
inline constexpr std::uint32_t page_request_status = 0x0DC;
inline constexpr std::uint32_t page_event_control = 0x0E0;
inline constexpr std::uint32_t page_event_data = 0x0E4;
inline constexpr std::uint32_t page_event_address = 0x0E8;
inline constexpr std::uint32_t page_event_upper_address = 0x0EC;
inline constexpr std::uint32_t fixed_end = 0x0F0;  ///< behind the last register of a fixed place
}  // namespace offset

/// One register. Bits in none of the masks read as they were reset and ignore writes.
struct RegisterRow {
  std::string_view name;
  std::uint32_t offset = 0;
  bool is_64_bit = false;
  std::uint64_t reset = 0;
  std::uint64_t writable = 0;          ///< stored as written
  std::uint64_t write_one_clears = 0;  ///< cleared where 1 is written
  std::uint64_t write_only = 0;        ///< stored, and reads as 0
};

/// All registers but the fault records.
inline constexpr std::size_t register_count = 37;
[[nodiscard]] std::array<RegisterRow, register_count> register_rows(const Capabilities& capabilities) noexcept;

}  // namespace viommu::vtd
