// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Parts of regions that come and go.
#include "engine/capi/engine.hpp"

extern "C" {

viommu_result viommu_region_part(viommu_engine*, uint64_t, uint64_t, uint32_t, uint64_t) {
  return VIOMMU_E_UNSUPPORTED;
}

}  // extern "C"
