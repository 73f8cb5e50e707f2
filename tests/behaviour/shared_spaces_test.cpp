// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices of one address space that share one host address space: pinned once, told once, and each device goes over
// in one step.
#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/behaviour/mirrored.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t gib = 0x4000'0000;
constexpr std::uint16_t device_a = 0x100;
constexpr std::uint16_t device_b = 0x200;

[[nodiscard]] viommu_vtd_options sharing_options(std::uint32_t flags = VIOMMU_SHARE_SPACES) {
  viommu_vtd_options options = options_39();
  options.flags |= flags;
  options.accounts = 8;
  return options;
}

/// A usable range of the host's, which is all that its facts say.
struct Host {
  std::uint64_t last = 0x7F'FFFF'FFFF;

  [[nodiscard]] viommu_host_facts facts() {
    viommu_host_facts facts{};
    facts.size = sizeof facts;
    facts.opaque = this;
    facts.backend = VIOMMU_BACKEND_IOMMUFD;
    facts.kind = [](void*, std::uint32_t* kind) {
      *kind = VIOMMU_HOST_KIND_VTD;
      return 0;
    };
    facts.width = [](void*, std::uint32_t* bits) {
      *bits = 39;
      return 0;
    };
    facts.iova_ranges = [](void* self, viommu_range* ranges, std::uint32_t capacity, std::uint32_t* count) {
      if (capacity != 0) ranges[0] = {0, static_cast<Host*>(self)->last};
      *count = 1;
      return 0;
    };
    return facts;
  }
};

/// Two devices with consumers that share; A's domain 7 maps four pages.
struct World : Machine {
  explicit World(const viommu_vtd_options& options = sharing_options()) : Machine{options} {
    const viommu_region ram{0, 2 * gib, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine.get(), &ram) == VIOMMU_OK);
    a.share(host);
    b.share(host);
    seven = attach(device_a, 7, 3);
    tables.attach(device_b, seven, {.domain_id = 7});
    for (std::uint64_t i = 0; i < 4; ++i) tables.map(seven, i * page, gib + i * 2 * page);
  }
  void join_both() {
    a.join(engine, device_a);
    b.join(engine, device_b);
  }
  void context(std::uint16_t source) {
    driver.add_context_device(0, source);
    driver.submit_and_wait();
  }
  void domain(std::uint16_t id) {
    driver.add_domain(id);
    driver.submit_and_wait();
  }
  /// B's own domain, which maps one page as 7 does and another one elsewhere.
  Tree move_b_to_8() {
    const Tree eight = attach(device_b, 8, 3);
    tables.map(eight, page, gib + 2 * page);
    tables.map(eight, 9 * page, gib);
    context(device_b);
    return eight;
  }
  [[nodiscard]] std::uint64_t pinned() {
    std::uint64_t bytes = 0;
    REQUIRE(viommu_pinned_bytes(engine.get(), &bytes) == VIOMMU_OK);
    return bytes;
  }
  /// Mapped and pinned.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> bytes_of(std::uint16_t source) {
    viommu_part_statistics statistics{};
    statistics.size = sizeof statistics;
    REQUIRE(viommu_device_statistics_get(engine.get(), source, &statistics) == VIOMMU_OK);
    return {statistics.mapped_bytes, statistics.pinned_bytes};
  }
  [[nodiscard]] std::uint32_t view(std::uint16_t source) {
    std::uint32_t view = ~0U;
    REQUIRE(viommu_view(engine.get(), source, &view) == VIOMMU_OK);
    return view;
  }
  void add_device(std::uint16_t source, Host& of) {
    const viommu_host_facts facts = of.facts();
    viommu_device device{};
    device.size = sizeof device;
    device.source = source;
    device.kind = VIOMMU_DEVICE_HOST;
    device.facts = &facts;
    REQUIRE(viommu_device_add(engine.get(), &device, nullptr) == VIOMMU_OK);
  }
  [[nodiscard]] MirrorModel& space_of(const MirrorModel& consumer) { return *host.spaces.at(consumer.attached); }
  /// Nothing went wrong, in any space.
  [[nodiscard]] bool right() const {
    return host.wrong.empty() &&
           std::ranges::all_of(host.spaces, [](const auto& s) { return s.second->wrong.empty(); });
  }

  SpaceHost host;
  MirrorModel a;
  MirrorModel b;
  Tree seven;
};

}  // namespace

TEST_CASE("devices of one address space share what is pinned, until they part", "[behaviour][consumer][S1.16][A33]") {
  World world;
  world.boot();
  world.join_both();
  CHECK(world.a.attached == world.b.attached);
  CHECK(world.a.attached >= std::uint64_t{1} << 32);
  CHECK(world.host.spaces.size() == 1);
  CHECK(world.pinned() == 4 * page);
  CHECK(world.bytes_of(device_a) == std::pair{4 * page, 4 * page});
  CHECK(world.bytes_of(device_b) == std::pair{4 * page, std::uint64_t{0}});
  const std::uint64_t shared = world.a.attached;

  SECTION("a change is told once") {
    world.space_of(world.a).take_seen();
    world.tables.map(world.seven, 7 * page, gib + 0x10'0000);
    world.domain(7);
    CHECK(world.space_of(world.a).take_seen() == std::vector{mapped(7 * page, page, gib + 0x10'0000)});
    CHECK(world.a.seen.empty());
    CHECK(world.b.seen.empty());
  }
  SECTION("one that leaves goes over when its new space has all, and the others notice nothing") {
    world.space_of(world.a).take_seen();
    world.move_b_to_8();
    CHECK(world.a.attached == shared);
    CHECK(world.space_of(world.a).seen.empty());
    CHECK(world.b.attached != shared);
    CHECK(world.b.extents() == std::vector<Extent>{{page, page, gib + 2 * page, 3}, {9 * page, page, gib, 3}});
    CHECK(world.pinned() == 6 * page);
    SECTION("what only one used goes when it does") {
      REQUIRE(viommu_device_remove(world.engine.get(), device_a) == VIOMMU_OK);
      CHECK(world.pinned() == 2 * page);
      CHECK(world.host.spaces.size() == 1);
    }
    SECTION("and back: its own is given up") {
      world.tables.attach(device_b, world.seven, {.domain_id = 7});
      world.context(device_b);
      CHECK(world.b.attached == shared);
      CHECK(world.host.spaces.size() == 1);
      CHECK(world.pinned() == 4 * page);
    }
    SECTION("a device alone changes its space in place") {
      const std::uint64_t own = world.b.attached;
      world.space_of(world.b).take_seen();
      const Tree nine = world.attach(device_b, 9, 3);
      world.tables.map(nine, page, gib + 2 * page);
      world.context(device_b);
      CHECK(world.b.attached == own);
      CHECK(world.space_of(world.b).take_seen() == std::vector{unmapped(9 * page, page)});
    }
  }
  SECTION("one consumer ends, and the other is told from then on") {
    REQUIRE(viommu_unsubscribe(world.engine.get(), world.a.id) == VIOMMU_OK);
    CHECK(world.host.spaces.size() == 1);
    CHECK(world.bytes_of(device_b) == std::pair{4 * page, 4 * page});
    world.tables.unmap(world.seven, 0);
    world.domain(7);
    CHECK(world.space_of(world.b).extents().size() == 3);
    world.space_of(world.b).take_seen();
    REQUIRE(viommu_unsubscribe(world.engine.get(), world.b.id) == VIOMMU_OK);
    CHECK(world.host.spaces.empty());
  }
  SECTION("a device that goes leaves the others what they have") {
    world.space_of(world.b).take_seen();
    REQUIRE(viommu_device_remove(world.engine.get(), device_a) == VIOMMU_OK);
    CHECK(world.space_of(world.b).seen.empty());
    REQUIRE(viommu_device_remove(world.engine.get(), device_b) == VIOMMU_OK);
    CHECK(world.host.spaces.empty());
    CHECK(world.pinned() == 0);
  }
  SECTION("while writes are tracked, what cannot log holds nothing") {
    REQUIRE(viommu_dirty_tracking(world.engine.get(), 1) == VIOMMU_OK);
    CHECK(world.b.extents().empty());
    REQUIRE(viommu_dirty_tracking(world.engine.get(), 0) == VIOMMU_OK);
    CHECK(world.b.extents().size() == 4);
    CHECK(world.b.attached == shared);
  }
  CHECK(world.right());
}

TEST_CASE("a device goes over to a new space when all of it is there, and the guest waits for that",
          "[behaviour][consumer][S1.16]") {
  World world;
  world.boot();
  world.join_both();
  const std::uint64_t shared = world.a.attached;
  // One table of leaves in more places than are looked through at a time.
  constexpr std::uint64_t places = 5000;
  constexpr std::uint64_t mib2 = 0x20'0000;
  const Tree eight = world.attach(device_b, 8, 3);
  world.tables.map(eight, 0, gib);
  const std::uint64_t leaves = world.memory.load_u64(world.tables.slot(eight, 0, 2)).value();
  for (std::uint64_t i = 1; i < places; ++i)
    REQUIRE(world.memory.store_u64(world.tables.slot(eight, i * mib2, 2), leaves));
  unsigned events_before = 0;
  world.b.on_event = [&] { events_before += world.b.attached == shared ? 1U : 0U; };
  world.driver.add_context_device(0, device_b);
  const std::uint32_t ticket = world.driver.submit();
  CHECK(world.b.attached == shared);
  CHECK(world.b.extents().size() == 4);
  CHECK(world.host.spaces.size() == 2);
  CHECK_FALSE(world.driver.completed(ticket));
  while (world.engine.process().state == VIOMMU_PROCESS_MORE) {  // ends: the tables do
  }
  CHECK(world.driver.completed(ticket));
  CHECK(events_before > 1);
  CHECK(world.b.attached != shared);
  CHECK(world.b.extents().size() == places);
  CHECK(world.right());
}

TEST_CASE("all devices share guest memory while translation is off", "[behaviour][consumer][S1.16]") {
  World world;
  world.join_both();
  CHECK(world.a.attached == world.b.attached);
  CHECK(world.pinned() == 2 * gib);
  world.boot();
  CHECK(world.a.attached == world.b.attached);
  CHECK(world.host.spaces.size() == 1);
  CHECK(world.pinned() == 4 * page);
  CHECK(world.right());
}

TEST_CASE("what does not fit is withdrawn from all that share, with one report", "[behaviour][consumer][S1.16][B59]") {
  World world;
  world.a.consumer.quota = world.b.consumer.quota = 5;
  world.boot();
  world.join_both();
  for (std::uint64_t i = 10; i < 14; ++i) world.tables.map(world.seven, i * page, gib + i * 2 * page);
  world.domain(7);
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  CHECK(world.view(device_b) == VIOMMU_VIEW_BLOCKED);
  CHECK(world.a.extents().empty());
  CHECK(world.a.reports.size() + world.b.reports.size() == 1);
  for (std::uint64_t i = 10; i < 14; ++i) world.tables.unmap(world.seven, i * page);
  world.context(device_a);
  CHECK(world.view(device_a) == VIOMMU_VIEW_TRANSLATED);
  CHECK(world.view(device_b) == VIOMMU_VIEW_TRANSLATED);
  CHECK(world.b.extents().size() == 4);
  CHECK(world.right());
}

TEST_CASE("devices do not share where they or their consumers differ", "[behaviour][consumer][S1.16]") {
  Host one;
  Host other;
  SECTION("usable addresses of their hosts") {
    other.last -= gib;
    World world;
    world.add_device(device_a, one);
    world.add_device(device_b, other);
    world.boot();
    world.join_both();
    CHECK(world.a.attached != world.b.attached);
    CHECK(world.pinned() == 8 * page);
  }
  SECTION("equal ones do not keep them apart") {
    World world;
    world.add_device(device_a, one);
    world.add_device(device_b, other);
    world.boot();
    world.join_both();
    CHECK(world.a.attached == world.b.attached);
  }
  SECTION("the host that has the spaces") {
    World world;
    world.a.consumer.share_group = 1;
    world.boot();
    world.join_both();
    CHECK(world.a.attached != world.b.attached);
  }
  SECTION("what they ask for") {
    World world;
    world.a.consumer.last = gib;
    world.boot();
    world.join_both();
    CHECK(world.a.attached != world.b.attached);
  }
  SECTION("the option") {
    World world{sharing_options(0)};
    world.boot();
    world.join_both();
    CHECK(world.a.attached == 0);
    CHECK(world.pinned() == 8 * page);
    CHECK(world.a.seen.size() == world.b.seen.size());
  }
}

TEST_CASE("a consumer that shares has all the functions for it, and is its device's only one",
          "[behaviour][consumer][S1.16][S0.4]") {
  World world;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  MirrorModel other;
  other.share(world.host);
  other.consumer.space_events = nullptr;
  CHECK(other.subscribe(world.engine, device_a, &refusal) == VIOMMU_E_REFUSED);
  CHECK(std::string{refusal.field} == "attach");
  other.share(world.host);
  CHECK(world.a.subscribe(world.engine, device_a) == VIOMMU_OK);
  CHECK(other.subscribe(world.engine, device_a, &refusal) == VIOMMU_E_REFUSED);
  CHECK(refusal.code == VIOMMU_REFUSED_INVALID);
  MirrorModel plain;
  CHECK(plain.subscribe(world.engine, device_a) == VIOMMU_OK);
}

TEST_CASE("in each call of a consumer that shares the engine is busy", "[behaviour][consumer][S1.16][P7]") {
  World world;
  unsigned calls = 0;
  world.b.on_event = [&] {
    ++calls;
    CHECK(viommu_unsubscribe(world.engine.get(), world.b.id) == VIOMMU_E_BUSY);
    CHECK(viommu_device_remove(world.engine.get(), device_b) == VIOMMU_E_BUSY);
  };
  world.boot();
  world.join_both();
  CHECK(calls == 1);  // attach
  world.move_b_to_8();
  CHECK(calls == 3);  // events and attach
  REQUIRE(viommu_device_remove(world.engine.get(), device_b) == VIOMMU_OK);
  CHECK(calls == 5);  // events and the end of a space
}

}  // namespace viommu::test
