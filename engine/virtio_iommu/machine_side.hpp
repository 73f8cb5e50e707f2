// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the machine has to know of a virtio-iommu: its guest announces every mapping, no vendor's capabilities stand
// beside the host's, and the sizes of mappings are what the host leaves of them.
#pragma once

#include "engine/base/guest_memory.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/virtio_iommu/device.hpp"

namespace viommu::virtio_iommu {

/// A device and guest memory, as the machine's function table sees them.
struct MachineSide {
  Device& device;
  const GuestMemory& memory;

  /// Good as long as this object.
  [[nodiscard]] machine::FrontEnd front_end() noexcept;
};

}  // namespace viommu::virtio_iommu
