// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Parts of regions that come and go.
#include "engine/capi/engine.hpp"

using viommu::Part;
using viommu::capi::RecordedCall;
using viommu::capi::result_of;
using viommu::core::WorkState;

extern "C" viommu_result viommu_region_part(viommu_engine* engine, uint64_t gpa, uint64_t length, uint32_t part,
                                            uint64_t cookie) {
  static_assert(VIOMMU_PART_SHARED == static_cast<int>(Part::shared) &&
                VIOMMU_PART_DISCARDED == static_cast<int>(Part::discarded) &&
                VIOMMU_PART_PRIVATE == static_cast<int>(Part::private_to));
  const std::uint64_t last = gpa + (length - 1);
  const bool aligned = gpa % viommu::page_size_bytes == 0 && length % viommu::page_size_bytes == 0;
  if (engine == nullptr || length == 0 || !aligned || last < gpa || part > VIOMMU_PART_PRIVATE)
    return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  const viommu_result result = result_of(engine->waist.set_part({{gpa}, {last}}, static_cast<Part>(part), cookie));
  if (engine->front.process(0) != WorkState::idle) engine->host.wake();
  return result;
}
