// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// For a recorder: what the driver asks, what it is told, and which endpoints there are. Empty functions: nobody
// listens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/fault_report.hpp"
#include "engine/virtio_iommu/layouts.hpp"
#include "engine/virtio_iommu/request.hpp"

namespace viommu::virtio_iommu {

/// A request and its answer, which may be shown later, or never.
struct Answer {
  const RequestBytes& bytes;
  BufferSize size;
  bool written = false;  ///< it does not go back as it was
  std::uint32_t tail_offset = 0;
  Status status = Status::ok;
  /// Empty, or tail_offset bytes. Written out: g++ asks for it where the last fields are left out.
  std::span<const std::byte> properties = {};  // NOLINT(readability-redundant-member-init)
};

/// Called where what is told has just been done, before anything else can be.
struct DeviceTap {
  void* opaque = nullptr;
  void (*answered)(void* opaque, const Answer& answer) = nullptr;
  void (*reported)(void* opaque, const FaultBytes& report) = nullptr;
  void (*added)(void* opaque, EndpointName endpoint) = nullptr;
  void (*removed)(void* opaque, EndpointName endpoint) = nullptr;
  void (*renumbered)(void* opaque, std::uint8_t from, std::uint8_t to) = nullptr;
};

}  // namespace viommu::virtio_iommu
