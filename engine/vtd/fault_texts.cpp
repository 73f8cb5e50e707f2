// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_texts.hpp"

namespace viommu::vtd {

std::string_view text_of(FaultReason reason) noexcept {
  switch (reason) {
    case FaultReason::none:                             return "no reason";
    case FaultReason::root_not_present:                 return "root entry not present";
    case FaultReason::context_not_present:              return "context entry not present";
    case FaultReason::context_invalid:                  return "context with unsupported width or type, or no table";
    case FaultReason::address_beyond_width:             return "address beyond the width";
    case FaultReason::write_denied:                     return "no right to write";
    case FaultReason::read_denied:                      return "no right to read";
    case FaultReason::table_unreadable:                 return "page table cannot be read";
    case FaultReason::root_unreadable:                  return "root entry cannot be read";
    case FaultReason::context_unreadable:               return "context entry cannot be read";
    case FaultReason::root_reserved:                    return "reserved bits in the root entry";
    case FaultReason::context_reserved:                 return "reserved bits in the context entry";
    case FaultReason::entry_reserved:                   return "reserved bits in a page-table entry";
    case FaultReason::request_type_blocked:             return "the context entry blocks this kind of request";
    case FaultReason::output_in_interrupt_window:       return "the output lies in the interrupt range";
    case FaultReason::not_an_interrupt:                 return "an access to the interrupt range that is no interrupt";
    case FaultReason::message_reserved:                 return "reserved bits in an interrupt message";
    case FaultReason::interrupt_index_beyond_table:     return "the interrupt index is beyond the table";
    case FaultReason::interrupt_entry_not_present:      return "interrupt entry not present";
    case FaultReason::interrupt_table_unreadable:       return "the interrupt entry cannot be read";
    case FaultReason::interrupt_entry_invalid:          return "reserved bits or values in the interrupt entry";
    case FaultReason::compatibility_format_blocked:     return "an interrupt in compatibility format, which is blocked";
    case FaultReason::interrupt_source_denied:          return "the interrupt entry is not for this source";
    case FaultReason::posted_descriptor_unreadable:     return "the posted-interrupt descriptor cannot be accessed";
    case FaultReason::posted_descriptor_reserved:       return "reserved bits in the posted-interrupt descriptor";
    case FaultReason::extended_interrupts_required:     return "an interrupt while extended interrupt mode is off";
    case FaultReason::interrupt_remapping_required:     return "an interrupt while interrupt remapping is off";
    case FaultReason::root_address_invalid:             return "the root table address register is invalid";
    case FaultReason::pasid_in_legacy_mode:             return "a request with a PASID in legacy mode";
    case FaultReason::scalable_root_unreadable:         return "the root entry cannot be read";
    case FaultReason::scalable_root_not_present:        return "the half of the root entry is not present";
    case FaultReason::scalable_root_reserved:           return "reserved bits in the half of the root entry";
    case FaultReason::scalable_context_unreadable:      return "the context entry cannot be read";
    case FaultReason::scalable_context_not_present:     return "the context entry is not present";
    case FaultReason::scalable_context_reserved:        return "reserved bits in the context entry";
    case FaultReason::scalable_context_invalid:         return "invalid programming of the context entry";
    case FaultReason::device_tlb_blocked:               return "translation requests are blocked, and translated ones";
    case FaultReason::translated_pasid_blocked:         return "translated requests with PASID are blocked";
    case FaultReason::pasid_blocked:                    return "requests with PASID are blocked";
    case FaultReason::pasid_beyond_directory:           return "the PASID is beyond the directory";
    case FaultReason::pasid_of_requests_without:        return "the PASID is that of requests without one";
    case FaultReason::pasid_directory_unreadable:       return "the PASID directory entry cannot be read";
    case FaultReason::pasid_directory_not_present:      return "the PASID directory entry is not present";
    case FaultReason::pasid_directory_reserved:         return "reserved bits in the PASID directory entry";
    case FaultReason::pasid_entry_unreadable:           return "the PASID table entry cannot be read";
    case FaultReason::pasid_entry_not_present:          return "the PASID table entry is not present";
    case FaultReason::pasid_entry_reserved:             return "reserved bits in the PASID table entry";
    case FaultReason::pasid_entry_invalid:              return "invalid programming of the PASID table entry";
    case FaultReason::page_request_in_legacy_mode:      return "a page request in legacy mode";
    case FaultReason::page_requests_blocked:            return "page requests are blocked";
    case FaultReason::aborted:                          return "the unit is in abort-DMA mode";
    case FaultReason::execute_request:                  return "an execute request, which this version knows no more";
    case FaultReason::execute_blocked:                  return "execute requests are blocked";
    case FaultReason::supervisor_blocked:               return "privileged requests are blocked";
    case FaultReason::first_table_unreadable:           return "first-stage table cannot be read";
    case FaultReason::first_entry_not_present:          return "first-stage entry not present";
    case FaultReason::first_entry_reserved:             return "reserved bits in a first-stage entry";
    case FaultReason::first_top_table_unreadable:       return "first-stage root table cannot be read";
    case FaultReason::first_table_beyond_width:         return "first-stage table beyond the second stage's width";
    case FaultReason::first_top_table_denied:           return "first-stage root table not readable in the second";
    case FaultReason::first_table_denied:               return "first-stage table not readable in the second";
    case FaultReason::first_update_denied:              return "first-stage table not writable in the second";
    case FaultReason::second_table_unreadable:          return "second-stage table cannot be read";
    case FaultReason::second_entry_not_present:         return "second-stage entry grants nothing";
    case FaultReason::second_entry_reserved:            return "reserved bits in a second-stage entry";
    case FaultReason::second_top_table_unreadable:      return "second-stage root table cannot be read";
    case FaultReason::second_update_not_snooped:        return "second-stage flags may not be set: not snooped";
    case FaultReason::second_update_failed:             return "second-stage flags could not be set";
    case FaultReason::address_not_canonical:            return "address is not canonical";
    case FaultReason::user_denied:                      return "a supervisor's page";
    case FaultReason::address_beyond_host_width:        return "passed-through address beyond the host width";
    case FaultReason::second_beyond_width:              return "address beyond the second stage's width";
    case FaultReason::stage_write_denied:               return "no right to write";
    case FaultReason::stage_read_denied:                return "no right to read";
    case FaultReason::stage_output_in_interrupt_window: return "the output lies in the interrupt range";
    case FaultReason::pasid_beyond_width:               return "the PASID is beyond what the unit supports";
    case FaultReason::first_update_not_snooped:         return "first-stage flags may not be set: not snooped";
    case FaultReason::first_update_failed:              return "first-stage flags could not be set";
  }
  return "unknown reason";
}

}  // namespace viommu::vtd
