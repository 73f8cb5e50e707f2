// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the fields of a split ring are (Virtio, "The Virtqueue Available Ring", "The Virtqueue Used Ring").
//
//   available  0 flags | 2 idx | 4 ring[size], 2 bytes each | used_event
//   used       0 flags | 2 idx | 4 ring[size], {id 4, len 4} each | avail_event
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/virtqueue/descriptor.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtqueue::split {

inline constexpr std::uint64_t ring_offset = 4;
inline constexpr std::uint64_t available_entry_bytes = 2;
inline constexpr std::uint64_t used_entry_bytes = 8;
inline constexpr std::uint64_t event_bytes = 2;

/// The flags of either ring: the one bit says that the other side need not notify.
struct RingFlags {
  std::uint32_t raw = 0;
};
namespace ring_flags {
inline constexpr Field<RingFlags, bool> no_notification{"NO_INTERRUPT, NO_NOTIFY", {0, 0}};
inline constexpr Field<RingFlags, std::uint32_t> other_1{"", {15, 1}, Rule::ignored};
inline constexpr Field<RingFlags, std::uint16_t> index{"idx", {31, 16}};
inline constexpr auto rows = layout(no_notification, other_1, index);
}  // namespace ring_flags

/// An element of the used ring.
struct UsedElement {
  std::uint64_t raw = 0;
};
namespace used_element {
inline constexpr Field<UsedElement, std::uint32_t> id{"id", {31, 0}};
inline constexpr Field<UsedElement, std::uint32_t> length{"len", {63, 32}};
inline constexpr auto rows = layout(id, length);
}  // namespace used_element

[[nodiscard]] constexpr std::uint64_t available_ring_bytes(std::uint16_t size) noexcept {
  return ring_offset + available_entry_bytes * size + event_bytes;
}
[[nodiscard]] constexpr std::uint64_t used_ring_bytes(std::uint16_t size) noexcept {
  return ring_offset + used_entry_bytes * size + event_bytes;
}

/// A position in the ring; the size is a power of two.
[[nodiscard]] constexpr std::uint64_t entry_of(const Config& config, std::uint16_t position) noexcept {
  return position & (config.size - 1u);
}
[[nodiscard]] constexpr Gpa descriptor_at(Gpa table, std::uint32_t index) noexcept {
  return table + std::uint64_t{descriptor_bytes} * index;
}

[[nodiscard]] constexpr Gpa available_flags(const Config& config) noexcept { return config.driver_area; }
[[nodiscard]] constexpr Gpa available_index(const Config& config) noexcept { return config.driver_area + 2; }
[[nodiscard]] constexpr Gpa available_entry(const Config& config, std::uint16_t position) noexcept {
  return config.driver_area + ring_offset + available_entry_bytes * entry_of(config, position);
}
/// Up to which used entry the driver wants no notification.
[[nodiscard]] constexpr Gpa used_event(const Config& config) noexcept {
  return config.driver_area + ring_offset + available_entry_bytes * config.size;
}
[[nodiscard]] constexpr Gpa used_flags(const Config& config) noexcept { return config.device_area; }
[[nodiscard]] constexpr Gpa used_index(const Config& config) noexcept { return config.device_area + 2; }
[[nodiscard]] constexpr Gpa used_entry(const Config& config, std::uint16_t position) noexcept {
  return config.device_area + ring_offset + used_entry_bytes * entry_of(config, position);
}
/// The same of the device.
[[nodiscard]] constexpr Gpa available_event(const Config& config) noexcept {
  return config.device_area + ring_offset + used_entry_bytes * config.size;
}

}  // namespace viommu::virtqueue::split
