// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Second-stage walks with flags against the literal reading of the specification: on tables such as no driver writes
// them, while the guest changes them, and beside threads that do.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/second_stage_oracle.hpp"
#include "tests/walkers/guest_at_work.hpp"
#include "tests/walkers/logged_memory.hpp"
#include "tests/walkers/second_stage_world.hpp"
#include "walkers/second_stage_walk.hpp"

namespace viommu::walkers {
namespace {

using test::Guest;
using test::LoggedMemory;
using test::MemoryAccess;
using test::Random;
using World = test::SecondStageWorld;

void require_same(const SecondStageAnswer& answer, const oracle::SecondStageAnswer& right,
                  const oracle::SecondStageRequest& request, bool flags) {
  REQUIRE(test::code_of(answer.end) == right.reason);
  REQUIRE(answer.level + 1U == right.level);
  REQUIRE(answer.rights == Rights{right.read, right.write});
  if (right.reason != 0) return;
  const std::uint64_t page_mask = low_bits(SecondStage::page_shift(answer.level));
  REQUIRE(right.page_mask == page_mask);
  REQUIRE(answer.frame.value + (request.address & page_mask) == right.gpa);
  REQUIRE(answer.dirty == (right.dirty || !flags));
}

/// What holds of every walk, whoever changes the tables: an exchange is based on the copy loaded just before it and
/// adds flags alone; D comes last, for a write, and only where that write is let through.
void require_sound(const std::vector<MemoryAccess>& log, const SecondStageAnswer& answer,
                   const oracle::SecondStageRequest& request, unsigned levels) {
  constexpr std::uint64_t dirty = 0x200;
  constexpr std::uint64_t flags = 0x300;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const MemoryAccess& access = log[i];
    if (access.kind == MemoryAccess::load) continue;
    REQUIRE(i > 0);
    REQUIRE(log[i - 1].kind == MemoryAccess::load);
    REQUIRE(log[i - 1].gpa == access.gpa);
    REQUIRE(log[i - 1].value == access.expected);
    const std::uint64_t added = access.value.value() & ~access.expected;
    REQUIRE((access.value.value() & access.expected) == access.expected);
    REQUIRE(added != 0);
    REQUIRE((added & ~flags) == 0);
    if ((added & dirty) == 0) continue;
    REQUIRE(request.write);
    if (access.outcome != Exchange::done) continue;
    REQUIRE(i + 1 == log.size());
    REQUIRE(answer.end == SecondStageEnd::leaf);
    REQUIRE(answer.wrote_dirty);
  }
  REQUIRE(answer.loads <= 8 * levels);
  REQUIRE(answer.exchanges <= 8 * levels);
}

}  // namespace

TEST_CASE("second-stage walk with flags and oracle give the same answer by the same accesses",
          "[walkers][second stage][oracle][B24][B31][B35][RVM-7][SEC-2][SEC-4][F3][F5]") {
  const Guest guest = GENERATE(Guest::sleeps, Guest::interferes, Guest::persists, Guest::lies);
  const unsigned worlds = test::run_whole() ? 20'000 : 400;
  std::map<unsigned, unsigned> seen;
  std::set<std::pair<unsigned, unsigned>> pages;  // depth and level of the leaf
  unsigned restarts = 0;
  for (unsigned seed = 0; seed < worlds; ++seed) {
    World world{seed * 4 + static_cast<unsigned>(guest)};
    const SecondStage format = world.format();
    const SecondStageControls controls = world.controls();
    LoggedMemory mine = world.memory();
    LoggedMemory theirs = world.memory();
    Random my_guest{seed};
    Random their_guest{seed};
    world.let_in(guest, mine, my_guest);
    world.let_in(guest, theirs, their_guest);
    for (unsigned i = 0; i < 40; ++i) {  // one after the other on the same tables: flags accumulate
      const oracle::SecondStageRequest request = world.request();
      mine.read_only = theirs.read_only = world.random().chance(1, 30);
      mine.log.clear();
      theirs.log.clear();
      const SecondStageAnswer answer = walk_second_stage(
          format, controls, mine,
          {{world.unit().pasid_entry_0}, {request.address}, {request.read, request.write}, world.levels() - 1});
      const oracle::SecondStageAnswer right =
          oracle::translate_second_stage(world.unit(), test::reader_of(theirs), test::exchanger_of(theirs), request);
      CAPTURE(seed, i, world.unit().pasid_entry_0, world.unit().haw, request.address, right.reason, right.level);
      require_same(answer, right, request, controls.flags);
      REQUIRE(mine.log == theirs.log);  // and with the same accesses from the same words, the same tables
      REQUIRE(answer.loads == mine.count(MemoryAccess::load));
      REQUIRE(answer.exchanges == mine.count(MemoryAccess::exchange));
      require_sound(mine.log, answer, request, world.levels());
      if (!controls.flags) REQUIRE(answer.exchanges == 0);
      ++seen[right.reason];
      if (right.reason == 0) pages.emplace(world.levels(), answer.level);
      if (answer.loads > world.levels() + 3) ++restarts;
    }
  }
  for (const unsigned reason : {0x00U, 0x78U, 0x79U, 0x7AU, 0x7BU, 0x7CU, 0x7DU, 0x85U, 0x86U}) {
    CAPTURE(guest, reason);
    CHECK(seen[reason] > (guest == Guest::lies && reason == 0x78 ? 1 : 20));
  }
  CHECK(pages.size() == 9);
  if (guest == Guest::persists) CHECK(restarts > 100);
}

TEST_CASE("second-stage walks beside a guest that writes the same entries lose none of its writes",
          "[walkers][second stage][P4][threads]") {
  constexpr std::uint64_t flags = 0x300;
  constexpr std::uint64_t counter_one = std::uint64_t{1} << 52;  // a counter of nine bits in those that are ignored
  constexpr std::uint64_t counter_bits = 0x1FF * counter_one;
  const unsigned enough = test::run_whole() ? 1'000'000 : 20'000;  // flags set by walks
  test::GuardedRegion ram{0x1000, 0x4000};
  for (std::uint64_t table = 0x1000; table <= 0x4000; table += 0x1000) ram.store_u64(table, (table + 0x1000) | 3);
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{0x1000}, {0x4FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  const SecondStage format{SecondStageRules{}};
  const SecondStageControls controls{.flags = true};
  const SecondStageRequest request{{0x1000}, {0}, read_write, 3};

  std::atomic<bool> over{false};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> updates{0};
  const auto walks = [&] {
    while (!over.load(std::memory_order_relaxed)) {
      const SecondStageAnswer answer = walk_second_stage(format, controls, memory.view(), request);
      updates.fetch_add(answer.updates, std::memory_order_relaxed);
      const bool expected = answer.end == SecondStageEnd::leaf ? answer.dirty && answer.frame == Gpa{0x5000}
                                                               : answer.end == SecondStageEnd::update_failed;
      if (!expected) wrong.fetch_add(1, std::memory_order_relaxed);
    }
  };
  std::array<std::thread, 2> walkers{std::thread{walks}, std::thread{walks}};
  std::uint64_t rounds = 0;  // of one write to each table
  for (; updates.load(std::memory_order_relaxed) < enough; ++rounds) {
    for (std::size_t table = 0; table < ram.length(); table += 0x1000) {
      const std::atomic_ref word{*reinterpret_cast<std::uint64_t*>(ram.data() + table)};
      std::uint64_t now = word.load();
      while (
          !word.compare_exchange_weak(now, ((now & ~counter_bits) | ((now + counter_one) & counter_bits)) & ~flags)) {
      }
    }
  }
  over.store(true, std::memory_order_relaxed);
  for (std::thread& walker : walkers) walker.join();
  CHECK(wrong.load() == 0);
  CHECK(walk_second_stage(format, controls, memory.view(), request).end == SecondStageEnd::leaf);
  for (std::uint64_t table = 0x1000; table <= 0x4000; table += 0x1000) {
    const std::uint64_t left = ram.load_u64(table).value();
    CHECK((left & counter_bits) / counter_one == rounds % 512);
    CHECK((left & ~counter_bits) == ((table + 0x1000) | 3 | (table == 0x4000 ? 0x300 : 0x100)));
  }
  RegionMap::destroy({}, memory.publish(nullptr));
}

}  // namespace viommu::walkers
