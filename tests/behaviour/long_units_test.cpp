// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Units of up to 1 GiB: runs that go on from table to table in one MAP, and go in one UNMAP.
#include <catch2/catch.hpp>
#include <vector>

#include "tests/behaviour/mirrored.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t mib2 = 0x20'0000;
constexpr std::uint64_t gib = 0x4000'0000;
constexpr std::uint16_t device = 0x100;

/// A device whose tables map 2 MiB to 10 MiB in one piece.
struct World : Machine {
  explicit World(MirrorModel& model) : Machine{options_39()}, mirror{model} {
    const viommu_region ram{0, 2 * gib, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine.get(), &ram) == VIOMMU_OK);
    mirror.consumer.unit_bytes = gib;
    tree = attach(device, 7, 3);
    for (std::uint64_t i = 1; i <= 4; ++i) map_slot(i, gib + i * mib2);
    boot();
    mirror.join(engine, device);
  }
  /// A large leaf, or a table of pages, by turns: both go on alike.
  void map_slot(std::uint64_t slot, std::uint64_t frame) {
    if (slot % 2 == 0) return tables.map(tree, slot * mib2, frame, entry_read_write, 2);
    for (std::uint64_t i = 0; i < 512; ++i) tables.map(tree, slot * mib2 + i * page, frame + i * page);
  }
  void domain() {
    driver.add_domain(7);
    driver.submit_and_wait();
  }
  [[nodiscard]] viommu_subscription_figures figures() {
    viommu_subscription_figures figures{};
    figures.size = sizeof figures;
    REQUIRE(viommu_subscription_figures_get(engine.get(), mirror.id, &figures) == VIOMMU_OK);
    return figures;
  }

  MirrorModel& mirror;
  Tree tree;
};

constexpr std::uint64_t unit = 4 * mib2;
const std::vector<Extent> in_one_piece{{mib2, unit, gib + mib2, 3}};

}  // namespace

TEST_CASE("whole tables and large pages that go on are one unit", "[behaviour][consumer][S1.5]") {
  MirrorModel mirror;
  World world{mirror};
  CHECK(mirror.take_seen() == std::vector{mapped(mib2, unit, gib + mib2)});
  CHECK(world.figures().mappings == 1);
  CHECK(world.figures().mapped_bytes == unit);
  SECTION("nothing is told where nothing changed") {
    world.domain();
    CHECK(mirror.seen.empty());
  }
  SECTION("a change of a page takes the unit away, and gives the rest again") {
    world.tables.map(world.tree, 3 * mib2 + 5 * page, 0x7000);
    world.driver.add_page(7, 3 * mib2 + 5 * page, 0);
    world.driver.submit_and_wait();
    CHECK(mirror.take_seen() == std::vector{unmapped(mib2, unit), mapped(mib2, 2 * mib2, gib + mib2),
                                            mapped(3 * mib2, 5 * page, gib + 3 * mib2),
                                            mapped(3 * mib2 + 5 * page, page, 0x7000),
                                            mapped(3 * mib2 + 6 * page, mib2 - 6 * page, gib + 3 * mib2 + 6 * page),
                                            mapped(4 * mib2, mib2, gib + 4 * mib2)});
    CHECK(world.figures().mappings == 5);
    CHECK(world.figures().split_bytes == unit - page);
    CHECK(world.figures().mapped_bytes == unit);
  }
  SECTION("so does a table that goes") {
    world.tables.unmap(world.tree, 4 * mib2, 2);
    world.domain();
    CHECK(mirror.take_seen() == std::vector{unmapped(mib2, unit), mapped(mib2, 3 * mib2, gib + mib2)});
    CHECK(world.figures().mappings == 1);
  }
  SECTION("another root takes all") {
    world.boot();
    CHECK(world.figures().mappings == 1);
    world.tables.detach(device);
    world.driver.add_context_device(0, device);
    world.driver.submit_and_wait();
    CHECK(mirror.extents().empty());
    CHECK(world.figures().mappings == 0);
    CHECK(world.figures().mapped_bytes == 0);
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a long unit that cannot be told of or taken away is what the host has of it", "[behaviour][S1.20][B55]") {
  MirrorModel mirror;
  SECTION("it did not come") {
    mirror.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_MAP; };
    World world{mirror};
    CHECK(mirror.extents().empty());
    CHECK(world.figures().mappings == 0);
    CHECK(world.figures().mapped_bytes == 0);
    mirror.fails = nullptr;
    world.domain();
    CHECK(mirror.extents() == in_one_piece);
    CHECK(world.figures().mappings == 1);
  }
  SECTION("it does not go") {
    World world{mirror};
    mirror.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_UNMAP; };
    world.tables.detach(device);
    world.driver.add_context_device(0, device);
    world.driver.submit_and_wait();
    CHECK(mirror.extents() == in_one_piece);
    CHECK(world.figures().mappings == 1);
    CHECK(world.figures().mapped_bytes == unit);
    mirror.fails = nullptr;
    mirror.take_seen();
    world.driver.add_context_device(0, device);
    world.driver.submit_and_wait();
    CHECK(mirror.take_seen() == std::vector{unmapped(mib2, unit)});
    CHECK(world.figures().mappings == 0);
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a unit does not begin in a table that the consumer sees part of", "[behaviour][S1.12]") {
  MirrorModel mirror{0, 2 * mib2 - page, 0x7F'FFFF'FFFF};
  World world{mirror};
  CHECK(mirror.take_seen() ==
        std::vector{mapped(2 * mib2 - page, page, gib + 2 * mib2 - page), mapped(2 * mib2, 3 * mib2, gib + 2 * mib2)});
  world.map_slot(4, gib);
  world.domain();
  CHECK(mirror.extents() ==
        std::vector<Extent>{{2 * mib2 - page, 2 * mib2 + page, gib + 2 * mib2 - page, 3}, {4 * mib2, mib2, gib, 3}});
  CHECK(mirror.wrong.empty());
}

}  // namespace viommu::test
