// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device of the machine, and what its host's IOMMU can do for it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/address.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/machine/way.hpp"

namespace viommu::machine {

enum class DeviceKind : std::uint8_t {
  emulated,
  host,      ///< a real device behind a real IOMMU
  mediated,  ///< host-backed, without facts of its own
};

/// As VIOMMU_BACKEND_*.
enum class Backend : std::uint8_t { vfio = 1, iommufd = 2 };

inline constexpr std::size_t most_iova_ranges = 4096;
inline constexpr std::size_t most_reserved_regions = 256;

/// How facts are asked for: 0 and the fact, or a negative number. A null function is a fact that the backend does not
/// have. Used while a device is added and not kept.
struct FactFunctions {
  void* opaque = nullptr;
  Backend backend = Backend::iommufd;
  std::int32_t (*kind)(void* opaque, std::uint32_t* kind) = nullptr;
  std::int32_t (*width)(void* opaque, std::uint32_t* bits) = nullptr;
  std::int32_t (*capabilities)(void* opaque, std::uint64_t* cap, std::uint64_t* ecap) = nullptr;
  /// As many as fit are written, *count says how many there are.
  std::int32_t (*iova_ranges)(void* opaque, IovaRange* ranges, std::uint32_t capacity, std::uint32_t* count) = nullptr;
  std::int32_t (*page_sizes)(void* opaque, std::uint64_t* mask) = nullptr;
};

/// What the host said. What it does not have is nothing, and never a zero.
struct HostFacts {
  Backend backend = Backend::iommufd;
  std::optional<std::uint32_t> kind;
  unsigned width = 0;  ///< of input addresses: as told, or the highest bit that a usable address has, or 64
  std::optional<VendorWords> words;
  std::optional<std::uint64_t> page_sizes;
  bool has_ranges = false;
  HostArray<IovaRange> ranges;  ///< usable input addresses, ascending

  friend bool operator==(const HostFacts& a, const HostFacts& b) noexcept {
    return a.backend == b.backend && a.kind == b.kind && a.width == b.width && a.words == b.words &&
           a.page_sizes == b.page_sizes && a.has_ranges == b.has_ranges && std::ranges::equal(a.ranges, b.ranges);
  }
};

struct Device {
  SourceId source{};
  std::optional<SourceId> alias;  ///< the requester id that its bus gives its requests
  DeviceKind kind = DeviceKind::emulated;
  bool bypassed = false;  ///< never passes the unit
  bool is_virtio = false;
  bool offers_platform = false;  ///< VIRTIO_F_ACCESS_PLATFORM
  bool isolates = false;         ///< what it sends to its neighbours goes up to the unit (ACS)
  Ability ability = Ability::able;
  Wish wish = Wish::unset;
  Way way = Way::unit;  ///< as ability and wish have it
  DriverState driver = DriverState::agreed;
  std::optional<SourceId> physical;     ///< of a virtual function: whose it is
  HostArray<GpaRange> reserved_memory;  ///< what firmware wants mapped one to one
  std::optional<HostFacts> facts;       ///< of a host device that does not bypass
  bool facts_withdrawn = false;         ///< it may be added again, with new ones
  std::uint64_t facts_class = 0;        ///< equal where facts are; 0: none

  /// The id that requests carry.
  [[nodiscard]] SourceId requester() const noexcept { return alias.value_or(source); }
  /// What its requests meet now.
  [[nodiscard]] Way now() const noexcept { return way_now(way, driver); }
};

}  // namespace viommu::machine
