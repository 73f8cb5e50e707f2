// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a device is made with, out of an input's head: features, sizes, and some of the VMM's options.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fuzz/models/virtio_iommu_model.hpp"
#include "fuzz/support/driver_ring.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/virtio_grammar.hpp"

namespace viommu::fuzz::virtio_device {

struct Setup {
  VirtioIommuModel::Setting setting;
  std::uint8_t choice = 0;   ///< of the VMM's options
  std::uint8_t devices = 0;  ///< a bit for each place that is taken from the start
  bool blocked_at_boot = false;
  std::uint64_t wanted = 0;   ///< features that its driver takes
  std::uint64_t offered = 0;  ///< at most
  std::vector<VirtioIommuModel::Reserved> configured;
};

inline constexpr std::size_t head_bytes = 4;

[[nodiscard]] inline Setup take_setup(Input& head) {
  Setup setup;
  const auto flags = head.take<std::uint8_t>();
  const auto sizes = head.take<std::uint8_t>();
  setup.choice = head.take<std::uint8_t>();
  setup.devices = head.take<std::uint8_t>();
  VirtioIommuModel::Setting& setting = setup.setting;
  setting = virtio_setting(flags, sizes);
  setting.mappings = (sizes & 0x80) != 0 ? 6 : 0;
  setting.strict_detach = (flags & 0x40) != 0;
  setting.boot_bypass = setting.bypass_config && (flags & 0x80) != 0;
  setup.wanted = virtio_version_1 | 3 | (setting.map_unmap ? 4U : 0U) | (setting.probe ? 0x10U : 0U) |
                 (setting.mmio ? 0x20U : 0U) | (setting.bypass_config ? 0x40U : 0U);
  if ((flags & 8) != 0) setup.wanted |= virtio_packed;
  if ((flags & 0x10) != 0) setup.wanted |= virtio_event_index;
  if ((setup.choice & 0x20) == 0) setup.wanted |= virtio_indirect;
  setup.offered = virtio_version_1 | 7 | virtio_indirect | virtio_event_index | virtio_packed | (setup.wanted & 0x70);
  setup.blocked_at_boot = (flags & 0x80) == 0;
  if ((setup.choice & 4) != 0) setup.configured.push_back({0xFEE0'0000, 0xFEEF'FFFF, true});
  if ((setup.choice & 8) != 0) setup.configured.push_back({0x30'0000, 0x30'7FFF, false});
  return setup;
}

}  // namespace viommu::fuzz::virtio_device
