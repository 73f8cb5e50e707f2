// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/machine_side.hpp"

#include "engine/machine/memory_side.hpp"

namespace viommu::virtio_iommu {
namespace {

[[nodiscard]] const MachineSide& side(const void* opaque) noexcept { return *static_cast<const MachineSide*>(opaque); }

}  // namespace

machine::FrontEnd MachineSide::front_end() noexcept {
  machine::FrontEnd table;
  table.opaque = this;
  table.announces = [](const void*) { return machine::AnnounceAbility::guest_announces; };
  table.memory_end = [](const void* opaque) { return machine::memory_end(side(opaque).memory); };
  table.memory_hole = [](const void* opaque, GpaRange range) {
    return machine::memory_hole(side(opaque).memory, range);
  };
  table.page_sizes = [](const void* opaque) { return side(opaque).device.config().page_size_mask; };
  table.set_page_sizes = [](void* opaque, std::uint64_t mask) {
    static_cast<MachineSide*>(opaque)->device.set_page_size_mask(mask);
  };
  return table;
}

}  // namespace viommu::virtio_iommu
