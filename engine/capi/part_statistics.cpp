// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Statistics by device and by domain.
#include <optional>

#include "engine/base/address.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/sized.hpp"

using viommu::DomainId;
using viommu::FaultReason;
using viommu::SourceId;
using viommu::caches::Dropped;
using viommu::caches::Use;
using viommu::capi::can_take;
using viommu::capi::hand_over;
using viommu::core::DomainUse;
using viommu::core::FaultCounts;

namespace {

constexpr unsigned reasons = 256;

/// @param faults  of one reason
template <class Faults>
[[nodiscard]] viommu_part_statistics part_of(const viommu::caches::Accounts::Figures& figures,
                                             const Faults& faults) noexcept {
  viommu_part_statistics s{};
  s.iotlb_hits = figures.of(Use::hits);
  s.walks = figures.of(Use::walks);
  s.identities = figures.of(Use::identities);
  for (unsigned reason = 0; reason < reasons; ++reason) s.faults += faults(static_cast<FaultReason>(reason));
  s.context_invalidations = figures.of(Dropped::contexts);
  return s;
}

/// The domain that has this id now.
[[nodiscard]] std::optional<DomainUse> use_of(const viommu_engine& engine, std::uint32_t id) noexcept {
  const std::optional domain = engine.front.domain_of(id);
  if (!domain) return std::nullopt;
  return DomainUse{*domain, engine.waist.generation(*domain)};
}

}  // namespace

extern "C" {

viommu_result viommu_device_statistics_get(viommu_engine* engine, uint16_t source, viommu_part_statistics* statistics) {
  if (engine == nullptr || !can_take(statistics)) return VIOMMU_E_ARGUMENT;
  if (!engine->waist.counts_apart()) return VIOMMU_E_UNSUPPORTED;
  const SourceId id{source};
  const FaultCounts& faults = engine->front.fault_counts();
  const auto figures = engine->waist.figures_of(id);
  viommu_part_statistics s = part_of(figures, [&](FaultReason reason) { return faults.of(id, reason); });
  s.device_tlb_invalidations = figures.of(Dropped::pages);
  const viommu::consumer::Bytes bytes = engine->front.consumers().bytes_of(id);
  s.mapped_bytes = bytes.mapped;
  s.pinned_bytes = bytes.pinned;
  hand_over(s, *statistics);
  return VIOMMU_OK;
}

viommu_result viommu_domain_statistics_get(viommu_engine* engine, uint32_t domain, viommu_part_statistics* statistics) {
  if (engine == nullptr || !can_take(statistics)) return VIOMMU_E_ARGUMENT;
  if (!engine->waist.counts_apart()) return VIOMMU_E_UNSUPPORTED;
  viommu_part_statistics s{};
  if (const std::optional use = use_of(*engine, domain)) {
    const FaultCounts& faults = engine->front.fault_counts();
    const auto figures = engine->waist.figures_of(use->domain);
    s = part_of(figures, [&](FaultReason reason) { return faults.of(*use, reason); });
    s.iotlb_domain = figures.of(Dropped::whole);
    s.iotlb_page = figures.of(Dropped::pages);
  }
  hand_over(s, *statistics);
  return VIOMMU_OK;
}

viommu_result viommu_fault_count(viommu_engine* engine, uint32_t of, uint32_t id, uint8_t reason, uint64_t* count) {
  if (engine == nullptr || count == nullptr || of > VIOMMU_OF_DOMAIN) return VIOMMU_E_ARGUMENT;
  *count = 0;
  if (of != VIOMMU_OF_ALL && !engine->waist.counts_apart()) return VIOMMU_E_UNSUPPORTED;
  const FaultCounts& faults = engine->front.fault_counts();
  const auto code = static_cast<FaultReason>(reason);
  if (of == VIOMMU_OF_ALL) {
    *count = faults.of(code);
  } else if (of == VIOMMU_OF_DOMAIN) {
    if (const std::optional use = use_of(*engine, id)) *count = faults.of(*use, code);
  } else if (id <= viommu::low_bits(16)) {
    *count = faults.of(SourceId{static_cast<std::uint16_t>(id)}, code);
  }
  return VIOMMU_OK;
}

}  // extern "C"
