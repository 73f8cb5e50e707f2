// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Long looks of several devices on the host's threads: each consumer is called by one at a time, and all are told all.
#include <viommu/viommu.hpp>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t large_page = 2 * mib;
constexpr std::uint64_t ram_bytes = 8 * mib;
constexpr std::uint64_t frames = std::uint64_t{1} << 32;
constexpr std::uint64_t table_pages = 512;
constexpr std::uint64_t places = 5000;  // tables of a device: more than one slice
constexpr unsigned devices = 4;

/// Each task on a thread of its own.
struct Threads {
  std::uint32_t most = 0;

  static void execute(void* self, std::uint32_t count, void (*task)(void* context, std::uint32_t index),
                      void* context) {
    auto& own = *static_cast<Threads*>(self);
    own.most = std::max(own.most, count);
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) threads.emplace_back(task, context, i);
    for (std::thread& thread : threads) thread.join();
  }
};

struct Counter {
  std::atomic<bool> inside{false};
  std::atomic<unsigned> met{0};  // calls while another one was running
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t subscription = 0;

  viommu_consumer consumer() {
    viommu_consumer made{};
    made.size = sizeof made;
    made.opaque = this;
    made.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    made.last = ~std::uint64_t{0};
    made.events = [](void* self, viommu_event* events, std::uint32_t count) {
      auto& own = *static_cast<Counter*>(self);
      if (own.inside.exchange(true)) ++own.met;
      for (const viommu_event& event : std::span{events, count})
        ++(event.kind == VIOMMU_EVENT_MAP ? own.maps : own.unmaps);
      own.inside = false;
    };
    return made;
  }
};

viommu_vtd_options caching_options() {
  viommu_vtd_options options = default_options();
  options.capability = create().mmio_read(0x08, 8) | 1 << 7;
  return options;
}

}  // namespace

TEST_CASE("long looks of devices go on side by side, and a consumer is called by one thread at a time",
          "[capi][consumer][replay][parallel]") {
  Threads threads;
  viommu_host host = empty_host();
  host.opaque = &threads;
  host.execute = Threads::execute;
  test::GuardedRegion ram{0, ram_bytes};
  Engine engine = create(caching_options(), host);
  REQUIRE(engine.add_region(0, {ram.data(), ram.length()}) == VIOMMU_OK);
  const viommu_region all{frames, std::uint64_t{1} << 36, nullptr, VIOMMU_REGION_UNMAPPED};
  REQUIRE(viommu_region_add(engine.get(), &all) == VIOMMU_OK);
  test::GuestTables tables{test::words_of(ram), 0x3000};
  test::VtdDriver driver{engine, test::words_of(ram), 0x1000, 0x2000};
  const std::uint64_t leaves = tables.allocate_page();
  for (std::uint64_t i = 0; i < table_pages; ++i)
    ram.store_u64(leaves + 8 * i, (frames + i * page_bytes) | test::entry_read_write);
  const auto source_of = [](unsigned i) { return static_cast<std::uint16_t>(0x100 + 0x100 * i); };
  std::array<test::Tree, devices> trees{};
  for (test::Tree& tree : trees) {
    tree = tables.create_tree(4);
    for (std::uint64_t i = 0; i < places; ++i)
      ram.store_u64(tables.slot(tree, i * large_page, 2), leaves | test::entry_read_write);
  }
  driver.set_root_table(tables.root_table());
  driver.enable_queue();
  driver.enable_translation(true);
  std::array<Counter, devices> counters;
  for (unsigned i = 0; i < devices; ++i) {
    const viommu_consumer consumer = counters.at(i).consumer();
    REQUIRE(viommu_subscribe(engine.get(), source_of(i), &consumer, nullptr, &counters.at(i).subscription) ==
            VIOMMU_OK);
    REQUIRE(viommu_replay(engine.get(), counters.at(i).subscription) == VIOMMU_OK);
    tables.attach(source_of(i), trees.at(i), {.domain_id = static_cast<std::uint16_t>(i + 1)});
  }
  driver.add_context_global();
  static_cast<void>(driver.submit());
  while (engine.process().state == VIOMMU_PROCESS_MORE) {  // ends: the tables do
  }
  CHECK(threads.most == devices);
  for (const Counter& counter : counters) CHECK(counter.maps == places);
  // Another frame in each of all these places, and all domains at once.
  threads.most = 0;
  ram.store_u64(leaves, (frames + mib) | test::entry_read_write);
  driver.add_global();
  static_cast<void>(driver.submit());
  while (engine.process().state == VIOMMU_PROCESS_MORE) {  // ends: the tables do
  }
  CHECK(threads.most == devices);
  for (const Counter& counter : counters) {
    CHECK(counter.unmaps == places);
    CHECK(counter.maps == 3 * places);
    CHECK(counter.met == 0);
  }
  for (const Counter& counter : counters) REQUIRE(viommu_unsubscribe(engine.get(), counter.subscription) == VIOMMU_OK);
}

}  // namespace viommu::capi
