// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Descriptions of machines in few words.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "engine/machine/topology.hpp"

namespace viommu::machine {

inline constexpr std::uint64_t unit_base = 0xFED9'0000;

/// A scope of one hop.
inline Scope scope(ScopeKind kind, unsigned bus, unsigned device, unsigned function, unsigned id = 0) {
  Scope made;
  made.kind = kind;
  made.id = static_cast<std::uint8_t>(id);
  made.start_bus = made.bus = static_cast<std::uint8_t>(bus);
  made.hops = 1;
  made.path[0] = {static_cast<std::uint8_t>(device), static_cast<std::uint8_t>(function)};
  return made;
}
inline Scope endpoint(unsigned bus, unsigned device, unsigned function = 0) {
  return scope(ScopeKind::endpoint, bus, device, function);
}
inline Scope bridge(unsigned bus, unsigned device, unsigned secondary, unsigned subordinate) {
  Scope made = scope(ScopeKind::bridge, bus, device, 0);
  made.secondary = static_cast<std::uint8_t>(secondary);
  made.subordinate = static_cast<std::uint8_t>(subordinate);
  return made;
}
/// The same device by a way of more hops: the last one is `made`'s own.
inline Scope by_way(Scope made, unsigned start_bus, std::initializer_list<Hop> before) {
  made.start_bus = static_cast<std::uint8_t>(start_bus);
  const Hop last = made.path[0];
  std::ranges::copy(before, made.path.begin());
  made.path[before.size()] = last;
  made.hops = static_cast<std::uint8_t>(before.size() + 1);
  return made;
}

inline RemappingUnit unit(std::size_t number, bool include_all, const std::vector<Scope>& scopes,
                          std::uint16_t segment = 0) {
  return {segment, {unit_base + number * page_size_bytes}, page_size_bytes, include_all, scopes};
}

inline Topology with_units(const std::vector<RemappingUnit>& units) {
  Topology topology;
  topology.host_address_width = 39;
  topology.oem_id = {'V', 'I', 'O', 'M', 'M', 'U'};
  topology.oem_table_id = {'T', 'A', 'B', 'L', 'E', ' ', ' ', ' '};
  topology.creator_id = {'V', 'I', 'O', 'M'};
  topology.units = units;
  return topology;
}

inline std::vector<std::byte> table_of(const Topology& topology) {
  std::vector<std::byte> bytes(write_table(topology, {}));
  write_table(topology, bytes);
  return bytes;
}

}  // namespace viommu::machine
