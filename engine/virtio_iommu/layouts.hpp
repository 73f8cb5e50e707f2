// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Virtio, "IOMMU Device": what stands where, each structure once and as printed. Little endian, like the host
// (guest_memory.cpp). Requests are written as they would stand in one piece; a driver may split them at any byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/bits.hpp"

namespace viommu::virtio_iommu {

template <std::size_t N>
using Reserved = std::array<std::uint8_t, N>;

// "Device configuration layout"
struct ConfigLayout {
  std::uint64_t page_size_mask = 0;
  std::uint64_t input_start = 0;
  std::uint64_t input_end = 0;
  std::uint32_t domain_start = 0;
  std::uint32_t domain_end = 0;
  std::uint32_t probe_size = 0;
  std::uint8_t bypass = 0;
  Reserved<3> reserved{};
};
static_assert(offsetof(ConfigLayout, input_start) == 0x08 && offsetof(ConfigLayout, input_end) == 0x10);
static_assert(offsetof(ConfigLayout, domain_start) == 0x18 && offsetof(ConfigLayout, domain_end) == 0x1C);
static_assert(offsetof(ConfigLayout, probe_size) == 0x20 && offsetof(ConfigLayout, bypass) == 0x24);
static_assert(sizeof(ConfigLayout) == 40);

// "Device operations": requests
enum class RequestType : std::uint8_t { attach = 1, detach = 2, map = 3, unmap = 4, probe = 5 };

enum class Status : std::uint8_t {
  ok = 0,
  io_error = 1,
  unsupported = 2,
  device_error = 3,
  invalid = 4,
  range = 5,
  no_entry = 6,
  fault = 7,
  no_memory = 8,
};

struct RequestHead {
  RequestType type{};  ///< any byte
  Reserved<3> reserved{};
};
static_assert(sizeof(RequestHead) == 4);

/// The end of what the device writes.
struct RequestTail {
  Status status{};
  Reserved<3> reserved{};
};
static_assert(sizeof(RequestTail) == 4);

struct AttachFlags {
  std::uint32_t raw = 0;
};
namespace attach_flags {
inline constexpr Field<AttachFlags, bool> bypass{"BYPASS", {0, 0}};
inline constexpr Field<AttachFlags, std::uint32_t> unknown{"", {31, 1}, Rule::reserved};
inline constexpr auto rows = layout(bypass, unknown);
}  // namespace attach_flags

struct MapFlags {
  std::uint32_t raw = 0;
};
namespace map_flags {
inline constexpr Field<MapFlags, bool> read{"READ", {0, 0}};
inline constexpr Field<MapFlags, bool> write{"WRITE", {1, 1}};
inline constexpr Field<MapFlags, bool> mmio{"MMIO", {2, 2}};
inline constexpr Field<MapFlags, std::uint32_t> unknown{"", {31, 3}, Rule::reserved};
inline constexpr auto rows = layout(read, write, mmio, unknown);
}  // namespace map_flags

// "ATTACH request"
struct AttachLayout {
  RequestHead head;
  std::uint32_t domain = 0;
  std::uint32_t endpoint = 0;
  AttachFlags flags;
  Reserved<4> reserved{};
  RequestTail tail;
};
static_assert(offsetof(AttachLayout, domain) == 4 && offsetof(AttachLayout, endpoint) == 8);
static_assert(offsetof(AttachLayout, flags) == 12 && offsetof(AttachLayout, reserved) == 16);
static_assert(offsetof(AttachLayout, tail) == 20 && sizeof(AttachLayout) == 24);

// "DETACH request"
struct DetachLayout {
  RequestHead head;
  std::uint32_t domain = 0;
  std::uint32_t endpoint = 0;
  Reserved<8> reserved{};
  RequestTail tail;
};
static_assert(offsetof(DetachLayout, domain) == 4 && offsetof(DetachLayout, endpoint) == 8);
static_assert(offsetof(DetachLayout, reserved) == 12);
static_assert(offsetof(DetachLayout, tail) == 20 && sizeof(DetachLayout) == 24);

// "MAP request"
struct MapLayout {
  RequestHead head;
  std::uint32_t domain = 0;
  std::uint64_t virt_start = 0;
  std::uint64_t virt_end = 0;
  std::uint64_t phys_start = 0;
  MapFlags flags;
  RequestTail tail;
};
static_assert(offsetof(MapLayout, domain) == 4 && offsetof(MapLayout, virt_start) == 8);
static_assert(offsetof(MapLayout, virt_end) == 16 && offsetof(MapLayout, phys_start) == 24);
static_assert(offsetof(MapLayout, flags) == 32 && offsetof(MapLayout, tail) == 36 && sizeof(MapLayout) == 40);

// "UNMAP request"
struct UnmapLayout {
  RequestHead head;
  std::uint32_t domain = 0;
  std::uint64_t virt_start = 0;
  std::uint64_t virt_end = 0;
  Reserved<4> reserved{};
  RequestTail tail;
};
static_assert(offsetof(UnmapLayout, domain) == 4 && offsetof(UnmapLayout, virt_start) == 8);
static_assert(offsetof(UnmapLayout, virt_end) == 16 && offsetof(UnmapLayout, reserved) == 24);
static_assert(offsetof(UnmapLayout, tail) == 28 && sizeof(UnmapLayout) == 32);

// "PROBE request": without the properties, whose size the device chooses, and the tail behind them
struct ProbeLayout {
  RequestHead head;
  std::uint32_t endpoint = 0;
  Reserved<64> reserved{};
};
static_assert(offsetof(ProbeLayout, endpoint) == 4 && sizeof(ProbeLayout) == 72);

// "PROBE properties"
enum class PropertyType : std::uint16_t { none = 0, reserved_memory = 1 };
enum class ReservedMemoryKind : std::uint8_t { reserved = 0, msi = 1 };

struct PropertyHead {
  std::uint32_t raw = 0;
};
namespace property_head {
inline constexpr Field<PropertyHead, PropertyType> type{"type", {11, 0}};
inline constexpr Field<PropertyHead, std::uint16_t> reserved{"", {15, 12}, Rule::reserved};
inline constexpr Field<PropertyHead, std::uint16_t> length{"length", {31, 16}};  ///< of what follows the head
inline constexpr auto rows = layout(type, reserved, length);
}  // namespace property_head

// "Property RESV_MEM"
struct ReservedMemoryLayout {
  PropertyHead head;
  ReservedMemoryKind subtype{};
  Reserved<3> reserved{};
  std::uint64_t start = 0;
  std::uint64_t end = 0;
};
static_assert(offsetof(ReservedMemoryLayout, subtype) == 4 && offsetof(ReservedMemoryLayout, start) == 8);
static_assert(offsetof(ReservedMemoryLayout, end) == 16 && sizeof(ReservedMemoryLayout) == 24);

// "Fault reporting"
enum class FaultReason : std::uint8_t { unknown = 0, domain = 1, mapping = 2 };

struct FaultFlags {
  std::uint32_t raw = 0;
};
namespace fault_flags {
// clang-format off
inline constexpr Field<FaultFlags, bool>          read    {"READ",    { 0, 0}};
inline constexpr Field<FaultFlags, bool>          write   {"WRITE",   { 1, 1}};
inline constexpr Field<FaultFlags, std::uint32_t> other_2 {"",        { 7, 2}, Rule::reserved};
inline constexpr Field<FaultFlags, bool>          address {"ADDRESS", { 8, 8}};
inline constexpr Field<FaultFlags, std::uint32_t> other_9 {"",        {31, 9}, Rule::reserved};
// clang-format on
inline constexpr auto rows = layout(read, write, other_2, address, other_9);
}  // namespace fault_flags

struct FaultLayout {
  FaultReason reason{};
  Reserved<3> reserved{};
  FaultFlags flags;
  std::uint32_t endpoint = 0;
  std::uint32_t reserved1 = 0;
  std::uint64_t address = 0;
};
static_assert(offsetof(FaultLayout, flags) == 4 && offsetof(FaultLayout, endpoint) == 8);
static_assert(offsetof(FaultLayout, reserved1) == 12 && offsetof(FaultLayout, address) == 16);
static_assert(sizeof(FaultLayout) == 24);

}  // namespace viommu::virtio_iommu
