// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Identifiers of the device, wider than those of a PCI function or a VT-d domain.
#pragma once

#include <compare>
#include <cstdint>

namespace viommu::virtio_iommu {

/// Which device sends: the platform's choice of number, usually segment << 16 | requester id.
struct EndpointId {
  std::uint32_t value = 0;

  friend constexpr auto operator<=>(EndpointId, EndpointId) = default;
};

/// The domain a guest names in its requests.
struct DomainId {
  std::uint32_t value = 0;

  friend constexpr auto operator<=>(DomainId, DomainId) = default;
};

}  // namespace viommu::virtio_iommu
