// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Invalidations of device TLBs as the VMM sees them: tickets, the log, the event and the dump.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"
#include "tests/capi/machine.hpp"
#include "tests/support/explained.hpp"

namespace viommu::capi {
namespace {

using test::ScalableMachine;

constexpr std::uint64_t device_tlb = test::scalable::bit(2);  // ECAP.DT
constexpr std::uint64_t minute_ns = 60'000'000'000;           // a device has this long
constexpr std::uint64_t queue_tail = 0x88;
constexpr std::uint64_t fault_status = 0x34;

struct Heard {
  std::vector<std::uint64_t> tickets;
  std::vector<std::uint32_t> messages;
  std::vector<std::string> log;
  std::uint64_t now_ns = 0;
};

viommu_host host_of(Heard& heard) {
  viommu_host host = empty_host();
  host.opaque = &heard;
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t data) {
    static_cast<Heard*>(opaque)->messages.push_back(data);
  };
  host.now_ns = [](void* opaque) { return static_cast<Heard*>(opaque)->now_ns; };
  host.log = [](void* opaque, std::int32_t, const char* text) { static_cast<Heard*>(opaque)->log.emplace_back(text); };
  host.device_invalidate = [](void* opaque, std::uint64_t ticket, std::uint16_t, std::uint32_t, std::uint64_t,
                              std::uint64_t) {
    static_cast<Heard*>(opaque)->tickets.push_back(ticket);
    return std::int32_t{VIOMMU_DEVICE_PENDING};
  };
  return host;
}

struct World : Heard, ScalableMachine {
  World() : ScalableMachine{test::scalable::capability, test::scalable::everything | device_tlb, 0x30, host_of(*this)} {
    REQUIRE(engine.mmio_write(0x3C, 4, 0x55) == VIOMMU_OK);  // fault events
    REQUIRE(engine.mmio_write(0x38, 4, 0) == VIOMMU_OK);
  }
  void add_device(std::uint16_t source) { add(0x3 | std::uint64_t{source} << 32, 0x5000); }
  void add_wait(std::uint64_t data) { add(0x25 | data << 32, status_page); }
  void go() { REQUIRE(engine.mmio_write(queue_tail, 8, tail()) == VIOMMU_OK); }
  viommu_result answer(std::uint64_t ticket, std::uint32_t what = VIOMMU_INVALIDATED) {
    return viommu_device_invalidated(engine.get(), ticket, what);
  }
  std::uint32_t status() const { return static_cast<std::uint32_t>(word(status_page)); }
};

nlohmann::json work_of(const Engine& engine) { return test::dumped(engine, VIOMMU_DUMP_WORK)["work"]; }

}  // namespace

TEST_CASE("a wait is complete when the devices in front of it have answered", "[capi][device_tlb][RVM-11]") {
  World world;
  world.add_device(0x0110);
  world.add_wait(1);
  world.add_device(0x0111);
  world.add_wait(2);
  world.go();
  REQUIRE(world.tickets.size() == 2);
  CHECK(world.answer(world.tickets[0]) == VIOMMU_OK);
  static_cast<void>(world.engine.process());
  CHECK(world.status() == 1);  // the one behind it is still open
  CHECK(world.answer(world.tickets[1]) == VIOMMU_OK);
  static_cast<void>(world.engine.process());
  CHECK(world.status() == 2);
}

TEST_CASE("a ticket that was answered is not that of a later invalidation", "[capi][device_tlb]") {
  World world;
  for (std::uint64_t round = 1; round <= 3; ++round) {
    world.add_device(0x0110);
    world.add_wait(round);
    world.go();
    REQUIRE(world.tickets.size() == round);
    for (std::uint64_t old = 0; old + 1 < round; ++old) {
      for (const std::uint32_t what : {VIOMMU_INVALIDATED, VIOMMU_INVALIDATION_TIMEOUT, VIOMMU_INVALIDATION_MALFORMED})
        CHECK(world.answer(world.tickets[old], what) == VIOMMU_E_NOT_FOUND);
    }
    static_cast<void>(world.engine.process());
    CHECK(world.status() == round - 1);
    CHECK(world.answer(world.tickets.back()) == VIOMMU_OK);
    static_cast<void>(world.engine.process());
    CHECK(world.status() == round);
  }
  CHECK(world.engine.mmio_read(fault_status, 4) == 0);
}

TEST_CASE("the guest is told of an answer that is none without further work", "[capi][device_tlb][Fault Events]") {
  World world;
  world.add_device(0x0110);
  world.go();
  CHECK(world.answer(world.tickets.at(0), VIOMMU_INVALIDATION_MALFORMED) == VIOMMU_OK);
  CHECK(world.messages == std::vector<std::uint32_t>{0x55});
}

TEST_CASE("time-outs of devices are logged, the 1st, 2nd and 4th of them", "[capi][device_tlb][log]") {
  World world;
  for (std::uint16_t source = 0x0110; source < 0x0115; ++source) {
    world.add_device(source);
    world.go();
    world.now_ns += minute_ns;
    static_cast<void>(world.engine.process());
    REQUIRE(world.engine.mmio_write(fault_status, 4, 0x40) == VIOMMU_OK);  // ITE
  }
  CHECK(world.engine.statistics().device_timeouts == 5);
  const std::string words = "device-TLB invalidation timed out: source 0x";
  const std::string stopped = ", the invalidation queue is stopped; time-outs so far: ";
  CHECK(world.log == std::vector<std::string>{words + "0110" + stopped + "1", words + "0111" + stopped + "2",
                                              words + "0113" + stopped + "4"});
}

TEST_CASE("a dump tells how far the queue was fetched behind an open wait", "[capi][device_tlb][dump]") {
  World world;
  world.add_device(0x0110);
  world.add_wait(1);
  world.add_device(0x0111);
  world.add_device(0x0112);
  world.go();
  CHECK(world.engine.mmio_read(0x80, 8) == 0x20);  // the head stands on the wait
  CHECK(work_of(world.engine)["fetched"] == "0x80");
}

TEST_CASE("a dump tells whether the next wait has something to wait for", "[capi][dump]") {
  viommu_vtd_options options = default_options();
  options.extended_capability = 0xF4B;  // with interrupt remapping
  Machine machine{options};
  const std::uint64_t descriptor = GENERATE(as<std::uint64_t>{}, 0x12, 0x4);  // translations, interrupt entries
  const auto invalidated = [&] { return work_of(machine.engine)["invalidated_since_wait"]; };
  CHECK(invalidated() == false);
  machine.driver.add(descriptor);
  REQUIRE(machine.engine.mmio_write(queue_tail, 8, 0x10) == VIOMMU_OK);
  CHECK(invalidated() == true);
  machine.driver.submit_and_wait();
  CHECK(invalidated() == false);
}

}  // namespace viommu::capi
