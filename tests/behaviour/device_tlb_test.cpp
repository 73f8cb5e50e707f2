// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Invalidations of device TLBs: whom the VMM tells, what waits for the answers, and what happens without one.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"
#include "tests/support/explained.hpp"

namespace viommu::test {
namespace {

using namespace scalable;

constexpr std::uint64_t dt = bit(2);
constexpr std::uint64_t dit = bit(41);
constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t fsts_ite = 0x40;
constexpr std::uint64_t fsts_ice = 0x20;
constexpr std::uint64_t fsts_iqe = 0x10;
constexpr std::uint64_t iqh = 0x80;
constexpr std::uint64_t iqt = 0x88;
constexpr std::uint64_t place = 32;

struct Told {
  std::uint64_t ticket;
  std::uint16_t source;
  std::uint32_t pasid;
  std::uint64_t first;
  std::uint64_t mask;
};
struct Heard {
  std::vector<Told> told;
  std::vector<std::uint32_t> messages;
  std::int32_t says = VIOMMU_DEVICE_PENDING;
  std::uint64_t now_ns = 0;
  std::atomic<unsigned> wakes{0};
  std::function<void(const Told&)> on_told;
};

viommu_host host_of(Heard& heard, bool hook = true) {
  viommu_host host = capi::empty_host();
  host.opaque = &heard;
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t data) {
    static_cast<Heard*>(opaque)->messages.push_back(data);
  };
  host.now_ns = [](void* opaque) { return static_cast<Heard*>(opaque)->now_ns; };
  host.wake = [](void* opaque) { ++static_cast<Heard*>(opaque)->wakes; };
  if (hook)
    host.device_invalidate = [](void* opaque, std::uint64_t ticket, std::uint16_t source, std::uint32_t pasid,
                                std::uint64_t iova, std::uint64_t mask) {
      auto& self = *static_cast<Heard*>(opaque);
      self.told.push_back({ticket, source, pasid, iova, mask});
      if (self.on_told) self.on_told(self.told.back());
      return self.says;
    };
  return host;
}

struct World : Heard, ScalableMachine {
  explicit World(std::uint64_t ecap = everything | dt, bool hook = true)
      : ScalableMachine{capability, ecap, 0x30, host_of(*this, hook)} {
    REQUIRE(engine.mmio_write(0x3C, 4, 0x55) == VIOMMU_OK);  // fault events
    REQUIRE(engine.mmio_write(0x38, 4, 0) == VIOMMU_OK);
  }

  void add_device(std::uint16_t source, std::uint64_t high = 0, std::uint64_t low = 0) {
    add(0x3 | low | std::uint64_t{source} << 32, high);
  }
  /// A wait that writes `data`.
  void add_wait(std::uint32_t data, std::uint64_t flags = 0) {
    add(0x25 | flags | std::uint64_t{data} << 32, status_page);
  }
  void go() { REQUIRE(engine.mmio_write(iqt, 8, tail()) == VIOMMU_OK); }
  void answer(std::size_t which, std::uint32_t what = VIOMMU_INVALIDATED) {
    CHECK(viommu_device_invalidated(engine.get(), told.at(which).ticket, what) == VIOMMU_OK);
    state = engine.process().state;
  }
  void pass_time(std::uint64_t ns) {
    now_ns += ns;
    state = engine.process().state;
  }
  std::uint32_t status() { return static_cast<std::uint32_t>(word(status_page) & 0xFFFFFFFF); }
  std::uint64_t head() { return engine.mmio_read(iqh, 8); }
  std::uint64_t fsts() { return engine.mmio_read(0x34, 4); }
  std::uint64_t late_source() { return engine.mmio_read(0xB0, 8) >> 32 & 0xFFFF; }
  std::uint64_t wrong_source() { return engine.mmio_read(0xB0, 8) >> 48; }
  void clear_status(std::uint64_t bits) { REQUIRE(engine.mmio_write(0x34, 4, bits) == VIOMMU_OK); }

  std::uint32_t state = VIOMMU_PROCESS_IDLE;
};

}  // namespace

TEST_CASE("a device is told what to drop, and the wait behind it is complete when it has answered",
          "[device_tlb][Device-TLB Invalidate Descriptor][RVM-11]") {
  World world;
  world.add(0x12);
  world.add_device(0x0110, 0x5000);
  world.add_wait(7);
  world.go();
  REQUIRE(world.told.size() == 1);
  CHECK(world.told[0].source == 0x0110);
  CHECK(world.told[0].pasid == VIOMMU_NO_PASID);
  CHECK(world.told[0].first == 0x5000);
  CHECK(world.told[0].mask == 0xFFF);
  CHECK(world.status() != 7);
  CHECK(world.head() == 2 * place);  // it stands on the wait
  CHECK(world.engine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(world.engine.statistics().device_invalidations_open == 1);
  world.wakes = 0;
  world.answer(0);
  CHECK(world.wakes == 1);
  CHECK(world.status() == 7);
  CHECK(world.head() == 3 * place);
  CHECK(world.state == VIOMMU_PROCESS_IDLE);
  CHECK(world.engine.statistics().device_invalidations_open == 0);
  CHECK(world.engine.statistics().device_tlb_invalidations == 1);
  CHECK(viommu_device_invalidated(world.engine.get(), world.told[0].ticket, VIOMMU_INVALIDATED) == VIOMMU_E_NOT_FOUND);
}

TEST_CASE("what a device is told says size, PASID or every PASID",
          "[device_tlb][PASID-based Device-TLB Invalidate Descriptor][B08][B18]") {
  World world;
  world.says = VIOMMU_DEVICE_DONE;
  const auto add_by_pasid = [&](std::uint64_t by, std::uint64_t high) {
    world.add(0x8 | std::uint64_t{0x0110} << 16 | by << 32, high);
  };
  world.add_device(0x0110, 0x40003001);  // S, two one bits: 8 pages
  world.add_device(0x0110, 0x7FFF'FFFF'FFFF'F001);
  world.add(0x36 | 5ULL << 32 | 1ULL << 16, 0x7000);  // what B08 is about: pages of a PASID, then the device
  add_by_pasid(5, 0x7000);
  add_by_pasid(0xFFFFF, 0x6800);  // S: 2 pages
  add_by_pasid(5, 0x7001);        // GI
  world.add_wait(3);
  world.go();
  CHECK(world.status() == 3);
  REQUIRE(world.told.size() == 5);
  CHECK(world.told[0].first == 0x40000000);
  CHECK(world.told[0].mask == 0x7FFF);
  CHECK(world.told[1].first == 0);
  CHECK(world.told[1].mask == ~std::uint64_t{0});
  CHECK(world.told[2].pasid == 5);
  CHECK(world.told[2].first == 0x7000);
  CHECK(world.told[2].mask == 0xFFF);
  CHECK(world.told[3].pasid == 0xFFFFF);
  CHECK(world.told[3].mask == 0x1FFF);
  CHECK(world.told[4].pasid == VIOMMU_EVERY_PASID);
}

TEST_CASE("devices work side by side, and waits complete in the guest's order", "[device_tlb][RVM-11]") {
  World world;
  for (std::uint32_t i = 0; i < 3; ++i) {
    world.add_device(static_cast<std::uint16_t>(0x0110 + i), 0x5000);
    world.add_wait(i + 1);
  }
  world.go();
  REQUIRE(world.told.size() == 3);  // fetching goes on past the open wait
  CHECK(world.head() == place);
  world.answer(2);
  world.answer(1);
  CHECK(world.status() == 0);
  CHECK(world.head() == place);
  world.answer(0);
  CHECK(world.status() == 3);
  CHECK(world.head() == 6 * place);
  CHECK(world.engine.statistics().waits == 3);
}

TEST_CASE("nothing behind a fence begins before it is complete",
          "[device_tlb][Invalidation Wait Descriptor][RVM-6][RVM-11]") {
  constexpr std::uint64_t fence = 0x40;
  World world;
  world.add_device(0x0110, 0x5000);
  world.add_wait(1, fence);
  world.add_device(0x0111, 0x5000);
  world.add_wait(2);
  world.go();
  CHECK(world.told.size() == 1);
  world.answer(0);
  CHECK(world.status() == 1);
  REQUIRE(world.told.size() == 2);
  CHECK(world.head() == 3 * place);
  world.answer(1);
  CHECK(world.status() == 2);
}

TEST_CASE("an error behind an open wait is told when that wait is complete", "[device_tlb][RVM-6]") {
  World world;
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.add(0xF);  // no such type
  world.go();
  CHECK((world.fsts() & fsts_iqe) == 0);
  CHECK(world.head() == place);
  world.answer(0);
  CHECK(world.status() == 1);
  CHECK((world.fsts() & fsts_iqe) != 0);
  CHECK(world.head() == 2 * place);
}

TEST_CASE("a device that does not answer in time stops the queue, and open waits are aborted",
          "[device_tlb][Fault Status Register][RVM-11]") {
  World world;
  world.add_device(0x0110, 0x5000);
  world.now_ns = 5;
  world.add_wait(1);
  world.add_device(0x0111, 0x5000);
  world.add_wait(2);
  world.go();
  viommu_progress progress{};
  REQUIRE(viommu_process(world.engine.get(), 0, &progress) == VIOMMU_OK);
  CHECK(progress.wait_until_ns == 5 + second_ns);  // an overdue hold would be sooner
  world.pass_time(59 * second_ns);
  CHECK(world.fsts() == 0);
  CHECK(world.state == VIOMMU_PROCESS_WAIT);
  world.answer(1);
  world.pass_time(second_ns - 6);
  REQUIRE(viommu_process(world.engine.get(), 0, &progress) == VIOMMU_OK);
  CHECK(progress.wait_until_ns == 60 * second_ns + 5);
  CHECK(world.fsts() == 0);
  world.pass_time(6);
  CHECK((world.fsts() & fsts_ite) != 0);
  CHECK(world.late_source() == 0x0110);
  CHECK(world.messages == std::vector<std::uint32_t>{0x55});
  CHECK(world.status() == 0);  // neither wait is complete
  CHECK(world.head() == place);
  CHECK(world.engine.statistics().device_timeouts == 1);
  CHECK(viommu_device_invalidated(world.engine.get(), world.told[0].ticket, VIOMMU_INVALIDATED) == VIOMMU_E_NOT_FOUND);
  // Fetching stays off while ITE is set, and goes on at the head.
  world.go();
  CHECK(world.told.size() == 2);
  world.clear_status(fsts_ite);
  REQUIRE(world.told.size() == 3);
  CHECK(world.told[2].source == 0x0111);
  CHECK(world.status() == 1);
  world.answer(2);
  CHECK(world.status() == 2);
  CHECK(world.head() == 4 * place);
  CHECK(world.fsts() == 0);
}

TEST_CASE("a device that refuses, and one the VMM has given up, have timed out", "[device_tlb]") {
  World world;
  SECTION("refused") {
    world.says = -19;
    world.add_device(0x0110, 0x5000);
    world.add_wait(1);
    world.go();
    CHECK(world.head() == place);  // behind the invalidation, and no further
  }
  SECTION("given up") {
    world.add_device(0x0110, 0x5000);
    world.add_wait(1);
    world.go();
    world.answer(0, VIOMMU_INVALIDATION_TIMEOUT);
    CHECK(world.head() == place);
  }
  CHECK((world.fsts() & fsts_ite) != 0);
  CHECK(world.late_source() == 0x0110);
  CHECK(world.status() == 0);
}

TEST_CASE("an answer that is none is told as such and ends nothing", "[device_tlb][Fault Status Register]") {
  World world;
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.go();
  world.answer(0, VIOMMU_INVALIDATION_MALFORMED);
  CHECK(world.fsts() == fsts_ice);
  CHECK(world.wrong_source() == 0x0110);
  CHECK(world.messages == std::vector<std::uint32_t>{0x55});
  CHECK(world.status() == 0);
  world.answer(0);
  CHECK(world.status() == 1);
}

TEST_CASE("without room for another invalidation the queue stands, and goes on when one is answered",
          "[device_tlb][RVM-11]") {
  World world{everything | dt | dit};
  SECTION("of one function") {
    const std::uint64_t three = 3U << 16;
    for (std::uint32_t i = 0; i < 5; ++i) world.add_device(0x0110, 0x5000, three);
    world.add_device(0x0120, 0x5000, 0x2000 | three);  // of another function
    world.add_wait(9);
    world.go();
    CHECK(world.told.size() == 3);
    CHECK(world.head() == 3 * place);
    world.answer(1);
    CHECK(world.told.size() == 4);
    for (const std::size_t which : {0U, 2U, 3U, 4U}) world.answer(which);
    REQUIRE(world.told.size() == 6);
    CHECK(world.status() == 0);
    world.answer(5);
  }
  SECTION("of all") {
    for (std::uint64_t i = 0; i < 70; ++i) world.add_device(static_cast<std::uint16_t>(i), 0x5000, (i % 16) << 12);
    world.add_wait(9);
    world.go();
    CHECK(world.told.size() == 64);
    CHECK(world.head() == 64 * place);
    for (std::size_t i = 0; i < 70; ++i) {
      CHECK(world.status() == 0);
      world.answer(i);
    }
  }
  CHECK(world.status() == 9);
}

TEST_CASE("as many open waits as there is room for, then the queue stands", "[device_tlb]") {
  World world;
  world.add_device(0x0110, 0x5000);
  for (std::uint32_t i = 1; i <= 70; ++i) world.add_wait(i);
  world.add_device(0x0111, 0x5000);
  world.go();
  CHECK(world.told.size() == 1);
  world.answer(0);
  CHECK(world.status() == 70);
  CHECK(world.told.size() == 2);
  CHECK(world.head() == 72 * place);
}

TEST_CASE("a queue that is switched off forgets what is open", "[device_tlb][RVM-11]") {
  World world;
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.go();
  SECTION("switched off") {
    REQUIRE(world.engine.mmio_write(0x18, 4, 1U << 31) == VIOMMU_OK);  // TE without QIE
    CHECK(world.head() == 0);
  }
  SECTION("reset") { CHECK(world.engine.reset() == VIOMMU_OK); }
  CHECK(viommu_device_invalidated(world.engine.get(), world.told[0].ticket, VIOMMU_INVALIDATED) == VIOMMU_E_NOT_FOUND);
  world.pass_time(61 * second_ns);
  CHECK(world.fsts() == 0);
  CHECK(world.status() == 0);
  CHECK(world.state == VIOMMU_PROCESS_IDLE);
  CHECK(world.engine.statistics().device_invalidations_open == 0);
}

TEST_CASE("a device is asked when the guards have ended in which it may have been given a translation",
          "[device_tlb][SEC-11]") {
  World world;
  {
    const Guard guard = world.reader.guard();
    world.add(0x12);
    world.add_device(0x0110, 0x5000);
    world.add_wait(1);
    world.go();
    CHECK(world.told.empty());
    CHECK(world.head() == 2 * place);
    world.wakes = 0;
  }
  CHECK(world.wakes == 1);
  static_cast<void>(world.engine.process());
  REQUIRE(world.told.size() == 1);
  // A guard opened since then has seen the new tables, until they change again.
  const std::uint64_t again = GENERATE(as<std::uint64_t>{}, 0x12, 0x32, 0x36, 0x11, 0x37);
  {
    const Guard guard = world.reader.guard();
    world.add_device(0x0111, 0x5000);
    world.go();
    CHECK(world.told.size() == 2);
    world.add(again);
    world.add_device(0x0112, 0x5000);
    world.go();
    CHECK(world.told.size() == 2);
  }
  static_cast<void>(world.engine.process());
  CHECK(world.told.size() == 3);
}

TEST_CASE("what an aborted wait waited for, the next one waits for", "[device_tlb][SEC-11]") {
  World world;
  {
    const Guard guard = world.reader.guard();
    world.add(0x12);
    world.add_wait(1);
    world.go();
    CHECK(world.head() == place);
  }
  world.add_device(0x0110, 0x5000);
  world.add_wait(2);
  world.go();
  REQUIRE(world.told.size() == 1);
  const Guard guard = world.reader.guard();
  world.add(0x12);
  world.add_wait(3);
  world.go();
  world.answer(0, VIOMMU_INVALIDATION_TIMEOUT);
  CHECK((world.fsts() & fsts_ite) != 0);
  CHECK(world.status() == 1);
  world.clear_status(fsts_ite);
  CHECK(world.status() == 1);  // this guard is older than the invalidation in front of the third
}

TEST_CASE("of several that are late at once the first is named", "[device_tlb][Fault Status Register]") {
  World world;
  const std::uint16_t first = GENERATE(as<std::uint16_t>{}, 0x0110, 0x0112);
  world.add_device(0x0111, 0x5000);
  world.go();
  world.answer(0);  // so that places are not in the queue's order
  world.add_device(first, 0x5000);
  world.go();
  world.add_device(0x0113, 0x5000);
  world.add_device(0x0114, 0x5000);
  world.go();
  world.pass_time(60 * second_ns);
  CHECK(world.late_source() == first);
  CHECK(world.engine.statistics().device_timeouts == 3);
}

TEST_CASE("a device may answer before it has been asked to the end", "[device_tlb]") {
  World world;
  world.on_told = [&](const Told& told) {
    CHECK(viommu_device_invalidated(world.engine.get(), told.ticket, VIOMMU_INVALIDATED) == VIOMMU_E_BUSY);
    std::thread{[&] {
      CHECK(viommu_device_invalidated(world.engine.get(), told.ticket, VIOMMU_INVALIDATED) == VIOMMU_OK);
    }}.join();
  };
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.go();
  static_cast<void>(world.engine.process());
  CHECK(world.status() == 1);
}

TEST_CASE("a dump tells which devices have not answered, and which waits are open", "[device_tlb][dump]") {
  World world;
  world.now_ns = 7;
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.add(0x8 | std::uint64_t{0x0111} << 16 | 5ULL << 32, 0x7000);
  world.go();
  {
    const Guard guard = world.reader.guard();
    world.add(0x12);
    world.add_device(0x0112, 0x5000);
    world.go();
    const nlohmann::json work = dumped(world.engine, VIOMMU_DUMP_WORK)["work"];
    CHECK(work["waits_open"] == 1);
    CHECK(work["waits"][0]["head"] == "0x20");
    CHECK(work["waits"][0]["device_invalidations_up_to"] == 1);
    const nlohmann::json& devices = work["device_invalidations"];
    REQUIRE(devices.size() == 3);
    CHECK(devices[0]["source"] == "0x110");
    CHECK(devices[0]["asked"] == true);
    CHECK(devices[0]["deadline_ns"] == 60 * second_ns + 7);
    CHECK(devices[1]["pasid"] == "0x5");
    CHECK(devices[1]["last"] == "0x7fff");
    CHECK(devices[2]["asked"] == false);
    CHECK_FALSE(devices[2].contains("ticket"));
  }
}

TEST_CASE("where nobody keeps translations nobody is told", "[device_tlb]") {
  World world{everything | dt, false};
  world.add_device(0x0110, 0x5000);
  world.add_wait(1);
  world.go();
  CHECK(world.status() == 1);
  CHECK(world.engine.statistics().device_tlb_invalidations == 1);
}

TEST_CASE("what is no ticket answers nothing", "[device_tlb][capi]") {
  World world;
  viommu_engine* const engine = world.engine.get();
  for (const std::uint64_t ticket : {0ULL, 1ULL, 64ULL, 65ULL, 1ULL << 32, ~0ULL})
    for (const std::uint32_t what : {VIOMMU_INVALIDATED, VIOMMU_INVALIDATION_TIMEOUT, VIOMMU_INVALIDATION_MALFORMED})
      CHECK(viommu_device_invalidated(engine, ticket, what) == VIOMMU_E_NOT_FOUND);
  CHECK(viommu_device_invalidated(engine, 1, 3) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_device_invalidated(nullptr, 1, 0) == VIOMMU_E_ARGUMENT);
  CHECK(world.fsts() == 0);
}

}  // namespace viommu::test
