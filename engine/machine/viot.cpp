// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/viot.hpp"

#include <algorithm>

#include "engine/machine/table_bytes.hpp"

namespace viommu::machine {
namespace {

using Error = TopologyError;

// "Virtual I/O Translation Table": types of nodes, and their bytes.
enum class Node : std::uint8_t { pci_range = 1, mmio_endpoint = 2, virtio_pci = 3, virtio_mmio = 4 };
constexpr std::uint8_t table_revision = 0;
constexpr std::size_t header_bytes = 48;
constexpr std::size_t unit_bytes = 16;
constexpr std::size_t endpoint_bytes = 24;
constexpr std::size_t count_offset = 36;

/// Ascending neighbours of one segment.
struct Run {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

/// The first run at or behind `at` that is no endpoint of `unit`, though a range of it may say so.
[[nodiscard]] std::optional<Run> next_excluded(const VirtioTopology& topology, const VirtioUnit& unit,
                                               std::uint16_t segment, std::uint32_t at) noexcept {
  std::optional<Run> next;
  const auto consider = [&](SourceId first, SourceId last) {
    if (last.value < at || (next && next->first <= first.value)) return;
    next = Run{first.value, last.value};
  };
  for (const SourceRange& range : topology.bypassed)
    if (range.segment == segment) consider(range.first, range.last);
  for (const SourceRange& range : unit.bypassed) consider(range.first, range.last);
  for (const VirtioUnit& other : topology.units)
    if (other.is_pci && other.segment == segment) consider(other.source, other.source);
  return next;
}

/// Calls use(first, last) for what of a range are endpoints. Bound: what is cut out of it.
template <class Use>
void for_each_run(const VirtioTopology& topology, const VirtioUnit& unit, const EndpointRange& range,
                  const Use& use) noexcept {
  for (std::uint32_t at = range.first.value; at <= range.last.value;) {  // ends: `at` grows
    const std::optional<Run> hole = next_excluded(topology, unit, range.segment, at);
    const std::uint32_t end =
        hole ? std::min<std::uint32_t>(hole->first, range.last.value + 1U) : range.last.value + 1U;
    if (at < end) use(at, end - 1);
    if (!hole) return;
    at = hole->last + 1;
  }
}

[[nodiscard]] std::uint32_t id_in(const EndpointRange& range, std::uint32_t source) noexcept {
  return range.endpoint + (source - range.first.value);
}
[[nodiscard]] std::uint32_t last_id(const EndpointRange& range) noexcept { return id_in(range, range.last.value); }

[[nodiscard]] Error at(std::size_t unit, const char* field, std::optional<std::size_t> element, const char* words,
                       std::uint64_t expected, std::uint64_t found) noexcept {
  return {.words = words,
          .table = "viot",
          .entry = unit,
          .field = field,
          .element = element,
          .expected = expected,
          .found = found};
}

/// The inclusive ranges of ids of a unit's element, PCI ranges first.
struct Ids {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};
[[nodiscard]] Ids ids_of(const VirtioUnit& unit, std::size_t element) noexcept {
  if (element < unit.ranges.size()) return {unit.ranges[element].endpoint, last_id(unit.ranges[element])};
  const std::uint32_t id = unit.mmio_endpoints[element - unit.ranges.size()].endpoint;
  return {id, id};
}

[[nodiscard]] Error check_ids(const VirtioUnit& unit, std::size_t entry) noexcept {
  const std::size_t count = unit.ranges.size() + unit.mmio_endpoints.size();
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t earlier = 0; earlier < i; ++earlier) {
      const Ids one = ids_of(unit, earlier);
      const Ids other = ids_of(unit, i);
      if (one.first > other.last || other.first > one.last) continue;
      const bool is_range = i < unit.ranges.size();
      return at(entry, is_range ? "ranges" : "mmio", is_range ? i : i - unit.ranges.size(),
                "an endpoint id that the unit has already", one.first, other.first);
    }
  return {};
}

[[nodiscard]] Error check_ranges(const VirtioTopology& topology, std::size_t entry) noexcept {
  const VirtioUnit& unit = topology.units[entry];
  for (std::size_t i = 0; i < unit.ranges.size(); ++i) {
    const EndpointRange& range = unit.ranges[i];
    if (range.last < range.first)
      return at(entry, "ranges", i, "ends before it begins", range.first.value, range.last.value);
    const std::uint32_t further = range.last.value - std::uint32_t{range.first.value};
    if (range.endpoint > ~std::uint32_t{0} - further)
      return at(entry, "ranges", i, "ids that go beyond 32 bits", ~std::uint32_t{0} - further, range.endpoint);
    for (std::size_t before = 0; before <= entry; ++before) {
      const auto others =
          topology.units[before].ranges.first(before == entry ? i : topology.units[before].ranges.size());
      for (const EndpointRange& other : others)
        if (other.segment == range.segment && other.first <= range.last && range.first <= other.last) {
          Error error = at(entry, "ranges", i, "a range before claims part of it too", before, entry);
          error.source = std::max(other.first, range.first);
          return error;
        }
    }
  }
  return check_ids(unit, entry);
}

[[nodiscard]] Error check_place(const VirtioTopology& topology, std::size_t entry) noexcept {
  const VirtioUnit& unit = topology.units[entry];
  if (!unit.is_pci && unit.base.value == 0) return at(entry, "base", {}, "no address", 1, 0);
  for (std::size_t before = 0; before < entry; ++before) {
    const VirtioUnit& other = topology.units[before];
    if (other.is_pci != unit.is_pci) continue;
    if (unit.is_pci ? other.segment == unit.segment && other.source == unit.source : other.base == unit.base)
      return at(entry, unit.is_pci ? "source" : "base", {}, "another unit is there", before, entry);
  }
  return {};
}

[[nodiscard]] Error check_mmio(const VirtioTopology& topology, std::size_t entry) noexcept {
  const auto endpoints = topology.units[entry].mmio_endpoints;
  for (std::size_t i = 0; i < endpoints.size(); ++i)
    for (std::size_t before = 0; before <= entry; ++before) {
      const auto others = topology.units[before].mmio_endpoints.first(
          before == entry ? i : topology.units[before].mmio_endpoints.size());
      if (std::ranges::find(others, endpoints[i].base, &MmioEndpoint::base) != others.end())
        return at(entry, "mmio", i, "a device that is an endpoint already", before, entry);
    }
  return {};
}

[[nodiscard]] Error check_counts(const VirtioTopology& topology) noexcept {
  if (topology.units.empty()) return {.words = "no unit", .field = "units", .expected = 1, .found = 0};
  if (const Error error = bound("units", topology.units.size(), most_virtio_units)) return error;
  std::size_t ranges = 0;
  std::size_t mmio = 0;
  for (const VirtioUnit& unit : topology.units) {
    ranges += unit.ranges.size();
    mmio += unit.mmio_endpoints.size();
  }
  if (const Error error = bound("ranges", ranges, most_endpoint_ranges)) return error;
  if (const Error error = bound("mmio", mmio, most_endpoint_ranges)) return error;
  return check(topology.bypassed);
}

void put_node(TableBytes& bytes, Node type, std::size_t length) noexcept {
  bytes.put(static_cast<std::uint64_t>(type), 1);
  bytes.zeros(1);
  bytes.put(length, 2);
}

void put_unit(TableBytes& bytes, const VirtioUnit& unit) noexcept {
  put_node(bytes, unit.is_pci ? Node::virtio_pci : Node::virtio_mmio, unit_bytes);
  if (unit.is_pci) {
    bytes.put(unit.segment, 2);
    bytes.put(unit.source.value, 2);
    bytes.zeros(8);
  } else {
    bytes.zeros(4);
    bytes.put(unit.base.value, 8);
  }
}

}  // namespace

TopologyError check(const VirtioTopology& topology) noexcept {
  if (const Error error = check_counts(topology)) return error;
  if (const Error error = check_identity(topology)) return error;
  for (std::size_t entry = 0; entry < topology.units.size(); ++entry) {
    if (const Error error = check_place(topology, entry)) return error;
    if (const Error error = check_ranges(topology, entry)) return error;
    if (const Error error = check_mmio(topology, entry)) return error;
  }
  if (const std::size_t length = write_viot(topology, {}); length > most_table_bytes)
    return {.words = "longer than is taken", .field = "table", .expected = most_table_bytes, .found = length};
  return {};
}

std::optional<Endpoint> endpoint_of(const VirtioTopology& topology, std::uint16_t segment, SourceId source) noexcept {
  for (std::size_t entry = 0; entry < topology.units.size(); ++entry) {
    const VirtioUnit& unit = topology.units[entry];
    for (const EndpointRange& range : unit.ranges) {
      if (range.segment != segment || source < range.first || range.last < source) continue;
      const std::optional<Run> hole = next_excluded(topology, unit, segment, source.value);
      if (hole && hole->first <= source.value) return std::nullopt;
      return Endpoint{entry, id_in(range, source.value)};
    }
  }
  return std::nullopt;
}

std::size_t write_viot(const VirtioTopology& topology, std::span<std::byte> into) noexcept {
  TableBytes bytes{into};
  bytes.header("VIOT", table_revision, topology);
  bytes.put(0, 2);  // the count comes last
  bytes.put(header_bytes, 2);
  bytes.zeros(8);
  std::size_t nodes = topology.units.size();
  for (const VirtioUnit& unit : topology.units) put_unit(bytes, unit);
  for (std::size_t entry = 0; entry < topology.units.size(); ++entry) {
    const VirtioUnit& unit = topology.units[entry];
    const std::size_t output = header_bytes + entry * unit_bytes;
    for (const EndpointRange& range : unit.ranges)
      for_each_run(topology, unit, range, [&](std::uint32_t first, std::uint32_t last) {
        put_node(bytes, Node::pci_range, endpoint_bytes);
        bytes.put(id_in(range, first), 4);
        bytes.put(range.segment, 2);
        bytes.put(range.segment, 2);
        bytes.put(first, 2);
        bytes.put(last, 2);
        bytes.put(output, 2);
        bytes.zeros(6);
        ++nodes;
      });
    for (const MmioEndpoint& endpoint : unit.mmio_endpoints) {
      put_node(bytes, Node::mmio_endpoint, endpoint_bytes);
      bytes.put(endpoint.endpoint, 4);
      bytes.put(endpoint.base.value, 8);
      bytes.put(output, 2);
      bytes.zeros(6);
      ++nodes;
    }
  }
  bytes.set(count_offset, nodes, 2);
  return bytes.finish();
}

}  // namespace viommu::machine
