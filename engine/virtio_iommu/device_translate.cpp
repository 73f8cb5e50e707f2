// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The way of a device's access.
#include <algorithm>
#include <bit>

#include "engine/base/tracepoint.hpp"
#include "engine/core/logged_answer.hpp"
#include "engine/virtio_iommu/device.hpp"

namespace viommu::virtio_iommu {

using core::DmaAnswer;
using core::DmaKind;
using core::DmaRequest;

namespace {

/// Of the largest block around the address that no reserved memory is in.
[[nodiscard]] std::uint64_t mask_beside_reserved(const Views::Seen& seen, Iova iova) noexcept {
  unsigned shift = 64;
  for (const ReservedRegion& region : seen.reserved) {
    const std::uint64_t nearest = region.range.first > iova ? region.range.first.value : region.range.last.value;
    shift = std::min(shift, static_cast<unsigned>(std::bit_width(nearest ^ iova.value)) - 1);
  }
  return low_bits(shift);
}

}  // namespace

caches::AddressSpaceKey Device::key_of(viommu::DomainId domain) noexcept {
  caches::AddressSpaceKey key;
  key.domain = domain;
  key.interpretation = caches::Interpretation::mappings;
  key.last = all_iovas.last;
  return key;
}

DmaAnswer Device::translate(core::Reader& reader, const DmaRequest& request) noexcept {
  const bool logging = waist_.mode().has(core::RequestMode::logging);
  const DmaAnswer found = translate_unlogged(reader, request);
  return logging ? core::logged(waist_.dirty(), request, found) : found;
}

DmaAnswer Device::translate_unlogged(core::Reader& reader, const DmaRequest& request) noexcept {
  const std::uint64_t version = waist_.context_version();  // before the view is loaded
  if (const machine::Way way = way_of(request.source); way != machine::Way::unit) [[unlikely]] {
    if (way == machine::Way::system) return identity(reader, request, {});
    reader.counters.add(core::Count::faults);
    return {};  // it must not send at all: blocked, and nobody is told
  }
  const Views::Seen seen = named(request.source);
  if (seen.kind == EndpointView::Kind::unknown) return fault(reader, request, seen, FaultReason::unknown);
  // No endpoint has address spaces besides that of its domain.
  if (request.has_pasid) [[unlikely]]
    return fault(reader, request, seen, FaultReason::mapping);
  if (const ReservedRegion* const region = seen.region_at(request.iova); region != nullptr) [[unlikely]] {
    constexpr std::uint64_t message_bytes = 4;
    if (region->kind != ReservedMemoryKind::msi || request.asked != write_only)
      return fault(reader, request, seen, FaultReason::mapping);
    reader.counters.add(core::Count::interrupts);
    return {DmaKind::interrupt, write_only, {request.iova.value}, message_bytes - 1};
  }
  switch (seen.kind) {
    case EndpointView::Kind::unknown:
    case EndpointView::Kind::detached:   break;
    case EndpointView::Kind::bypass:     return identity(reader, request, seen);
    case EndpointView::Kind::translated: return translate_in(reader, request, seen, version);
  }
  return fault(reader, request, seen, FaultReason::domain);
}

DmaAnswer Device::translate_missed(core::Reader& reader, const DmaRequest& request,
                                   caches::ContextEntry context) noexcept {
  const Views::Seen seen = views_.of(request.source);
  const bool as_cached = seen.kind == EndpointView::Kind::translated && seen.domain == context.space().key.domain;
  // A message goes no further, and whoever has moved is asked again from the start.
  if (!as_cached || seen.region_at(request.iova) != nullptr) [[unlikely]]
    return translate(reader, request);
  waist_.charge(reader, request.source);
  core::Translation found;
  waist_.walk_and_fill(reader, context.space(), request.iova, request.asked, core::WalkFrom::root, found);
  return conclude(reader, request, found, seen);
}

DmaAnswer Device::translate_in(core::Reader& reader, const DmaRequest& request, const Views::Seen& seen,
                               std::uint64_t version) noexcept {
  const caches::AddressSpaceKey key = key_of(seen.domain);
  if (seen.covers_reserved) [[unlikely]] {  // without a context nothing is found in a cache that has no look at it
    core::Translation found = waist_.translate_uncached(reader, key, request.iova, request.asked);
    found.mask &= mask_beside_reserved(seen, request.iova);
    return conclude(reader, request, found, seen);
  }
  caches::ContextEntry context = waist_.find_context(request.source);
  if (!context) {
    reader.counters.add(core::Count::context_walks);
    context = waist_.insert_context(version, request.source, key, {});
  }
  waist_.charge(reader, request.source);
  // An older context may be there until it is dropped.
  const core::Translation found = context && context.space().key == key
                                      ? waist_.translate(reader, context.space(), request.iova, request.asked)
                                      : waist_.translate_uncached(reader, key, request.iova, request.asked);
  return conclude(reader, request, found, seen);
}

DmaAnswer Device::conclude(core::Reader& reader, const DmaRequest& request, const core::Translation& found,
                           const Views::Seen& seen) noexcept {
  if (found.outcome != core::Outcome::translated) return fault(reader, request, seen, FaultReason::mapping);
  DmaAnswer answer{DmaKind::translated, found.rights, found.gpa, found.mask};
  answer.domain = seen.domain;
  answer.mmio = found.mmio;
  return answer;
}

DmaAnswer Device::identity(core::Reader& reader, const DmaRequest& request, const Views::Seen& seen) const noexcept {
  reader.counters.add(core::Count::identities);
  core::Translation found;
  found.set(core::Outcome::translated, read_write, {request.iova.value}, mask_beside_reserved(seen, request.iova));
  waist_.mark_device(found);
  DmaAnswer answer{DmaKind::identity, found.rights, found.gpa, found.mask};
  answer.mmio = found.mmio;
  return answer;
}

/// A report names somebody: by its requester id, where it has no other.
Views::Seen Device::named(SourceId source) const noexcept {
  Views::Seen seen = views_.of(source);
  if (seen.kind == EndpointView::Kind::unknown) seen.endpoint = {source.value};
  return seen;
}

DmaAnswer Device::fault(core::Reader& reader, const DmaRequest& request, const Views::Seen& seen,
                        FaultReason reason) noexcept {
  reader.counters.add(core::Count::faults);
  const auto code = static_cast<viommu::FaultReason>(reason);
  std::optional<core::DomainUse> domain;
  if (seen.kind == EndpointView::Kind::translated) domain = {seen.domain, waist_.generation(seen.domain)};
  faults_.add(code, request.source, domain);
  DmaAnswer blocked;
  blocked.reason = code;
  if (request.report) blocked.status = report(request, seen.endpoint, reason);
  tracepoint::fault(request.source.value, ~std::uint32_t{0}, request.iova.value, static_cast<std::uint32_t>(reason),
                    static_cast<std::uint32_t>(blocked.status));
  return blocked;
}

FaultStatus Device::report(const DmaRequest& request, EndpointId endpoint, FaultReason reason) noexcept {
  const FaultReport report{reason, request.asked, endpoint, request.iova};
  const bool queued = events_queued_.load(std::memory_order_acquire);
  const FaultStatus status =
      queued ? events_.report(report, request.source) : events_.hand_over(report, request.source);
  if (status == FaultStatus::recorded && tap_.reported != nullptr) [[unlikely]]
    tap_.reported(tap_.opaque, encode(report));
  if (!queued || status != FaultStatus::recorded || !role_.enter()) return status;  // whoever has the role writes it
  run_events();
  if (role_.leave()) host_.wake();
  return status;
}

FaultStatus Device::report_host_fault(core::Reader& reader, const DmaRequest& request,
                                      viommu::FaultReason reason) noexcept {
  return fault(reader, request, named(request.source), static_cast<FaultReason>(reason)).status;
}

}  // namespace viommu::virtio_iommu
