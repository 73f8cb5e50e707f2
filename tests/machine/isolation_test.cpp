// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/isolation.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::machine {
namespace {

constexpr bool acs = true;

/// A machine of functions and bridges, and the answers about it.
struct World {
  Registry registry{HostAllocator{}};
  std::vector<Bridge> bridges;

  Device& add(std::uint16_t source, bool isolates = false, Way way = Way::unit) {
    Device* const device = registry.create({source});
    REQUIRE(device != nullptr);
    device->isolates = isolates;
    device->way = way;
    return *device;
  }
  [[nodiscard]] bool can_isolate(std::uint16_t source) const { return isolatable(registry, bridges, {source}); }
};

[[nodiscard]] Bridge port(std::uint16_t source, std::uint8_t secondary, std::uint8_t subordinate, bool isolates) {
  return {{source}, secondary, subordinate, isolates, false};
}
[[nodiscard]] Bridge conventional(std::uint16_t source, std::uint8_t secondary, std::uint8_t subordinate) {
  return {{source}, secondary, subordinate, true, true};
}

// ---- The same, told otherwise: who is linked with whom, two by two ----

struct Node {
  std::uint16_t id = 0;
  std::uint16_t requester = 0;
  unsigned slot = 0;
  bool isolates = false;
  bool bypasses = false;
};

[[nodiscard]] bool is_under(const Node& node, const Bridge& bridge) {
  return node.id == bridge.source.value || (node.id >> 8 >= bridge.secondary && node.id >> 8 <= bridge.subordinate);
}
/// Whether requests of what is behind a bridge reach each other below it.
[[nodiscard]] bool mixes(const Bridge& bridge, const std::vector<Bridge>& all) {
  if (bridge.conventional || !bridge.isolates) return true;
  for (const Bridge& below : all)
    if (below.source.value >> 8 == bridge.secondary && !below.isolates && !below.conventional) return true;
  return false;
}

[[nodiscard]] bool linked(const Node& a, const Node& b, const std::vector<Bridge>& bridges) {
  if (a.id == b.id || a.requester == b.requester || a.id == b.requester || a.requester == b.id) return true;
  if (a.slot == b.slot && !(a.isolates && b.isolates)) return true;
  return std::ranges::any_of(bridges, [&](const Bridge& bridge) {
    return mixes(bridge, bridges) && is_under(a, bridge) && is_under(b, bridge);
  });
}

[[nodiscard]] std::vector<Node> nodes_of(const World& world) {
  std::vector<Node> nodes;
  world.registry.for_each([&](const Device& device) {
    const Device* const physical = device.physical ? world.registry.find(*device.physical) : nullptr;
    Node node;
    node.id = device.source.value;
    node.requester = device.alias.value_or(device.source).value;
    node.slot = device.physical.value_or(device.source).value >> 3;
    node.isolates = device.isolates || (physical != nullptr && physical->isolates);
    node.bypasses = device.way != Way::unit;
    nodes.push_back(node);
  });
  for (const Bridge& bridge : world.bridges)
    nodes.push_back({bridge.source.value, bridge.source.value, bridge.source.value / 8U, bridge.isolates, false});
  return nodes;
}

/// By the closure of linked().
[[nodiscard]] bool reaches_a_bypass(const std::vector<Node>& nodes, std::size_t from,
                                    const std::vector<Bridge>& bridges) {
  std::vector<bool> seen(nodes.size());
  std::vector<std::size_t> open{from};
  seen[from] = true;
  while (!open.empty()) {
    const std::size_t at = open.back();
    open.pop_back();
    if (nodes[at].bypasses) return true;
    for (std::size_t to = 0; to < nodes.size(); ++to) {
      if (seen[to] || !linked(nodes[at], nodes[to], bridges)) continue;
      seen[to] = true;
      open.push_back(to);
    }
  }
  return false;
}

/// A root bus with ports, a switch behind some of them, and functions, virtual ones and aliases anywhere.
void fill(World& world, test::Random& random) {
  std::uint8_t next_bus = 1;
  std::vector<std::uint8_t> buses{0};
  for (unsigned i = 0, count = static_cast<unsigned>(random.below(4)); i < count; ++i) {
    const auto root = static_cast<std::uint16_t>(random.below(3) << 3 | i);
    const std::uint8_t below = next_bus++;
    buses.push_back(below);
    const auto downstream = static_cast<unsigned>(random.below(3));
    for (unsigned d = 0; d < downstream; ++d) {
      const std::uint8_t leaf = next_bus++;
      buses.push_back(leaf);
      world.bridges.push_back(
          port(static_cast<std::uint16_t>(unsigned{below} << 8 | d << 3), leaf, leaf, random.chance(2, 3)));
    }
    Bridge bridge = port(root, below, static_cast<std::uint8_t>(next_bus - 1), random.chance(2, 3));
    bridge.conventional = random.chance(1, 6);
    world.bridges.push_back(bridge);
  }
  for (unsigned i = 0, count = 1 + static_cast<unsigned>(random.below(12)); i < count; ++i) {
    const std::uint8_t bus = buses[random.below(buses.size())];
    const auto source = static_cast<std::uint16_t>(unsigned{bus} << 8 | (4 + random.below(3)) << 3 | random.below(3));
    if (world.registry.find({source}) != nullptr) continue;
    Device& device = world.add(source, random.chance(1, 2), random.chance(1, 6) ? Way::system : Way::unit);
    if (random.chance(1, 6)) device.alias = SourceId{static_cast<std::uint16_t>(random.below(3) << 8)};
    if (random.chance(1, 4))
      device.physical = SourceId{static_cast<std::uint16_t>(unsigned{bus} << 8 | random.below(8) << 3)};
  }
}

}  // namespace

TEST_CASE("functions of one device are isolatable together, unless ACS keeps them apart", "[machine][S4.6][S4.18]") {
  const Way second = GENERATE(Way::unit, Way::system);
  const bool apart = GENERATE(false, true);
  World world;
  world.add(0x0100, apart);
  world.add(0x0101, apart, second);
  world.add(0x0108, false);  // another device of the bus
  CAPTURE(static_cast<int>(second), apart);
  CHECK(world.can_isolate(0x0100) == (apart || second == Way::unit));
  CHECK(world.can_isolate(0x0101) == (second == Way::unit));
  CHECK(world.can_isolate(0x0108));
  SECTION("ACS of one of two is not enough") {
    world.registry.find({0x0101})->isolates = false;
    CHECK(world.can_isolate(0x0100) == (second == Way::unit));
  }
  SECTION("a function that nobody told of may be any") { CHECK(world.can_isolate(0x0102) == (second == Way::unit)); }
}

TEST_CASE("devices of one requester id are isolatable together", "[machine][S4.6][S4.18]") {
  World world;
  world.add(0x0508, acs).alias = SourceId{0x0500};
  world.add(0x0510, acs).alias = SourceId{0x0500};
  CHECK(world.can_isolate(0x0508));
  SECTION("one of them bypasses") {
    world.registry.find({0x0510})->way = Way::system;
    CHECK_FALSE(world.can_isolate(0x0508));
  }
  SECTION("the device whose id it is bypasses") {
    world.add(0x0500, acs, Way::system);
    CHECK_FALSE(world.can_isolate(0x0508));
    CHECK_FALSE(world.can_isolate(0x0510));
  }
}

TEST_CASE("a virtual function and its physical function are of one device", "[machine][S4.6][S4.18]") {
  const bool apart = GENERATE(false, true);
  World world;
  world.add(0x0300, apart);
  world.add(0x0380, false).physical = SourceId{0x0300};
  world.add(0x0381, false).physical = SourceId{0x0300};
  CHECK(world.can_isolate(0x0380));
  world.registry.find({0x0381})->way = Way::system;
  CHECK(world.can_isolate(0x0380) == apart);
  CHECK(world.can_isolate(0x0300) == apart);
  CHECK_FALSE(world.can_isolate(0x0381));
}

TEST_CASE("what is behind a conventional bus or a port without ACS is isolatable together", "[machine][S4.6][S4.18]") {
  World world;
  world.add(0x0200, acs);
  world.add(0x0308, acs, Way::system);
  SECTION("a bridge to a conventional bus") { world.bridges = {conventional(0x00F0, 2, 3)}; }
  SECTION("a root port without ACS") { world.bridges = {port(0x00E0, 2, 3, false)}; }
  SECTION("a switch with a port without ACS") {
    world.bridges = {port(0x00E0, 1, 3, acs), port(0x0100, 2, 2, acs), port(0x0108, 3, 3, !acs)};
  }
  CHECK_FALSE(world.can_isolate(0x0200));
  CHECK_FALSE(world.can_isolate(0x0308));
  world.registry.find({0x0308})->way = Way::unit;
  CHECK(world.can_isolate(0x0200));
}

TEST_CASE("with ACS all the way up each device is isolatable alone", "[machine][S4.18]") {
  World world;
  world.add(0x0200, acs);
  world.add(0x0300, acs, Way::system);
  world.bridges = {port(0x00E0, 1, 3, acs), port(0x0100, 2, 2, acs), port(0x0108, 3, 3, acs)};
  CHECK(world.can_isolate(0x0200));
  CHECK_FALSE(world.can_isolate(0x0300));
  SECTION("not behind two root ports that are functions of one device without it") {
    world.bridges = {port(0x00E0, 2, 2, !acs), port(0x00E1, 3, 3, !acs)};
    CHECK_FALSE(world.can_isolate(0x0200));
  }
  SECTION("and behind root ports that are devices of their own") {
    world.bridges = {port(0x00E0, 2, 2, !acs), port(0x00E8, 3, 3, !acs)};
    CHECK(world.can_isolate(0x0200));
  }
}

TEST_CASE("groups are those of a second reading, for every device of any machine", "[machine][property][S4.6][S4.18]") {
  const std::uint64_t seeds = test::run_whole() ? 50'000 : 3'000;
  std::size_t alone = 0;
  std::size_t kept = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    test::Random random{seed};
    World world;
    fill(world, random);
    const std::vector<Node> nodes = nodes_of(world);
    for (std::size_t i = 0; i < nodes.size() - world.bridges.size(); ++i) {
      const bool expected = !reaches_a_bypass(nodes, i, world.bridges);
      if (world.can_isolate(nodes[i].id) != expected) FAIL("seed " << seed << ", device " << std::hex << nodes[i].id);
      ++(expected ? alone : kept);
    }
  }
  CHECK(alone > seeds / 2);
  CHECK(kept > seeds / 2);
}

}  // namespace viommu::machine
