// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which memory an endpoint must not map: what the platform reserves, what the device itself has reserved, and what its
// host cannot map. Ascending, merged, none overlaps another; a doorbell wins over a hole of the host.
#pragma once

#include <span>

#include "engine/base/address.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/virtio_iommu/properties.hpp"

namespace viommu::virtio_iommu {

struct ReservedSources {
  std::span<const ReservedRegion> configured;  ///< those of one kind do not overlap those of the other
  std::span<const GpaRange> device;            ///< mapped one to one for it, by its firmware
  bool has_usable = false;                     ///< the host says what can be mapped
  std::span<const IovaRange> usable;           ///< then this, ascending
};

/// @return false when the host has no memory
[[nodiscard]] bool collect_reserved(const ReservedSources& sources, const HostAllocator& allocator,
                                    HostArray<ReservedRegion>& regions) noexcept;

}  // namespace viommu::virtio_iommu
