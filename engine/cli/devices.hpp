// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The devices of a scenario: what a plug line says, as viommu_device_add() takes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <viommu/viommu.h>

#include "engine/trace/plug.hpp"
#include "engine/trace/scenario_words.hpp"

namespace viommu::cli {

/// A device as its line describes it; keeps the texts.
struct PluggedDevice {
  std::uint16_t source = 0;
  trace::DeviceKind kind = trace::DeviceKind::emulated;
  std::string pairs;
  bool bypassed = false;
  bool has_facts = true;
  std::optional<bool> driver;  ///< of a virtio device whose driver has chosen: whether it accepted ACCESS_PLATFORM
};

[[nodiscard]] viommu_result add_device(viommu_engine* engine, const PluggedDevice& device, viommu_refusal& refusal);

}  // namespace viommu::cli
