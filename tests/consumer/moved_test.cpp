// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a mirror tells where the same pages lead elsewhere: each that differs goes and comes, and nothing else does.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/consumer/alone.hpp"
#include "tests/consumer/kept_world.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/support/random.hpp"

namespace viommu::consumer {
namespace {

using test::gib_1;
using test::mapped;
using test::mib_2;
using test::page_4k;
using test::ram_base;
using test::Seen;
using test::unmapped;
using Events = std::vector<Seen>;

constexpr std::uint64_t iova = 2 * gib_1;
constexpr std::uint64_t other_base = 8 * gib_1;
constexpr std::uint64_t pages = 512;

/// Two regions of memory, each with host addresses of its own, that nobody reads.
struct Moved : Alone {
  explicit Moved(std::uint32_t declares = 0) : Alone{declares} {
    add(ram_base, gib_1, host_of(ram_base));
    add(other_base, gib_1, host_of(other_base));
    model.fails = [&](const viommu_event& event) {
      const std::byte* const right = event.kind == VIOMMU_EVENT_MAP ? host_of(event.gpa) : nullptr;
      if (event.hva != right || event.status != 0 || event.reserved != 0) ++wrong_fields;
      return false;
    };
  }
  [[nodiscard]] static std::byte* host_of(std::uint64_t gpa) {
    const std::uint64_t host = gpa < other_base ? gpa + (std::uint64_t{1} << 40) : gpa + (std::uint64_t{3} << 40);
    return reinterpret_cast<std::byte*>(host);  // NOLINT(performance-no-int-to-ptr): of no memory
  }
  void map(std::uint16_t domain, std::uint64_t page, std::uint64_t gpa, std::uint64_t count = 1, unsigned rights = 3) {
    store.map(domain, iova + page * page_4k, count * page_4k, gpa, rights);
  }
  void enter(std::uint16_t domain) { aim(test::KeptWorld::content(domain)); }

  unsigned wrong_fields = 0;
};

}  // namespace

TEST_CASE("pages that lead elsewhere in another address space go and come one after the other, and the rest stays",
          "[consumer][S1.8][S1.20]") {
  const auto declares = GENERATE(std::uint32_t{0}, std::uint32_t{VIOMMU_CONSUMER_LEAF},
                                 std::uint32_t{VIOMMU_CONSUMER_SPLIT}, std::uint32_t{VIOMMU_CONSUMER_POW2});
  Moved world{declares};
  test::Random random{declares + 1};
  Events expected;
  const auto frame = [&](std::uint64_t page) {  // no two neighbours go on from one another
    return (random.chance(1, 2) ? ram_base : other_base) + page * 3 * page_4k + random.below(2) * 8 * mib_2;
  };
  for (std::uint64_t page = 0; page < pages; ++page) {
    const std::uint64_t before = frame(page);
    const std::uint64_t after = random.chance(1, 4) ? before : frame(page);
    const unsigned rights = random.chance(1, 8) ? 1 : 3;
    world.map(1, page, before);
    world.map(2, page, after, 1, rights);
    if (before == after && rights == 3) continue;
    expected.push_back(unmapped(iova + page * page_4k, page_4k));
    expected.push_back(mapped(iova + page * page_4k, page_4k, after, rights));
  }
  world.enter(1);
  CHECK(world.model.take_seen().size() == pages);
  world.enter(2);
  CHECK(world.model.take_seen() == expected);
  CHECK(world.mirror.figures().mappings == pages);
  CHECK(world.mirror.figures().bytes == pages * page_4k);
  CHECK(world.mirror.figures().split_bytes == 0);
  world.aim({View::blocked, {}});
  CHECK(world.model.extents().empty());
  CHECK(world.mirror.figures().bytes == 0);
  CHECK(world.wrong_fields == 0);
  CHECK(world.model.wrong.empty());
}

TEST_CASE("units of several pages that lead elsewhere go and come as they are", "[consumer][S1.8]") {
  Moved world;
  world.map(1, 3, ram_base, 5);
  world.map(2, 3, ram_base + page_4k, 5);
  world.map(1, 100, other_base, 7);
  world.map(2, 100, other_base, 7);
  world.map(1, 200, ram_base + mib_2, 2);
  world.map(2, 200, other_base + mib_2, 2);
  world.enter(1);
  world.model.take_seen();
  world.enter(2);
  const auto at = [](std::uint64_t page) { return iova + page * page_4k; };
  CHECK(world.model.take_seen() == Events{unmapped(at(3), 5 * page_4k), mapped(at(3), 5 * page_4k, ram_base + page_4k),
                                          unmapped(at(200), 2 * page_4k),
                                          mapped(at(200), 2 * page_4k, other_base + mib_2)});
  CHECK(world.mirror.figures().split_bytes == 0);
  SECTION("and where one has another length, what is as it was is counted as part of a unit") {
    world.map(3, 3, ram_base + page_4k, 4);
    world.map(3, 100, other_base, 7);
    world.map(3, 200, other_base + mib_2, 2);
    world.enter(3);
    CHECK(world.model.take_seen() ==
          Events{unmapped(at(3), 5 * page_4k), mapped(at(3), 4 * page_4k, ram_base + page_4k)});
    CHECK(world.mirror.figures().split_bytes == 4 * page_4k);
  }
  CHECK(world.wrong_fields == 0);
  CHECK(world.model.wrong.empty());
}

TEST_CASE("a page that cannot be mapped takes the place of one that is, and gives it back", "[consumer][S1.20]") {
  Moved world;
  constexpr std::uint64_t half = page_4k / 2;
  for (std::uint64_t page = 0; page < pages; ++page) {
    world.map(1, page, ram_base + page * 2 * page_4k);
    world.map(2, page, ram_base + page * 2 * page_4k + (page % 3 == 0 ? half : 0));  // off the consumer's pages
  }
  world.enter(1);
  world.model.take_seen();
  world.enter(2);
  const auto is_unmap = [](const Seen& seen) { return seen.kind == VIOMMU_EVENT_UNMAP; };
  const Events gone = world.model.take_seen();
  constexpr std::uint64_t odd = (pages + 2) / 3;
  CHECK(gone.size() == odd);
  CHECK(std::ranges::all_of(gone, is_unmap));
  CHECK(world.model.reports.size() == odd);
  CHECK(world.mirror.figures().mappings == pages - odd);
  world.enter(1);
  const Events back = world.model.take_seen();
  CHECK(back.size() == odd);
  CHECK(std::ranges::none_of(back, is_unmap));
  CHECK(world.mirror.figures().mappings == pages);
  CHECK(world.mirror.figures().bytes == pages * page_4k);
  CHECK(world.wrong_fields == 0);
  CHECK(world.model.wrong.empty());
}

}  // namespace viommu::consumer
