// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who is under which unit: the answers that the table and the routing are both made of.
#include "engine/machine/topology.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::machine {
namespace {

[[nodiscard]] SourceId first_of_bus(std::uint8_t bus) noexcept { return {static_cast<std::uint16_t>(bus << 8)}; }
[[nodiscard]] SourceId last_of_bus(std::uint8_t bus) noexcept { return {static_cast<std::uint16_t>(bus << 8 | 0xFF)}; }

[[nodiscard]] bool something_bypasses(const Topology& topology, std::uint16_t segment) noexcept {
  return std::ranges::any_of(topology.bypassed, [&](const SourceRange& range) { return range.segment == segment; });
}

/// How much of [first, last] lies in bypassed ranges, which ascend: one pass.
[[nodiscard]] Bypass bypass_of(const Topology& topology, std::uint16_t segment, SourceId first,
                               SourceId last) noexcept {
  unsigned next = first.value;  // all before it bypasses
  bool some = false;
  for (const SourceRange& range : topology.bypassed) {
    if (range.segment != segment) continue;
    some = some || (range.first <= last && first <= range.last);
    if (range.first.value <= next && next <= range.last.value) next = range.last.value + 1U;
  }
  if (next > last.value) return Bypass::all;
  return some ? Bypass::part : Bypass::none;
}

}  // namespace

SourceId source_of(const Scope& scope) noexcept {
  const Hop last = scope.path[std::max<std::size_t>(scope.hops, 1) - 1];
  return {static_cast<std::uint16_t>(scope.bus << 8 | last.device << 3 | last.function)};
}

bool covers(const Scope& scope, SourceId source) noexcept {
  if (source == source_of(scope)) return true;
  return scope.kind == ScopeKind::bridge && scope.secondary != 0 && scope.secondary <= source.bus() &&
         source.bus() <= scope.subordinate;
}

Bypass bypass_of(const Topology& topology, std::uint16_t segment, const Scope& scope) noexcept {
  const SourceId own = source_of(scope);
  const Bypass itself = bypass_of(topology, segment, own, own);
  if (scope.kind != ScopeKind::bridge || scope.secondary == 0) return itself;
  const Bypass behind = bypass_of(topology, segment, first_of_bus(scope.secondary), last_of_bus(scope.subordinate));
  return itself == behind ? itself : Bypass::part;
}

bool includes_all(const Topology& topology, const RemappingUnit& unit) noexcept {
  return unit.include_all && !something_bypasses(topology, unit.segment);
}

bool lists(const Topology& topology, const RemappingUnit& unit, const Scope& scope) noexcept {
  if (is_pci(scope.kind) && includes_all(topology, unit)) return false;
  return lists(topology, unit.segment, scope);
}

bool lists(const Topology& topology, std::uint16_t segment, const Scope& scope) noexcept {
  return bypass_of(topology, segment, scope) != Bypass::all;
}

bool lists_named(const Topology& topology, std::uint8_t number) noexcept {
  for (const RemappingUnit& unit : topology.units)
    for (const Scope& scope : unit.scopes)
      if (scope.kind == ScopeKind::named && scope.id == number && lists(topology, unit, scope)) return true;
  return false;
}

std::optional<std::size_t> unit_of(const Topology& topology, std::uint16_t segment, SourceId source,
                                   ScopeKind kind) noexcept {
  for (std::size_t index = 0; index < topology.units.size(); ++index) {
    const RemappingUnit& unit = topology.units[index];
    if (unit.segment != segment) continue;
    // No source id is claimed by two units, and INCLUDE_ALL is the last: the order of the others decides nothing.
    for (const Scope& scope : unit.scopes) {
      const bool is_asked_for = is_pci(kind) ? is_pci(scope.kind) : scope.kind == kind;
      if (is_asked_for && covers(scope, source) && lists(topology, unit, scope)) return index;
    }
    if (is_pci(kind) && includes_all(topology, unit)) return index;
  }
  return std::nullopt;
}

}  // namespace viommu::machine
