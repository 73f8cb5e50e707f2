// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Fault reasons by their architectural codes.
#pragma once

#include <cstdint>

namespace viommu {

/// VT-d, "Fault Reason Encodings"; the codes are what a guest reads in a fault record.
enum class FaultReason : std::uint8_t {
  none = 0x00,
  root_not_present = 0x01,
  context_not_present = 0x02,
  context_invalid = 0x03,
  address_beyond_width = 0x04,
  write_denied = 0x05,
  read_denied = 0x06,
  table_unreadable = 0x07,
  root_unreadable = 0x08,
  context_unreadable = 0x09,
  root_reserved = 0x0A,
  context_reserved = 0x0B,
  entry_reserved = 0x0C,
  request_type_blocked = 0x0D,
  output_in_interrupt_window = 0x0E,
  message_reserved = 0x20,
  interrupt_index_beyond_table = 0x21,
  interrupt_entry_not_present = 0x22,
  interrupt_table_unreadable = 0x23,
  interrupt_entry_invalid = 0x24,
  compatibility_format_blocked = 0x25,
  interrupt_source_denied = 0x26,
  posted_descriptor_unreadable = 0x27,
  posted_descriptor_reserved = 0x28,
  not_an_interrupt = 0x29,
  extended_interrupts_required = 0x2A,
  interrupt_remapping_required = 0x2B,
  root_address_invalid = 0x30,
  pasid_in_legacy_mode = 0x31,
  page_request_in_legacy_mode = 0x32,
  aborted = 0x33,          ///< abort-DMA mode
  execute_request = 0x34,  ///< from major version 8 on
  scalable_root_unreadable = 0x38,
  scalable_root_not_present = 0x39,
  scalable_root_reserved = 0x3A,
  scalable_context_unreadable = 0x40,
  scalable_context_not_present = 0x41,
  scalable_context_reserved = 0x42,
  scalable_context_invalid = 0x43,
  device_tlb_blocked = 0x44,  ///< translation requests and translated ones
  pasid_blocked = 0x45,
  pasid_beyond_directory = 0x46,
  page_requests_blocked = 0x47,
  pasid_of_requests_without = 0x48,  ///< the request names the PASID of requests without one
  translated_pasid_blocked = 0x49,
  pasid_directory_unreadable = 0x50,
  pasid_directory_not_present = 0x51,
  pasid_directory_reserved = 0x52,
  pasid_entry_unreadable = 0x58,
  pasid_entry_not_present = 0x59,
  pasid_entry_reserved = 0x5A,
  pasid_entry_invalid = 0x5B,
  execute_blocked = 0x5C,
  supervisor_blocked = 0x5D,
  // Of the stages, in scalable mode.
  first_table_unreadable = 0x70,
  first_entry_not_present = 0x71,
  first_entry_reserved = 0x72,
  first_top_table_unreadable = 0x73,
  first_table_beyond_width = 0x74,  ///< nested, as the next three
  first_top_table_denied = 0x75,
  first_table_denied = 0x76,
  first_update_denied = 0x77,
  second_table_unreadable = 0x78,
  second_entry_not_present = 0x79,
  second_entry_reserved = 0x7A,
  second_top_table_unreadable = 0x7B,
  second_update_not_snooped = 0x7C,
  second_update_failed = 0x7D,
  address_not_canonical = 0x80,
  user_denied = 0x81,
  address_beyond_host_width = 0x83,  ///< passed through, or translated already
  second_beyond_width = 0x84,
  stage_write_denied = 0x85,
  stage_read_denied = 0x86,
  stage_output_in_interrupt_window = 0x87,
  pasid_beyond_width = 0x89,
  first_update_not_snooped = 0x90,
  first_update_failed = 0x91,
};

/// Whether it is of an interrupt, whose record has an index in place of an address.
[[nodiscard]] constexpr bool is_of_interrupt(FaultReason reason) noexcept {
  return reason >= FaultReason::message_reserved && reason < FaultReason::not_an_interrupt;
}

/// What became of a blocked request's fault record.
enum class FaultStatus : std::uint8_t {
  none = 0,          ///< nothing to report, or reporting was not wanted
  recorded = 1,      ///< written into a fault recording register
  compressed = 2,    ///< a fault of the same source is still pending
  overflow_set = 3,  ///< the register was in use: the overflow bit is set now
  overflowed = 4,    ///< the overflow bit was set already
  disabled = 5,      ///< fault processing is disabled in the entry (FPD)
  limited = 6,       ///< the source has had its records for this second
  no_buffer = 7,     ///< of virtio-iommu: the driver has given no buffer for it
};

}  // namespace viommu
