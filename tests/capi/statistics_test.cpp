// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the counters say after a known sequence, and that they add up after any.
#include <viommu/viommu.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/support/random.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }

/// Counts answers by their kind, as somebody would who sees only the answers.
struct Tally {
  std::array<std::uint64_t, 4> by_kind{};
  std::uint64_t all = 0;
  void add(const viommu_translation& answer) {
    ++by_kind.at(answer.kind);
    ++all;
  }
};

}  // namespace

TEST_CASE("an engine that did nothing has counted nothing", "[capi][statistics]") {
  const Engine engine = create();
  const viommu_statistics s = engine.statistics();
  CHECK(s.translations + s.iotlb_hits + s.walks + s.walk_loads + s.identities + s.faults == 0);
  CHECK(s.context_hits + s.context_walks + s.iotlb_fills + s.fills_refused == 0);
  CHECK(s.descriptors + s.waits + s.messages + s.holds_open + s.address_spaces + s.tag_sweeps == 0);
  CHECK(s.cache_bytes > 0);
}

TEST_CASE("after a known sequence every counter is exact", "[capi][statistics]") {
  viommu_vtd_options options = default_options();
  options.capability = 0x80D2'078C'222F'0606;  // 48 bit, PSI, 8 fault records, large pages
  options.extended_capability = 0xF4F;         // C, QI, DT, IR, PT
  Machine machine{options};
  const viommu_statistics before = machine.engine.statistics();
  machine.map(base_iova, 0x5000, test::entry_read);
  machine.map(base_iova + page_bytes, 0x6000);

  static_cast<void>(machine.ask());                                  // context walk, walk of 3, fill
  static_cast<void>(machine.ask());                                  // hit
  static_cast<void>(machine.ask(base_iova + page_bytes));            // context hit, walk of 3, fill
  static_cast<void>(machine.ask(base_iova, VIOMMU_WRITE));           // walk of 3, fault recorded
  static_cast<void>(machine.ask(base_iova + 2 * page_bytes));        // walk of 3, fault
  static_cast<void>(machine.ask(bit(48)));                           // beyond the width: no walk
  static_cast<void>(machine.ask(0xFEE00000, VIOMMU_WRITE));          // interrupt: no context
  static_cast<void>(machine.ask(base_iova, VIOMMU_READ, stranger));  // context walk that fails
  viommu_translation answer{};
  Hold hold = machine.reader.hold(request(device, base_iova, VIOMMU_READ), 1, answer);  // hit

  viommu_statistics s = machine.engine.statistics();
  CHECK(s.translations - before.translations == 9);
  CHECK(s.iotlb_hits == 2);
  CHECK(s.walks == 4);
  CHECK(s.walk_loads == 12);
  CHECK(s.identities == 0);
  CHECK(s.faults == 4);
  CHECK(s.context_walks == 2);
  CHECK(s.context_hits == 6);
  CHECK(s.iotlb_fills == 2);
  CHECK(s.fills_refused == 0);
  CHECK(s.faults_recorded == 4);
  CHECK(s.faults_overflowed == 0);
  CHECK(s.holds_open == 1);
  CHECK(s.address_spaces == 1);

  for (unsigned i = 0; i < 6; ++i) static_cast<void>(machine.ask(bit(48)));  // four more records, then no more
  s = machine.engine.statistics();
  CHECK(s.faults == 10);
  CHECK(s.faults_recorded == 8);
  CHECK(s.faults_overflowed == 2);

  CHECK(viommu_hold_revoke(machine.engine.get(), hold.handle()) == VIOMMU_OK);
  hold.release();
  const viommu_statistics before_queue = machine.engine.statistics();
  machine.driver.add_context_global();
  machine.driver.add_context_domain(1);
  machine.driver.add_context_device(1, device);
  machine.driver.add_global();
  machine.driver.add_domain(1);
  machine.driver.add_page(1, base_iova);
  machine.driver.add_page(1, base_iova, 3);
  machine.driver.add(0x3 | std::uint64_t{device} << 32, base_iova);  // device TLB
  machine.driver.add(0x4);                                           // interrupt entries
  machine.driver.submit_and_wait();
  s = machine.engine.statistics();
  CHECK(s.descriptors - before_queue.descriptors == 10);
  CHECK(s.context_invalidations - before_queue.context_invalidations == 3);
  CHECK(s.iotlb_global - before_queue.iotlb_global == 1);
  CHECK(s.iotlb_domain - before_queue.iotlb_domain == 1);
  CHECK(s.iotlb_page - before_queue.iotlb_page == 2);
  CHECK(s.device_tlb_invalidations == 1);
  CHECK(s.interrupt_entry_invalidations == 1);
  CHECK(s.waits - before_queue.waits == 1);
  CHECK(s.status_writes_dropped == 0);
  CHECK(s.holds_open == 0);
  CHECK(s.holds_revoked == 1);
  CHECK(s.address_spaces == 0);

  machine.driver.enable_translation(false);
  static_cast<void>(machine.ask());
  s = machine.engine.statistics();
  CHECK(s.identities == 1);
  CHECK(s.context_walks == 2);
}

TEST_CASE("a status write that reaches no memory is counted", "[capi][statistics]") {
  Machine machine;
  machine.driver.add(0x25, 0x40000000);
  machine.driver.submit_and_wait();
  CHECK(machine.engine.statistics().status_writes_dropped == 1);
  CHECK(machine.engine.statistics().waits == 2);
}

TEST_CASE("counters outlive the readers that counted", "[capi][statistics]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  for (std::uint64_t round = 1; round <= 5; ++round) {
    Reader reader = *machine.engine.reader();
    static_cast<void>(reader.translate(request(device, base_iova, VIOMMU_READ)));
    CHECK(machine.engine.statistics().translations == 2 * round - 1);
    static_cast<void>(machine.engine.translate_once(request(device, base_iova, VIOMMU_READ)));
    CHECK(machine.engine.statistics().translations == 2 * round);
  }
}

TEST_CASE("every answer is counted once, by what it is", "[capi][statistics]") {
  // Translation on and off, pass-through, protected memory, faults of each kind, batches and single calls.
  viommu_vtd_options options = default_options();
  options.capability = 0x80D2'078C'222F'0606 | bit(5) | bit(6);  // with protected low and high memory
  options.extended_capability = 0xF43;
  Machine machine{options};
  constexpr std::uint16_t passed = 0x0330;
  machine.tables.attach(passed, machine.tree, {2, 9, false});  // pass-through
  for (std::uint64_t page = 0; page < 8; page += 2)
    machine.map(base_iova + page * page_bytes, page * page_bytes, 1 + page % 3);
  machine.engine.mmio_write(0x68, 4, 0);           // PLMBASE
  machine.engine.mmio_write(0x6C, 4, 0x00200000);  // PLMLIMIT
  test::Random random{8};
  Tally tally;
  constexpr std::array<std::uint16_t, 3> sources{device, passed, stranger};
  constexpr std::array<std::uint64_t, 5> places{base_iova, 0, 0xFEDFF000, 0xFEE00000, bit(48)};
  for (unsigned step = 0; step < 4000; ++step) {
    if (random.chance(1, 40)) {
      const bool on = random.chance(1, 2);
      machine.engine.mmio_write(0x64, 4, on ? 0x80000000 : 0);  // PMEN
    }
    if (random.chance(1, 60)) machine.driver.enable_translation(random.chance(3, 4));
    if (random.chance(1, 30)) machine.invalidate_all();
    viommu_request asked = request(random.pick(sources), random.pick(places) + random.below(8 * page_bytes),
                                   static_cast<std::uint8_t>(1 + random.below(3)), random.below(2) * 4,
                                   random.chance(1, 2) ? std::uint8_t{VIOMMU_NO_REPORT} : std::uint8_t{0});
    if (random.chance(1, 10)) asked.flags = static_cast<std::uint8_t>(asked.flags | VIOMMU_HAS_PASID);
    std::array<viommu_translation, 3> answers{};
    if (random.chance(1, 3)) {
      const std::array<viommu_request, 3> batch{asked, asked, asked};
      REQUIRE(machine.reader.translate_batch(batch, answers) == VIOMMU_OK);
      for (const viommu_translation& answer : answers) tally.add(answer);
    } else {
      tally.add(machine.reader.translate(asked));
    }
    const viommu_statistics s = machine.engine.statistics();
    REQUIRE(s.translations == tally.all);
    REQUIRE(s.faults == tally.by_kind[VIOMMU_FAULT]);
    REQUIRE(s.identities == tally.by_kind[VIOMMU_IDENTITY]);
    REQUIRE(s.iotlb_fills + s.fills_refused <= s.walks);
    REQUIRE(s.faults_recorded + s.faults_overflowed <= s.faults);
    REQUIRE(s.walk_loads <= 3 * s.walks);
  }
  for (const std::uint64_t count : tally.by_kind) CHECK(count > 10);
}

TEST_CASE("counters are read while others count", "[capi][statistics]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  constexpr unsigned threads = 2;
  constexpr std::uint64_t each = 5'000;
  std::vector<std::thread> workers;
  workers.reserve(threads);
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([reader = *machine.engine.reader()]() mutable {
      for (std::uint64_t i = 0; i < each; ++i)
        static_cast<void>(reader.translate(request(device, base_iova, VIOMMU_READ)));
    });
  }
  std::uint64_t before = 0;
  while (before < threads * each) {
    const std::uint64_t now = machine.engine.statistics().translations;
    if (now < before) FAIL("it shrank");
    before = now;
    std::this_thread::yield();
  }
  for (std::thread& worker : workers) worker.join();
  CHECK(machine.engine.statistics().translations == threads * each);
}

TEST_CASE("devices and domains have exact counts of their own, and the sums are the engine's",
          "[capi][statistics][threads][S5.9]") {
  constexpr std::uint64_t hits = 1'000'000;
  constexpr std::uint16_t other = 0x0220;
  viommu_vtd_options options = default_options();
  options.accounts = 16;
  options.capability = 0x80D2'078C'222F'0606;
  Machine machine{options};
  viommu_engine* const engine = machine.engine.get();
  machine.tables.attach(device, machine.tree, {.domain_id = 7});
  machine.tables.attach(other, machine.tree, {.domain_id = 7});
  machine.map(base_iova, 0x5000);
  machine.invalidate_all();
  const auto of_device = [&](std::uint16_t source) {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE(viommu_device_statistics_get(engine, source, &part) == VIOMMU_OK);
    return part;
  };
  const auto of_domain = [&](std::uint16_t domain) {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE(viommu_domain_statistics_get(engine, domain, &part) == VIOMMU_OK);
    return part;
  };
  // Their contexts are cached now: a request that finds the caches' lock taken is counted for all only.
  for (const std::uint16_t source : {device, other}) static_cast<void>(machine.ask(base_iova, VIOMMU_READ, source));
  const std::uint64_t walks_before = of_device(device).walks + of_device(other).walks;
  const viommu_statistics before = machine.engine.statistics();
  const auto translate = [&](std::uint16_t source, bool in_batches) {
    Reader reader = *machine.engine.reader();
    const std::vector<viommu_request> asked(100, request(source, base_iova, VIOMMU_READ));
    std::vector<viommu_translation> answers(asked.size());
    for (std::uint64_t i = 0; i < (in_batches ? hits / asked.size() : hits); ++i) {
      const Guard guard = reader.guard();
      if (in_batches)
        static_cast<void>(reader.translate_batch(asked, answers));
      else
        static_cast<void>(reader.translate(asked[0]));
    }
  };
  std::thread one{[&] { translate(device, false); }};
  std::thread two{[&] { translate(other, true); }};
  for (unsigned i = 0; i < 100; ++i) CHECK(of_device(device).iotlb_hits <= hits + 1);  // while they run
  machine.driver.add(0x700e2);
  machine.driver.submit_and_wait();
  one.join();
  two.join();
  const viommu_part_statistics a = of_device(device);
  const viommu_part_statistics b = of_device(other);
  const viommu_part_statistics seven = of_domain(7);
  const viommu_statistics all = machine.engine.statistics();
  CHECK(a.iotlb_hits + b.iotlb_hits + a.walks + b.walks == 2 * hits + walks_before + before.iotlb_hits);
  CHECK(a.iotlb_hits + a.walks >= hits);
  CHECK(b.iotlb_hits + b.walks >= hits);
  CHECK(a.walks + b.walks < 400);  // each after an invalidation, perhaps a batch together
  CHECK(seven.iotlb_hits == a.iotlb_hits + b.iotlb_hits);
  CHECK(seven.walks == a.walks + b.walks);
  CHECK(seven.iotlb_hits == all.iotlb_hits);
  CHECK(seven.walks - walks_before == all.walks - before.walks);
  CHECK(seven.iotlb_domain == 1);
  CHECK(seven.iotlb_page == 0);
}

TEST_CASE("each request of a batch counts for its own device, whoever is beside it",
          "[capi][statistics][batch][S5.9]") {
  constexpr std::uint16_t other = 0x0220;
  viommu_vtd_options options = default_options();
  options.accounts = 16;
  options.kernel = GENERATE(static_cast<const char*>(nullptr), "scalar");
  Machine machine{options};
  machine.tables.attach(device, machine.tree, {.domain_id = 7});
  machine.tables.attach(other, machine.tree, {.domain_id = 8});
  machine.map(base_iova, 0x5000);
  machine.invalidate_all();
  for (const std::uint16_t source : {device, other}) static_cast<void>(machine.ask(base_iova, VIOMMU_READ, source));
  const auto hits_of = [&](std::uint16_t source) {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE(viommu_device_statistics_get(machine.engine.get(), source, &part) == VIOMMU_OK);
    return part.iotlb_hits;
  };
  const std::uint64_t of_device = hits_of(device);
  const std::uint64_t of_other = hits_of(other);
  const viommu_request mine = request(device, base_iova, VIOMMU_READ);
  const viommu_request others = request(other, base_iova, VIOMMU_READ);
  const std::vector<viommu_request> asked{mine, others, others, mine, others};
  std::vector<viommu_translation> answers(asked.size());
  REQUIRE(machine.reader.translate_batch(asked, answers) == VIOMMU_OK);
  CHECK(hits_of(device) == of_device + 2);
  CHECK(hits_of(other) == of_other + 3);
}

TEST_CASE("a device's mapped and pinned bytes are those of all its consumers, and go with them",
          "[capi][statistics][consumer][S5.9]") {
  constexpr std::uint64_t large_page = 0x20'0000;
  constexpr std::uint16_t other = 0x0220;
  viommu_vtd_options options = default_options();
  options.accounts = 16;
  options.capability = create().mmio_read(0x08, 8) | 0x80;  // caching mode
  Machine machine{options};
  viommu_engine* const engine = machine.engine.get();
  const viommu_region more{0x4000'0000, 0x4000'0000, nullptr, VIOMMU_REGION_UNMAPPED};
  REQUIRE(viommu_region_add(engine, &more) == VIOMMU_OK);
  machine.map(base_iova, 0x4000'5000);
  machine.map(base_iova + large_page, 0x4000'0000 + large_page, test::entry_read_write, 2);
  machine.map(base_iova + 3 * page_bytes, 0x9000'0000);  // nothing is there
  machine.invalidate_all();
  const auto mapped = [&](std::uint16_t source) {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE(viommu_device_statistics_get(engine, source, &part) == VIOMMU_OK);
    CHECK(part.pinned_bytes == part.mapped_bytes);
    return part.mapped_bytes;
  };
  CHECK(mapped(device) == 0);
  test::MirrorModel low{0, 0, base_iova + large_page - 1};
  test::MirrorModel high{0, base_iova + large_page, ~std::uint64_t{0}};
  low.join(machine.engine, device);
  CHECK(mapped(device) == page_bytes);
  high.join(machine.engine, device);
  CHECK(mapped(device) == page_bytes + large_page);
  CHECK(mapped(other) == 0);
  machine.tables.unmap(machine.tree, base_iova);
  machine.invalidate_all();
  CHECK(mapped(device) == large_page);
  SECTION("one that leaves takes its own along") {
    REQUIRE(viommu_unsubscribe(engine, high.id) == VIOMMU_OK);
    CHECK(mapped(device) == 0);
  }
  SECTION("a device that is gone holds nothing") {
    REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
    CHECK(mapped(device) == 0);
  }
  SECTION("what cannot be logged is withdrawn while writes are") {
    REQUIRE(viommu_dirty_tracking(engine, VIOMMU_DIRTY_ON) == VIOMMU_OK);
    static_cast<void>(machine.engine.process());
    CHECK(mapped(device) == 0);
  }
  SECTION("it can be asked for while the consumer is told") {
    std::uint64_t seen = ~std::uint64_t{0};
    high.on_event = [&] { seen = mapped(device); };
    machine.driver.enable_translation(false);
    CHECK(seen != ~std::uint64_t{0});
  }
}

TEST_CASE("a domain id that is used again begins at 0, and a device that is gone keeps its counts",
          "[capi][statistics][S5.9]") {
  viommu_vtd_options options = default_options();
  options.accounts = 16;
  Machine machine{options};
  viommu_engine* const engine = machine.engine.get();
  const auto hits = [&](bool of_device, std::uint16_t id) {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE((of_device ? viommu_device_statistics_get(engine, id, &part)
                       : viommu_domain_statistics_get(engine, id, &part)) == VIOMMU_OK);
    return part.iotlb_hits;
  };
  const auto faults = [&](std::uint32_t of, std::uint16_t id, std::uint8_t reason) {
    std::uint64_t count = 0;
    REQUIRE(viommu_fault_count(engine, of, id, reason, &count) == VIOMMU_OK);
    return count;
  };
  constexpr std::uint16_t domain = 1;
  machine.map(base_iova, 0x5000, test::entry_read);
  for (unsigned i = 0; i < 4; ++i) static_cast<void>(machine.ask());
  static_cast<void>(machine.ask(base_iova, VIOMMU_WRITE));
  static_cast<void>(machine.ask(base_iova, VIOMMU_READ, stranger));
  CHECK(hits(true, device) == 3);
  CHECK(hits(false, domain) == 3);
  CHECK(faults(VIOMMU_OF_DEVICE, device, 5) == 1);
  CHECK(faults(VIOMMU_OF_DOMAIN, domain, 5) == 1);
  CHECK(faults(VIOMMU_OF_DEVICE, stranger, 2) + faults(VIOMMU_OF_DEVICE, stranger, 1) == 1);
  CHECK(faults(VIOMMU_OF_ALL, 0, 5) == 1);
  CHECK(faults(VIOMMU_OF_ALL, 0, 6) == 0);
  machine.driver.add_context_global();  // says nothing about this domain
  machine.driver.submit_and_wait();
  for (unsigned i = 0; i < 2; ++i) static_cast<void>(machine.ask());
  CHECK(hits(false, domain) == 4);
  machine.driver.add_context_device(domain, device);
  machine.driver.add_domain(domain);
  machine.driver.submit_and_wait();
  CHECK(hits(false, domain) == 4);
  static_cast<void>(machine.ask());  // the same id, anew: a walk
  CHECK(hits(false, domain) == 0);
  CHECK(faults(VIOMMU_OF_DOMAIN, domain, 5) == 0);
  CHECK(hits(true, device) == 4);
  CHECK(faults(VIOMMU_OF_DEVICE, device, 5) == 1);
  static_cast<void>(machine.ask());
  static_cast<void>(machine.ask(base_iova, VIOMMU_WRITE));
  CHECK(hits(false, domain) == 1);
  CHECK(faults(VIOMMU_OF_DOMAIN, domain, 5) == 1);
  CHECK(machine.engine.statistics().iotlb_hits == 5);
}

TEST_CASE("counts by device and domain are refused where none are kept", "[capi][statistics]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  viommu_part_statistics part{};
  std::uint64_t count = 7;
  CHECK(viommu_device_statistics_get(engine, device, &part) == VIOMMU_E_ARGUMENT);  // no size
  part.size = sizeof part;
  CHECK(viommu_device_statistics_get(engine, device, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_device_statistics_get(nullptr, device, &part) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_domain_statistics_get(nullptr, 1, &part) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_device_statistics_get(engine, device, &part) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_domain_statistics_get(engine, 1, &part) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_fault_count(engine, VIOMMU_OF_DEVICE, device, 5, &count) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_fault_count(engine, VIOMMU_OF_ALL, 0, 5, &count) == VIOMMU_OK);
  CHECK(count == 0);
  CHECK(viommu_fault_count(engine, 3, 0, 5, &count) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_fault_count(engine, VIOMMU_OF_ALL, 0, 5, nullptr) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::capi
