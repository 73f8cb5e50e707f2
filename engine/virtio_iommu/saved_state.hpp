// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device's state as it travels: what the driver can see or waits for, and what the device said it was. Caches never.
//
//   VDEV  offered features 8, page_size_mask 8, first and last input 8, first and last domain 4, probe_size 4
//   TRAN  negotiated features 8, bits 4: running, broken, `bypass`
//   QUES  of the request queue, then of the event queue: size 4 (0: not there, and so is all that follows), descriptor,
//         driver and device area 8, next available and used 2, bits 4: wrap counters of both, INDIRECT_DESC, EVENT_IDX,
//         RING_PACKED; unannounced 4
//   DOMS  count 4, then {domain 4, bits 4: bypass; mappings 8} of each domain, by number
//   ENDP  count 4, then {endpoint 4, domain 4} of each endpoint in a domain, by number
//   GONE  count 4, then {endpoint 4, domain 4} of each that has gone and whose DETACH may come, the first one first
//   MAPS  {first 8, last 8, target 8, flags 4, as of a MAP} of each mapping, ascending, of the domains in their order
//
// in the form of engine/machine/state_image.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "engine/base/host_memory.hpp"
#include "engine/machine/state_image.hpp"
#include "engine/virtio_iommu/config_space.hpp"
#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/features.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/mapping.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtio_iommu {

/// Of size 0 where there is none.
struct SavedQueue {
  virtqueue::Config config;
  virtqueue::State state;
};
struct SavedDomain {
  DomainId id;
  bool bypass = false;
  std::uint64_t mappings = 0;
  std::uint32_t members = 0;  ///< does not travel
};
struct SavedEndpoint {
  EndpointId id;
  DomainId domain;
};

struct SavedState {
  Features negotiated;
  bool running = false;
  bool broken = false;
  bool bypass = false;
  std::array<SavedQueue, 2> queues;
  HostArray<SavedDomain> domains;     ///< ascending
  HostArray<SavedEndpoint> attached;  ///< ascending
  HostArray<SavedEndpoint> gone;      ///< the first one first
  machine::SectionReader mappings{};  ///< of a state that was read: where they still stand
};

/// What a device is, besides its state.
struct DeviceIdentity {
  Features offered;
  const ConfigSpace& config;
};

/// An endpoint is in a domain that nobody here knows.
struct MissingEndpoint {
  EndpointId id;
};
struct NoMemory {};
/// Nothing is wrong; or the device does not fit, or the bytes do not, or there is no room to read them.
using LoadProblem =
    std::variant<std::monostate, machine::FieldMismatch, machine::StateProblem, MissingEndpoint, NoMemory>;

/// Of all of it. Nothing: more mappings than a section can have.
[[nodiscard]] std::optional<std::size_t> bytes_of(const SavedState& state) noexcept;
/// @param domains  whose mappings are written @param room  of bytes_of() bytes
void write_state(const SavedState& state, const DeviceIdentity& device, const Domains& domains,
                 std::span<std::byte> room) noexcept;

/// Checks everything but whether the endpoints are there. `state` receives it, but for the mappings, of which each has
/// been looked at.
[[nodiscard]] LoadProblem read_state(std::span<const std::byte> bytes, const DeviceIdentity& device,
                                     const Domains::Limits& limits, const HostAllocator& allocator,
                                     SavedState& state) noexcept;
/// The next one of SavedState::mappings.
[[nodiscard]] Mapping read_mapping(machine::SectionReader& mappings) noexcept;

namespace section {
using machine::SectionName;
inline constexpr SectionName device = SectionName::of("VDEV");
inline constexpr SectionName transport = SectionName::of("TRAN");
inline constexpr SectionName queues = SectionName::of("QUES");
inline constexpr SectionName domains = SectionName::of("DOMS");
inline constexpr SectionName endpoints = SectionName::of("ENDP");
inline constexpr SectionName gone = SectionName::of("GONE");
inline constexpr SectionName mappings = SectionName::of("MAPS");
}  // namespace section

}  // namespace viommu::virtio_iommu
