// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translation requests and translated requests of devices that keep translations of their own. Source: VT-d, "Address
// Translation Services" and "Fault Conditions and Remapping Hardware Behavior".
#include "engine/vtd/dma.hpp"

#include "engine/core/logged_answer.hpp"
#include "engine/vtd/fault_reasons.hpp"

namespace viommu::vtd {

/// A fault that the device can recover from is a success that grants nothing, and is not recorded.
TranslationCompletion Dma::complete_with(core::Reader& reader, const DmaRequest& request, FaultReason reason,
                                         bool fault_disable) noexcept {
  TranslationCompletion completion;
  completion.status = completion_of(reason);
  completion.reason = reason;
  completion.privileged = request.has_pasid && request.privileged;
  const bool recorded = completion.status != AtsStatus::success || reason == FaultReason::first_update_failed;
  if (recorded) completion.fault = fault(reader, request, reason, fault_disable).status;
  return completion;
}

TranslationCompletion Dma::complete_translation_request(core::Reader& reader, const DmaRequest& request) noexcept {
  const Mode mode = waist_.mode();
  TranslationCompletion completion;
  const std::uint64_t version = waist_.context_version();                              // before the look at the way
  if (!mode.has(Mode::translating) || way_of(request.source) != machine::Way::unit) {  // never recorded
    completion.status = AtsStatus::unsupported_request;
    return completion;
  }
  if (!request.has_pasid && interrupt_window.contains(request.iova.value)) {
    if (!request.asked.write()) return completion;
    completion.rights = write_only;
    completion.untranslated_only = true;
    completion.gpa = {request.iova.value};
    completion.mask = low_bits(page_shift);
    return completion;
  }
  if (const FaultReason reason = mode_fault(request, mode); reason != FaultReason::none)
    return complete_with(reader, request, reason, false);

  caches::ContextEntry context = find_context(request);
  Context walked;
  if (context) {
    walked = kept_in(context);
  } else {
    const bool root_in_force = waist_.mode().same_tables(mode);
    walked = walk_tables(reader, request, mode);
    if (walked.fault != FaultReason::none) return complete_with(reader, request, walked.fault, walked.fault_disable);
    if (root_in_force) context = insert_context(version, request, walked);
    if (context && context.space().key != walked.key) context = {};
  }
  charge(reader, request);
  if (!walked.device_tlb) {
    const FaultReason blocked =
        mode.has(Mode::scalable) ? FaultReason::device_tlb_blocked : FaultReason::request_type_blocked;
    return complete_with(reader, request, blocked, walked.fault_disable);
  }
  if (request.execute) return complete_with(reader, request, FaultReason::execute_blocked, walked.fault_disable);

  core::Translation found = translate_as_granted(reader, request, context, walked);
  // SGN.8 leaves pass-through out. A translated request that goes there is blocked then.
  if (found.outcome == core::Outcome::output_in_interrupt_window &&
      walked.key.interpretation == caches::Interpretation::pass_through)
    found.set(core::Outcome::translated, read_write, {request.iova.value}, low_bits(page_shift));
  if (found.outcome != core::Outcome::translated) {
    return complete_with(reader, request, reason_of(found, walked.key, request.asked), walked.fault_disable);
  }
  completion.rights = found.rights & request.asked;
  completion.gpa = found.gpa;
  completion.mask = found.mask;
  completion.privileged = request.has_pasid && request.privileged;
  // SNP of a leaf is not kept: where it may be set, the device is told to be snooped always.
  completion.must_snoop = capabilities_.snoop_control;
  // What the device writes by a translation of its own would not be logged: it is to ask each time.
  if (mode.has(Mode::logging) && completion.rights.write()) completion.untranslated_only = true;
  return completion;
}

/// A right that is missing is no fault here: then for those that are there.
core::Translation Dma::translate_as_granted(core::Reader& reader, const DmaRequest& request,
                                            caches::ContextEntry context, const Context& walked) noexcept {
  Rights asked = request.asked;
  core::Translation found;
  // Bound: each round asks for less, unless the guest changes its tables meanwhile; then the last answer stands.
  for (unsigned round = 0; round < 3; ++round) {
    found = context ? waist_.translate(reader, context.space(), request.iova, asked)
                    : waist_.translate_uncached(reader, walked.key, request.iova, asked);
    if (found.outcome != core::Outcome::denied) return found;
    asked = asked & found.rights;
    if (asked.none()) return found;
  }
  return found;
}

DmaAnswer Dma::check_translated(core::Reader& reader, const DmaRequest& request) noexcept {
  const Mode mode = waist_.mode();
  // Blocked, and never recorded: nobody has given it a translation.
  if (!mode.has(Mode::translating) || way_of(request.source) != machine::Way::unit) return {};
  if (const FaultReason reason = mode_fault(request, mode); reason != FaultReason::none)
    return fault(reader, request, reason, false);
  const bool scalable = mode.has(Mode::scalable);
  const caches::ContextEntry context = request.has_pasid ? caches::ContextEntry{} : waist_.find_context(request.source);
  Context walked = context ? kept_in(context) : walk_tables(reader, request, mode);
  if (walked.fault == FaultReason::none && !walked.device_tlb)
    walked.fault = scalable ? FaultReason::device_tlb_blocked : FaultReason::request_type_blocked;
  if (walked.fault == FaultReason::none && request.iova.value > low_bits(capabilities_.host_address_width))
    walked.fault = scalable ? FaultReason::address_beyond_host_width : FaultReason::address_beyond_width;
  if (walked.fault == FaultReason::none && interrupt_window.contains(request.iova.value))
    walked.fault = scalable ? FaultReason::stage_output_in_interrupt_window : FaultReason::output_in_interrupt_window;
  if (walked.fault != FaultReason::none) return fault(reader, request, walked.fault, walked.fault_disable);
  reader.counters.add(core::Count::identities);
  const Gpa gpa{request.iova.value};
  const DmaAnswer answer{DmaKind::identity, read_write, gpa, mask_clear_of_interrupts(gpa.value)};
  return mode.has(Mode::logging) ? core::logged(waist_.dirty(), request, answer) : answer;
}

std::optional<caches::AddressSpaceKey> Dma::admit_page_request(core::Reader& reader,
                                                               const DmaRequest& request) noexcept {
  const Mode mode = waist_.mode();
  if (!mode.has(Mode::translating) || way_of(request.source) != machine::Way::unit) return std::nullopt;  // the same
  Context walked;
  walked.fault = mode_fault(request, mode);
  if (walked.fault == FaultReason::none)
    walked = walk_tables(reader, request, mode);  // what is cached does not know PRE, and page requests are rare
  if (walked.fault == FaultReason::none) return walked.key;
  static_cast<void>(fault(reader, request, walked.fault, walked.fault_disable));
  return std::nullopt;
}

}  // namespace viommu::vtd
