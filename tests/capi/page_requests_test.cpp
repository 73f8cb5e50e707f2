// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Page requests that come while the unit is at work, and answers that are for somebody else.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/behaviour/page_request_world.hpp"

namespace viommu::capi {
namespace {

using test::page_requests::Response;
using test::page_requests::World;

}  // namespace

TEST_CASE("page requests that come while the unit is at work are written afterwards, each once and in order",
          "[capi][pages][RVM-12]") {
  constexpr std::uint64_t entry_bytes = 32;
  World world;
  REQUIRE(world.engine.mmio_write(0xA0, 4, 0) == VIOMMU_OK);  // completion events
  // Inside the message of a wait another thread is told no more than that its requests are queued.
  world.on_message = [&] {
    std::thread{[&] {
      for (std::uint16_t group = 1; group <= 3; ++group)
        CHECK(world.ask_page(World::page(group, true, 5, 0x6000 + 0x1000ULL * group)) == VIOMMU_PAGE_QUEUED);
    }}.join();
    CHECK(world.word(world.queue) == 0);
  };
  world.add(0x15);  // a wait with an interrupt
  world.submit();
  CHECK_FALSE(world.on_message);
  CHECK(world.engine.mmio_read(0xC8, 8) == 3 * entry_bytes);
  for (std::uint64_t group = 1; group <= 3; ++group) {
    const std::uint64_t at = world.queue + (group - 1) * entry_bytes;
    CHECK(world.word(at) == (1 | test::scalable::bit(8) | std::uint64_t{World::device} << 16 | 5ULL << 32));
    CHECK(world.word(at + 8) == (2 | 4 | group << 3 | (0x6000 + 0x1000 * group)));
  }
}

TEST_CASE("an answer for another device or PASID leaves a group waiting", "[capi][pages][S5.4]") {
  World world;
  CHECK(world.ask_page(World::page(3, true, 5, 0x6000)) == VIOMMU_PAGE_QUEUED);
  world.respond(3, 0, 6);
  world.respond(3, 0, 5, World::upper_device);
  world.respond(4, 0);
  CHECK(world.responses.empty());
  CHECK(world.engine.statistics().page_responses_dropped == 3);
  world.respond(3, 0);
  CHECK(world.responses == std::vector<Response>{{World::device, 5, 3, VIOMMU_PAGE_SUCCESS}});
  CHECK(world.engine.statistics().page_responses_dropped == 3);
}

}  // namespace viommu::capi
