// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The description of a machine with virtio-iommus as the C interface takes it: the VIOT table, and endpoint ids.
#include <viommu/viommu_viot.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/capi/engine.hpp"
#include "engine/capi/tables.hpp"
#include "engine/machine/viot.hpp"

namespace {

namespace capi = viommu::capi;
namespace machine = viommu::machine;
using capi::List;
using capi::refuse;
using machine::TopologyError;
using machine::VirtioTopology;
using viommu::SourceId;

constexpr std::size_t first_version = offsetof(viommu_viot, bypassed) + sizeof(viommu_viot::bypassed);

[[nodiscard]] List<viommu_viot_unit> units_of(const viommu_viot& from) noexcept {
  return {from.units, from.unit_count};
}
[[nodiscard]] List<viommu_viot_range> ranges_of(const viommu_viot_unit& from) noexcept {
  return {from.ranges, from.range_count};
}
[[nodiscard]] List<viommu_viot_mmio> mmio_of(const viommu_viot_unit& from) noexcept {
  return {from.mmio, from.mmio_count};
}
[[nodiscard]] List<viommu_dmar_bypass> bypassed_of(const viommu_viot& from) noexcept {
  return {from.bypassed, from.bypass_count};
}

/// Before the lists are looked into.
[[nodiscard]] TopologyError check_counts(const viommu_viot& from) noexcept {
  if (const TopologyError error = machine::bound("units", from.unit_count, machine::most_virtio_units)) return error;
  if (const TopologyError error = machine::bound("bypassed", from.bypass_count, machine::most_bypassed_ranges))
    return error;
  std::size_t ranges = 0;
  std::size_t mmio = 0;
  if (!units_of(from).is_there()) return {};
  for (const viommu_viot_unit& unit : units_of(from)) {
    ranges += unit.range_count;
    mmio += unit.mmio_count;
  }
  if (const TopologyError error = machine::bound("ranges", ranges, machine::most_endpoint_ranges)) return error;
  return machine::bound("mmio", mmio, machine::most_endpoint_ranges);
}

[[nodiscard]] bool makes_sense(const viommu_viot_unit& unit) noexcept {
  const bool is_pci = unit.kind == VIOMMU_VIOT_PCI;
  if (!is_pci && unit.kind != VIOMMU_VIOT_MMIO) return false;
  if (is_pci ? unit.base != 0 : unit.segment != 0 || unit.source != 0) return false;
  return ranges_of(unit).is_there() && mmio_of(unit).is_there() &&
         std::ranges::all_of(ranges_of(unit), [](const viommu_viot_range& range) { return range.reserved == 0; }) &&
         std::ranges::all_of(mmio_of(unit), [](const viommu_viot_mmio& mmio) { return mmio.reserved == 0; });
}
[[nodiscard]] bool makes_sense(const viommu_viot& from) noexcept {
  return from.reserved == 0 && units_of(from).is_there() && bypassed_of(from).is_there() &&
         std::ranges::all_of(units_of(from), [](const viommu_viot_unit& unit) { return makes_sense(unit); }) &&
         std::ranges::all_of(bypassed_of(from), [](const viommu_dmar_bypass& range) { return range.reserved == 0; });
}

/// A description in the engine's own words. Its lists are kept here.
class Description {
 public:
  /// @throws std::bad_alloc
  [[nodiscard]] viommu_result read(const viommu_viot& from, viommu_refusal* refusal) {
    if (const TopologyError error = check_counts(from)) return refuse(refusal, error);
    if (!makes_sense(from)) return VIOMMU_E_ARGUMENT;
    capi::put_identity(from, topology_);
    parts_.resize(from.unit_count);  // what spans refer to stays where it is
    for (std::uint32_t i = 0; i < from.unit_count; ++i) read_unit(from.units[i], parts_[i]);
    for (const viommu_dmar_bypass& range : bypassed_of(from))
      bypassed_.push_back({range.segment, {range.first}, {range.last}});
    topology_.units = units_;
    topology_.bypassed = bypassed_;
    if (const TopologyError error = check(topology_)) return refuse(refusal, error);
    return VIOMMU_OK;
  }
  [[nodiscard]] const VirtioTopology& topology() const noexcept { return topology_; }

 private:
  struct Parts {
    std::vector<machine::EndpointRange> ranges;
    std::vector<machine::MmioEndpoint> mmio;
    std::vector<machine::SourceRange> bypassed;
  };
  void read_unit(const viommu_viot_unit& from, Parts& parts) {
    for (const viommu_viot_range& range : ranges_of(from))
      parts.ranges.push_back({range.segment, {range.first}, {range.last}, range.endpoint});
    for (const viommu_viot_mmio& mmio : mmio_of(from)) parts.mmio.push_back({{mmio.base}, mmio.endpoint});
    if (from.engine != nullptr)
      from.engine->bypassing.for_each(
          [&](SourceId first, SourceId last) { parts.bypassed.push_back({0, first, last}); });
    machine::VirtioUnit unit;
    unit.is_pci = from.kind == VIOMMU_VIOT_PCI;
    unit.segment = from.segment;
    unit.source = {from.source};
    unit.base = {from.base};
    unit.ranges = parts.ranges;
    unit.mmio_endpoints = parts.mmio;
    unit.bypassed = parts.bypassed;
    units_.push_back(unit);
  }

  VirtioTopology topology_;
  std::vector<Parts> parts_;
  std::vector<machine::VirtioUnit> units_;
  std::vector<machine::SourceRange> bypassed_;
};

}  // namespace

extern "C" viommu_result viommu_viot_write(const struct viommu_viot* viot, void* bytes, size_t capacity, size_t* length,
                                           struct viommu_refusal* refusal) {
  if (length == nullptr || (bytes == nullptr && capacity != 0)) return VIOMMU_E_ARGUMENT;
  return capi::with_topology<Description>(viot, first_version, refusal, [&](const VirtioTopology& topology) {
    return capi::write_into(topology, bytes, capacity, length, machine::write_viot);
  });
}

extern "C" viommu_result viommu_viot_endpoint_of(const struct viommu_viot* viot, uint16_t segment, uint16_t source,
                                                 uint32_t* unit, uint32_t* endpoint, struct viommu_refusal* refusal) {
  if (unit == nullptr || endpoint == nullptr) return VIOMMU_E_ARGUMENT;
  return capi::with_topology<Description>(viot, first_version, refusal, [&](const VirtioTopology& topology) {
    const auto found = endpoint_of(topology, segment, {source});
    if (!found) return VIOMMU_E_NOT_FOUND;
    *unit = static_cast<std::uint32_t>(found->unit);
    *endpoint = found->id;
    return VIOMMU_OK;
  });
}
