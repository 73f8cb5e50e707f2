// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/iotlb.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

constexpr std::uint8_t all_sizes = bit_of(PageSize::kib4) | bit_of(PageSize::mib2) | bit_of(PageSize::gib1);
constexpr Iova base{0x40000000};
constexpr std::uint64_t seed = 0x1234567;

/// One IOTLB of a test.
class Table {
 public:
  explicit Table(std::size_t pages = 4096, std::uint64_t hash_seed = seed) {
    REQUIRE(iotlb.reset({}, pages, hash_seed));
  }
  [[nodiscard]] std::optional<CachedPage> find(Tag tag, Iova iova, std::uint8_t sizes = all_sizes) const {
    return iotlb.lookup(tag, iova, sizes);
  }
  /// Sample, walk, fill with nothing in between.
  bool fill(Tag tag, Iova iova, std::uint64_t frame, PageSize size = PageSize::kib4, Rights rights = read_write) {
    return iotlb.fill(iotlb.sample(tag, iova), tag, iova, {{frame}, size, rights});
  }
  void drop(Tag tag, Iova first, std::uint64_t length = page_size_bytes) {
    iotlb.drop_pages(tag, {first, first + (length - 1)});
  }
  Iotlb iotlb;
};

}  // namespace

TEST_CASE("an empty IOTLB finds nothing, for nobody's tag neither", "[caches][iotlb][P3]") {
  const Table table;
  CHECK_FALSE(table.find(0, {0}));
  CHECK_FALSE(table.find(1, base));
  CHECK_FALSE(table.find(0xFFFF, {~std::uint64_t{0}}));
}

TEST_CASE("a page is found at each of its addresses, and nowhere else", "[caches][iotlb]") {
  const PageSize size = GENERATE(PageSize::kib4, PageSize::mib2, PageSize::gib1);
  const std::uint64_t bytes = mask_of(size) + 1;
  Table table;
  REQUIRE(table.fill(7, base + 5 * bytes + 0x123, 9 * bytes, size));
  for (const std::uint64_t offset : {std::uint64_t{0}, bytes / 2, bytes - 1}) {
    const auto found = table.find(7, base + 5 * bytes + offset);
    REQUIRE(found);
    CHECK(found->frame == Gpa{9 * bytes});
    CHECK(found->size == size);
    CHECK(found->rights == read_write);
  }
  CHECK_FALSE(table.find(7, base + (5 * bytes - 1)));
  CHECK_FALSE(table.find(7, base + 6 * bytes));
  CHECK_FALSE(table.find(6, base + 5 * bytes));
  CHECK_FALSE(table.find(8, base + 5 * bytes));
}

TEST_CASE("a size that is not asked for is not looked for", "[caches][iotlb]") {
  Table table;
  REQUIRE(table.fill(7, base, 0x200000, PageSize::mib2));
  CHECK_FALSE(table.find(7, base, 0));
  CHECK_FALSE(table.find(7, base, bit_of(PageSize::kib4) | bit_of(PageSize::gib1)));
  CHECK(table.find(7, base, bit_of(PageSize::mib2)));
}

TEST_CASE("frame and rights come back as they were filled in", "[caches][iotlb]") {
  Table table;
  for (const Rights rights : {Rights{}, read_only, write_only, read_write}) {
    for (const std::uint64_t frame : {std::uint64_t{0}, std::uint64_t{0x1000}, low_bits(52) & ~low_bits(12)}) {
      REQUIRE(table.fill(3, base, frame, PageSize::kib4, rights));
      const auto found = table.find(3, base);
      REQUIRE(found);
      CHECK(found->frame == Gpa{frame});
      CHECK(found->rights == rights);
    }
  }
}

TEST_CASE("pages that differ in one bit, of 57, are not confused, nor are tags",
          "[caches][iotlb][P3][SEC-10][B01][B02]") {
  Table table{1 << 14};
  constexpr unsigned address_bits = 57;
  for (unsigned bit = page_shift; bit < address_bits; ++bit) {
    Table fresh{64};
    REQUIRE(fresh.fill(1, {0}, 0x5000));
    CHECK_FALSE(fresh.find(1, {std::uint64_t{1} << bit}));
  }
  for (unsigned bit = 0; bit < 16; ++bit) {
    const auto tag = static_cast<Tag>(1U << bit);
    REQUIRE(table.fill(tag, base, std::uint64_t{tag} << page_shift));
  }
  for (unsigned bit = 0; bit < 16; ++bit) {
    const auto tag = static_cast<Tag>(1U << bit);
    const auto found = table.find(tag, base);
    if (found) CHECK(found->frame == Gpa{std::uint64_t{tag} << page_shift});
    CHECK_FALSE(table.find(static_cast<Tag>(~tag), base));
  }
}

TEST_CASE("filling a page again replaces it", "[caches][iotlb]") {
  Table table;
  for (std::uint64_t frame = 1; frame <= 20; ++frame) {
    REQUIRE(table.fill(3, base, frame << page_shift));
    REQUIRE(table.find(3, base)->frame == Gpa{frame << page_shift});
  }
  table.drop(3, base);
  CHECK_FALSE(table.find(3, base));
}

TEST_CASE("a full set gives up one page for another and never forgets the newest", "[caches][iotlb]") {
  Table table{1};
  REQUIRE(table.iotlb.sets() == 2);
  for (std::uint64_t page = 0; page < 1000; ++page) {
    REQUIRE(table.fill(1, {page << page_shift}, page << page_shift));
    REQUIRE(table.find(1, {page << page_shift}));
  }
  unsigned kept = 0;
  for (std::uint64_t page = 0; page < 1000; ++page) {
    const auto found = table.find(1, {page << page_shift});
    if (!found) continue;
    ++kept;
    CHECK(found->frame == Gpa{page << page_shift});
  }
  CHECK(kept == 8);
}

TEST_CASE("a fill is refused after an invalidation of its page, whether that found something or not",
          "[caches][iotlb][P1][PR-2]") {
  const PageSize size = GENERATE(PageSize::kib4, PageSize::mib2, PageSize::gib1);
  const bool found_something = GENERATE(false, true);
  const std::uint64_t bytes = mask_of(size) + 1;
  const Iova page = base + 3 * bytes;
  Table table;
  if (found_something) REQUIRE(table.fill(2, page, 4 * bytes, size));
  SECTION("all of it") {
    const FillGuard guard = table.iotlb.sample(2, page);
    table.drop(2, page, bytes);
    CHECK_FALSE(table.iotlb.fill(guard, 2, page, {{bytes}, size, read_write}));
  }
  SECTION("its last 4 KiB") {
    const FillGuard guard = table.iotlb.sample(2, page);
    table.drop(2, page + (bytes - page_size_bytes));
    CHECK_FALSE(table.iotlb.fill(guard, 2, page, {{bytes}, size, read_write}));
  }
  SECTION("by a sweep") {
    const FillGuard guard = table.iotlb.sample(2, page);
    TagSet tags;
    tags.set(2);
    table.iotlb.sweep(tags);
    CHECK_FALSE(table.iotlb.fill(guard, 2, page, {{bytes}, size, read_write}));
  }
  CHECK_FALSE(table.find(2, page));
}

TEST_CASE("a sample serves one fill", "[caches][iotlb][P1]") {
  Table table;
  const FillGuard guard = table.iotlb.sample(2, base);
  CHECK(table.iotlb.fill(guard, 2, base, {{0x1000}, PageSize::kib4, read_write}));
  CHECK_FALSE(table.iotlb.fill(guard, 2, base, {{0x2000}, PageSize::kib4, read_write}));
  CHECK(table.find(2, base)->frame == Gpa{0x1000});
}

TEST_CASE("an invalidation of another page seldom refuses a fill", "[caches][iotlb]") {
  Table table;
  unsigned refused = 0;
  constexpr unsigned tries = 200;
  for (unsigned i = 1; i <= tries; ++i) {
    const FillGuard guard = table.iotlb.sample(2, base);
    table.drop(2, base + (std::uint64_t{i} << 31));  // shares no page of any size
    if (!table.iotlb.fill(guard, 2, base, {{0x1000}, PageSize::kib4, read_write})) ++refused;
  }
  CHECK(refused < tries / 20);
}

TEST_CASE("dropping a page leaves its neighbours, other sizes' neighbours and other tags", "[caches][iotlb][QVT-15]") {
  Table table;
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

TEST_CASE("dropping the last page there is ends", "[caches][iotlb][B49]") {
  Table table;
  constexpr std::uint64_t last = ~std::uint64_t{0};
  REQUIRE(table.fill(1, {last}, 0x1000));
  table.iotlb.drop_pages(1, {{last - 0x1FFF}, {last}});
  CHECK_FALSE(table.find(1, {last}));
}

TEST_CASE("a sweep drops every page of its tags and none of others", "[caches][iotlb]") {
  Table table{1 << 13};
  constexpr Tag tags = 40;
  for (Tag tag = 1; tag < tags; ++tag)
    for (const PageSize size : page_sizes) REQUIRE(table.fill(tag, {std::uint64_t{tag} << 32}, 1 << 30, size));
  TagSet swept;
  for (Tag tag = 0; tag < tags; tag = static_cast<Tag>(tag + 3)) swept.set(tag);
  table.iotlb.sweep(swept);
  for (Tag tag = 1; tag < tags; ++tag)
    for (const PageSize size : page_sizes)
      CHECK(table.find(tag, {std::uint64_t{tag} << 32}, bit_of(size)).has_value() == (tag % 3 != 0));
}

TEST_CASE("which pages share a set depends on the seed", "[caches][iotlb][SEC-10]") {
  // Two pages share a set when dropping one refuses a fill of the other.
  const auto companions = [](std::uint64_t hash_seed) {
    Table table{512, hash_seed};
    std::vector<bool> shared;
    for (std::uint64_t i = 1; i < 2048; ++i) {
      const FillGuard guard = table.iotlb.sample(1, {0});
      table.drop(1, {i << 31});
      shared.push_back(!table.iotlb.fill(guard, 1, {0}, {{0x1000}, PageSize::kib4, read_write}));
    }
    return shared;
  };
  const auto first = companions(1);
  CHECK(first == companions(1));
  for (const unsigned other : {2U, 3U, 99U}) CHECK(first != companions(other));
}

TEST_CASE("whatever is filled and dropped, a lookup finds the newest fill that was not dropped",
          "[caches][iotlb][P1]") {
  struct Expected {
    std::uint64_t frame;
    Rights rights;
  };
  using Key = std::pair<Tag, std::uint64_t>;  // tag and page number of its size
  Table table{1 << 12};
  std::map<PageSize, std::map<Key, Expected>> model;
  test::Random random{5};
  for (unsigned step = 0; step < 30'000; ++step) {
    const auto tag = static_cast<Tag>(1 + random.below(3));
    const Iova iova{(random.below(4) << 30) + (random.below(4) << 21) + (random.below(16) << 12)};
    const PageSize size = random.pick(page_sizes);
    const unsigned shift = shift_of(size);
    if (random.chance(3, 4)) {
      const Expected page{random.below(1 << 10) << shift, {random.chance(1, 2), random.chance(1, 2)}};
      REQUIRE(table.fill(tag, iova, page.frame, size, page.rights));
      model[size][{tag, iova.value >> shift}] = page;
    } else {
      const std::uint64_t last = iova.value + (random.below(8) << 12);
      table.iotlb.drop_pages(tag, {iova, {last}});
      for (auto& [each, pages] : model)
        for (std::uint64_t number = iova.value >> shift_of(each); number <= last >> shift_of(each); ++number)
          pages.erase({tag, number});
    }
    const Iova asked{(random.below(4) << 30) + (random.below(4) << 21) + (random.below(16) << 12) + random.below(4096)};
    for (const PageSize each : page_sizes) {
      const auto found = table.find(tag, asked, bit_of(each));
      const auto expected = model[each].find({tag, asked.value >> shift_of(each)});
      // At most 816 pages in 8,192 entries: of the fixed sequence above no set overflows.
      REQUIRE(found.has_value() == (expected != model[each].end()));
      if (!found) continue;
      REQUIRE(found->frame == Gpa{expected->second.frame});
      REQUIRE(found->rights == expected->second.rights);
    }
  }
}

TEST_CASE("the size of an IOTLB is fixed when it is made", "[caches][iotlb][P6]") {
  test::CountingAllocator host;
  {
    Iotlb iotlb;
    REQUIRE(iotlb.reset(host.functions(), 1000, seed));
    CHECK(iotlb.sets() == 512);
    CHECK(iotlb.bytes() == host.open_bytes());
    const std::uint64_t calls = host.calls();
    for (std::uint64_t page = 0; page < 5000; ++page) {
      const Iova iova{page << page_shift};
      static_cast<void>(iotlb.fill(iotlb.sample(1, iova), 1, iova, {{0}, PageSize::kib4, read_write}));
    }
    CHECK(host.calls() == calls);
    for (std::uint64_t k = 1; k <= 2; ++k) {
      host.fail_at(k);
      Iotlb second;
      CHECK_FALSE(second.reset(host.functions(), 1000, seed));
    }
  }
  CHECK(host.open_blocks() == 0);
}

}  // namespace viommu::caches
