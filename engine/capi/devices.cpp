// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices of the machine: admission, host facts, phases.
#include "engine/capi/engine.hpp"

extern "C" {

viommu_result viommu_device_add(viommu_engine*, const viommu_device*, viommu_refusal*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_device_remove(viommu_engine*, uint16_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_host_facts_unset(viommu_engine*, uint16_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_bus_renumber(viommu_engine*, uint8_t, uint8_t) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_veto_add(viommu_engine*, const viommu_veto*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_ready(viommu_engine*, viommu_refusal*, uint32_t, uint32_t*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_capabilities_get(viommu_engine*, uint64_t*, uint64_t*, uint32_t*) { return VIOMMU_E_UNSUPPORTED; }
viommu_result viommu_migration_blocker(viommu_engine*, uint32_t, char*, size_t) { return VIOMMU_E_UNSUPPORTED; }

}  // extern "C"
