// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which entry goes when a set is full.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "caches/iotlb.hpp"
#include "caches/recent.hpp"
#include "tests/caches/test_iotlb.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

using test::TestIotlb;

constexpr std::size_t ways = 4;

/// Pages of `tag` that share a set of the smallest table with page 0 of tag 1: those that drive it out.
std::vector<Iova> mates(Tag tag, std::size_t count) {
  std::vector<Iova> found;
  for (std::uint64_t number = 1; found.size() < count;) {
    TestIotlb table{1};
    REQUIRE(table.fill(1, {0}, 0));
    while (table.find(1, {0})) REQUIRE(table.fill(tag, {number++ << page_shift}, 0));
    found.push_back({(number - 1) << page_shift});
  }
  return found;
}

/// A reader: hits are remembered as the engine does it, misses are filled.
class TestReader {
 public:
  explicit TestReader(TestIotlb& table, bool remembers) : table_{table}, remembers_{remembers} {}
  /// @return whether it was a hit
  bool ask(Tag tag, Iova iova) {
    const auto found = table_.find(tag, iova, bit_of(PageSize::kib4));
    if (found) {
      if (++hits_ % Recent::sample == 0) recent_.mark(Iotlb::trace_of(table_.place(tag), iova, found->mask));
      return true;
    }
    REQUIRE(table_.fill_page(tag, iova, {{0}, PageSize::kib4, read_write}, remembers_ ? &recent_ : nullptr));
    return false;
  }

 private:
  TestIotlb& table_;
  Recent recent_;
  std::uint64_t hits_ = 0;
  bool remembers_;
};

/// Ranks drawn with probability 1 / rank, over `pages` of them.
class Zipf {
 public:
  Zipf(std::size_t pages, std::uint64_t seed) : random_{seed} {
    double sum = 0;
    for (std::size_t rank = 1; rank <= pages; ++rank) {
      sum += 1.0 / static_cast<double>(rank);
      cumulated_.push_back(sum);
    }
  }
  std::size_t draw() {
    const double at = static_cast<double>(random_.below(1U << 30)) / (1U << 30) * cumulated_.back();
    return static_cast<std::size_t>(std::ranges::upper_bound(cumulated_, at) - cumulated_.begin());
  }

 private:
  test::Random random_;
  std::vector<double> cumulated_;
};

/// The page of a rank: all over the place, so that neither order nor blocks help.
Iova scattered(std::size_t rank) { return {(rank * 0x9E3779B97F4A7C15 >> 30) << page_shift}; }

}  // namespace

TEST_CASE("entries of tags that are not live go first", "[caches][iotlb][replacement]") {
  std::vector<Iova> pages{{0}};
  for (Tag tag = 2; tag <= ways; ++tag) pages.push_back(mates(tag, 1)[0]);
  const Iova another = mates(9, 1)[0];
  for (std::size_t dead = 0; dead < ways; ++dead) {
    for (unsigned turn = 0; turn < ways; ++turn) {  // where the search for a victim begins
      TestIotlb table{1};
      for (unsigned i = 0; i < turn; ++i) table.drop(1, {0});
      for (std::size_t i = 0; i < ways; ++i) REQUIRE(table.fill(static_cast<Tag>(1 + i), pages[i], 0));
      for (std::size_t i = 0; i < ways; ++i) REQUIRE(table.find(static_cast<Tag>(1 + i), pages[i]));
      table.iotlb.set_live(static_cast<Tag>(1 + dead), false);
      REQUIRE(table.fill(9, another, 0));
      for (std::size_t i = 0; i < ways; ++i)
        CHECK(table.find(static_cast<Tag>(1 + i), pages[i]).has_value() == (i != dead));
    }
  }
}

TEST_CASE("an empty way is taken before any entry goes", "[caches][iotlb][replacement]") {
  TestIotlb table{1};
  std::vector<Iova> pages = mates(1, ways - 1);
  pages.push_back({0});
  for (const Iova page : pages) REQUIRE(table.fill(1, page, 0));
  for (unsigned round = 0; round < 20; ++round) {
    table.drop(1, pages[round % ways]);
    for (unsigned turn = 0; turn < round / 4; ++turn) table.drop(1, {std::uint64_t{1} << 40});
    REQUIRE(table.fill(1, pages[round % ways], 0));
    for (const Iova page : pages) REQUIRE(table.find(1, page));
  }
}

TEST_CASE("a block whose last page was dropped leaves an empty way", "[caches][iotlb][blocks][replacement]") {
  const std::vector<Iova> pages = mates(1, ways);
  for (unsigned turn = 0; turn < ways; ++turn) {
    TestIotlb table{1};
    for (unsigned i = 0; i < turn; ++i) table.drop(1, {0});
    REQUIRE(table.fill_page(1, {0}, {{0}, PageSize::kib32, read_write, 0x81}));
    for (std::size_t i = 0; i < ways - 1; ++i) REQUIRE(table.fill(1, pages[i], 0));
    table.drop(1, {0}, 0x8000);
    REQUIRE(table.fill(1, pages[ways - 1], 0));
    for (const Iova page : pages) CHECK(table.find(1, page));
  }
}

TEST_CASE("what its reader hit lately stays while others come and go", "[caches][iotlb][replacement]") {
  TestIotlb table{1};
  Recent recent;
  std::vector<Iova> hot = mates(1, 200);
  const std::vector<Iova> passing{hot.begin() + ways - 1, hot.end()};
  hot.resize(ways - 1);
  for (const Iova page : hot) {
    REQUIRE(table.fill_page(1, page, {{0}, PageSize::kib4, read_write}, &recent));
    recent.mark(Iotlb::trace_of(table.place(1), page, low_bits(12)));
  }
  for (const Iova page : passing) {
    if (recent.contains(Iotlb::trace_of(table.place(1), page, low_bits(12)))) continue;  // taken for a hot one
    REQUIRE(table.fill_page(1, page, {{0}, PageSize::kib4, read_write}, &recent));
    REQUIRE(table.find(1, page));
    for (const Iova stays : hot) REQUIRE(table.find(1, stays));
  }
}

TEST_CASE("when all were hit lately one goes all the same, and not always the same", "[caches][iotlb][replacement]") {
  TestIotlb table{1};
  Recent recent;
  unsigned kept = 0;
  Iova before{0};
  REQUIRE(table.fill(1, before, 0));
  for (const Iova page : mates(1, 100)) {
    REQUIRE(table.fill_page(1, page, {{0}, PageSize::kib4, read_write}, &recent));
    recent.mark(Iotlb::trace_of(table.place(1), page, low_bits(12)));
    REQUIRE(table.find(1, page));
    kept += table.find(1, before) ? 1U : 0U;
    before = page;
  }
  CHECK(kept > 50);
}

TEST_CASE("a reader's memory forgets all when half of it is used", "[caches][recent]") {
  Recent recent;
  test::Random random{3};
  std::vector<std::uint64_t> marked;
  for (unsigned i = 0; i < 1'000; ++i) {
    marked.push_back(random.next());
    recent.mark(marked.back());
  }
  for (const std::uint64_t trace : marked) CHECK(recent.contains(trace));
  for (unsigned i = 0; i < 4'000; ++i) recent.mark(random.next());
  const auto kept = std::ranges::count_if(marked, [&](std::uint64_t trace) { return recent.contains(trace); });
  CHECK(kept < 900);
  unsigned strangers = 0;
  for (unsigned i = 0; i < 1'000; ++i) strangers += recent.contains(random.next()) ? 1U : 0U;
  CHECK(strangers < 600);  // never more than half
}

TEST_CASE("a size has a trace of its own, and the pages of a block one", "[caches][recent]") {
  const Place place{3, 0};
  const auto small = Iotlb::trace_of(place, {0x40003000}, low_bits(12));
  CHECK(small == Iotlb::trace_of(place, {0x40007FFF}, low_bits(12)));
  CHECK(small == Iotlb::trace_of(place, {0x40000000}, mask_of(PageSize::kib32)));
  CHECK(small != Iotlb::trace_of(place, {0x40008000}, low_bits(12)));
  CHECK(small != Iotlb::trace_of({4, 0}, {0x40003000}, low_bits(12)));
}

TEST_CASE("hot pages of a skewed stream survive scans better than chance lets them", "[caches][iotlb][replacement]") {
  // 1,024 entries, 8,192 pages by Zipf's law, and now and then a scan over as many pages as there are entries.
  const auto hit_rate = [](bool remembers) {
    TestIotlb table{512};
    TestReader reader{table, remembers};
    Zipf zipf{8'192, 42};
    std::uint64_t scanned = std::uint64_t{1} << 40;
    unsigned hits = 0;
    unsigned asked = 0;
    constexpr unsigned rounds = 60;
    for (unsigned round = 0; round < rounds; ++round) {
      for (unsigned i = 0; i < 4'000; ++i) {
        const bool hit = reader.ask(1, scattered(zipf.draw()));
        if (round >= 10) {  // warm
          hits += hit ? 1U : 0U;
          ++asked;
        }
      }
      for (unsigned i = 0; i < 1'024; ++i) static_cast<void>(reader.ask(1, {(scanned++) << page_shift}));
    }
    return static_cast<double>(hits) / asked;
  };
  const double by_chance = hit_rate(false);
  const double by_memory = hit_rate(true);
  CAPTURE(by_chance, by_memory);
  CHECK(by_chance > 0.3);
  CHECK(by_memory > by_chance + 0.02);
}

}  // namespace viommu::caches
