// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Pages of every size in the IOTLB; blocks of eight are in iotlb_blocks_test.cpp.
#include "caches/iotlb.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/caches/test_iotlb.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

using test::hash_seed;
using test::TestIotlb;

constexpr Iova base{0x40000000};
const Atomic<Sizes> every_size{all_sizes};
/// Sizes of which an entry stands for one page.
constexpr std::array whole_pages{PageSize::kib4, PageSize::mib2, PageSize::gib1};

}  // namespace

TEST_CASE("an empty IOTLB finds nothing, for nobody's tag neither", "[caches][iotlb][P3]") {
  const TestIotlb table;
  CHECK_FALSE(table.find(0, {0}));
  CHECK_FALSE(table.find(1, base));
  CHECK_FALSE(table.find(0xFFFF, {~std::uint64_t{0}}));
  for (const PageSize size : page_sizes) CHECK_FALSE(table.find(0, {0}, bit_of(size)));
}

TEST_CASE("a page is found at each of its addresses, and nowhere else", "[caches][iotlb]") {
  const PageSize size = GENERATE(PageSize::kib4, PageSize::mib2, PageSize::gib1);
  const std::uint64_t bytes = mask_of(size) + 1;
  TestIotlb table;
  REQUIRE(table.fill(7, base + 5 * bytes + 0x123, 9 * bytes, size));
  for (const std::uint64_t offset : {std::uint64_t{0}, bytes / 2, bytes - 1}) {
    const auto found = table.find(7, base + 5 * bytes + offset);
    REQUIRE(found);
    CHECK(found->gpa == Gpa{9 * bytes + offset});
    CHECK(found->mask == mask_of(size));
    CHECK(found->rights == read_write);
  }
  CHECK_FALSE(table.find(7, base + (5 * bytes - 1)));
  CHECK_FALSE(table.find(7, base + 6 * bytes));
  CHECK_FALSE(table.find(6, base + 5 * bytes));
  CHECK_FALSE(table.find(8, base + 5 * bytes));
}

TEST_CASE("a size that is not asked for is not looked for", "[caches][iotlb]") {
  TestIotlb table;
  REQUIRE(table.fill(7, base, 0x200000, PageSize::mib2));
  CHECK_FALSE(table.find(7, base, 0));
  CHECK_FALSE(table.find(7, base, small_sizes | bit_of(PageSize::gib1)));
  CHECK(table.find(7, base, bit_of(PageSize::mib2)));
}

TEST_CASE("frame and rights come back as they were filled in", "[caches][iotlb]") {
  TestIotlb table;
  for (const Rights rights : {Rights{}, read_only, write_only, read_write}) {
    for (const std::uint64_t frame : {std::uint64_t{0}, std::uint64_t{0x1000}, low_bits(52) & ~low_bits(12)}) {
      REQUIRE(table.fill(3, base, frame, PageSize::kib4, rights));
      const auto found = table.find(3, base + 0xABC);
      REQUIRE(found);
      CHECK(found->gpa == Gpa{frame + 0xABC});
      CHECK(found->rights == rights);
    }
  }
}

TEST_CASE("pages that differ in one bit, of 57, are not confused, nor are tags",
          "[caches][iotlb][P3][SEC-10][B01][B02]") {
  TestIotlb table{1 << 14};
  constexpr unsigned address_bits = 57;
  for (const PageSize size : whole_pages) {
    for (unsigned bit = shift_of(size); bit < address_bits; ++bit) {
      TestIotlb fresh{64};
      REQUIRE(fresh.fill(1, {0}, 0, size));
      CHECK_FALSE(fresh.find(1, {std::uint64_t{1} << bit}));
    }
  }
  for (unsigned bit = 0; bit < 16; ++bit) {
    const auto tag = static_cast<Tag>(1U << bit);
    REQUIRE(table.fill(tag, base, std::uint64_t{tag} << page_shift));
  }
  for (unsigned bit = 0; bit < 16; ++bit) {
    const auto tag = static_cast<Tag>(1U << bit);
    const auto found = table.find(tag, base);
    if (found) CHECK(found->gpa == Gpa{std::uint64_t{tag} << page_shift});
    CHECK_FALSE(table.find(static_cast<Tag>(~tag), base));
  }
}

TEST_CASE("equal numbers of pages of different sizes are different pages", "[caches][iotlb][P3]") {
  for (const PageSize filled : whole_pages) {
    TestIotlb table{64};
    REQUIRE(table.fill(1, {std::uint64_t{3} << shift_of(filled)}, 0, filled));
    for (const PageSize asked : page_sizes)
      CHECK(table.find(1, {std::uint64_t{3} << shift_of(asked)}, bit_of(asked)).has_value() == (asked == filled));
  }
}

TEST_CASE("filling a page again replaces it", "[caches][iotlb]") {
  TestIotlb table;
  for (std::uint64_t frame = 1; frame <= 20; ++frame) {
    REQUIRE(table.fill(3, base, frame << page_shift));
    REQUIRE(table.find(3, base)->gpa == Gpa{frame << page_shift});
  }
  table.drop(3, base);
  CHECK_FALSE(table.find(3, base));
}

TEST_CASE("a full set gives up one page for another and never forgets the newest", "[caches][iotlb]") {
  TestIotlb table{1};
  REQUIRE(table.iotlb.groups() == 1);
  for (std::uint64_t page = 0; page < 1000; ++page) {
    REQUIRE(table.fill(1, {page << page_shift}, page << page_shift));
    REQUIRE(table.find(1, {page << page_shift}));
  }
  unsigned kept = 0;
  for (std::uint64_t page = 0; page < 1000; ++page) {
    const auto found = table.find(1, {page << page_shift});
    if (!found) continue;
    ++kept;
    CHECK(found->gpa == Gpa{page << page_shift});
  }
  CHECK(kept == 32);  // the smallest table: one group of eight sets of four
}

TEST_CASE("a fill is refused after an invalidation of its page, whether that found something or not",
          "[caches][iotlb][P1][PR-2]") {
  const PageSize size = GENERATE(PageSize::kib4, PageSize::mib2, PageSize::gib1);
  const bool found_something = GENERATE(false, true);
  const std::uint64_t bytes = mask_of(size) + 1;
  const Iova page = base + 3 * bytes;
  TestIotlb table;
  if (found_something) REQUIRE(table.fill(2, page, 4 * bytes, size));
  const FillGuard guard = table.sample(2, page);
  SECTION("all of it") { table.drop(2, page, bytes); }
  SECTION("its last 4 KiB") { table.drop(2, page + (bytes - page_size_bytes)); }
  SECTION("by a sweep of sets of tags") {
    TagSet tags;
    tags.set(2);
    table.iotlb.sweep(tags, 0, table.iotlb.groups());
  }
  SECTION("by a sweep of the tag") { table.iotlb.sweep(2); }
  CHECK_FALSE(table.iotlb.fill(guard, table.place(2), page, {{bytes}, size, read_write}, nullptr));
  CHECK_FALSE(table.find(2, page));
}

TEST_CASE("a sweep refuses every fill that was sampled before it, of whichever tag", "[caches][iotlb][P1]") {
  const PageSize size = GENERATE(PageSize::kib4, PageSize::kib32, PageSize::mib2, PageSize::gib1);
  TestIotlb table;
  const FillGuard guard = table.sample(2, base);
  table.iotlb.sweep(77);
  CHECK_FALSE(table.iotlb.fill(guard, table.place(2), base, {{0}, size, read_write, 1}, nullptr));
}

TEST_CASE("a size that was not sampled is not filled", "[caches][iotlb][P1][PR-2]") {
  TestIotlb table;
  const Place place = table.place(2);
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
    const auto others = static_cast<Sizes>(all_sizes & ~bit_of(size));
    const FillGuard guard = table.iotlb.sample(place, base, others);
    CHECK_FALSE(table.iotlb.fill(guard, place, base, {{0}, size, read_write}, nullptr));
    CHECK_FALSE(table.find(2, base));
  }
}

TEST_CASE("a sample serves until an invalidation comes", "[caches][iotlb][P1]") {
  TestIotlb table;
  const Place place = table.place(2);
  const FillGuard guard = table.sample(2, base);
  const auto fill = [&](std::uint64_t frame) {
    return table.iotlb.fill(guard, place, base, {{frame}, PageSize::kib4, read_write}, nullptr);
  };
  CHECK(fill(0x1000));
  // Without whole pairs a reader has to see that something was written, and so do other walkers.
  CHECK(fill(0x2000) == AtomicPair::whole());
  CHECK(table.find(2, base)->gpa == Gpa{AtomicPair::whole() ? 0x2000U : 0x1000U});
  table.drop(2, base);
  CHECK_FALSE(fill(0x3000));
  CHECK_FALSE(table.find(2, base));
}

TEST_CASE("an invalidation of another page seldom refuses a fill", "[caches][iotlb]") {
  TestIotlb table;
  unsigned refused = 0;
  constexpr unsigned tries = 200;
  for (unsigned i = 1; i <= tries; ++i) {
    const FillGuard guard = table.sample(2, base);
    table.drop(2, base + (std::uint64_t{i} << 31));  // shares no page of any size
    if (!table.iotlb.fill(guard, table.place(2), base, {{0x1000}, PageSize::kib4, read_write}, nullptr)) ++refused;
  }
  CHECK(refused < tries / 20);
}

TEST_CASE("dropping a page leaves its neighbours, other sizes' neighbours and other tags", "[caches][iotlb][QVT-15]") {
  TestIotlb table;
  constexpr std::uint64_t mib2 = 1 << 21;
  for (std::uint64_t page = 0; page < 8; ++page) REQUIRE(table.fill(1, base + page * page_size_bytes, page << 12));
  REQUIRE(table.fill(2, base + 3 * page_size_bytes, 0x9000));
  REQUIRE(table.fill(1, base + mib2, mib2, PageSize::mib2));
  REQUIRE(table.fill(1, base + 2 * mib2, mib2, PageSize::mib2));
  table.drop(1, base + 3 * page_size_bytes, 2 * page_size_bytes);
  for (std::uint64_t page = 0; page < 8; ++page)
    CHECK(table.find(1, base + page * page_size_bytes).has_value() == (page != 3 && page != 4));
  CHECK(table.find(2, base + 3 * page_size_bytes));
  CHECK(table.find(1, base + mib2));
  table.drop(1, base + (2 * mib2 - page_size_bytes));
  CHECK_FALSE(table.find(1, base + mib2));
  CHECK(table.find(1, base + 2 * mib2));
}

TEST_CASE("dropping large pages only leaves small ones", "[caches][iotlb]") {
  TestIotlb table;
  for (const PageSize size : whole_pages) REQUIRE(table.fill(1, base, 0, size));
  table.iotlb.drop_large_pages(table.place(1), {base, base}, bit_of(PageSize::mib2) | bit_of(PageSize::gib1));
  CHECK(table.find(1, base, bit_of(PageSize::kib4)));
  CHECK_FALSE(table.find(1, base, bit_of(PageSize::mib2)));
  CHECK_FALSE(table.find(1, base, bit_of(PageSize::gib1)));
}

TEST_CASE("dropping the last page there is ends", "[caches][iotlb][B49]") {
  TestIotlb table;
  constexpr std::uint64_t last = ~std::uint64_t{0};
  for (const PageSize size : whole_pages) REQUIRE(table.fill(1, {last}, 0, size));
  table.drop_range(1, {{last - 0x1FFF}, {last}});
  for (const PageSize size : whole_pages) CHECK_FALSE(table.find(1, {last}, bit_of(size)));
}

TEST_CASE("a sweep drops every page of its tags and none of others", "[caches][iotlb]") {
  TestIotlb table{1 << 13};
  constexpr Tag tags = 40;
  for (Tag tag = 1; tag < tags; ++tag)
    for (const PageSize size : page_sizes) REQUIRE(table.fill(tag, {std::uint64_t{tag} << 32}, 1 << 30, size));
  const auto is_swept = [](Tag tag) { return tag % 3 == 0; };
  SECTION("tags together, a slice at a time, the last one past the end") {
    TagSet swept;
    for (Tag tag = 0; tag < tags; ++tag) swept.set(tag, is_swept(tag));
    constexpr std::size_t slice = 37;
    for (std::size_t first = 0; first < table.iotlb.groups(); first += slice) table.iotlb.sweep(swept, first, slice);
    table.iotlb.sweep(swept, table.iotlb.groups() + slice, slice);
  }
  SECTION("one by one") {
    for (Tag tag = 0; tag < tags; ++tag)
      if (is_swept(tag)) table.iotlb.sweep(tag);
  }
  for (Tag tag = 1; tag < tags; ++tag)
    for (const PageSize size : page_sizes)
      CHECK(table.find(tag, {std::uint64_t{tag} << 32}, bit_of(size)).has_value() == !is_swept(tag));
}

TEST_CASE("a slice of a sweep touches no other groups", "[caches][iotlb]") {
  TestIotlb table{1 << 10};
  constexpr std::uint64_t pages = 512;
  for (std::uint64_t page = 0; page < pages; ++page) REQUIRE(table.fill(1, {page << 30}, 0));
  const auto held = [&] {
    unsigned count = 0;
    for (std::uint64_t page = 0; page < pages; ++page) count += table.find(1, {page << 30}) ? 1U : 0U;
    return count;
  };
  TagSet swept;
  swept.set(1);
  const unsigned before = held();
  const std::size_t half = table.iotlb.groups() / 2;
  table.iotlb.sweep(swept, half, half);
  const unsigned after = held();
  CHECK(after > before / 4);
  CHECK(after < before * 3 / 4);
  table.iotlb.sweep(swept, 0, half);
  CHECK(held() == 0);
}

TEST_CASE("which pages share a set depends on the seed", "[caches][iotlb][SEC-10]") {
  // Two pages share a group when dropping one refuses a fill of the other.
  const auto companions = [](std::uint64_t seed) {
    TestIotlb table{512, 1, seed};
    std::vector<bool> shared;
    for (std::uint64_t i = 1; i < 2048; ++i) {
      const FillGuard guard = table.sample(1, {0});
      table.drop(1, {i << 31});
      shared.push_back(!table.iotlb.fill(guard, table.place(1), {0}, {{0x1000}, PageSize::kib4, read_write}, nullptr));
    }
    return shared;
  };
  const auto first = companions(1);
  CHECK(first == companions(1));
  for (const unsigned other : {2U, 3U, 99U}) CHECK(first != companions(other));
}

TEST_CASE("domains of different shards never meet, whatever they fill", "[caches][iotlb][shards]") {
  constexpr unsigned shards = 4;
  constexpr std::uint64_t pages = 500;
  TestIotlb table{std::size_t{4} * 32, shards};
  std::set<std::uint32_t> first_sets;
  for (std::uint16_t domain = 0; domain < 16; ++domain) {
    const Place place = table.iotlb.place(1, domain);
    CHECK(place.first_set() == table.iotlb.place(1, static_cast<std::uint16_t>(domain % shards)).first_set());
    first_sets.insert(place.first_set());
  }
  REQUIRE(first_sets.size() == shards);
  const Place mine = table.iotlb.place(1, 0);
  REQUIRE(table.fill_at(mine, base, 0x5000));
  for (std::uint16_t domain = 1; domain < shards; ++domain) {
    const Place other = table.iotlb.place(static_cast<Tag>(1 + domain), domain);
    for (std::uint64_t page = 0; page < pages; ++page) REQUIRE(table.fill_at(other, {page << page_shift}, 0));
  }
  CHECK(table.iotlb.lookup(mine, base, all_sizes));  // else somebody had replaced it
  const FillGuard guard = table.iotlb.sample(mine, base, all_sizes);
  for (std::uint16_t domain = 1; domain < shards; ++domain)
    table.iotlb.drop_pages(table.iotlb.place(1, domain), {{0}, {pages << page_shift}}, every_size);
  CHECK(table.iotlb.lookup(mine, base, all_sizes));
  CHECK(table.iotlb.fill(guard, mine, base, {{0x6000}, PageSize::kib4, read_write}, nullptr));
}

TEST_CASE("whatever is filled and dropped, a lookup finds the newest fill that was not dropped",
          "[caches][iotlb][P1]") {
  struct Expected {
    std::uint64_t frame;
    Rights rights;
  };
  using Key = std::pair<Tag, std::uint64_t>;  // tag and page number of its size
  TestIotlb table{1 << 12};
  std::map<PageSize, std::map<Key, Expected>> model;
  test::Random random{5};
  for (unsigned step = 0; step < 30'000; ++step) {
    const auto tag = static_cast<Tag>(1 + random.below(3));
    const Iova iova{(random.below(4) << 30) + (random.below(4) << 21) + (random.below(16) << 12)};
    const PageSize size = random.pick(whole_pages);
    const unsigned shift = shift_of(size);
    if (random.chance(3, 4)) {
      const Expected page{random.below(1 << 10) << shift, {random.chance(1, 2), random.chance(1, 2)}};
      REQUIRE(table.fill(tag, iova, page.frame, size, page.rights));
      model[size][{tag, iova.value >> shift}] = page;
    } else {
      const std::uint64_t last = iova.value + (random.below(8) << 12);
      table.drop_range(tag, {iova, {last}});
      for (auto& [each, pages] : model)
        for (std::uint64_t number = iova.value >> shift_of(each); number <= last >> shift_of(each); ++number)
          pages.erase({tag, number});
    }
    const Iova asked{(random.below(4) << 30) + (random.below(4) << 21) + (random.below(16) << 12) + random.below(4096)};
    for (const PageSize each : whole_pages) {
      const auto found = table.find(tag, asked, bit_of(each));
      const auto expected = model[each].find({tag, asked.value >> shift_of(each)});
      // At most 816 pages in 8,192 entries: of the fixed sequence above no set overflows.
      REQUIRE(found.has_value() == (expected != model[each].end()));
      if (!found) continue;
      REQUIRE(found->gpa == Gpa{expected->second.frame + (asked.value & mask_of(each))});
      REQUIRE(found->rights == expected->second.rights);
      REQUIRE(found->mask == mask_of(each));
    }
  }
}

TEST_CASE("the size of an IOTLB is fixed when it is made", "[caches][iotlb][P6]") {
  test::CountingAllocator host;
  {
    Iotlb iotlb;
    const unsigned shards = GENERATE(1U, 4U);
    REQUIRE(iotlb.reset(host.functions(), 1000, shards, hash_seed));
    CHECK(iotlb.groups() == 512 / 8);
    CHECK(iotlb.bytes() == host.open_bytes());
    const std::uint64_t calls = host.calls();
    for (std::uint64_t page = 0; page < 5000; ++page) {
      const Iova iova{page << page_shift};
      const Place place = iotlb.place(1, static_cast<std::uint16_t>(page));
      static_cast<void>(
          iotlb.fill(iotlb.sample(place, iova, small_sizes), place, iova, {{0}, PageSize::kib4, read_write}, nullptr));
    }
    CHECK(host.calls() == calls);
    for (std::uint64_t k = 1; k <= 3; ++k) {
      host.fail_at(k);
      Iotlb second;
      CHECK_FALSE(second.reset(host.functions(), 1000, shards, hash_seed));
    }
  }
  CHECK(host.open_blocks() == 0);
}

}  // namespace viommu::caches
