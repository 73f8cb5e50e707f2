// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_reasons.hpp"

#include <array>

namespace viommu::vtd {
namespace {

using core::Outcome;
using core::Stage;
using R = FaultReason;

/// There is no code for an entry that is not present: it grants nothing.
[[nodiscard]] R legacy_denied(const core::Translation& found, Rights asked) noexcept {
  return asked.write() && !found.rights.write() ? R::write_denied : R::read_denied;
}

[[nodiscard]] R legacy_reason(const core::Translation& found, Rights asked) noexcept {
  switch (found.outcome) {
    case Outcome::translated:                 return R::none;
    case Outcome::beyond_width:               return R::address_beyond_width;
    case Outcome::malformed:                  return R::entry_reserved;
    case Outcome::top_table_unreadable:       return R::context_invalid;
    case Outcome::table_unreadable:           return R::table_unreadable;
    case Outcome::output_in_interrupt_window: return R::output_in_interrupt_window;
    default:                                  return legacy_denied(found, asked);
  }
}

/// What has the same cause in both stages and a code in each.
struct StageCodes {
  Outcome outcome;
  R first;
  R second;
};
constexpr std::array stage_codes{
    StageCodes{Outcome::beyond_width, R::address_not_canonical, R::second_beyond_width},
    StageCodes{Outcome::absent, R::first_entry_not_present, R::second_entry_not_present},
    StageCodes{Outcome::malformed, R::first_entry_reserved, R::second_entry_reserved},
    StageCodes{Outcome::top_table_unreadable, R::first_top_table_unreadable, R::second_top_table_unreadable},
    StageCodes{Outcome::table_unreadable, R::first_table_unreadable, R::second_table_unreadable},
    StageCodes{Outcome::flags_forbidden, R::first_update_not_snooped, R::second_update_not_snooped},
    StageCodes{Outcome::flags_not_set, R::first_update_failed, R::second_update_failed},
};

[[nodiscard]] R scalable_denied(const core::Translation& found, Rights asked) noexcept {
  // "SSS.2": a path that grants nothing at all is as good as absent.
  if (found.stage == Stage::second && found.rights.none()) return R::second_entry_not_present;
  return asked.write() && !found.rights.write() ? R::stage_write_denied : R::stage_read_denied;
}

[[nodiscard]] R scalable_reason(const core::Translation& found, const caches::AddressSpaceKey& key,
                                Rights asked) noexcept {
  if (found.outcome == Outcome::beyond_width && key.interpretation == caches::Interpretation::pass_through)
    return R::address_beyond_host_width;
  for (const StageCodes& codes : stage_codes)
    if (codes.outcome == found.outcome) return found.stage == Stage::first ? codes.first : codes.second;
  switch (found.outcome) {
    case Outcome::translated:                 return R::none;
    case Outcome::output_in_interrupt_window: return R::stage_output_in_interrupt_window;
    case Outcome::user_denied:                return R::user_denied;
    case Outcome::table_beyond_width:         return R::first_table_beyond_width;
    case Outcome::top_table_denied:           return R::first_top_table_denied;
    case Outcome::table_denied:               return R::first_table_denied;
    case Outcome::table_update_denied:        return R::first_update_denied;
    default:                                  return scalable_denied(found, asked);
  }
}

}  // namespace

FaultReason reason_of(const core::Translation& found, const caches::AddressSpaceKey& key, Rights asked) noexcept {
  return key.pasid ? scalable_reason(found, key, asked) : legacy_reason(found, asked);
}

bool qualified(FaultReason reason) noexcept {
  switch (reason) {
    case R::root_unreadable:
    case R::root_not_present:
    case R::root_reserved:
    case R::context_unreadable:
    case R::not_an_interrupt:
    case R::root_address_invalid:
    case R::pasid_in_legacy_mode:
    case R::page_request_in_legacy_mode:
    case R::aborted:
    case R::execute_request:
    case R::scalable_root_unreadable:
    case R::scalable_root_not_present:
    case R::scalable_root_reserved:
    case R::scalable_context_unreadable:
    case R::pasid_directory_unreadable:
    case R::pasid_entry_unreadable:      return false;
    default:                             return true;
  }
}

AtsStatus completion_of(FaultReason reason) noexcept {
  switch (reason) {
    case R::none:
    case R::address_beyond_width:
    case R::write_denied:
    case R::read_denied:
    case R::pasid_directory_not_present:
    case R::pasid_entry_not_present:
    case R::execute_blocked:
    case R::supervisor_blocked:
    case R::first_table_unreadable:
    case R::first_entry_not_present:
    case R::first_entry_reserved:
    case R::first_top_table_unreadable:
    case R::first_table_beyond_width:
    case R::first_top_table_denied:
    case R::first_table_denied:
    case R::first_update_denied:
    case R::first_update_not_snooped:
    case R::first_update_failed:
    case R::second_entry_not_present:
    case R::address_not_canonical:
    case R::user_denied:
    case R::address_beyond_host_width:
    case R::second_beyond_width:
    case R::stage_write_denied:
    case R::stage_read_denied:            return AtsStatus::success;
    case R::root_not_present:
    case R::context_not_present:
    case R::request_type_blocked:
    case R::pasid_in_legacy_mode:
    case R::page_request_in_legacy_mode:
    case R::aborted:
    case R::execute_request:
    case R::scalable_root_not_present:
    case R::scalable_context_not_present:
    case R::device_tlb_blocked:
    case R::pasid_blocked:
    case R::pasid_beyond_directory:
    case R::pasid_of_requests_without:
    case R::pasid_beyond_width:           return AtsStatus::unsupported_request;
    default:                              return AtsStatus::completer_abort;
  }
}

}  // namespace viommu::vtd
