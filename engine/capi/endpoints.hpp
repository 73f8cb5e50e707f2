// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices of the machine as endpoints of a virtio-iommu. Devices behind one alias are one endpoint: their bus gives all
// their requests the same id. Of a VT-d unit nothing is done here. All inside front.exclusively().
#pragma once

#include <viommu/viommu.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/capi/engine.hpp"
#include "engine/machine/device.hpp"
#include "engine/machine/way.hpp"

namespace viommu::capi {

/// The id that the front end and consumers know a device by: of an endpoint that of its requests.
[[nodiscard]] SourceId id_of(const viommu_engine& engine, const machine::Device& device) noexcept;
/// The same of a source id that a device may be at.
[[nodiscard]] SourceId id_at(const viommu_engine& engine, SourceId source) noexcept;

/// The devices that an id stands for. Their requests cannot be told apart: all meet the strictest of their ways.
struct Behind {
  std::size_t count = 0;
  machine::Way way = machine::Way::unit;
  bool bypassed = false;  ///< none of them passes the unit, whatever their drivers do
};
[[nodiscard]] Behind behind(const viommu_engine& engine, SourceId id) noexcept;

/// The device is there, or has other facts. @param endpoint  by which the guest knows it; nothing: its requester id
[[nodiscard]] viommu_result put_endpoint(viommu_engine& engine, const machine::Device& device,
                                         std::optional<std::uint32_t> endpoint) noexcept;
/// Its facts have been withdrawn. @return false when the host has no memory
[[nodiscard]] bool refresh_endpoint(viommu_engine& engine, SourceId id) noexcept;
/// The device is about to go: with the last one of an alias its endpoint.
void remove_endpoint(viommu_engine& engine, const machine::Device& device) noexcept;

}  // namespace viommu::capi
