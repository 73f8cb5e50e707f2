// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Blocks: one entry for up to eight pages of 4 KiB whose leaves lie in one line of the guest's table.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>

#include "caches/iotlb.hpp"
#include "tests/caches/test_iotlb.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

using test::TestIotlb;

constexpr Tag tag = 7;
constexpr Iova block{0x40008000};
constexpr std::uint64_t block_bytes = 0x8000;
constexpr std::uint64_t mib2 = 1 << 21;

constexpr Iova page_of(unsigned number) { return block + number * page_size_bytes; }
constexpr std::uint8_t bit(unsigned number) { return static_cast<std::uint8_t>(1U << number); }

/// Fills what a walk of page `asked` found: pages `run`, the first of the block at `first_frame`.
bool fill_block(TestIotlb& table, unsigned asked, std::uint64_t first_frame, unsigned run, Rights rights = read_write) {
  const std::uint64_t frame = (first_frame + asked * page_size_bytes) & low_bits(52);
  return table.fill_page(tag, page_of(asked), {{frame}, PageSize::kib32, rights, static_cast<std::uint8_t>(run)});
}
/// The pages that are found, as bits; each at its own place behind `first_frame`.
unsigned found_pages(const TestIotlb& table, std::uint64_t first_frame, Sizes sizes = all_sizes) {
  unsigned found = 0;
  for (unsigned number = 0; number < pages_per_block; ++number) {
    const auto page = table.find(tag, page_of(number) + 0x234, sizes);
    if (!page) continue;
    CHECK(page->gpa == Gpa{(first_frame + number * page_size_bytes + 0x234) & low_bits(52)});
    found |= 1U << number;
  }
  return found;
}

}  // namespace

TEST_CASE("a block answers each of its pages with that page's own address, and no other page",
          "[caches][iotlb][blocks]") {
  const unsigned asked = GENERATE(0U, 3U, 7U);
  for (unsigned run = 1; run < 256; ++run) {
    if ((run & bit(asked)) == 0) continue;
    TestIotlb table{64};
    REQUIRE(fill_block(table, asked, 0x5000, run));
    REQUIRE(found_pages(table, 0x5000) == run);
    CHECK_FALSE(table.find(tag, block + block_bytes));
    CHECK_FALSE(table.find(tag, {block.value - 1}));
    CHECK_FALSE(table.find(tag + 1, page_of(asked)));
  }
}

TEST_CASE("a block whose first page would lie below address 0 has its pages where they are",
          "[caches][iotlb][blocks]") {
  // Page 5 maps frame 0x2000, so page 3 maps 0, and the block as a whole begins below: modulo 2^52 nobody notices.
  for (unsigned asked = 3; asked < 8; ++asked) {
    TestIotlb table;
    constexpr std::uint64_t first_frame = ~std::uint64_t{0x2FFF} & low_bits(52);  // -0x3000
    REQUIRE(fill_block(table, asked, first_frame, 0xF8));
    REQUIRE(found_pages(table, first_frame) == 0xF8);
    CHECK(table.find(tag, page_of(3))->gpa == Gpa{0});
    CHECK(table.find(tag, page_of(7) + 0xFFF)->gpa == Gpa{0x4FFF});
  }
  TestIotlb table;  // and at the other end
  constexpr std::uint64_t last_frame = low_bits(52) & ~low_bits(12);
  REQUIRE(fill_block(table, 0, last_frame - 2 * page_size_bytes, 0x07));
  CHECK(table.find(tag, page_of(2) + 0xFFF)->gpa == Gpa{low_bits(52)});
}

TEST_CASE("what a block answers is one piece only where it is whole and aligned alike", "[caches][iotlb][blocks]") {
  TestIotlb table;
  REQUIRE(fill_block(table, 2, 0x10000, 0xFF));
  CHECK(table.find(tag, page_of(2))->mask == mask_of(PageSize::kib32));
  table.drop(tag, page_of(6));
  CHECK(table.find(tag, page_of(2))->mask == low_bits(12));
  REQUIRE(fill_block(table, 2, 0x11000, 0xFF));
  CHECK(table.find(tag, page_of(2))->mask == low_bits(12));
}

TEST_CASE("a block has one set of rights", "[caches][iotlb][blocks]") {
  for (const Rights rights : {Rights{}, read_only, write_only, read_write}) {
    TestIotlb table;
    REQUIRE(fill_block(table, 1, 0, 0x0F, rights));
    for (unsigned number = 0; number < 4; ++number) CHECK(table.find(tag, page_of(number))->rights == rights);
  }
}

TEST_CASE("dropping a page of a block clears that page, and the last one the entry", "[caches][iotlb][blocks][P1]") {
  TestIotlb table;
  unsigned left = 0xFF;
  REQUIRE(fill_block(table, 0, 0x5000, left));
  for (const unsigned number : {3U, 0U, 7U, 4U, 1U, 2U, 6U, 5U}) {
    table.drop(tag, page_of(number) + 0x7FF, 1);
    left &= ~(1U << number);
    CHECK(found_pages(table, 0x5000) == left);
  }
  // Nothing of it is left: a run of one page that goes on alike does not bring another page back.
  REQUIRE(fill_block(table, 4, 0x5000, 0x10));
  CHECK(found_pages(table, 0x5000) == 0x10);
}

TEST_CASE("dropping a range takes out of each block what lies in it", "[caches][iotlb][blocks][P1]") {
  constexpr unsigned blocks = 3;
  constexpr unsigned pages = blocks * pages_per_block;
  for (unsigned first = 0; first < pages; ++first) {
    for (unsigned last = first; last < pages; ++last) {
      TestIotlb table{64};
      for (unsigned i = 0; i < blocks; ++i)
        REQUIRE(table.fill_page(tag, block + i * block_bytes, {{0}, PageSize::kib32, read_write, 0xFF}));
      table.drop_range(tag, {page_of(first), page_of(last) + 0xFFF});
      for (unsigned number = 0; number < pages; ++number)
        REQUIRE(table.find(tag, page_of(number)).has_value() == (number < first || number > last));
    }
  }
}

TEST_CASE("runs of one block that go on alike become one entry", "[caches][iotlb][blocks]") {
  TestIotlb table;
  REQUIRE(fill_block(table, 1, 0x5000, 0x03));
  REQUIRE(fill_block(table, 6, 0x5000, 0x60));
  CHECK(found_pages(table, 0x5000) == 0x63);
  table.drop(tag, page_of(1));
  REQUIRE(fill_block(table, 7, 0x5000, 0x80));
  CHECK(found_pages(table, 0x5000) == 0xE1);  // what was dropped does not come back
}

TEST_CASE("a run with other frames or other rights replaces what the block held", "[caches][iotlb][blocks][P3]") {
  TestIotlb table;
  REQUIRE(fill_block(table, 1, 0x5000, 0x03));
  SECTION("other frames") {
    REQUIRE(fill_block(table, 6, 0x6000, 0x60));
    CHECK(found_pages(table, 0x6000) == 0x60);
  }
  SECTION("other rights") {
    REQUIRE(fill_block(table, 6, 0x5000, 0x60, read_only));
    CHECK(found_pages(table, 0x5000) == 0x60);
    CHECK(table.find(tag, page_of(6))->rights == read_only);
  }
}

TEST_CASE("a page of its own stands beside a block that lacks it", "[caches][iotlb][blocks]") {
  TestIotlb table;
  REQUIRE(fill_block(table, 0, 0x5000, 0x0F));
  REQUIRE(table.fill(tag, page_of(5), 0x9000));
  CHECK(table.find(tag, page_of(5))->gpa == Gpa{0x9000});
  CHECK((found_pages(table, 0x5000, bit_of(PageSize::kib32))) == 0x0F);
  SECTION("dropping the page leaves the block") {
    table.drop(tag, page_of(5));
    CHECK(found_pages(table, 0x5000) == 0x0F);
  }
  SECTION("dropping a page of the block leaves the page") {
    table.drop(tag, page_of(2));
    CHECK(table.find(tag, page_of(5))->gpa == Gpa{0x9000});
    CHECK_FALSE(table.find(tag, page_of(2)));
  }
  SECTION("dropping all of it leaves neither") {
    table.drop(tag, block, block_bytes);
    for (unsigned number = 0; number < pages_per_block; ++number) CHECK_FALSE(table.find(tag, page_of(number)));
  }
}

TEST_CASE("a page is dropped from its block and by itself", "[caches][iotlb][blocks][P1]") {
  TestIotlb table;
  REQUIRE(fill_block(table, 2, 0x5000, 0xFF));
  REQUIRE(table.fill(tag, page_of(2), 0x7000));
  table.drop(tag, page_of(2));
  CHECK_FALSE(table.find(tag, page_of(2)));
  CHECK(found_pages(table, 0x5000) == 0xFB);
}

TEST_CASE("a drop of any page of a block refuses the fill of the block and of each page of it",
          "[caches][iotlb][blocks][P1][PR-2]") {
  TestIotlb table;
  for (unsigned dropped = 0; dropped < pages_per_block; ++dropped) {
    for (unsigned asked = 0; asked < pages_per_block; ++asked) {
      const FillGuard guard = table.sample(tag, page_of(asked));
      table.drop(tag, page_of(dropped));
      REQUIRE_FALSE(table.iotlb.fill(guard, table.place(tag), page_of(asked),
                                     {{0x5000}, PageSize::kib32, read_write, 0xFF}, nullptr));
      REQUIRE_FALSE(
          table.iotlb.fill(guard, table.place(tag), page_of(asked), {{0x5000}, PageSize::kib4, read_write}, nullptr));
    }
  }
}

TEST_CASE("a drop of any 4 KiB inside a large page refuses its fill", "[caches][iotlb][P1][PR-2]") {
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
    const Iova page{5 * (mask_of(size) + 1)};
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{0x1000}, mask_of(size) / 2, mask_of(size)}) {
      TestIotlb table;
      const FillGuard guard = table.sample(tag, page + 0x77777);
      table.drop(tag, {(page.value + at) & ~low_bits(12)});
      CHECK_FALSE(table.iotlb.fill(guard, table.place(tag), page + 0x77777, {{0}, size, read_write}, nullptr));
    }
  }
}

TEST_CASE("a drop that is told of no large sizes leaves them, and their fills", "[caches][iotlb][P1]") {
  TestIotlb table;
  REQUIRE(table.fill(tag, {mib2}, 0, PageSize::mib2));
  const FillGuard guard = table.sample(tag, {3 * mib2});
  table.drop_range(tag, {{mib2}, {mib2 + 0xFFF}}, small_sizes);
  table.drop_range(tag, {{3 * mib2}, {3 * mib2 + 0xFFF}}, small_sizes);
  CHECK(table.find(tag, {mib2}));
  CHECK(table.iotlb.fill(guard, table.place(tag), {3 * mib2}, {{0}, PageSize::mib2, read_write}, nullptr));
  table.drop_range(tag, {{mib2}, {mib2 + 0xFFF}}, small_sizes | bit_of(PageSize::mib2));
  CHECK_FALSE(table.find(tag, {mib2}));
}

TEST_CASE(
    "whatever blocks and pages are filled and dropped, each page is answered as the newest fill of its entry says",
    "[caches][iotlb][blocks][P1]") {
  struct Block {
    std::uint64_t first_frame = 0;
    Rights rights;
    unsigned pages = 0;
  };
  constexpr unsigned blocks = 6;
  TestIotlb table{256};
  std::array<Block, blocks> known{};
  std::map<unsigned, std::uint64_t> single;  // frames of pages that have an entry of their own
  test::Random random{17};
  for (unsigned step = 0; step < 40'000; ++step) {
    const auto number = static_cast<unsigned>(random.below(blocks));
    const auto asked = static_cast<unsigned>(random.below(pages_per_block));
    const unsigned page = number * pages_per_block + asked;
    const std::uint64_t frame = random.below(3) << 20;
    switch (random.below(4)) {
      case 0: {
        const Rights rights{true, random.chance(1, 2)};
        const unsigned run = bit(asked) | static_cast<unsigned>(random.below(256));
        REQUIRE(table.fill_page(
            tag, page_of(page),
            {{frame + asked * page_size_bytes}, PageSize::kib32, rights, static_cast<std::uint8_t>(run)}));
        Block& block_known = known.at(number);
        const bool same = block_known.first_frame == frame && block_known.rights == rights;
        block_known = {frame, rights, same ? block_known.pages | run : run};
        break;
      }
      case 1:
        REQUIRE(table.fill(tag, page_of(page), frame));
        single[page] = frame;
        break;
      case 2: {
        const auto last = static_cast<unsigned>(page + random.below(12));
        table.drop_range(tag, {page_of(page), page_of(last)});
        for (unsigned each = page; each <= last; ++each) {
          single.erase(each);
          if (each < blocks * pages_per_block) known.at(each / 8).pages &= ~(1U << each % 8);
        }
        break;
      }
      default: break;
    }
    const auto probe = static_cast<unsigned>(random.below(std::uint64_t{blocks} * pages_per_block));
    const Block& in = known.at(probe / 8);
    const auto found = table.find(tag, page_of(probe) + 5, small_sizes);
    const auto own = single.find(probe);
    const bool in_block = (in.pages >> probe % 8 & 1) != 0;
    REQUIRE(found.has_value() == (own != single.end() || in_block));
    if (!found) continue;
    REQUIRE(found->gpa.value == (own != single.end() ? own->second : in.first_frame + probe % 8 * page_size_bytes) + 5);
    REQUIRE(found->rights == (own != single.end() ? read_write : in.rights));
  }
}

}  // namespace viommu::caches
