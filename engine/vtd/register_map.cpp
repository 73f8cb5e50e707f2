// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/register_map.hpp"

#include "engine/base/bits.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/page_request_layouts.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {
namespace {

/// A register that software cannot write.
constexpr RegisterRow constant(std::string_view name, std::uint32_t where, bool is_64_bit,
                               std::uint64_t reset = 0) noexcept {
  return {name, where, is_64_bit, reset, 0, 0, 0};
}

/// A register that reads as it was written.
constexpr RegisterRow stored(std::string_view name, std::uint32_t where, bool is_64_bit, std::uint64_t writable,
                             std::uint64_t reset = 0) noexcept {
  return {name, where, is_64_bit, reset, writable, 0, 0};
}

/// `row`, or the empty register that stands in its place on a unit without the feature.
constexpr RegisterRow where_present(bool feature, const RegisterRow& row) noexcept {
  return feature ? row : constant(row.name, row.offset, row.is_64_bit);
}

}  // namespace

std::array<RegisterRow, register_count> register_rows(const Capabilities& c) noexcept {
  // Address bits a machine does not have are not implemented; they read 0.
  const std::uint64_t host_bits = low_bits(c.host_address_width);
  const std::uint64_t root = mask_of(rtaddr::mode) | (mask_of(rtaddr::root) & host_bits);
  const std::uint64_t queue = mask_of(iqa::size, iqa::wide) | (mask_of(iqa::base) & host_bits);
  const std::uint64_t extended = c.extended_interrupt_mode ? mask_of(irta::extended) : 0;
  const std::uint64_t interrupts = mask_of(irta::size) | extended | (mask_of(irta::table) & host_bits);
  const std::uint64_t high_region = mask_of(protected_high::address) & host_bits;
  const std::uint64_t invalidation_errors = c.device_tlb ? mask_of(fsts::completion_error, fsts::timeout) : 0;
  const std::uint64_t queue_error = c.queue ? mask_of(fsts::queue_error) : 0;
  const std::uint64_t event_masked = mask_of(event_control::mask);
  const bool pages = c.page_requests;
  const std::uint64_t context_write_only = mask_of(ccmd::source, ccmd::function_mask);
  const std::uint64_t context = mask_of(ccmd::domain, ccmd::granularity) | context_write_only;
  const std::uint64_t invalidate = mask_of(iva::address_mask, iva::hint, iva::address);
  const std::uint64_t iotlb = mask_of(iotlb_command::domain, iotlb_command::drain_writes, iotlb_command::drain_reads,
                                      iotlb_command::granularity);
  const bool protects = c.protected_low || c.protected_high;
  return {{
      constant("VER_REG", offset::version, false, c.version),
      constant("CAP_REG", offset::capability, true, c.cap),
      constant("ECAP_REG", offset::extended_capability, true, c.ecap),
      constant("GCMD_REG", offset::global_command, false),  // acted on, never stored
      constant("GSTS_REG", offset::global_status, false),
      stored("RTADDR_REG", offset::root_table, true, root),
      {"CCMD_REG", offset::context_command, true, 0, context, 0, context_write_only},
      {"FSTS_REG", offset::fault_status, false, 0, 0, mask_of(fsts::overflow) | queue_error | invalidation_errors, 0},
      stored("FECTL_REG", offset::fault_event_control, false, event_masked, event_masked),
      stored("FEDATA_REG", offset::fault_event_data, false, mask_of(event_data::data)),
      stored("FEADDR_REG", offset::fault_event_address, false, mask_of(event_address::address)),
      stored("FEUADDR_REG", offset::fault_event_upper_address, false, low_bits(32)),
      where_present(protects, stored("PMEN_REG", offset::protected_memory_enable, false, mask_of(pmen::enable))),
      where_present(c.protected_low,
                    stored("PLMBASE_REG", offset::protected_low_base, false, mask_of(protected_low::address))),
      where_present(c.protected_low,
                    stored("PLMLIMIT_REG", offset::protected_low_limit, false, mask_of(protected_low::address))),
      where_present(c.protected_high, stored("PHMBASE_REG", offset::protected_high_base, true, high_region)),
      where_present(c.protected_high, stored("PHMLIMIT_REG", offset::protected_high_limit, true, high_region)),
      constant("IQH_REG", offset::queue_head, true),
      where_present(c.queue, stored("IQT_REG", offset::queue_tail, true, mask_of(queue_pointer::index))),
      where_present(c.queue, stored("IQA_REG", offset::queue_address, true, queue)),
      where_present(c.queue, {"ICS_REG", offset::completion_status, false, 0, 0, mask_of(ics::complete), 0}),
      where_present(c.queue, stored("IECTL_REG", offset::completion_event_control, false, event_masked, event_masked)),
      where_present(c.queue, stored("IEDATA_REG", offset::completion_event_data, false, mask_of(event_data::data))),
      where_present(c.queue,
                    stored("IEADDR_REG", offset::completion_event_address, false, mask_of(event_address::address))),
      where_present(c.queue, stored("IEUADDR_REG", offset::completion_event_upper_address, false, low_bits(32))),
      constant("IQERCD_REG", offset::queue_error_record, true),
      where_present(c.interrupt_remapping, stored("IRTA_REG", offset::interrupt_table, true, interrupts)),
      where_present(pages, stored("PQH_REG", offset::page_queue_head, true, mask_of(page_queue_pointer::entry))),
      where_present(pages, stored("PQT_REG", offset::page_queue_tail, true, mask_of(page_queue_pointer::entry))),
      where_present(pages, stored("PQA_REG", offset::page_queue_address, true,
                                  mask_of(pqa::size) | (mask_of(pqa::base) & host_bits))),
      where_present(pages,
                    {"PRS_REG", offset::page_request_status, false, 0, 0, mask_of(prs::pending, prs::overflow), 0}),
      where_present(pages, stored("PECTL_REG", offset::page_event_control, false, event_masked, event_masked)),
      where_present(pages, stored("PEDATA_REG", offset::page_event_data, false, mask_of(event_data::data))),
      where_present(pages, stored("PEADDR_REG", offset::page_event_address, false, mask_of(event_address::address))),
      where_present(pages, stored("PEUADDR_REG", offset::page_event_upper_address, false, low_bits(32))),
      {"IVA_REG", c.iotlb_offset, true, 0, invalidate, 0, invalidate},
      stored("IOTLB_REG", c.iotlb_offset + 8, true, iotlb),
  }};
}

}  // namespace viommu::vtd
