// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: quiesce, save, load; dirty tracking.
#include "engine/capi/engine.hpp"

extern "C" {

viommu_result viommu_quiesce(viommu_engine*, viommu_refusal*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_save(viommu_engine*, void*, size_t, size_t*, viommu_refusal*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_load(viommu_engine*, const void*, size_t, viommu_refusal*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_dirty_tracking(viommu_engine*, uint32_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_dirty_tracking_is(viommu_engine*, uint32_t*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_dirty_fetch(viommu_engine*, viommu_range*, uint32_t, uint32_t*) { return VIOMMU_E_UNSUPPORTED; }

}  // extern "C"
