// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/properties.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace viommu::virtio_iommu {
namespace {

[[nodiscard]] constexpr PropertyHead head_of(PropertyType type, std::size_t size_bytes) noexcept {
  const PropertyHead head = with(PropertyHead{}, property_head::type, type);
  return with(head, property_head::length, static_cast<std::uint16_t>(size_bytes - sizeof head));
}

}  // namespace

bool encode_properties(std::span<const ReservedRegion> regions, std::span<std::byte> out) noexcept {
  std::ranges::fill(out, std::byte{0});
  if (regions.size() > out.size() / sizeof(ReservedMemoryLayout)) return false;
  std::byte* to = out.data();
  for (const ReservedRegion& region : regions) {
    const ReservedMemoryLayout property{head_of(PropertyType::reserved_memory, sizeof property),
                                        region.kind,
                                        {},
                                        region.range.first.value,
                                        region.range.last.value};
    std::memcpy(to, &property, sizeof property);
    to += sizeof property;
  }
  return true;
}

}  // namespace viommu::virtio_iommu
