// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Page requests that come while the unit is at work, and answers that are for somebody else.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::capi {
namespace {

namespace scalable = test::scalable;
using test::ScalableMachine;

constexpr std::uint64_t page_requests = scalable::bit(2) | scalable::bit(29) | scalable::bit(42);  // DT, PRS, PDS
constexpr std::uint64_t all_allowed = 4 | 8 | 16;                                                  // DTE, PASIDE, PRE

struct Response {
  std::uint16_t source;
  std::uint32_t pasid;
  std::uint32_t group;
  std::uint32_t code;
  friend bool operator==(const Response&, const Response&) = default;
};
struct Heard {
  std::vector<Response> responses;
  std::function<void()> on_message;  ///< once
};

viommu_host host_of(Heard& heard) {
  viommu_host host = empty_host();
  host.opaque = &heard;
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t) {
    if (const auto once = std::exchange(static_cast<Heard*>(opaque)->on_message, {})) once();
  };
  host.page_response = [](void* opaque, std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                          std::uint32_t code) {
    static_cast<Heard*>(opaque)->responses.push_back({source, pasid, group, code});
  };
  return host;
}

/// `device` may ask for pages by PASIDs 5 and 6.
struct World : Heard, ScalableMachine {
  World() : ScalableMachine{scalable::capability, scalable::everything | page_requests, 0x30, host_of(*this)} {
    attach(device, all_allowed);
    test::PasidEntry fields;
    fields.type = scalable::first_stage;
    fields.tree = tables.create_tree(4);
    fields.high = scalable::bit(23);
    for (const std::uint32_t pasid : {0U, 5U, 6U}) set_pasid(pasid, fields);
    REQUIRE(engine.mmio_write(0xD0, 8, queue) == VIOMMU_OK);
    REQUIRE(engine.mmio_write(0xA0, 4, 0) == VIOMMU_OK);  // completion events
  }
  viommu_result ask_page(std::uint16_t group, std::uint32_t pasid, std::uint64_t at) {
    viommu_page_request asked{};
    asked.iova = at;
    asked.source = device;
    asked.group = group;
    asked.access = VIOMMU_WRITE;
    asked.last = 1;
    asked.flags = VIOMMU_HAS_PASID;
    asked.pasid = pasid;
    std::uint32_t code = 0;
    return viommu_request_page(engine.get(), &asked, &code);
  }
  void respond(std::uint64_t group, std::uint64_t pasid, std::uint16_t source = device) {
    add(0x9 | std::uint64_t{source} << 16 | 0x10 | pasid << 32, group << 3);
    submit();
  }

  std::uint64_t queue = tables.allocate_page();
};

}  // namespace

TEST_CASE("page requests that come while the unit is at work are written afterwards, each once and in order",
          "[capi][pages][RVM-12]") {
  constexpr std::uint64_t entry_bytes = 32;
  World world;
  // Inside the message of a wait another thread is told no more than that its requests are queued.
  world.on_message = [&] {
    std::thread{[&] {
      for (std::uint16_t group = 1; group <= 3; ++group)
        CHECK(world.ask_page(group, 5, 0x6000 + 0x1000ULL * group) == VIOMMU_PAGE_QUEUED);
    }}.join();
    CHECK(world.word(world.queue) == 0);
  };
  world.add(0x15);  // a wait with an interrupt
  world.submit();
  CHECK_FALSE(world.on_message);
  CHECK(world.engine.mmio_read(0xC8, 8) == 3 * entry_bytes);
  for (std::uint64_t group = 1; group <= 3; ++group) {
    const std::uint64_t at = world.queue + (group - 1) * entry_bytes;
    CHECK(world.word(at) == (1 | scalable::bit(8) | std::uint64_t{World::device} << 16 | 5ULL << 32));
    CHECK(world.word(at + 8) == (2 | 4 | group << 3 | (0x6000 + 0x1000 * group)));
  }
}

TEST_CASE("an answer for another device or PASID leaves a group waiting", "[capi][pages][S5.4]") {
  World world;
  CHECK(world.ask_page(3, 5, 0x6000) == VIOMMU_PAGE_QUEUED);
  world.respond(3, 6);
  world.respond(3, 5, World::upper_device);
  world.respond(4, 5);
  CHECK(world.responses.empty());
  CHECK(world.engine.statistics().page_responses_dropped == 3);
  world.respond(3, 5);
  CHECK(world.responses == std::vector<Response>{{World::device, 5, 3, VIOMMU_PAGE_SUCCESS}});
  CHECK(world.engine.statistics().page_responses_dropped == 3);
}

}  // namespace viommu::capi
