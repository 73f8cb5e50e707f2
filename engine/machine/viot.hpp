// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which virtio-iommu a device is an endpoint of, and by which id: the VMM's routing and the ACPI table that tells the
// guest (ACPI, "Virtual I/O Translation Table"), of one description.
//
//   description ──check()──> endpoint_of()  unit and id of one source id
//                       └──> write_viot()   the bytes of the table
//
// What bypasses, and the units themselves, are cut out of the ranges: what is left of one becomes a node each.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/topology.hpp"

namespace viommu::machine {

/// Source ids of one segment, and the endpoint id of the first; the others follow it.
struct EndpointRange {
  std::uint16_t segment = 0;
  SourceId first;
  SourceId last;
  std::uint32_t endpoint = 0;
};

/// An endpoint that is no PCI device.
struct MmioEndpoint {
  Gpa base;
  std::uint32_t endpoint = 0;
};

struct VirtioUnit {
  bool is_pci = true;
  std::uint16_t segment = 0;  ///< where it is itself, as a PCI function,
  SourceId source;
  Gpa base;  ///< or as virtio-mmio
  std::span<const EndpointRange> ranges;
  std::span<const MmioEndpoint> mmio_endpoints;
  std::span<const SourceRange> bypassed;  ///< of its endpoints, whatever their segment; ascending
};

struct VirtioTopology : TableIdentity {
  std::span<const VirtioUnit> units;
  std::span<const SourceRange> bypassed;  ///< ascending, and apart from each other
};

inline constexpr std::size_t most_virtio_units = 256;
inline constexpr std::size_t most_endpoint_ranges =
    1024;  ///< of all units, and as many endpoints that are no PCI device

/// Everything that would make the table illegal, or ambiguous: two units that claim one source id, two endpoints of a
/// unit with one id. The other functions are for descriptions that pass. Cost: each range with each.
[[nodiscard]] TopologyError check(const VirtioTopology& topology) noexcept;

struct Endpoint {
  std::size_t unit = 0;
  std::uint32_t id = 0;
  friend constexpr bool operator==(Endpoint, Endpoint) = default;
};
/// Nothing for what bypasses, or is an endpoint of none.
[[nodiscard]] std::optional<Endpoint> endpoint_of(const VirtioTopology& topology, std::uint16_t segment,
                                                  SourceId source) noexcept;

/// Writes the table, or as much of it as fits; its checksum only if all of it does. @return the bytes of all of it
std::size_t write_viot(const VirtioTopology& topology, std::span<std::byte> into) noexcept;

}  // namespace viommu::machine
