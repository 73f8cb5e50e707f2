// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From the bytes of a buffer to a request, or to an answer that needs no look at any domain: the first checks, in this
// order: length, type, feature; reserved (ATTACH); flags. All that follow need the device's state.
//
// A buffer without room for a status, or without a type that was negotiated, goes back unwritten. PROBE belongs to the
// types that were not negotiated also when it is too short: where its status stands is then unknown.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/virtio_iommu/features.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::virtio_iommu {

struct Attach {
  DomainId domain;
  EndpointId endpoint;
  bool bypass = false;
  friend constexpr bool operator==(const Attach&, const Attach&) = default;
};
struct Detach {
  DomainId domain;
  EndpointId endpoint;
  friend constexpr bool operator==(const Detach&, const Detach&) = default;
};
/// The range may be upside down: that is checked after the domain.
struct Map {
  DomainId domain;
  Iova virt_start;
  Iova virt_end;
  Gpa phys_start;
  Rights rights;
  bool mmio = false;
  friend constexpr bool operator==(const Map&, const Map&) = default;
};
struct Unmap {
  DomainId domain;
  Iova virt_start;
  Iova virt_end;
  friend constexpr bool operator==(const Unmap&, const Unmap&) = default;
};
struct Probe {
  EndpointId endpoint;
  friend constexpr bool operator==(const Probe&, const Probe&) = default;
};
/// Decided: this status, and nothing is done.
struct Refused {
  Status status{};
  friend constexpr bool operator==(const Refused&, const Refused&) = default;
};
/// Decided: the buffer goes back as it is, used length 0.
struct Unanswered {
  friend constexpr bool operator==(const Unanswered&, const Unanswered&) = default;
};

using Request = std::variant<Attach, Detach, Map, Unmap, Probe, Refused, Unanswered>;

struct Decoded {
  Request request;
  std::uint32_t tail_offset = 0;  ///< where the status stands in the writable part; what is before it is written too
};

/// The readable bytes that mean anything. What follows them (of PROBE, and of whoever sends more) is not looked at.
inline constexpr std::size_t meaningful_bytes = offsetof(MapLayout, tail);
using RequestBytes = std::array<std::byte, meaningful_bytes>;

/// The sizes of a buffer's two parts.
struct BufferSize {
  std::uint64_t readable = 0;
  std::uint64_t writable = 0;
  friend constexpr bool operator==(const BufferSize&, const BufferSize&) = default;
};

/// The writable part that a request of this type has room for; what is behind it is not looked at.
[[nodiscard]] constexpr std::uint32_t usual_writable_bytes(RequestType type, std::uint32_t probe_size) noexcept {
  return (type == RequestType::probe ? probe_size : 0) + std::uint32_t{sizeof(RequestTail)};
}
/// The readable part of the longest request.
inline constexpr std::size_t most_readable_bytes = sizeof(ProbeLayout);
static_assert(most_readable_bytes >= meaningful_bytes);

/// @param bytes       the first min(meaningful_bytes, size.readable) of them are the buffer's
/// @param probe_size  of the device's configuration
[[nodiscard]] Decoded decode(const RequestBytes& bytes, BufferSize size, Features negotiated,
                             std::uint32_t probe_size) noexcept;

}  // namespace viommu::virtio_iommu
