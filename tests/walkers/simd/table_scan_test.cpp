// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Scans of whole tables of 4 KiB leaves, by every kernel that this machine can run, against a page-by-page reading of
// the entries.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/guarded_region.hpp"
#include "tests/support/random.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/mapped_run.hpp"
#include "walkers/simd/select.hpp"
#include "walkers/table_scan.hpp"

namespace viommu::walkers {

// As Catch2 shows them.
static std::ostream& operator<<(std::ostream& out, const ScanResult& result) {
  return out << result.runs << " runs, " << result.leaves << " leaves, " << result.malformed << " malformed";
}
static std::ostream& operator<<(std::ostream& out, MappedRun run) {
  return out << run.first() << '+' << run.pages() << " at " << std::hex << run.frame().value << std::dec << " rights "
             << run.rights().bits();
}

namespace {

using test::Random;
using Table = std::array<std::uint64_t, table_pages>;

#if defined(SMALL_TESTS)  // for a run under an emulator
constexpr unsigned tables = 60;
constexpr unsigned rounds = 300;
#else
constexpr unsigned tables = 1500;
constexpr unsigned rounds = 20000;
#endif

constexpr std::uint64_t malformed_bits = second_stage_masks({.host_address_width = 46}).leaf[0];
constexpr std::uint64_t ignored_bits = low_bits(11) & ~std::uint64_t{3};
constexpr std::uint64_t mark = 0x5AFE;  // no run: nothing wrote here
constexpr std::uint64_t page_bytes = 4096;

enum class Shape : std::uint8_t { empty, contiguous, nearly, short_runs, scattered, sparse, one_word, mixture, chaos };
constexpr std::array all_shapes{Shape::empty,  Shape::contiguous, Shape::nearly,  Shape::short_runs, Shape::scattered,
                                Shape::sparse, Shape::one_word,   Shape::mixture, Shape::chaos};

std::uint64_t leaf(std::uint64_t page, std::uint64_t rights = 3) { return page << 12 | rights; }

/// Pages that go on from one another as often as chance has it, with rights that change now and then.
Table mixture(Random& random) {
  Table table{};
  std::uint64_t page = random.below(1 << 20);
  std::uint64_t rights = 3;
  const std::uint64_t of = 2 + random.below(40);
  for (std::uint64_t& entry : table) {
    if (random.chance(1, of)) page = random.below(1 << 20);
    if (random.chance(1, of)) rights = random.below(4);
    entry = leaf(page++, rights) | (random.next() & ignored_bits) | (random.below(2) << 63);
    if (random.chance(1, 4 * of)) entry |= std::uint64_t{1} << (46 + random.below(6));
    if (random.chance(1, 4 * of)) entry = random.next();
    if (random.chance(1, 2 * of)) entry = 0;
  }
  return table;
}

/// One run, whose frames may come to where an address is too wide, but for a few entries: each differs in one way.
Table nearly(Random& random) {
  Table table{};
  constexpr std::uint64_t too_wide = std::uint64_t{1} << (46 - 12);
  const std::uint64_t page = random.chance(1, 4) ? too_wide - random.below(table_pages) : random.below(1 << 20);
  for (std::uint64_t i = 0; i < table.size(); ++i) table[i] = leaf(page + i) | (random.next() & ignored_bits);
  for (std::uint64_t left = random.below(4); left != 0; --left) {
    std::uint64_t& entry = table.at(random.below(table_pages));
    switch (random.below(5)) {
      case 0:  entry = 0; break;
      case 1:  entry ^= 1 + random.below(3); break;                          // a right
      case 2:  entry ^= std::uint64_t{1} << (12 + random.below(34)); break;  // a bit of its frame
      case 3:  entry ^= std::uint64_t{1} << (46 + random.below(6)); break;   // malformed
      default: entry += std::uint64_t{1 + random.below(3)} << 12; break;
    }
  }
  return table;
}

Table table_of(Shape shape, Random& random) {
  Table table{};
  const std::uint64_t base = random.below(1 << 20);
  for (std::uint64_t i = 0; i < table.size(); ++i) {
    switch (shape) {
      case Shape::empty:      table[i] = random.next() & ~std::uint64_t{3}; break;
      case Shape::contiguous: table[i] = leaf(base + i); break;
      case Shape::short_runs: table[i] = leaf(base + i / 16 * 100 + i % 16); break;
      case Shape::scattered:  table[i] = leaf(random.below(1 << 30)); break;
      case Shape::sparse:     table[i] = random.chance(1, 64) ? leaf(random.below(1 << 30)) : 0; break;
      case Shape::one_word:   table[i] = leaf(base); break;
      case Shape::chaos:      table[i] = random.next(); break;
      case Shape::nearly:     return nearly(random);
      case Shape::mixture:    return mixture(random);
    }
  }
  return table;
}

/// What each page maps to, one by one.
struct Reading {
  std::array<std::optional<std::uint64_t>, table_pages> pages{};  // frame and rights
  std::uint32_t leaves = 0;
  std::uint32_t malformed = 0;
};
Reading read(const Table& table, unsigned first, unsigned last, const ScanRules& rules) {
  Reading reading;
  for (unsigned i = first; i <= last; ++i) {
    const SecondStage format{SecondStageMasks{{}, {rules.malformed}}};
    const EntryKind kind = format.classify(table.at(i), 0);
    if (kind == EntryKind::malformed) ++reading.malformed;
    const std::uint64_t rights = SecondStage::rights(table.at(i)).bits() & rules.rights;
    if (kind != EntryKind::leaf || rights == 0) continue;
    ++reading.leaves;
    reading.pages.at(i) = SecondStage::frame(table.at(i), 0).value | rights;
  }
  return reading;
}

struct Scan {
  ScanResult result;
  std::vector<MappedRun> runs;
};
Scan scan(const Kernels& kernels, const std::byte* table, unsigned first, unsigned last, const ScanRules& rules,
          bool merge) {
  std::array<MappedRun, scan_room + 2> room;
  room.fill({mark});
  Scan scan;
  scan.result = kernels.scan_table(table, first, last, rules, merge, &room[1]);
  REQUIRE(room.front().word == mark);
  REQUIRE(room.back().word == mark);
  REQUIRE(scan.result.runs <= table_pages);
  scan.runs.assign(room.begin() + 1, room.begin() + 1 + scan.result.runs);
  return scan;
}

/// Empty, or what is wrong with the runs.
std::string complaint(const Scan& scan, const Reading& reading, bool merge) {
  if (scan.result.leaves != reading.leaves) return "leaves";
  if (scan.result.malformed != reading.malformed) return "malformed";
  unsigned next = 0;
  const MappedRun* before = nullptr;
  for (const MappedRun& run : scan.runs) {
    if (run.first() < next || run.last() >= table_pages) return "not ascending";
    for (; next < run.first(); ++next)
      if (reading.pages.at(next)) return "a page left out";
    for (; next <= run.last(); ++next)
      if (reading.pages.at(next) != ((run.frame().value + (next - run.first()) * page_bytes) | run.rights().bits()))
        return "a page that is not mapped so";
    if (run.mmio() || (run.word >> 61) != 0) return "a bit that nobody set";
    if (!merge && run.pages() != 1) return "merged";
    if (merge && before != nullptr && before->last() + 1 == run.first() && before->rights() == run.rights() &&
        before->frame().value + before->pages() * page_bytes == run.frame().value)
      return "not merged";
    before = &run;
  }
  for (; next < table_pages; ++next)
    if (reading.pages.at(next)) return "a page left out";
  return "";
}

/// Every kernel, both ways.
void check(const std::byte* host, const Table& table, unsigned first, unsigned last, const ScanRules& rules) {
  const Reading reading = read(table, first, last, rules);
  for (const Kernels* const kernels : runnable_kernels()) {
    for (const bool merge : {false, true}) {
      const Scan one = scan(*kernels, host, first, last, rules, merge);
      const std::string wrong = complaint(one, reading, merge);
      if (!wrong.empty())
        FAIL(kernels->name << " entries " << first << " to " << last << (merge ? " merged: " : ": ") << wrong);
      std::array<MappedRun, scan_room> room;
      REQUIRE(one.result == scan_table(host, first, last, rules, merge, room.data()));
      REQUIRE(std::equal(one.runs.begin(), one.runs.end(), room.begin()));
    }
  }
}
void check(const Table& table, unsigned first = 0, unsigned last = table_pages - 1,
           const ScanRules& rules = {malformed_bits, 3}) {
  check(reinterpret_cast<const std::byte*>(table.data()), table, first, last, rules);
}

}  // namespace

TEST_CASE("every kernel scans a table as its entries read one by one",
          "[walkers][kernels][scan][second stage][oracle]") {
  // No memory before or behind the tables: one ends with its page, the others begin where only words are aligned.
  test::GuardedRegion ram{0, 2 * page_bytes};
  for (const Shape shape : all_shapes) {
    Random random{static_cast<std::uint64_t>(shape) + 1};
    for (unsigned i = 0; i < tables; ++i) {
      const Table table = table_of(shape, random);
      const std::uint64_t offset = random.chance(1, 2) ? page_bytes : 8 * random.below(512);
      for (std::uint64_t at = 0; at < table.size(); ++at) ram.store_u64(offset + 8 * at, table[at]);
      const ScanRules rules{random.chance(1, 8) ? 0 : malformed_bits, random.chance(3, 4) ? 3 : random.below(4)};
      unsigned first = 0;
      unsigned last = table_pages - 1;
      if (random.chance(1, 2)) {
        first = static_cast<unsigned>(random.below(table_pages));
        last =
            first + static_cast<unsigned>(random.below(random.chance(1, 2) ? 20 : table_pages)) % (table_pages - first);
      }
      CAPTURE(static_cast<unsigned>(shape), i);
      check(ram.data() + offset, table, first, last, rules);
    }
  }
}

TEST_CASE("a scan of any part of a table sees nothing of the rest", "[walkers][kernels][scan][second stage]") {
  Random random{7};
  const Table whole = table_of(Shape::contiguous, random);
  const Table broken = [] {
    Table table;
    table.fill(~std::uint64_t{0});
    return table;
  }();
  for (unsigned first = 0; first < 20; ++first) {
    for (unsigned last = first; last < 40; ++last) {
      check(whole, first, last);
      check(broken, first, last);
    }
    check(whole, first, table_pages - 1);
    check(whole, table_pages - 1 - first, table_pages - 1);
  }
}

TEST_CASE("a run of pages ends where frames would start again at 0", "[walkers][kernels][scan][second stage]") {
  Table table{};
  constexpr std::uint64_t frames = std::uint64_t{1} << 40;  // of 52 address bits
  for (std::uint64_t i = 0; i < table.size(); ++i) table[i] = leaf((frames - 100 + i) % frames);
  const ScanRules rules{0, 3};
  check(table, 0, table_pages - 1, rules);
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    const Scan one = scan(*kernels, reinterpret_cast<const std::byte*>(table.data()), 0, table_pages - 1, rules, true);
    CHECK(one.runs == std::vector{MappedRun::of(0, 100, {(frames - 100) << 12}, read_write),
                                  MappedRun::of(100, 412, {0}, read_write)});
  }
  SECTION("and an absent entry before frame 4096 or with rights that nobody has joins nothing") {
    table = {};
    table[8] = leaf(1);
    table[9] = leaf(2, 1);
    table[10] = leaf(3, 2);
    table[11] = leaf(4, 2);
    check(table, 0, table_pages - 1, rules);
    check(table, 0, table_pages - 1, {0, 1});
    check(table, 0, table_pages - 1, {0, 2});
    check(table, 0, table_pages - 1, {0, 0});
  }
}

TEST_CASE("a scan says the same whichever table is read ahead", "[walkers][kernels][scan][second stage]") {
  Random random{11};
  const Table table = table_of(Shape::mixture, random);
  const Table other = table_of(Shape::chaos, random);
  for (const std::byte* const ahead :
       {reinterpret_cast<const std::byte*>(other.data()), reinterpret_cast<const std::byte*>(table.data())})
    check(reinterpret_cast<const std::byte*>(table.data()), table, 3, 501, {malformed_bits, 3, ahead});
}

TEST_CASE("entries that flip under a scan are each taken as they were or as they became",
          "[walkers][kernels][scan][second stage][SEC-2][SEC-3]") {
  // A page that may be written, the same one to be read, another page, and frames in entries that map nothing.
  constexpr std::uint64_t here = 1000;
  constexpr std::uint64_t there = 5000;
  const std::array<std::uint64_t, 6> values{
      leaf(here), leaf(there), leaf(9000, 0), leaf(here, 1), leaf(7000) | std::uint64_t{1} << 62, leaf(here)};
  test::GuardedRegion ram{0, page_bytes};
  for (std::uint64_t i = 0; i < table_pages; ++i) ram.store_u64(8 * i, values[0] + (i << 12));
  for (const Kernels* const kernels : runnable_kernels()) {
    std::atomic<bool> stop{false};
    std::thread guest{[&] {
      Random random{5};
      while (!stop) {
        const std::uint64_t first = random.below(table_pages);
        const std::uint64_t value = random.pick(values);
        for (std::uint64_t i = first; i < std::min<std::uint64_t>(table_pages, first + 64); ++i)
          ram.store_u64(8 * i, value + (i << 12));
      }
    }};
    std::string wrong;
    std::uint64_t moved = 0;
    // On a busy machine the other thread may not have begun yet.
    for (unsigned round = 0; (round < rounds || (moved == 0 && round < 1000 * rounds)) && wrong.empty(); ++round) {
      const Scan one = scan(*kernels, ram.data(), 0, table_pages - 1, {malformed_bits, 3}, true);
      unsigned pages = 0;
      for (const MappedRun& run : one.runs) {
        const std::uint64_t frame = (run.frame().value >> 12) - run.first();
        const bool written = (frame == here && run.rights().read()) || (frame == there && run.rights() == read_write);
        if (!written || run.last() >= table_pages) wrong = "a run that nobody wrote";
        if (run.first() < pages) wrong = "not ascending";
        pages += run.pages();
        moved += frame == there ? 1 : 0;
      }
      if (pages != one.result.leaves || pages + one.result.malformed > table_pages) wrong = "counted wrongly";
    }
    stop = true;
    guest.join();
    CAPTURE(kernels->name);
    CHECK(wrong == "");
    CHECK(moved > 0);
  }
}

}  // namespace viommu::walkers
