// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/dma.hpp"

#include <optional>

namespace viommu::vtd {
namespace {

/// VT-d, "Fault Reason Encodings", legacy mode. There is no code for an entry that is not present: it grants nothing.
[[nodiscard]] FaultReason legacy_reason(const core::Translation& found, Rights asked) noexcept {
  switch (found.outcome) {
    case core::Outcome::translated:                 return FaultReason::none;
    case core::Outcome::beyond_width:               return FaultReason::address_beyond_width;
    case core::Outcome::malformed:                  return FaultReason::entry_reserved;
    case core::Outcome::top_table_unreadable:       return FaultReason::context_invalid;
    case core::Outcome::table_unreadable:           return FaultReason::table_unreadable;
    case core::Outcome::output_in_interrupt_window: return FaultReason::output_in_interrupt_window;
    case core::Outcome::absent:
    case core::Outcome::denied:
      return asked.write() && !found.rights.write() ? FaultReason::write_denied : FaultReason::read_denied;
  }
  return FaultReason::read_denied;
}

/// "Context Entry", FPD: which faults it suppresses.
[[nodiscard]] bool qualified(FaultReason reason) noexcept {
  switch (reason) {
    case FaultReason::root_unreadable:
    case FaultReason::root_not_present:
    case FaultReason::root_reserved:
    case FaultReason::context_unreadable:
    case FaultReason::not_an_interrupt:
    case FaultReason::root_address_invalid:
    case FaultReason::pasid_in_legacy_mode:
    case FaultReason::scalable_root_unreadable:
    case FaultReason::scalable_root_not_present:
    case FaultReason::scalable_root_reserved:
    case FaultReason::scalable_context_unreadable:
    case FaultReason::pasid_directory_unreadable:
    case FaultReason::pasid_entry_unreadable:      return false;
    default:                                       return true;
  }
}

[[nodiscard]] FaultedRequest faulted_request(const DmaRequest& request) noexcept {
  if (request.asked == read_write) return FaultedRequest::atomic;
  return request.asked.write() ? FaultedRequest::write : FaultedRequest::read;
}

}  // namespace

DmaAnswer Dma::translate(core::Reader& reader, const DmaRequest& request) noexcept {
  const Mode mode{mode_.load(std::memory_order_acquire)};
  if (!mode.plain() || request.has_pasid || interrupt_window.contains(request.iova.value))
    return translate_special(reader, request, mode);
  const caches::ContextEntry context = waist_.find_context(request.source);
  if (!context) return translate_without_context(reader, request, mode);
  const core::Translation found = waist_.translate(reader, context.space(), request.iova, effective(request));
  if (found.outcome == core::Outcome::translated) return answer(found, context.space().key);
  return fault_in(reader, request, found, context.fault_disable());
}

DmaAnswer Dma::translate_missed(core::Reader& reader, const DmaRequest& request,
                                caches::ContextEntry context) noexcept {
  if (interrupt_window.contains(request.iova.value)) return access_interrupt_window(reader, request);
  core::Translation found;
  waist_.walk_and_fill(reader, context.space(), request.iova, request.asked, core::WalkFrom::cached_table, found);
  if (found.outcome == core::Outcome::translated) return answer(found, context.space().key);
  return fault_in(reader, request, found, context.fault_disable());
}

void Dma::set_mode(RootPointer root, bool translate, bool protect) noexcept {
  std::uint64_t word = root.table.value & ~low_bits(page_shift);
  if (translate) word |= Mode::translating;
  if (protect) word |= Mode::protecting;
  if (root.mode != TableMode::legacy) word |= Mode::unusual_table;
  mode_.store(word, std::memory_order_release);
}

DmaAnswer Dma::translate_without_context(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept {
  const std::uint64_t version = waist_.context_version();  // before the first guest load
  // `mode` is older than the version: what a root table that was replaced in between says must not be cached.
  const bool root_in_force = Mode{mode_.load(std::memory_order_acquire)}.root() == mode.root();
  const ContextWalk walked = walk_context(waist_.memory(), capabilities_, mode.root(), request.source);
  reader.counters.add(core::Count::context_walks);
  if (walked.fault != FaultReason::none) {
    reader.counters.add(core::Count::context_faults);
    return fault(reader, request, walked.fault, walked.fault_disable && qualified(walked.fault));
  }
  const caches::ContextEntry context =
      root_in_force ? waist_.insert_context(version, request.source, walked.key, walked.fault_disable)
                    : caches::ContextEntry{};
  const core::Translation found =
      context && context.space().key == walked.key
          ? waist_.translate(reader, context.space(), request.iova, effective(request), core::WalkFrom::root)
          : waist_.translate_uncached(reader, walked.key, request.iova, effective(request));
  if (found.outcome == core::Outcome::translated) return answer(found, walked.key);
  return fault_in(reader, request, found, walked.fault_disable);
}

DmaAnswer Dma::translate_special(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept {
  if (!mode.has(Mode::translating)) {
    reader.counters.add(core::Count::identities);
    const DmaAnswer identity{DmaKind::identity,
                             read_write,
                             {request.iova.value},
                             interrupt_window.contains(request.iova.value)
                                 ? low_bits(page_shift)
                                 : mask_clear_of_interrupts(request.iova.value)};
    return mode.has(Mode::protecting) ? unless_protected(reader, identity) : identity;
  }
  if (!request.has_pasid && interrupt_window.contains(request.iova.value))
    return access_interrupt_window(reader, request);
  if (mode.has(Mode::unusual_table)) return fault(reader, request, FaultReason::root_address_invalid, false);
  if (request.has_pasid) return fault(reader, request, FaultReason::pasid_in_legacy_mode, false);
  // Only the protection bit is left. It is rare (firmware sets it, the OS clears it), so this path may cost.
  const Mode unprotected{mode.word & ~Mode::protecting};
  const caches::ContextEntry context = waist_.find_context(request.source);
  if (!context) {
    const DmaAnswer found = translate_without_context(reader, request, unprotected);
    return found.kind == DmaKind::fault ? found : unless_protected(reader, found);
  }
  const core::Translation found = waist_.translate(reader, context.space(), request.iova, effective(request));
  if (found.outcome != core::Outcome::translated) return fault_in(reader, request, found, context.fault_disable());
  return unless_protected(reader, answer(found, context.space().key));
}

DmaAnswer Dma::access_interrupt_window(core::Reader& reader, const DmaRequest& request) noexcept {
  constexpr std::uint64_t message_bytes = 4;
  const bool is_message = request.asked == write_only && (request.length == 0 || request.length == message_bytes);
  if (is_message || request.zero_length) {  // a zero-length read completes, and its data means nothing
    reader.counters.add(core::Count::interrupts);
    return {DmaKind::interrupt, is_message ? write_only : read_only, {request.iova.value}, message_bytes - 1};
  }
  return fault(reader, request, FaultReason::not_an_interrupt, false);
}

DmaAnswer Dma::unless_protected(core::Reader& reader, DmaAnswer found) noexcept {
  const bool blocked = registers_.with([&](const RegisterFile& file) {
    if (!file.protection_enabled()) return false;
    const Iova output{found.gpa.value};
    const auto low = file.protected_low_region();
    const auto high = file.protected_high_region();
    return (low && low->contains(output)) || (high && high->contains(output));
  });
  found.mask &= low_bits(page_shift);  // the regions are page aligned
  if (!blocked) return found;
  reader.counters.add(found.kind == DmaKind::identity ? core::Count::protected_identities
                                                      : core::Count::protected_pages);
  reader.counters.add(core::Count::faults);
  return {};  // "Protected Memory Regions": blocked, and never logged
}

DmaAnswer Dma::fault_in(core::Reader& reader, const DmaRequest& request, const core::Translation& found,
                        bool fault_disable) noexcept {
  const FaultReason reason = legacy_reason(found, request.asked);
  return fault(reader, request, reason, fault_disable && qualified(reason));
}

DmaAnswer Dma::fault(core::Reader& reader, const DmaRequest& request, FaultReason reason, bool suppressed) noexcept {
  reader.counters.add(core::Count::faults);
  DmaAnswer blocked;
  blocked.reason = reason;
  if (!request.report) return blocked;
  if (suppressed) {
    blocked.status = FaultStatus::disabled;
    return blocked;
  }
  FaultEntry entry;
  entry.source = request.source;
  entry.reason = reason;
  entry.request = faulted_request(request);
  entry.address = request.iova;
  if (request.has_pasid) entry.pasid = request.pasid;
  registers_.with([&](RegisterFile& file) {
    const RecordedFault recorded = file.record_fault(entry);
    blocked.status = recorded.status;
    registers_.queue(recorded.event);
  });
  registers_.deliver();
  if (blocked.status == FaultStatus::recorded) recorded_.fetch_add(1, std::memory_order_relaxed);
  if (blocked.status == FaultStatus::overflow_set || blocked.status == FaultStatus::overflowed)
    overflowed_.fetch_add(1, std::memory_order_relaxed);
  return blocked;
}

}  // namespace viommu::vtd
