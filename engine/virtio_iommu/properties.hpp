// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What PROBE tells about an endpoint: its reserved memory.
#pragma once

#include <cstddef>
#include <span>

#include "engine/base/address.hpp"
#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::virtio_iommu {

/// Memory that an endpoint must not map: of the platform, or the doorbell of its messages.
struct ReservedRegion {
  IovaRange range{};
  ReservedMemoryKind kind = ReservedMemoryKind::reserved;

  friend constexpr bool operator==(const ReservedRegion&, const ReservedRegion&) = default;
};

/// Properties back to back, zeros behind them. @return false when they do not fit: then all of `out` is zero, and the
/// request is to be refused (Status::invalid)
[[nodiscard]] bool encode_properties(std::span<const ReservedRegion> regions, std::span<std::byte> out) noexcept;

}  // namespace viommu::virtio_iommu
