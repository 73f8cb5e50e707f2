// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Random machines: what an operating system finds in the table is what the routing answers, for every source id.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "engine/machine/topology.hpp"
#include "tests/machine/topologies.hpp"
#include "tests/support/dmar_reader.hpp"
#include "tests/support/random.hpp"

namespace viommu::machine {
namespace {

using test::Random;

constexpr std::size_t nobody = ~std::size_t{0};

/// A PCI function of the random machine, with its way from the root.
struct Function {
  Scope scope;
  std::size_t parent = nobody;
  bool bypasses = false;
  bool some_behind_bypass = false;
  std::size_t unit = nobody;  ///< that is told of it, or of a bridge that it is behind
};

/// One segment: buses numbered as firmware does, depth first.
class Segment {
 public:
  Segment(Random& random, std::uint16_t number, bool with_bypass) : random_{random}, number_{number} {
    const std::size_t roots = 1 + random_.below(3);
    for (std::size_t root = 0; root < roots && next_bus_ < 200; ++root) {
      const unsigned bus = next_bus_ + (root == 0 ? 0U : static_cast<unsigned>(random_.below(16)));
      next_bus_ = bus + 1;
      fill(bus, nobody, 3);
    }
    if (with_bypass) choose_bypassing();
  }

  std::vector<Function> functions;
  test::PciBridges bridges;

  [[nodiscard]] std::uint16_t number() const { return number_; }
  /// Who bypasses, with whole buses for bridges, as ascending ranges.
  [[nodiscard]] std::vector<SourceRange> bypassed() const {
    std::vector<bool> sources(0x10000);
    for (const Function& function : functions) {
      if (!function.bypasses) continue;
      sources[source_of(function.scope).value] = true;
      if (function.scope.secondary == 0) continue;
      for (std::size_t source = std::size_t{function.scope.secondary} << 8;
           source < (std::size_t{function.scope.subordinate} + 1) << 8; ++source)
        sources[source] = true;
    }
    std::vector<SourceRange> ranges;
    for (std::size_t source = 0; source < sources.size(); ++source) {
      if (!sources[source]) continue;
      const SourceId id{static_cast<std::uint16_t>(source)};
      if (!ranges.empty() && ranges.back().last.value + 1U == source && random_.chance(7, 8))
        ranges.back().last = id;
      else
        ranges.push_back({number_, id, id});
    }
    return ranges;
  }
  /// Tells one of `units` of each function, by itself or with the bridge before it; some are told to nobody.
  void assign(const std::vector<std::size_t>& units, std::vector<std::vector<Scope>>& scopes) {
    for (Function& function : functions) {
      if (function.parent != nobody && functions[function.parent].unit != nobody) {
        function.unit = functions[function.parent].unit;
        continue;
      }
      // A bridge that is not listed leaves what is behind it to be listed one by one.
      if (function.some_behind_bypass || random_.chance(1, 6)) continue;
      function.unit = units[random_.below(units.size())];
      scopes[function.unit].push_back(function.scope);
    }
  }

 private:
  void fill(unsigned bus, std::size_t parent, unsigned depth) {
    const std::size_t count = 1 + random_.below(5);
    for (std::size_t i = 0; i < count; ++i) {
      const auto device = static_cast<unsigned>(i * 5 + random_.below(5));
      const auto index = static_cast<unsigned>(random_.below(8));
      Function function;
      function.scope = scope(ScopeKind::endpoint, bus, device, index);
      function.parent = parent;
      if (parent != nobody) {
        const Scope& before = functions[parent].scope;
        function.scope.start_bus = before.start_bus;
        function.scope.path = before.path;
        function.scope.path[before.hops] = {static_cast<std::uint8_t>(device), static_cast<std::uint8_t>(index)};
        function.scope.hops = static_cast<std::uint8_t>(before.hops + 1);
      }
      const std::size_t place = functions.size();
      const bool is_bridge = depth != 0 && next_bus_ < 240 && random_.chance(1, 3);
      if (is_bridge) function.scope.kind = ScopeKind::bridge;
      functions.push_back(function);
      if (!is_bridge) continue;
      const bool has_buses = random_.chance(7, 8);
      if (has_buses) {
        functions[place].scope.secondary = static_cast<std::uint8_t>(next_bus_++);
        fill(functions[place].scope.secondary, place, depth - 1);
        functions[place].scope.subordinate = static_cast<std::uint8_t>(next_bus_ - 1);
      }
      const Scope& made = functions[place].scope;
      bridges[source_of(made).value] = has_buses ? std::pair<unsigned, unsigned>{made.secondary, made.subordinate}
                                                 : std::pair<unsigned, unsigned>{1, 0};
    }
  }
  void choose_bypassing() {
    for (Function& function : functions) {
      const bool with_parent = function.parent != nobody && functions[function.parent].bypasses;
      function.bypasses = with_parent || random_.chance(1, 6);
    }
    for (std::size_t i = functions.size(); i-- != 0;) {
      const Function& function = functions[i];
      if ((function.bypasses || function.some_behind_bypass) && function.parent != nobody &&
          !functions[function.parent].bypasses)
        functions[function.parent].some_behind_bypass = true;
    }
  }

  Random& random_;
  std::uint16_t number_;
  unsigned next_bus_ = 0;
};

}  // namespace

TEST_CASE("the table and the routing give the same unit for every source id of any machine",
          "[machine][topology][property][S4.5]") {
  Random random{20'261'126};
  std::size_t listed = 0;
  std::size_t left_to_the_rest = 0;
  std::size_t without = 0;
  for (unsigned round = 0; round < 60; ++round) {
    CAPTURE(round);
    std::vector<Segment> segments;
    std::vector<RemappingUnit> units;
    std::vector<SourceRange> bypassed;
    std::vector<std::vector<Scope>> scopes(16);
    std::map<unsigned, test::PciBridges> bridges;
    std::map<unsigned, std::size_t> rest;  // the unit with INCLUDE_ALL, of segments where nothing bypasses
    const std::array<std::uint16_t, 3> numbers{0, 1, 0x1234};
    const std::size_t count = 1 + random.below(3);
    for (std::size_t i = 0; i < count; ++i) {
      Segment& segment = segments.emplace_back(random, numbers[i], random.chance(1, 2));
      std::vector<std::size_t> own;
      for (std::size_t left = 1 + random.below(3); left != 0; --left) {
        own.push_back(units.size());
        units.push_back(unit(units.size(), false, {}, segment.number()));
      }
      const std::vector<SourceRange> ranges = segment.bypassed();
      bypassed.insert(bypassed.end(), ranges.begin(), ranges.end());
      segment.assign(own, scopes);
      const auto is_pci_scope = [](const Scope& one) { return is_pci(one.kind); };
      const bool can_be_opened = ranges.empty() || std::ranges::any_of(scopes[own.back()], is_pci_scope);
      units.back().include_all = can_be_opened && random.chance(2, 3);
      if (units.back().include_all && ranges.empty()) rest[segment.number()] = own.back();
      if (random.chance(1, 2))
        scopes[own.front()].push_back(scope(ScopeKind::ioapic, 0xFF, 0, 0, static_cast<unsigned>(i)));
      bridges[segment.number()] = segment.bridges;
    }
    for (std::size_t i = 0; i < units.size(); ++i) units[i].scopes = scopes[i];
    Topology topology = with_units(units);
    topology.bypassed = bypassed;
    const TopologyError error = check(topology);
    CAPTURE(error.words, error.entry, error.field, error.found);
    REQUIRE_FALSE(error);

    const test::DmarRead read = test::read_dmar(table_of(topology));
    REQUIRE(read.problem.empty());
    const test::DmarRouting routing{read.table, bridges};
    REQUIRE(routing.lost() == 0);
    std::size_t differences = 0;
    std::size_t ambiguous = 0;
    for (const unsigned segment : {0U, 1U, 0x1234U, 2U})
      for (unsigned source = 0; source < 0x10000; ++source)
        for (const ScopeKind kind : {ScopeKind::endpoint, ScopeKind::ioapic}) {
          if (kind == ScopeKind::ioapic && source >> 8 != 0xFF) continue;
          const auto found = routing.unit_of(segment, source, static_cast<unsigned>(kind));
          const SourceId id{static_cast<std::uint16_t>(source)};
          if (found.unit != unit_of(topology, static_cast<std::uint16_t>(segment), id, kind)) ++differences;
          if (found.ambiguous) ++ambiguous;
        }
    CHECK(differences == 0);
    CHECK(ambiguous == 0);
    // And both are what the machine was made to be.
    for (const Segment& segment : segments)
      for (const Function& function : segment.functions) {
        const auto found = unit_of(topology, segment.number(), source_of(function.scope), function.scope.kind);
        const auto includes_all = rest.find(segment.number());
        const bool is_listed = function.unit != nobody && !function.bypasses;
        const bool is_rest = !is_listed && !function.bypasses && includes_all != rest.end();
        if (is_listed)
          CHECK(found == std::optional{function.unit});
        else if (is_rest)
          CHECK(found == std::optional{includes_all->second});
        else
          CHECK(found == std::nullopt);
        ++(is_listed ? listed : is_rest ? left_to_the_rest : without);
      }
  }
  // All three happen, or nothing was tried.
  CHECK(listed > 300);
  CHECK(left_to_the_rest > 30);
  CHECK(without > 100);
}

}  // namespace viommu::machine
