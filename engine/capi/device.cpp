// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What devices with a TLB of their own ask and answer, besides translations (translate.cpp).
#include "engine/capi/engine.hpp"
#include "engine/capi/requests.hpp"

using viommu::Rights;
using viommu::core::Reader;
using viommu::core::WorkState;
using viommu::vtd::DeviceTlbs;
using viommu::vtd::PagePosted;
using viommu::vtd::PageRequest;

namespace {

[[nodiscard]] bool makes_sense(const viommu_page_request& request) noexcept {
  constexpr std::uint32_t pasid_limit = 1U << 20;
  constexpr std::uint32_t groups = 512;
  constexpr unsigned with_pasid = VIOMMU_PRIVILEGED | VIOMMU_EXECUTE;
  constexpr unsigned all_access = VIOMMU_READ | VIOMMU_WRITE;
  const bool has_pasid = (request.flags & VIOMMU_HAS_PASID) != 0;
  if ((request.flags & ~(with_pasid | VIOMMU_HAS_PASID)) != 0 || (request.access & ~all_access) != 0) return false;
  if (has_pasid ? request.pasid >= pasid_limit : (request.flags & with_pasid) != 0) return false;
  return request.group < groups && request.last <= 1;
}

[[nodiscard]] PageRequest page_request(const viommu_page_request& from) noexcept {
  PageRequest request;
  request.source = {from.source};
  request.address = {from.iova};
  request.asked = Rights::in(from.access);
  if ((from.flags & VIOMMU_HAS_PASID) != 0) request.pasid = viommu::Pasid{from.pasid};
  request.privileged = (from.flags & VIOMMU_PRIVILEGED) != 0;
  request.execute = (from.flags & VIOMMU_EXECUTE) != 0;
  request.group = from.group;
  request.last = from.last != 0;
  return request;
}

}  // namespace

extern "C" viommu_result viommu_request_page(viommu_engine* engine, const struct viommu_page_request* request,
                                             uint32_t* code) {
  if (engine == nullptr || request == nullptr || code == nullptr || !makes_sense(*request)) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::vtd::Unit* const unit = engine->front.vtd();
  if (unit == nullptr || !unit->capabilities().page_requests) return VIOMMU_E_UNSUPPORTED;
  Reader* const reader = engine->waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  engine->waist.enter(*reader);
  const PagePosted posted = unit->pages().post(*reader, page_request(*request));
  engine->waist.leave(*reader);
  engine->waist.put_reader(*reader);
  switch (posted) {
    case PagePosted::queued:
      if (engine->front.process(0) != WorkState::idle) engine->host.wake();
      return VIOMMU_PAGE_QUEUED;
    case PagePosted::success: *code = VIOMMU_PAGE_SUCCESS; return VIOMMU_PAGE_ANSWERED;
    case PagePosted::invalid: *code = VIOMMU_PAGE_INVALID; return VIOMMU_PAGE_ANSWERED;
    case PagePosted::dropped: break;
  }
  return VIOMMU_PAGE_DROPPED;
}

extern "C" viommu_result viommu_device_invalidated(viommu_engine* engine, uint64_t ticket, uint32_t what) {
  if (engine == nullptr || what > VIOMMU_INVALIDATION_MALFORMED) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::vtd::Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_NOT_FOUND;
  const bool was_open =
      what == VIOMMU_INVALIDATION_MALFORMED
          ? unit->device_answered_wrongly(ticket)
          : unit->device_invalidated(
                ticket, what == VIOMMU_INVALIDATED ? DeviceTlbs::Answer::done : DeviceTlbs::Answer::timed_out);
  return was_open ? VIOMMU_OK : VIOMMU_E_NOT_FOUND;
}

extern "C" viommu_result viommu_report_host_fault(viommu_engine* engine, const struct viommu_request* request,
                                                  uint8_t reason, uint8_t* status) {
  if (engine == nullptr || request == nullptr) return VIOMMU_E_ARGUMENT;
  // VT-d has no reason 0, and others for what is no DMA; virtio-iommu has none above that of a mapping.
  const bool no_dma = reason == 0 || viommu::is_of_interrupt(static_cast<viommu::FaultReason>(reason));
  if (engine->front.virtio() == nullptr ? no_dma : reason > VIOMMU_VIRTIO_FAULT_MAPPING) return VIOMMU_E_ARGUMENT;
  if (!viommu::capi::makes_sense(*request) || (request->flags & VIOMMU_NO_REPORT) != 0) return VIOMMU_E_ARGUMENT;
  if (status != nullptr) *status = VIOMMU_FAULT_NOT_REPORTED;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  if (engine->recorder != nullptr) return VIOMMU_E_UNSUPPORTED;  // a trace has no word for it
  if (!engine->front.consumers().view({request->source})) return VIOMMU_E_NOT_FOUND;
  Reader* const reader = engine->waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  engine->waist.enter(*reader);
  const viommu::core::DmaRequest dma = viommu::capi::dma_request(*request);
  const auto recorded = engine->front.report_host_fault(*reader, dma, static_cast<viommu::FaultReason>(reason));
  engine->waist.leave(*reader);
  engine->waist.put_reader(*reader);
  if (status != nullptr) *status = static_cast<uint8_t>(recorded);
  return VIOMMU_OK;
}
