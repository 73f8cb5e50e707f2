// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/dma.hpp"

#include "engine/base/tracepoint.hpp"
#include "engine/core/logged_answer.hpp"
#include "engine/vtd/fault_reasons.hpp"
#include "engine/vtd/pasid_walk.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] FaultedRequest faulted_request(const DmaRequest& request) noexcept {
  if (request.page_request) return FaultedRequest::page_request;
  if (request.asked == read_write) return FaultedRequest::atomic;
  return request.asked.write() ? FaultedRequest::write : FaultedRequest::read;
}

constexpr std::uint64_t interrupt_message_bytes = 4;

/// All ones for a request without one.
[[nodiscard]] std::uint32_t traced_pasid(const DmaRequest& request) noexcept {
  return request.has_pasid ? request.pasid.value : ~std::uint32_t{0};
}

}  // namespace

DmaAnswer Dma::translate(core::Reader& reader, const DmaRequest& request) noexcept {
  const Mode mode = waist_.mode();
  if (!mode.uncounted().plain() || request.has_pasid || interrupt_window.contains(request.iova.value))
    return translate_special(reader, request, mode);
  return translate_by_context(reader, request, mode);
}

caches::ContextEntry Dma::context_for_batch(const DmaRequest& request, Mode mode) const noexcept {
  if (request.execute || request.page_request || (request.has_pasid && !mode.has(Mode::scalable))) return {};
  if (!request.has_pasid && interrupt_window.contains(request.iova.value)) return {};
  const caches::ContextEntry context = find_context(request);
  if (!context) return {};
  const caches::AddressSpaceKey& key = context.space().key;
  const bool within = request.iova <= key.last || key.is_upper(request.iova);
  return within && key.interpretation != caches::Interpretation::pass_through ? context : caches::ContextEntry{};
}

DmaAnswer Dma::translate_by_context(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept {
  const caches::ContextEntry context = find_context(request);
  if (!context) return translate_without_context(reader, request, mode);
  charge(reader, request);
  if (request.execute) [[unlikely]]
    return fault(reader, request, FaultReason::execute_blocked, context.fault_disable(), &context.space().key);
  const core::Translation found = waist_.translate(reader, context.space(), request.iova, effective(request));
  if (found.outcome == core::Outcome::translated) return answer(found, context.space().key);
  return fault_in(reader, request, found, context.space().key, context.fault_disable());
}

DmaAnswer Dma::translate_missed(core::Reader& reader, const DmaRequest& request,
                                caches::ContextEntry context) noexcept {
  if (interrupt_window.contains(request.iova.value)) return access_interrupt_window(reader, request);
  waist_.charge(reader, request.source);
  core::Translation found;
  waist_.walk_and_fill(reader, context.space(), request.iova, request.asked, core::WalkFrom::cached_table, found);
  if (found.outcome == core::Outcome::translated) return answer(found, context.space().key);
  return fault_in(reader, request, found, context.space().key, context.fault_disable());
}

void Dma::set_mode(RootPointer root, bool translate, bool protect) noexcept {
  std::uint64_t word = root.table.value & ~low_bits(page_shift);
  if (translate) word |= Mode::translating;
  if (protect) word |= Mode::protecting;
  if (waist_.counts_apart()) word |= Mode::counting;
  word |= waist_.mode().word & Mode::logging;
  switch (mode_in_force(capabilities_, root.mode)) {
    case TableMode::legacy:    break;
    case TableMode::scalable:  word |= Mode::scalable; break;
    case TableMode::abort_dma: word |= Mode::aborting; break;
    case TableMode::reserved:  word |= Mode::invalid_table; break;
  }
  waist_.set_mode({word});
}

Dma::Context Dma::walk_tables(core::Reader& reader, const DmaRequest& request, Mode mode) const noexcept {
  const Context found = read_tables(request, mode);
  tracepoint::context_walked(request.source.value, traced_pasid(request), static_cast<std::uint32_t>(found.fault));
  reader.counters.add(core::Count::context_walks);
  if (found.fault != FaultReason::none) reader.counters.add(core::Count::context_faults);
  if (!capabilities_.caching_mode && consumers_ != nullptr && found.fault == FaultReason::none)
    consumers_->context_seen();
  return found;
}

Dma::Context Dma::read_tables(const DmaRequest& request, Mode mode) const noexcept {
  if (!mode.has(Mode::scalable)) {
    const ContextWalk walk = walk_context(waist_.memory(), capabilities_, mode.root(), request.source);
    return {walk.fault, walk.fault_disable, walk.key, walk.device_tlb};
  }
  const PasidWalk walk = walk_pasid(waist_.memory(), capabilities_, mode.root(), pasid_request_of(request));
  if (walk.fault != FaultReason::none) return {walk.fault, walk.fault_disable};
  return {FaultReason::none, walk.fault_disable, key_of(walk.context, capabilities_), walk.context.device_tlb};
}

FaultStatus Dma::report_host_fault(core::Reader& reader, const DmaRequest& request, FaultReason reason) noexcept {
  const Mode mode = waist_.mode();
  if (!mode.has(Mode::translating)) return FaultStatus::none;
  const caches::ContextEntry cached = find_context(request);
  const bool fault_disable = cached ? cached.fault_disable() : walk_tables(reader, request, mode).fault_disable;
  reader.counters.add(core::Count::faults);
  faults_.count(reason, request.source);
  return report(request, reason, fault_disable);
}

consumer::Content Dma::content_of(SourceId source) const noexcept {
  using consumer::View;
  const Mode mode = waist_.mode();
  if (const machine::Way way = way_of(source); way != machine::Way::unit)
    return {way == machine::Way::system ? View::system : View::blocked, {}};
  if (!mode.has(Mode::translating)) return {View::system, {}};
  DmaRequest request;
  request.source = source;
  if (mode_fault(request, mode) != FaultReason::none) return {View::blocked, {}};
  const Context found = read_tables(request, mode);
  if (found.fault != FaultReason::none) return {View::blocked, {}};
  if (found.key.interpretation == caches::Interpretation::pass_through) return {View::system, {}};
  return {View::translated, found.key};
}

caches::ContextEntry Dma::find_context(const DmaRequest& request) const noexcept {
  return request.has_pasid ? waist_.find_context(caches::PasidKey{request.source, request.pasid, request.privileged})
                           : waist_.find_context(request.source);
}

caches::ContextEntry Dma::insert_context(std::uint64_t version, const DmaRequest& request,
                                         const Context& context) noexcept {
  const caches::ContextFlags flags{context.fault_disable, context.device_tlb};
  if (!request.has_pasid) return waist_.insert_context(version, request.source, context.key, flags);
  return waist_.insert_context(version, caches::PasidKey{request.source, request.pasid, request.privileged},
                               context.key, flags);
}

DmaAnswer Dma::translate_without_context(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept {
  const std::uint64_t version = waist_.context_version();  // before the first guest load, and the look at the way
  if (const machine::Way way = way_of(request.source); way != machine::Way::unit)
    return beside_unit(reader, request, way);
  // `mode` is older than the version: what a root table that was replaced in between says must not be cached.
  const bool root_in_force = waist_.mode().same_tables(mode);
  const Context walked = walk_tables(reader, request, mode);
  if (walked.fault != FaultReason::none) {
    return fault(reader, request, walked.fault, walked.fault_disable);
  }
  const caches::ContextEntry context =
      root_in_force ? insert_context(version, request, walked) : caches::ContextEntry{};
  charge(reader, request);
  const core::Translation found =
      context && context.space().key == walked.key
          ? waist_.translate(reader, context.space(), request.iova, effective(request), core::WalkFrom::root)
          : waist_.translate_uncached(reader, walked.key, request.iova, effective(request));
  if (found.outcome == core::Outcome::translated) return answer(found, walked.key);
  return fault_in(reader, request, found, walked.key, walked.fault_disable);
}

PasidRequest pasid_request_of(const DmaRequest& request) noexcept {
  PasidRequest by_pasid;
  by_pasid.source = request.source;
  if (request.has_pasid) by_pasid.pasid = request.pasid;
  by_pasid.privileged = request.privileged;
  by_pasid.execute = request.execute;
  by_pasid.type = request.type;
  by_pasid.page_request = request.page_request;
  return by_pasid;
}

TableMode mode_in_force(const Capabilities& capabilities, TableMode latched) noexcept {
  const bool offered = latched == TableMode::legacy || (latched == TableMode::scalable && capabilities.scalable_mode) ||
                       (latched == TableMode::abort_dma && capabilities.abort_mode);
  return offered ? latched : TableMode::reserved;
}

FaultReason mode_fault(const Capabilities& capabilities, TableMode in_force, const DmaRequest& request) noexcept {
  constexpr unsigned no_execute_since = 8;  // major version
  const bool scalable = in_force == TableMode::scalable;
  if (in_force == TableMode::reserved) return FaultReason::root_address_invalid;
  if (in_force == TableMode::abort_dma) return FaultReason::aborted;
  if (request.page_request && !scalable) return FaultReason::page_request_in_legacy_mode;
  if (!request.has_pasid) return FaultReason::none;
  if (!scalable) return FaultReason::pasid_in_legacy_mode;
  if (request.execute && !request.page_request && capabilities.major_version >= no_execute_since)
    return FaultReason::execute_request;
  return FaultReason::none;
}

DmaAnswer Dma::untranslated(Iova iova) const noexcept {
  core::Translation found;
  found.set(core::Outcome::translated, read_write, {iova.value},
            interrupt_window.contains(iova.value) ? low_bits(page_shift) : mask_clear_of_interrupts(iova.value));
  waist_.mark_device(found);
  DmaAnswer identity{DmaKind::identity, found.rights, found.gpa, found.mask};
  identity.mmio = found.mmio;
  return identity;
}

DmaAnswer Dma::beside_unit(core::Reader& reader, const DmaRequest& request, machine::Way way) noexcept {
  if (way == machine::Way::system) {
    reader.counters.add(core::Count::identities);
    return untranslated(request.iova);
  }
  reader.counters.add(core::Count::faults);
  faults_.count(FaultReason::none, request.source);
  return {};
}

DmaAnswer Dma::translate_special(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept {
  if (mode.has(Mode::logging))
    return core::logged(waist_.dirty(), request, translate_special(reader, request, mode.unlogged()));
  if (const machine::Way way = way_of(request.source); way != machine::Way::unit)
    return beside_unit(reader, request, way);
  if (!mode.has(Mode::translating)) {
    reader.counters.add(core::Count::identities);
    const DmaAnswer identity = untranslated(request.iova);
    return mode.has(Mode::protecting) ? unless_protected(reader, request, identity) : identity;
  }
  if (!request.has_pasid && interrupt_window.contains(request.iova.value))
    return access_interrupt_window(reader, request);
  if (const FaultReason reason = mode_fault(request, mode); reason != FaultReason::none)
    return fault(reader, request, reason, false);
  const DmaAnswer found = translate_by_context(reader, request, mode);
  // The regions are rare (firmware sets them, the OS clears them), so asking for them may cost.
  return mode.has(Mode::protecting) && found.kind != DmaKind::fault ? unless_protected(reader, request, found) : found;
}

Rights rights_in_interrupt_window(const DmaRequest& request) noexcept {
  const bool is_message =
      request.asked == write_only && (request.length == 0 || request.length == interrupt_message_bytes);
  if (is_message) return write_only;
  return request.zero_length ? read_only : Rights{};  // a zero-length read completes, and its data means nothing
}

DmaAnswer Dma::access_interrupt_window(core::Reader& reader, const DmaRequest& request) noexcept {
  if (const Rights rights = rights_in_interrupt_window(request); !rights.none()) {
    reader.counters.add(core::Count::interrupts);
    return {DmaKind::interrupt, rights, {request.iova.value}, interrupt_message_bytes - 1};
  }
  return fault(reader, request, FaultReason::not_an_interrupt, false);
}

bool Dma::is_protected(Gpa gpa) noexcept {
  return registers_.with([=](const RegisterFile& file) {
    if (!file.protection_enabled()) return false;
    const Iova output{gpa.value};
    const auto low = file.protected_low_region();
    const auto high = file.protected_high_region();
    return (low && low->contains(output)) || (high && high->contains(output));
  });
}

DmaAnswer Dma::unless_protected(core::Reader& reader, const DmaRequest& request, DmaAnswer found) noexcept {
  const bool blocked = is_protected(found.gpa);
  found.mask &= low_bits(page_shift);  // the regions are page aligned
  if (!blocked) return found;
  reader.counters.add(found.kind == DmaKind::identity ? core::Count::protected_identities
                                                      : core::Count::protected_pages);
  reader.counters.add(core::Count::faults);
  faults_.count(FaultReason::none, request.source);
  return {};  // "Protected Memory Regions": blocked, and never logged
}

DmaAnswer Dma::fault_in(core::Reader& reader, const DmaRequest& request, const core::Translation& found,
                        const caches::AddressSpaceKey& key, bool fault_disable) noexcept {
  const FaultReason reason = reason_of(found, key, request.asked);
  return fault(reader, request, reason, fault_disable, &key);
}

void Dma::charge(core::Reader& reader, const DmaRequest& request) const noexcept {
  if (request.has_pasid)
    return waist_.charge(reader, caches::PasidKey{request.source, request.pasid, request.privileged});
  waist_.charge(reader, request.source);
}

DmaAnswer Dma::fault(core::Reader& reader, const DmaRequest& request, FaultReason reason, bool fault_disable,
                     const caches::AddressSpaceKey* key) noexcept {
  reader.counters.add(core::Count::faults);
  faults_.count(
      reason, request.source,
      key == nullptr ? std::nullopt : std::optional{core::DomainUse{key->domain, waist_.generation(key->domain)}});
  DmaAnswer blocked;
  blocked.reason = reason;
  if (request.report) blocked.status = report(request, reason, fault_disable);
  tracepoint::fault(request.source.value, traced_pasid(request), request.iova.value, static_cast<std::uint32_t>(reason),
                    static_cast<std::uint32_t>(blocked.status));
  return blocked;
}

FaultStatus Dma::report(const DmaRequest& request, FaultReason reason, bool fault_disable) noexcept {
  if (fault_disable && qualified(reason)) return FaultStatus::disabled;
  FaultEntry entry;
  entry.source = request.source;
  entry.reason = reason;
  entry.request = faulted_request(request);
  entry.address_type = request.type;
  entry.address = request.iova;
  if (request.has_pasid) entry.pasid = request.pasid;
  entry.privileged = request.privileged;
  entry.execute = request.execute;
  return faults_.report(entry);
}

}  // namespace viommu::vtd
