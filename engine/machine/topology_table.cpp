// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The DMAR table, byte by byte (VT-d, "BIOS Considerations").
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/machine/table_bytes.hpp"
#include "engine/machine/topology.hpp"

namespace viommu::machine {
namespace {

enum class Structure : std::uint16_t { drhd = 0, rmrr = 1, atsr = 2, rhsa = 3, andd = 4, satc = 5 };

constexpr std::uint8_t table_revision = 1;
using Bytes = TableBytes;

/// A structure of the table: its type, a place for its length, `body`, and then the length.
template <class Body>
void structure(Bytes& bytes, Structure type, Body body) noexcept {
  const std::size_t begin = bytes.written();
  bytes.put(static_cast<std::uint64_t>(type), 2);
  bytes.put(0, 2);
  body();
  bytes.set(begin + 2, bytes.written() - begin, 2);
}

void put_scope(Bytes& bytes, const Scope& scope) noexcept {
  constexpr std::size_t without_path = 6;
  bytes.put(static_cast<std::uint64_t>(scope.kind), 1);
  bytes.put(without_path + 2 * std::size_t{scope.hops}, 1);
  bytes.put(0, 2);
  bytes.put(scope.id, 1);
  bytes.put(scope.start_bus, 1);
  for (const Hop hop : std::span{scope.path}.first(scope.hops)) {
    bytes.put(hop.device, 1);
    bytes.put(hop.function, 1);
  }
}

void put_unit(Bytes& bytes, const Topology& topology, const RemappingUnit& unit) noexcept {
  structure(bytes, Structure::drhd, [&] {
    bytes.put(includes_all(topology, unit) ? 1 : 0, 1);
    bytes.put(static_cast<std::uint64_t>(std::countr_zero(unit.register_bytes)) - page_shift, 1);
    bytes.put(unit.segment, 2);
    bytes.put(unit.registers.value, 8);
    for (const Scope& scope : unit.scopes)
      if (lists(topology, unit, scope)) put_scope(bytes, scope);
  });
}

void put_scopes(Bytes& bytes, const Topology& topology, std::uint16_t segment, std::span<const Scope> scopes) noexcept {
  for (const Scope& scope : scopes)
    if (lists(topology, segment, scope)) put_scope(bytes, scope);
}

/// Whether a structure that is about `scopes` is left with any.
[[nodiscard]] bool any_listed(const Topology& topology, std::uint16_t segment, std::span<const Scope> scopes) noexcept {
  return std::ranges::any_of(scopes, [&](const Scope& scope) { return lists(topology, segment, scope); });
}

void put_reserved_memory(Bytes& bytes, const Topology& topology, const ReservedMemory& region) noexcept {
  if (!any_listed(topology, region.segment, region.scopes)) return;
  structure(bytes, Structure::rmrr, [&] {
    bytes.put(0, 2);
    bytes.put(region.segment, 2);
    bytes.put(region.memory.first.value, 8);
    bytes.put(region.memory.last.value, 8);
    put_scopes(bytes, topology, region.segment, region.scopes);
  });
}

/// ATSR and SATC have the same figure.
void put_ats(Bytes& bytes, const Topology& topology, Structure type, bool flag, std::uint16_t segment,
             std::span<const Scope> scopes) noexcept {
  structure(bytes, type, [&] {
    bytes.put(flag ? 1 : 0, 1);
    bytes.put(0, 1);
    bytes.put(segment, 2);
    put_scopes(bytes, topology, segment, scopes);
  });
}

void put_affinity(Bytes& bytes, const UnitAffinity& affinity) noexcept {
  structure(bytes, Structure::rhsa, [&] {
    bytes.put(0, 4);
    bytes.put(affinity.registers.value, 8);
    bytes.put(affinity.proximity_domain, 4);
  });
}

void put_named_device(Bytes& bytes, const NamedDevice& device) noexcept {
  structure(bytes, Structure::andd, [&] {
    bytes.put(0, 3);
    bytes.put(device.number, 1);
    bytes.text(device.name);
    bytes.put(0, 1);
  });
}

void put_header(Bytes& bytes, const Topology& topology) noexcept {
  bytes.header("DMAR", table_revision, topology);
  bytes.put(topology.host_address_width - 1, 1);
  bytes.put((topology.interrupt_remapping ? 1U : 0U) | (topology.x2apic_opt_out ? 2U : 0U) |
                (topology.dma_control_opt_in ? 4U : 0U),
            1);
  bytes.zeros(10);
}

}  // namespace

std::size_t write_table(const Topology& topology, std::span<std::byte> into) noexcept {
  Bytes bytes{into};
  put_header(bytes, topology);
  // In the order of their types, as the specification asks for.
  for (const RemappingUnit& unit : topology.units) put_unit(bytes, topology, unit);
  for (const ReservedMemory& region : topology.reserved_memory) put_reserved_memory(bytes, topology, region);
  for (const RootPortAts& ports : topology.root_ports)
    if (ports.all_ports || any_listed(topology, ports.segment, ports.scopes))
      put_ats(bytes, topology, Structure::atsr, ports.all_ports, ports.segment, ports.scopes);
  for (const UnitAffinity& affinity : topology.affinities) put_affinity(bytes, affinity);
  for (const NamedDevice& device : topology.named_devices)
    if (lists_named(topology, device.number)) put_named_device(bytes, device);
  for (const IntegratedAtc& atc : topology.integrated_atcs)
    if (any_listed(topology, atc.segment, atc.scopes))
      put_ats(bytes, topology, Structure::satc, atc.required, atc.segment, atc.scopes);
  return bytes.finish();
}

}  // namespace viommu::machine
