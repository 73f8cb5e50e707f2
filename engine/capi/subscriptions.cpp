// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Consumers: views, subscriptions, replays.
#include "engine/capi/engine.hpp"

extern "C" {

viommu_result viommu_view(viommu_engine*, uint16_t, uint32_t*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_subscribe(viommu_engine*, uint16_t, const viommu_consumer*, viommu_refusal*, uint64_t*) {
  return VIOMMU_E_UNSUPPORTED;
}
viommu_result viommu_replay(viommu_engine*, uint64_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_unsubscribe(viommu_engine*, uint64_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_subscription_figures_get(viommu_engine*, uint64_t, viommu_subscription_figures*) {
  return VIOMMU_E_UNSUPPORTED;
}
viommu_result viommu_pinned_bytes(viommu_engine*, uint64_t*) { return VIOMMU_E_UNSUPPORTED; }

}  // extern "C"
