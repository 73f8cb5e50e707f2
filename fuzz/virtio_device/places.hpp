// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who is behind the device, and what memory consumers see.
#pragma once

#include <viommu/viommu_virtio.h>

#include <array>
#include <cstdint>

namespace viommu::fuzz::virtio_device {

/// Endpoint ids that requests name.
inline constexpr std::array<std::uint32_t, 8> endpoint_ids{0x100, 0x108, 0x1'0200, 0xFFFF'FFFF, 0x500, 0x508, 0, 0x600};
/// Requester ids that DMA comes from.
inline constexpr std::array<std::uint16_t, 8> sources{0x100, 0x108, 0x200, 0x3FF, 0x500, 0x508, 0x101, 0x600};

struct Place {
  std::uint16_t source;
  std::uint16_t requester;
  std::uint32_t endpoint;
  bool has_host = false;
  bool bypassed = false;
};
inline constexpr std::array<Place, 8> places{{{0x100, 0x100, 0x100},
                                              {0x108, 0x108, 0x108, true},
                                              {0x200, 0x200, 0x1'0200},
                                              {0x3FF, 0x3FF, 0xFFFF'FFFF, true},
                                              {0x508, 0x500, 0x500},
                                              {0x510, 0x500, 0x500},
                                              {0x101, 0x101, 0},
                                              {0x600, 0x600, 0x600, false, true}}};

/// Memory that no CPU sees here: for consumers.
struct Memory {
  std::uint64_t gpa;
  std::uint64_t length;
  std::uint64_t flags;
};
inline constexpr std::array<Memory, 4> memories{
    {{0x1000'0000, 0x3000'0000, VIOMMU_REGION_UNMAPPED},
     {0x5000'0000, 0x10'0000, VIOMMU_REGION_MMIO},
     {0x6000'0000, 0x20'0000, VIOMMU_REGION_UNMAPPED | VIOMMU_REGION_READ_ONLY},
     {0x1'0000'0000, 0x4000'0000, VIOMMU_REGION_UNMAPPED}}};

}  // namespace viommu::fuzz::virtio_device
