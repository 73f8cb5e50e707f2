// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device's request as the C interface has it, and as the unit does.
#pragma once

#include <viommu/viommu.h>

#include <cstdint>

#include "engine/base/access.hpp"
#include "engine/core/dma_request.hpp"

namespace viommu::capi {

inline constexpr unsigned all_access = VIOMMU_READ | VIOMMU_WRITE;

[[nodiscard]] inline bool makes_sense(const viommu_request& request) noexcept {
  constexpr unsigned all_flags =
      VIOMMU_NO_REPORT | VIOMMU_HAS_PASID | VIOMMU_ZERO_LENGTH | VIOMMU_PRIVILEGED | VIOMMU_EXECUTE;
  constexpr unsigned flags_with_pasid = VIOMMU_PRIVILEGED | VIOMMU_EXECUTE;
  if (request.access == 0 || (request.access & ~all_access) != 0 || (request.flags & ~all_flags) != 0) return false;
  constexpr std::uint32_t pasid_limit = 1U << 20;
  const bool has_pasid = (request.flags & VIOMMU_HAS_PASID) != 0;
  if (has_pasid && request.pasid >= pasid_limit) return false;
  if (!has_pasid && (request.flags & flags_with_pasid) != 0) return false;
  if ((request.flags & VIOMMU_EXECUTE) != 0 && (request.access & VIOMMU_WRITE) != 0) return false;
  return (request.flags & VIOMMU_ZERO_LENGTH) == 0 || request.access == VIOMMU_READ;
}

[[nodiscard]] inline core::DmaRequest dma_request(const viommu_request& request) noexcept {
  core::DmaRequest dma;
  dma.source = {request.source};
  dma.iova = {request.iova};
  dma.asked = Rights::in(request.access);
  dma.length = request.length;
  dma.zero_length = (request.flags & VIOMMU_ZERO_LENGTH) != 0;
  dma.has_pasid = (request.flags & VIOMMU_HAS_PASID) != 0;
  dma.pasid = {request.pasid};
  dma.privileged = (request.flags & VIOMMU_PRIVILEGED) != 0;
  dma.execute = (request.flags & VIOMMU_EXECUTE) != 0;
  dma.report = (request.flags & VIOMMU_NO_REPORT) == 0;
  return dma;
}

}  // namespace viommu::capi
