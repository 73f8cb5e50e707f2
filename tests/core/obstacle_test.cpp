// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is in the way of a front end, and whose it is said to be.
#include "engine/core/obstacle.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>

#include "tests/core/test_waist.hpp"

namespace viommu::core {
namespace {

using caches::Scope;
using test::TestWaist;
using test::WaistGuard;

constexpr caches::Usage usage{{0x0110}, {5}, {{0x1000}, {0x1FFF}}};
constexpr Scope domain_5{Scope::Kind::domain, {5}, all_iovas, {}, 0};

std::uint64_t hold_in_guard(TestWaist& waist, Reader& reader, std::uint64_t cookie) {
  const WaistGuard guard{waist.waist, reader};
  return waist->hold(waist->hold_since(), usage, cookie);
}

}  // namespace

TEST_CASE("a completion waits for the hold that is older, and is not said to wait for a newer one",
          "[core][obstacle][P2]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  Reader& other = waist.reader();
  const std::uint64_t old = hold_in_guard(waist, reader, 0x77);
  waist->enter(other);
  const Ticket ticket = waist.ticket(domain_5);
  const std::uint64_t newer = hold_in_guard(waist, reader, 0x88);
  CHECK_FALSE(waist->drained(ticket));
  const Obstacle hold = delay_of(waist.waist, ticket);
  CHECK(hold.what == std::string{"hold"});
  CHECK(hold.owner == 0x77);
  REQUIRE(waist->release(old, false));
  const Obstacle guard = delay_of(waist.waist, ticket);
  CHECK(guard.what == std::string{"guard"});
  CHECK(guard.owner == ticket.epoch);
  waist->leave(other);
  CHECK(waist->drained(ticket));  // the newer one is still open
  REQUIRE(waist->release(newer, false));
}

TEST_CASE("of removed regions that may still be in use the first one is named", "[core][obstacle][PR-9]") {
  TestWaist waist;
  Reader& reader = waist.reader();
  for (std::uint64_t i = 0; i < 3; ++i) REQUIRE(waist.add(i * page_size_bytes, page_size_bytes) == RegionResult::ok);
  CHECK(waist->reclaim_regions());
  CHECK_FALSE(removed_region(waist.waist));
  waist->enter(reader);
  REQUIRE(waist->remove_region({page_size_bytes}, 0x77) == RegionResult::ok);
  CHECK(removed_region(waist.waist).owner == 0x77);
  REQUIRE(waist->remove_region({0}, 0x88) == RegionResult::ok);
  const Obstacle region = removed_region(waist.waist);
  CHECK(region.what == std::string{"region"});
  CHECK(region.owner == 0x77);
  waist->leave(reader);
  CHECK(waist->reclaim_regions());
  CHECK_FALSE(removed_region(waist.waist));
}

}  // namespace viommu::core
