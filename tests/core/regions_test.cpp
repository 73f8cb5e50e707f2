// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory regions of the waist: added, removed, and gone when nobody can reach them.
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tests/core/test_waist.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::core {
namespace {

using test::GuardedRegion;
using test::TestWaist;
using test::WaistGuard;

constexpr std::uint64_t page = 0x1000;
const std::vector<std::uint64_t> nobody;

}  // namespace

TEST_CASE("a region that overlaps another is refused and changes nothing", "[core][regions]") {
  TestWaist waist;
  REQUIRE(waist.add(4 * page, 4 * page) == RegionResult::ok);
  CHECK(waist.add(4 * page, 4 * page) == RegionResult::exists);
  CHECK(waist.add(0, 5 * page) == RegionResult::exists);
  CHECK(waist.add(7 * page, page) == RegionResult::exists);
  CHECK(waist.add(5 * page, page) == RegionResult::exists);
  CHECK(waist.add(0, 0) == RegionResult::exists);  // all of it
  CHECK(waist.add(0, 4 * page) == RegionResult::ok);
  CHECK(waist.add(8 * page, page) == RegionResult::ok);
  CHECK(waist->memory().map()->regions().size() == 3);
}

TEST_CASE("regions are bounded", "[core][regions][P6]") {
  TestWaist waist;
  for (std::uint64_t i = 0; i < test::small_waist.regions; ++i)
    REQUIRE(waist.add(2 * i * page, page) == RegionResult::ok);
  CHECK(waist.add(100 * page, page) == RegionResult::limit);
  REQUIRE(waist->remove_region({0}, 1) == RegionResult::ok);
  CHECK(waist.add(100 * page, page) == RegionResult::ok);
}

TEST_CASE("a region is removed by its first address", "[core][regions]") {
  TestWaist waist;
  CHECK(waist->remove_region({0}, 1) == RegionResult::not_found);
  REQUIRE(waist.add(4 * page, 4 * page) == RegionResult::ok);
  CHECK(waist->remove_region({5 * page}, 1) == RegionResult::not_found);
  CHECK(waist->remove_region({8 * page}, 1) == RegionResult::not_found);
  CHECK(waist->remove_region({4 * page}, 1) == RegionResult::ok);
  CHECK(waist->remove_region({4 * page}, 1) == RegionResult::not_found);
}

TEST_CASE("a removed region is gone when the guards that were open have closed", "[core][regions][PR-9][SEC-1]") {
  TestWaist waist;
  GuardedRegion ram{0x10000, page};
  Reader& reader = waist.reader();
  REQUIRE(waist.add(ram) == RegionResult::ok);
  CHECK(waist->reclaim_regions());
  waist->enter(reader);
  const RegionMap* const seen = waist->memory().map();
  REQUIRE(waist->remove_region({0x10000}, 77) == RegionResult::ok);
  CHECK_FALSE(waist->memory().load_u64({0x10000}));  // new loads fail at once
  CHECK(seen->find({0x10000}) != nullptr);           // an old one may still be at it
  for (unsigned i = 0; i < 3; ++i) CHECK_FALSE(waist->reclaim_regions());
  CHECK(waist.host.gone == nobody);
  waist->leave(reader);
  CHECK(waist.host.wakes == 1);
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone == std::vector<std::uint64_t>{77});
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone.size() == 1);
}

TEST_CASE("a removed region waits for the holds that were open", "[core][regions][PR-9][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  REQUIRE(waist.add(0, page) == RegionResult::ok);
  waist->enter(reader);
  const std::uint64_t hold = waist->hold(waist->hold_since(), {{1}, {5}, {{0}, {0}}}, 0);
  waist->leave(reader);
  REQUIRE(waist->remove_region({0}, 7) == RegionResult::ok);
  CHECK_FALSE(waist->reclaim_regions());
  CHECK(waist.host.gone == nobody);
  CHECK(waist->release(hold, false));
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone == std::vector<std::uint64_t>{7});
}

TEST_CASE("adding a region waits for no hold and tells nobody", "[core][regions]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  const std::uint64_t hold = waist->hold(waist->hold_since(), {{1}, {5}, {{0}, {0}}}, 0);
  waist->leave(reader);
  REQUIRE(waist.add(0, page) == RegionResult::ok);
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone == nobody);
  CHECK(waist->release(hold, false));
}

TEST_CASE("regions are gone in the order in which they were removed", "[core][regions]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  for (std::uint64_t i = 0; i < 5; ++i) REQUIRE(waist.add(i * page, page) == RegionResult::ok);
  CHECK(waist->reclaim_regions());
  waist->enter(reader);
  for (const std::uint64_t i : {3U, 0U, 4U, 1U}) REQUIRE(waist->remove_region({i * page}, i) == RegionResult::ok);
  CHECK_FALSE(waist->reclaim_regions());
  waist->leave(reader);
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone == std::vector<std::uint64_t>{3, 0, 4, 1});
}

TEST_CASE("while many changes wait for a reader there are no further ones, and later there are",
          "[core][regions][P6]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  waist->enter(reader);
  constexpr unsigned most = 64;
  for (unsigned i = 0; i < most / 2; ++i) {
    REQUIRE(waist.add(0, page) == RegionResult::ok);
    REQUIRE(waist->remove_region({0}, i) == RegionResult::ok);
  }
  CHECK(waist.add(0, page) == RegionResult::limit);
  CHECK(waist->remove_region({0}, 1) == RegionResult::not_found);
  CHECK_FALSE(waist->reclaim_regions());
  waist->leave(reader);
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone.size() == most / 2);
  CHECK(waist.add(0, page) == RegionResult::ok);
}

TEST_CASE("a change finds room for the regions that others add while it gets its memory", "[core][regions]") {
  struct RacingHost {
    test::CoreHost host;
    std::function<void()> meanwhile;  // what another thread does while this one is in the allocator
    [[nodiscard]] HostFunctions functions() {
      HostFunctions with_race = host.functions();
      with_race.allocator = {this,
                             [](void* self, std::size_t size, std::size_t alignment) {
                               RacingHost& racing = *static_cast<RacingHost*>(self);
                               if (racing.meanwhile) std::exchange(racing.meanwhile, {})();
                               return racing.host.allocator.allocate(size, alignment);
                             },
                             [](void* self, void* memory, std::size_t size, std::size_t alignment) {
                               static_cast<RacingHost*>(self)->host.allocator.deallocate(memory, size, alignment);
                             }};
      return with_race;
    }
  } racing;
  {
    const Host marked{racing.functions()};
    Waist waist{test::small_waist, marked};
    REQUIRE(waist.reset());
    const auto add = [&](std::uint64_t i) {
      return waist.add_region({{{i * page}, {i * page + (page - 1)}}, nullptr, false});
    };
    const auto add_two = [&](std::uint64_t i) {
      return [&, i] {
        CHECK(add(i) == RegionResult::ok);
        CHECK(add(i + 1) == RegionResult::ok);
      };
    };
    const auto holds_exactly = [&](const std::vector<std::uint64_t>& pages) {
      const RegionMap& map = *waist.memory().map();
      std::vector<std::uint64_t> found;
      for (const Region& region : map.regions()) found.push_back(region.range.first.value / page);
      CHECK(found == pages);
      CHECK(map.capacity() >= map.regions().size());
    };
    racing.meanwhile = add_two(1);
    CHECK(add(0) == RegionResult::ok);
    holds_exactly({0, 1, 2});
    racing.meanwhile = add_two(3);
    CHECK(waist.remove_region({0}, 1) == RegionResult::ok);
    holds_exactly({1, 2, 3, 4});
    CHECK(waist.reclaim_regions());
  }
  CHECK(racing.host.allocator.open_blocks() == 0);
  CHECK(racing.host.allocator.mistakes() == 0);
}

TEST_CASE("a change that the host has no memory for does not happen", "[core][regions][SEC-15]") {
  TestWaist waist;
  REQUIRE(waist.add(0, page) == RegionResult::ok);
  CHECK(waist->reclaim_regions());
  const std::size_t blocks = waist.host.allocator.open_blocks();
  for (std::uint64_t k = 1; k <= 2; ++k) {
    waist.host.allocator.fail_at(k);
    CHECK(waist.add(4 * page, page) == RegionResult::no_memory);
    CHECK(waist.host.allocator.open_blocks() == blocks);
    waist.host.allocator.fail_at(k);
    CHECK(waist->remove_region({0}, 1) == RegionResult::no_memory);
    CHECK(waist.host.allocator.open_blocks() == blocks);
  }
  CHECK(waist->memory().map()->regions().size() == 1);
  CHECK(waist->reclaim_regions());
  CHECK(waist.host.gone == nobody);
}

TEST_CASE("whatever is refused or waits, all memory goes back in the end", "[core][regions][P6]") {
  test::CoreHost host;
  {
    const Host marked{host.functions()};
    Waist waist{test::small_waist, marked};
    REQUIRE(waist.reset());
    Reader& reader = *waist.take_reader();
    waist.enter(reader);
    for (std::uint64_t i = 0; i < 6; ++i) {
      CHECK(waist.add_region({{{i * page}, {i * page + (page - 1)}}, nullptr, false}) == RegionResult::ok);
      CHECK(waist.add_region({{{i * page}, {i * page + (page - 1)}}, nullptr, false}) == RegionResult::exists);
    }
    CHECK(waist.remove_region({0}, 1) == RegionResult::ok);
    CHECK_FALSE(waist.reclaim_regions());
    waist.leave(reader);
  }
  CHECK(host.allocator.open_blocks() == 0);
  CHECK(host.allocator.mistakes() == 0);
}

TEST_CASE("a waist for which the host's k-th block is missing is refused without a leak", "[core][SEC-15]") {
  test::CoreHost host;
  const Host marked{host.functions()};
  std::uint64_t needed = 0;
  {
    Waist waist{test::small_waist, marked};
    REQUIRE(waist.reset());
    needed = host.allocator.calls();
  }
  REQUIRE(needed > 5);
  for (std::uint64_t k = 1; k <= needed; ++k) {
    host.allocator.fail_at(k);
    Waist waist{test::small_waist, marked};
    CHECK_FALSE(waist.reset());
  }
  host.allocator.fail_at(0);
  CHECK(host.allocator.open_blocks() == 0);
  CHECK(host.allocator.mistakes() == 0);
}

}  // namespace viommu::core
