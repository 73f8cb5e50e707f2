// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// First-stage walks against the literal reading of the specification: on tables such as no driver writes them, while
// the guest changes them, and beside threads that do.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/first_stage_reasons.hpp"
#include "tests/walkers/guest_at_work.hpp"
#include "tests/walkers/logged_memory.hpp"
#include "walkers/first_stage_walk.hpp"

namespace viommu::walkers {
namespace {

using test::Guest;
using test::LoggedMemory;
using test::MemoryAccess;
using test::Random;

/// Table entries in a small pool of pages, each of which may be a table of every level, of itself too.
class World {
 public:
  explicit World(std::uint64_t seed) : random_{seed} {
    constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
    unit_.haw = random_.pick(widths);
    unit_.cap = bit(56, random_.chance(3, 4));
    unit_.ecap = bit(48, random_.chance(9, 10)) | bit(31, true) | bit(34, true);
    unit_.pasid_entry_1 = bit(23, random_.chance(9, 10));
    unit_.pasid_entry_2 = pool | bit(0, random_.chance(9, 10)) | bit(2, random_.chance(1, 2)) |
                          bit(4, random_.chance(1, 2)) | bit(7, random_.chance(1, 2));
    if (random_.chance(1, 30)) unit_.pasid_entry_2 ^= std::uint64_t{0x800000};  // its top table is nowhere
    for (std::uint64_t page = pool; page < pool + pool_bytes; page += 0x1000)
      for (const std::uint64_t line : lines)
        for (std::uint64_t at = page + line; at < page + line + 64; at += 8) words_.emplace(at, entry(random_));
  }

  [[nodiscard]] const oracle::FirstStageUnit& unit() const noexcept { return unit_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] unsigned levels() const noexcept { return (unit_.pasid_entry_2 & 0xC) == 0 ? 4 : 5; }
  [[nodiscard]] FirstStage format() const {
    const auto set = [](std::uint64_t word, unsigned number) { return (word >> number & 1) != 0; };
    return {{unit_.haw, set(unit_.cap, 56)},
            {.levels = levels(),
             .supervisor = set(unit_.pasid_entry_2, 0),
             .write_protect = set(unit_.pasid_entry_2, 4),
             .extended_accessed = set(unit_.pasid_entry_2, 7),
             .snooped = set(unit_.ecap, 48) && set(unit_.pasid_entry_1, 23)}};
  }
  /// The memory as it was made.
  [[nodiscard]] LoggedMemory memory() const {
    LoggedMemory memory;
    memory.words.add_ram(pool, pool_bytes);
    for (const auto& [gpa, word] : words_) memory.words.store_u64(gpa, word);
    return memory;
  }
  void let_in(Guest guest, LoggedMemory& memory, Random& random) const {
    test::let_in(guest, memory, random, 0x20, [this](std::uint64_t, Random& from) { return entry(from); });
  }
  /// Its way leads through words that were filled, now and then past them.
  oracle::FirstStageRequest request() {
    oracle::FirstStageRequest request;
    for (unsigned level = 0; level < levels(); ++level) {
      const std::uint64_t slot =
          random_.chance(1, 60) ? random_.below(512) : random_.pick(lines) / 8 + random_.below(8);
      request.address = request.address << 9 | slot;
    }
    request.address = request.address << 12 | random_.below(4096);
    const unsigned width = levels() == 4 ? 48 : 57;
    if ((request.address >> (width - 1) & 1) != 0) request.address |= ~low_bits(width);
    if (random_.chance(1, 40)) request.address ^= std::uint64_t{1} << random_.below(64);
    request.write = random_.chance(1, 2);
    request.read = !request.write || random_.chance(1, 3);
    request.supervisor = random_.chance(1, 3);
    request.execute = random_.chance(1, 40);
    return request;
  }

 private:
  static constexpr std::uint64_t pool = 0x40000;
  static constexpr std::uint64_t pool_bytes = 0x8000;
  static constexpr std::array<std::uint64_t, 3> lines{0x000, 0x7C0, 0xFC0};  // offsets in a page

  static std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }

  std::uint64_t entry(Random& random) const {
    if (random.chance(1, 100)) return random.next();
    std::uint64_t entry = bit(0, random.chance(24, 25)) | bit(1, random.chance(11, 12)) | bit(2, random.chance(19, 20));
    entry |= bit(5, random.chance(2, 3)) | bit(6, random.chance(1, 3)) | bit(10, random.chance(2, 3));
    entry |= bit(7, random.chance(1, 6));
    if (random.chance(1, 4)) entry |= random.next() & 0xFFF0'0000'0000'0B18;
    if (random.chance(1, 40)) entry |= std::uint64_t{1} << random.below(64);
    if (random.chance(1, 40)) return entry | (random.next() & low_bits(unit_.haw) & ~low_bits(12));  // mostly a hole
    // Half of the larger pages are aligned; the others, and tables in their place, are the pool's.
    const bool is_page = (entry & 0x80) != 0 && random.chance(4, 5);
    const std::uint64_t page = pool + (random.below(pool_bytes >> 12) << 12);
    return entry | (is_page ? (random.next() & low_bits(unit_.haw) & ~low_bits(random.chance(1, 2) ? 21 : 30)) : page);
  }

  Random random_;
  oracle::FirstStageUnit unit_;
  std::map<std::uint64_t, std::uint64_t> words_;
};

FirstStageRequest to_request(const oracle::FirstStageUnit& unit, const oracle::FirstStageRequest& from) {
  return {{unit.pasid_entry_2},
          {from.address},
          {from.read, from.write},
          from.supervisor ? Privilege::supervisor : Privilege::user,
          from.execute};
}

void require_same(const FirstStageAnswer& answer, const oracle::FirstStageAnswer& right,
                  const oracle::FirstStageRequest& request, unsigned levels) {
  REQUIRE(test::code_of(answer.end) == right.reason);
  REQUIRE(answer.level == (right.level == 0 ? levels : right.level) - 1);
  REQUIRE(answer.rights == Rights{right.read, right.write});
  if (right.reason != 0) return;
  const std::uint64_t page_mask = low_bits(FirstStage::page_shift(answer.level));
  REQUIRE(right.page_mask == page_mask);
  REQUIRE(answer.frame.value + (request.address & page_mask) == right.gpa);
  REQUIRE(answer.dirty == right.dirty);
}

/// What holds of every walk, whoever changes the tables: an exchange is based on the copy loaded just before it and
/// adds flags alone; D comes last, for a write, and only where that write is let through.
void require_sound(const std::vector<MemoryAccess>& log, const FirstStageAnswer& answer,
                   const oracle::FirstStageRequest& request, unsigned levels) {
  constexpr std::uint64_t flags = 0x460;
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
    if ((added & 0x40) == 0) continue;
    REQUIRE(request.write);
    if (access.outcome != Exchange::done) continue;
    REQUIRE(i + 1 == log.size());
    REQUIRE(answer.end == FirstStageEnd::leaf);
  }
  REQUIRE(answer.loads <= 8 * levels);
  REQUIRE(answer.exchanges <= 8 * levels);
}

}  // namespace

TEST_CASE("first-stage walk and oracle give the same answer, make the same accesses and leave the same tables",
          "[walkers][first stage][oracle][B24][B30][B31][B35][RVM-7][SEC-2][SEC-4][F3][F5]") {
  const Guest guest = GENERATE(Guest::sleeps, Guest::interferes, Guest::persists, Guest::lies);
  const unsigned worlds = test::run_whole() ? 20'000 : 400;
  std::map<unsigned, unsigned> seen;
  std::set<std::pair<unsigned, unsigned>> pages;  // depth and level of the leaf
  unsigned restarts = 0;
  for (unsigned seed = 0; seed < worlds; ++seed) {
    World world{seed * 4 + static_cast<unsigned>(guest)};
    const FirstStage format = world.format();
    LoggedMemory mine = world.memory();
    LoggedMemory theirs = world.memory();
    Random my_guest{seed};
    Random their_guest{seed};
    world.let_in(guest, mine, my_guest);
    world.let_in(guest, theirs, their_guest);
    for (unsigned i = 0; i < 40; ++i) {  // one after the other on the same tables: flags accumulate
      const oracle::FirstStageRequest request = world.request();
      mine.read_only = theirs.read_only = world.random().chance(1, 30);
      mine.log.clear();
      theirs.log.clear();
      const FirstStageAnswer answer = walk_first_stage(format, mine, to_request(world.unit(), request));
      const oracle::FirstStageAnswer right =
          oracle::translate_first_stage(world.unit(), test::reader_of(theirs), test::exchanger_of(theirs), request);
      CAPTURE(seed, i, world.unit().pasid_entry_2, world.unit().haw, request.address, right.reason, right.level);
      require_same(answer, right, request, world.levels());
      REQUIRE(mine.log == theirs.log);  // and with the same accesses from the same words, the same tables
      REQUIRE(answer.loads == mine.count(MemoryAccess::load));
      require_sound(mine.log, answer, request, world.levels());
      ++seen[right.reason];
      if (right.reason == 0) pages.emplace(world.levels(), answer.level);
      if (answer.loads > world.levels() + 3) ++restarts;
    }
  }
  for (const unsigned reason : {0x00U, 0x5CU, 0x5DU, 0x70U, 0x71U, 0x72U, 0x73U, 0x80U, 0x81U, 0x85U, 0x90U, 0x91U}) {
    CAPTURE(guest, reason);
    CHECK(seen[reason] > (guest == Guest::lies && reason == 0x70 ? 1 : 20));
  }
  CHECK(pages.size() == 6);
  if (guest == Guest::persists) CHECK(restarts > 100);
}

TEST_CASE("first-stage walks beside a guest that writes the same entries lose none of its writes",
          "[walkers][first stage][P4][threads]") {
  constexpr std::uint64_t flags = 0x60;
  constexpr std::uint64_t counter_one = std::uint64_t{1} << 52;  // a counter of ten bits in those that are ignored
  constexpr std::uint64_t counter_bits = 0x3FF * counter_one;
  const unsigned enough = test::run_whole() ? 1'000'000 : 20'000;  // flags set by walks
  test::GuardedRegion ram{0x1000, 0x4000};
  for (std::uint64_t table = 0x1000; table <= 0x4000; table += 0x1000) ram.store_u64(table, (table + 0x1000) | 7);
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{0x1000}, {0x4FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  const FirstStage format{{}, {}};
  const FirstStageRequest request{{0x1000}, {0}, read_write, Privilege::user, false};

  std::atomic<bool> over{false};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> updates{0};
  const auto walks = [&] {
    while (!over.load(std::memory_order_relaxed)) {
      const FirstStageAnswer answer = walk_first_stage(format, memory.view(), request);
      updates.fetch_add(answer.updates, std::memory_order_relaxed);
      const bool expected = answer.end == FirstStageEnd::leaf ? answer.dirty && answer.frame == Gpa{0x5000}
                                                              : answer.end == FirstStageEnd::update_failed;
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
  CHECK(walk_first_stage(format, memory.view(), request).end == FirstStageEnd::leaf);
  for (std::uint64_t table = 0x1000; table <= 0x4000; table += 0x1000) {
    const std::uint64_t left = ram.load_u64(table).value();
    CHECK((left & counter_bits) / counter_one == rounds % 1024);
    CHECK((left & ~counter_bits) == ((table + 0x1000) | 7 | (table == 0x4000 ? 0x60 : 0x20)));
  }
  RegionMap::destroy({}, memory.publish(nullptr));
}

}  // namespace viommu::walkers
