// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the event queue tells the guest about a blocked access.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::virtio_iommu {

struct FaultReport {
  FaultReason reason = FaultReason::unknown;
  Rights asked;
  EndpointId endpoint;
  Iova address;

  friend constexpr bool operator==(const FaultReport&, const FaultReport&) = default;
};

using FaultBytes = std::array<std::byte, sizeof(FaultLayout)>;

/// The report as it stands in a buffer, always with its address.
[[nodiscard]] inline FaultBytes encode(const FaultReport& report) noexcept {
  FaultLayout layout;
  layout.reason = report.reason;
  layout.flags = with(layout.flags, fault_flags::read, report.asked.read());
  layout.flags = with(layout.flags, fault_flags::write, report.asked.write());
  layout.flags = with(layout.flags, fault_flags::address, true);
  layout.endpoint = report.endpoint.value;
  layout.address = report.address.value;
  FaultBytes bytes{};
  std::memcpy(bytes.data(), &layout, sizeof layout);
  return bytes;
}

}  // namespace viommu::virtio_iommu
