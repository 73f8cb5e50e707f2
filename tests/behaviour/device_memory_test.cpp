// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Answers that lead into a region that is a device's BAR say so, from the tables and from the caches.
#include <catch2/catch.hpp>
#include <vector>

#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t mib2 = 0x20'0000;
constexpr std::uint64_t iova = 0x4000'0000;
constexpr std::uint64_t bar = 0xC000'0000;
constexpr std::uint16_t device = 0x0100;
constexpr unsigned plain = VIOMMU_READ | VIOMMU_WRITE;
constexpr unsigned marked = plain | VIOMMU_MMIO;

struct World : Machine {
  explicit World(const viommu_vtd_options& options = usual_options()) : Machine{options} {
    add(0, ram_bytes, VIOMMU_REGION_UNMAPPED);
    add(bar, 4 * mib2, VIOMMU_REGION_MMIO);
    boot();
  }
  void add(std::uint64_t gpa, std::uint64_t length, std::uint64_t flags) {
    const viommu_region region{gpa, length, nullptr, flags};
    REQUIRE(viommu_region_add(engine.get(), &region) == VIOMMU_OK);
  }
  /// The mark of each of so many pages from an address on: asked one by one, again, and all at once.
  [[nodiscard]] std::vector<unsigned> rights(std::uint64_t from, std::size_t count) {
    std::vector<unsigned> first;
    std::vector<viommu_request> requests;
    for (std::size_t i = 0; i < count; ++i) {
      requests.push_back(request(device, from + i * page, VIOMMU_READ));
      first.push_back(reader.translate(requests.back()).rights);
    }
    std::vector<viommu_translation> answers(count);
    REQUIRE(reader.translate_batch(requests, answers) == VIOMMU_OK);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(reader.translate(requests[i]).rights == first[i]);
      CHECK(answers[i].rights == first[i]);
      viommu_translation once{};
      REQUIRE(viommu_translate_once(engine.get(), &requests[i], &once) == VIOMMU_OK);
      CHECK(once.rights == first[i]);
    }
    return first;
  }
};

}  // namespace

TEST_CASE("an answer that leads to a device's BAR carries the mark, from tables, caches and kernels alike",
          "[behaviour][S1.26]") {
  const std::uint32_t fill = GENERATE(std::uint32_t{VIOMMU_FILL_EXACT}, std::uint32_t{VIOMMU_FILL_ALL});
  const std::uint32_t flags = GENERATE(0U, std::uint32_t{VIOMMU_UNCACHED});
  viommu_vtd_options options = usual_options();
  options.fill = fill;
  options.flags = flags;
  World world{options};
  const Tree tree = world.attach(device, 7);
  for (std::uint64_t i = 0; i < 8; ++i) {
    world.tables.map(tree, iova + i * page, i % 2 == 0 ? i * page : bar + i * page);
    world.tables.map(tree, iova + (8 + i) * page, bar + (8 + i) * page);                   // one block
    world.tables.map(tree, iova + (16 + i) * page, bar + 4 * mib2 - 4 * page + i * page);  // half of one
  }
  world.add(bar + 4 * mib2, mib2, VIOMMU_REGION_UNMAPPED);
  CHECK(world.rights(iova, 8) == std::vector{plain, marked, plain, marked, plain, marked, plain, marked});
  CHECK(world.rights(iova + 8 * page, 8) == std::vector<unsigned>(8, marked));
  CHECK(world.rights(iova + 16 * page, 8) == std::vector{marked, marked, marked, marked, plain, plain, plain, plain});
  const std::uint64_t walks = world.engine.statistics().walks;
  CHECK(world.rights(iova + 8 * page, 16).size() == 16);
  if (flags == 0) CHECK(world.engine.statistics().walks == walks);

  SECTION("pieces of a buffer end where it begins") {
    std::vector<viommu_piece> pieces(8);
    const viommu_range_end end =
        world.reader.translate_range(request(device, iova + 16 * page, VIOMMU_READ, 8 * page), pieces);
    REQUIRE(end.pieces == 2);
    CHECK(pieces[0].rights == marked);
    CHECK(pieces[0].length == 4 * page);
    CHECK(pieces[1].rights == plain);
  }
  SECTION("a hold says it too") {
    viommu_translation answer{};
    const Hold hold = world.reader.hold(request(device, iova + page, VIOMMU_READ), 1, answer);
    CHECK(answer.rights == marked);
  }
}

TEST_CASE("a large page is marked as a whole, or by its parts where only some of it is a BAR", "[behaviour][S1.26]") {
  World world;
  const Tree tree = world.attach(device, 7);
  world.tables.map(tree, iova, bar + 2 * mib2, entry_read_write, 2);
  CHECK(world.rights(iova, 8) == std::vector<unsigned>(8, marked));
  CHECK(world.ask(device, iova).mask == mib2 - 1);
  SECTION("half of it") {
    world.add(bar + 5 * mib2, page, VIOMMU_REGION_MMIO);
    world.tables.map(tree, iova + mib2, bar + 5 * mib2, entry_read_write, 2);
    CHECK(world.rights(iova + mib2, 4) == std::vector{marked, plain, plain, plain});
    CHECK(world.ask(device, iova + mib2).mask == page - 1);
    CHECK(world.ask(device, iova + mib2 + 2 * page).mask == 2 * page - 1);
    CHECK(world.ask(device, iova + mib2 + mib2 / 2).mask == mib2 / 2 - 1);
  }
}

TEST_CASE("the mark is that of memory as it is now", "[behaviour][S1.26][S1.24]") {
  World world;
  const Tree tree = world.attach(device, 7);
  constexpr std::uint64_t other = 0xD000'0000;
  for (std::uint64_t i = 0; i < 8; ++i) world.tables.map(tree, iova + i * page, other + i * page);
  CHECK(world.rights(iova, 8) == std::vector<unsigned>(8, plain));
  world.add(other, 4 * page, VIOMMU_REGION_MMIO);
  CHECK(world.rights(iova, 8) == std::vector{marked, marked, marked, marked, plain, plain, plain, plain});
  REQUIRE(world.engine.remove_region(other, 1) == VIOMMU_OK);
  CHECK(world.rights(iova, 8) == std::vector<unsigned>(8, plain));
}

TEST_CASE("requests that are not translated are marked by their own address", "[behaviour][S1.26]") {
  World world;
  SECTION("pass-through") { world.attach_pass_through(device, 7); }
  SECTION("translation off") { world.driver.enable_translation(false); }
  CHECK(world.rights(bar, 2) == std::vector<unsigned>(2, marked));
  CHECK(world.ask(device, bar).mask == 4 * mib2 - 1);
  CHECK(world.rights(0, 2) == std::vector<unsigned>(2, plain));
  CHECK(world.ask(device, 0).mask == 0x7FFF'FFFF);
  CHECK(world.rights(bar + 4 * mib2 - page, 2) == std::vector{marked, plain});
}

}  // namespace viommu::test
