// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The mappings of one domain, rule by rule.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/virtio_iommu/mappings.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"
#include "tests/virtio_iommu/mapping_model.hpp"

namespace viommu::virtio_iommu {
namespace {

using test::seen;

constexpr std::uint64_t top = ~std::uint64_t{0};

Mapping mapping(std::uint64_t first, std::uint64_t last, std::uint64_t gpa = 0x10000000, Rights rights = read_write) {
  return {{{first}, {last}}, {gpa}, rights, false};
}
/// Pages [first, last], each at a place of its own.
Mapping pages(std::uint64_t first, std::uint64_t last) {
  return mapping(first * page_size_bytes, last * page_size_bytes + (page_size_bytes - 1),
                 (0x100000 + first) * page_size_bytes);
}
IovaRange range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

/// A domain, and nodes of its own.
struct Domain {
  explicit Domain(MappingNodes::Limits limits = {1 << 20, 1 << 30}) : nodes{memory.functions(), limits} {}

  Removed remove(IovaRange which, std::size_t most = ~std::size_t{0}) {
    gone.clear();
    return mappings.remove(which, most, [this](const Mapping& one) { gone.push_back(one); });
  }
  /// What a ticket that has passed does.
  void drain() {
    nodes.seal(1);
    while (nodes.reclaim(1, 100)) {
    }
  }

  test::CountingAllocator memory;
  MappingNodes nodes;
  Mappings mappings{nodes};
  std::vector<Mapping> gone;
};

}  // namespace

TEST_CASE("the specification's examples of UNMAP", "[virtio-iommu][S3.10][A28]") {
  struct Example {
    const char* what;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> mapped;
    std::pair<std::uint64_t, std::uint64_t> unmapped;
    Removed result;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> left;
  };
  const std::array examples{
      Example{"nothing mapped", {}, {0, 4}, Removed::all, {}},
      Example{"one, as a whole", {{0, 9}}, {0, 9}, Removed::all, {}},
      Example{"two, together", {{0, 4}, {5, 9}}, {0, 9}, Removed::all, {}},
      Example{"half of one", {{0, 9}}, {0, 4}, Removed::split, {{0, 9}}},
      Example{"the first of two", {{0, 4}, {5, 9}}, {0, 4}, Removed::all, {{5, 9}}},
      Example{"more than one", {{0, 4}}, {0, 9}, Removed::all, {}},
      Example{"two and the hole between", {{0, 4}, {10, 14}}, {0, 14}, Removed::all, {}},
      Example{"the third of three only partly",
              {{0, 4}, {5, 9}, {10, 14}},
              {0, 12},
              Removed::split,
              {{0, 4}, {5, 9}, {10, 14}}},
  };
  for (const std::uint64_t granule : {std::uint64_t{1}, page_size_bytes, std::uint64_t{0x200000}}) {
    for (const Example& example : examples) {
      CAPTURE(example.what, granule);
      const auto granules = [granule](std::pair<std::uint64_t, std::uint64_t> which) {
        return range(which.first * granule, which.second * granule + (granule - 1));
      };
      Domain domain;
      const auto mapped = [&](std::pair<std::uint64_t, std::uint64_t> which) {
        return Mapping{granules(which), {0x40000000 + which.first * granule}, read_write, false};
      };
      for (const auto& which : example.mapped) REQUIRE(domain.mappings.insert(mapped(which)) == Inserted::ok);
      CHECK(domain.remove(granules(example.unmapped)) == example.result);
      std::vector<Mapping> left;
      left.reserve(example.left.size());
      for (const auto& which : example.left) left.push_back(mapped(which));
      CHECK(seen(domain.mappings) == left);
      CHECK(domain.gone.size() == example.mapped.size() - example.left.size());
      CHECK(domain.mappings.size() == left.size());
    }
  }
}

TEST_CASE("a mapping that overlaps another in any way is refused and changes nothing", "[virtio-iommu][S3.12]") {
  Domain domain;
  const Mapping there = mapping(10, 19);
  REQUIRE(domain.mappings.insert(there) == Inserted::ok);
  for (const auto& [first, last] : {std::pair{14, 14}, {0, 11}, {16, 21}, {5, 24}, {10, 19}, {19, 19}, {10, 10}}) {
    CAPTURE(first, last);
    CHECK(domain.mappings.insert(mapping(static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(last),
                                         0x5000)) == Inserted::overlap);
    CHECK(seen(domain.mappings) == std::vector{there});
  }
  CHECK(domain.mappings.insert(mapping(0, 9)) == Inserted::ok);
  CHECK(domain.mappings.insert(mapping(20, 20)) == Inserted::ok);
}

TEST_CASE("all 2^64 addresses are one mapping, and each of them leads where it says", "[virtio-iommu][VIO-15][B90]") {
  Domain domain;
  const Mapping all = mapping(0, top, 0, read_only);
  REQUIRE(domain.mappings.insert(all) == Inserted::ok);
  CHECK(domain.mappings.find({0}) == all);
  CHECK(domain.mappings.find({top}) == all);
  CHECK(domain.mappings.insert(mapping(top, top)) == Inserted::overlap);
  CHECK(domain.remove(range(0, top - 1)) == Removed::split);
  CHECK(domain.remove(range(0, top)) == Removed::all);
  CHECK(domain.mappings.size() == 0);
  // The last byte and the last page there are.
  REQUIRE(domain.mappings.insert(mapping(top, top, 0x1234567)) == Inserted::ok);
  CHECK(domain.mappings.find({top})->gpa == Gpa{0x1234567});
  CHECK_FALSE(domain.mappings.find({top - 1}));
  CHECK(domain.remove(range(top, top)) == Removed::all);
  REQUIRE(domain.mappings.insert(mapping(top - 0xfff, top, 0x5000)) == Inserted::ok);
  CHECK(domain.mappings.find({top}) == mapping(top - 0xfff, top, 0x5000));
  CHECK(domain.mappings.first_from({0}) == mapping(top - 0xfff, top, 0x5000));
}

TEST_CASE("what a mapping says comes back from each form it is kept in", "[virtio-iommu]") {
  Domain domain;
  constexpr std::uint64_t count = 200;  // so many that they lie in leaves of pages
  std::vector<Mapping> wanted;
  for (std::uint64_t page = 0; page < count; ++page) {
    Mapping one = pages(page, page);
    one.rights = Rights::in(page);
    one.mmio = page % 3 == 0;
    wanted.push_back(one);
    REQUIRE(domain.mappings.insert(one) == Inserted::ok);
  }
  for (std::uint64_t at = 0; at < count; ++at) {  // far away, of one byte, with addresses below a page
    const Mapping one{range(0x1000000000 + at, 0x1000000000 + at), {0xABCDEF01 + at}, Rights::in(at), at % 5 == 0};
    wanted.push_back(one);
    REQUIRE(domain.mappings.insert(one) == Inserted::ok);
  }
  CHECK(seen(domain.mappings) == wanted);
  for (const Mapping& one : wanted) {
    CHECK(domain.mappings.find(one.range.first) == one);
    CHECK(domain.mappings.find(one.range.last) == one);
  }
}

TEST_CASE("dense pages cost about nine bytes each, and sparse ones less than fifty", "[virtio-iommu][SEC-8]") {
  constexpr std::uint64_t count = 1 << 16;
  Domain domain;
  SECTION("dense, upwards") {
    for (std::uint64_t page = 0; page < count; ++page)
      REQUIRE(domain.mappings.insert(pages(page, page)) == Inserted::ok);
    domain.drain();
    CHECK(domain.nodes.bytes() < count * 15);  // what is kept for reuse is in it
  }
  SECTION("dense, downwards") {
    for (std::uint64_t page = count; page-- != 0;) {
      REQUIRE(domain.mappings.insert(pages(page, page)) == Inserted::ok);
      if (page % 64 == 0) domain.drain();
    }
    CHECK(domain.nodes.bytes() < count * 20);
  }
  SECTION("sparse") {
    test::Random random{1};
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t page = random.below(std::uint64_t{1} << 36);
      static_cast<void>(domain.mappings.insert(pages(page, page)));
      if (i % 64 == 0) domain.drain();
    }
    CHECK(domain.nodes.bytes() < count * 50);
  }
}

TEST_CASE("blocks that fill up side by side are one leaf of pages each", "[virtio-iommu][SEC-8]") {
  constexpr std::uint64_t blocks = 3;
  Domain domain{{1 << 20, 1 << 30, 0}};  // no node is kept: what is counted is in the tree
  for (std::uint64_t page = 0; page < Pages::count; ++page)
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const std::uint64_t at = block * Pages::count + page;
      REQUIRE(domain.mappings.insert(pages(at, at)) == Inserted::ok);
    }
  domain.drain();
  CHECK(domain.mappings.size() == blocks * Pages::count);
  CHECK(domain.nodes.bytes() == blocks * sizeof(Pages) + sizeof(Inner) + Shortcuts::size_with(Shortcuts::first_slots));
}

namespace {

/// Of a block: as many pages as it takes for a leaf of pages when they come one by one.
constexpr std::uint64_t pages_of_a_leaf = 32;
void fill_block(Domain& domain, std::uint64_t block) {
  for (std::uint64_t page = 0; page < pages_of_a_leaf; ++page) {
    const std::uint64_t at = block * Pages::count + page;
    REQUIRE(domain.mappings.insert(pages(at, at)) == Inserted::ok);
  }
}
void empty_block(Domain& domain, std::uint64_t block) {
  const std::uint64_t first = block * Pages::count;
  REQUIRE(domain.remove(pages(first, first + Pages::count - 1).range) == Removed::all);
}
/// Each page of the blocks leads where it is mapped, and the page behind them nowhere.
void check_blocks(const Domain& domain, std::uint64_t from, std::uint64_t to, std::uint64_t stride = 1) {
  for (std::uint64_t block = from; block < to; block += stride) {
    for (std::uint64_t page = 0; page < pages_of_a_leaf; ++page) {
      const std::uint64_t at = block * Pages::count + page;
      REQUIRE(domain.mappings.find({at * page_size_bytes + 5}) == pages(at, at));
    }
    REQUIRE_FALSE(domain.mappings.find({(block * Pages::count + pages_of_a_leaf) * page_size_bytes}));
  }
}

}  // namespace

TEST_CASE("dense pages have shortcuts, as many as their leaves need, and none are left behind",
          "[virtio-iommu][SEC-8][P6]") {
  Domain domain{{1 << 20, 1 << 30, 0}};
  CHECK(domain.mappings.shortcut_slots() == 0);
  constexpr std::uint64_t blocks = 70;
  for (std::uint64_t block = 0; block < blocks; ++block) {
    fill_block(domain, block);
    CAPTURE(block);
    CHECK(domain.mappings.shortcut_slots() == (block < 8 ? 8U : block < 64 ? 64U : 512U));
  }
  domain.drain();
  check_blocks(domain, 0, blocks);
  // 64 slots a leaf at most.
  for (std::uint64_t block = blocks; block-- != 0;) {
    empty_block(domain, block);
    CAPTURE(block);
    CHECK(domain.mappings.shortcut_slots() == (block >= 8 ? 512U : block >= 1 ? 64U : 0U));
    check_blocks(domain, 0, block);
    REQUIRE_FALSE(domain.mappings.find({block * Pages::count * page_size_bytes}));
  }
  domain.drain();
  CHECK(domain.nodes.bytes() == 0);
  CHECK(domain.memory.open_bytes() == 0);
  CHECK(domain.memory.mistakes() == 0);
}

TEST_CASE("blocks that want the same shortcut are all found", "[virtio-iommu]") {
  Domain domain;
  // 8 slots, and one of them for all.
  constexpr std::uint64_t stride = 8;
  constexpr std::uint64_t blocks = 7 * stride;
  for (std::uint64_t block = 0; block < blocks; block += stride) fill_block(domain, block);
  CHECK(domain.mappings.shortcut_slots() == 8);
  check_blocks(domain, 0, blocks, stride);
  empty_block(domain, blocks - stride);  // which has it
  check_blocks(domain, 0, blocks - stride, stride);
  empty_block(domain, 0);  // which has it not
  check_blocks(domain, stride, blocks - stride, stride);
  domain.mappings.clear();
  CHECK(domain.mappings.shortcut_slots() == 0);
  CHECK_FALSE(domain.mappings.find({stride * Pages::count * page_size_bytes}));
  fill_block(domain, 3);
  check_blocks(domain, 3, 4);
}

TEST_CASE("no shortcut leads to a leaf that has been taken out", "[virtio-iommu][P1]") {
  Domain domain;
  fill_block(domain, 0);
  fill_block(domain, 1);
  // Few are left, in a list. Nothing is drained, so that the old leaf still says what it said.
  const std::uint64_t first = Pages::count;
  REQUIRE(domain.remove(pages(first + 3, first + Pages::count - 1).range) == Removed::all);
  CHECK(domain.mappings.find({first * page_size_bytes}) == pages(first, first));
  REQUIRE(domain.remove(pages(first, first).range) == Removed::all);
  CHECK_FALSE(domain.mappings.find({first * page_size_bytes}));
  Mapping elsewhere = pages(first, first);
  elsewhere.gpa = elsewhere.gpa + 0x40000000;
  REQUIRE(domain.mappings.insert(elsewhere) == Inserted::ok);
  CHECK(domain.mappings.find({first * page_size_bytes}) == elsewhere);
  domain.mappings.clear();
  CHECK_FALSE(domain.mappings.find({0}));
}

TEST_CASE("without memory for shortcuts every MAP is done all the same", "[virtio-iommu][S3.13][SEC-8]") {
  constexpr std::uint64_t blocks = 30;
  for (unsigned failing = 1; failing < 60; ++failing) {
    Domain domain{{1 << 20, 1 << 30, 0}};
    domain.memory.fail_at(failing);
    CAPTURE(failing);
    std::size_t refused = 0;
    for (std::uint64_t page = 0; page < blocks * Pages::count; page += 4) {
      const Inserted first = domain.mappings.insert(pages(page, page));
      if (first == Inserted::ok) continue;
      ++refused;  // for a node's sake
      REQUIRE(domain.mappings.insert(pages(page, page)) == Inserted::ok);
    }
    CHECK(refused <= 1);
    for (std::uint64_t page = 0; page < blocks * Pages::count; page += 4)
      REQUIRE(domain.mappings.find({page * page_size_bytes}) == pages(page, page));
    CHECK(domain.mappings.shortcut_slots() == 64);
  }
}

TEST_CASE("a mapping that is no page lies among dense pages or beside them", "[virtio-iommu][S3.12]") {
  constexpr std::uint64_t block_bytes = Pages::count * page_size_bytes;
  constexpr std::uint64_t base = 5 * block_bytes;
  constexpr std::uint64_t block_last = base + (block_bytes - 1);
  const std::array beside{
      mapping(base - 1, base - 1),                                              // the byte before the block
      mapping(base - page_size_bytes, base - 1),                                // a page there
      mapping(base + page_size_bytes, base + page_size_bytes),                  // in the first hole, its first byte
      mapping(base + 2 * page_size_bytes - 3, base + 2 * page_size_bytes - 1),  // and its last ones
      mapping(block_last - page_size_bytes, block_last - 1),                    // all but the last byte of the block
      mapping(block_last, block_last),                                          // that byte
      mapping(block_last, block_last + 1),                                      // over the border
      mapping(block_last + 1, block_last + 1),                                  // the byte behind the block
      mapping(block_last + 1, block_last + 3 * page_size_bytes),
  };
  for (const Mapping& one : beside) {
    CAPTURE(one.range.first.value, one.range.last.value);
    Domain domain;
    std::vector<Mapping> wanted;
    for (std::uint64_t page = 0; page < Pages::count - 2; page += 2) {
      wanted.push_back(pages(base / page_size_bytes + page, base / page_size_bytes + page));
      REQUIRE(domain.mappings.insert(wanted.back()) == Inserted::ok);
    }
    const std::vector<Mapping> dense = wanted;
    REQUIRE(domain.mappings.insert(one) == Inserted::ok);
    wanted.insert(
        std::ranges::upper_bound(wanted, one.range.first, {}, [](const Mapping& at) { return at.range.first; }), one);
    CHECK(seen(domain.mappings) == wanted);
    for (const Mapping& each : wanted) {
      CHECK(domain.mappings.find(each.range.first) == each);
      CHECK(domain.mappings.find(each.range.last) == each);
    }
    CHECK(domain.mappings.insert(one) == Inserted::overlap);
    // The pages that were left out still have their place.
    const Mapping late = pages(base / page_size_bytes + 3, base / page_size_bytes + 3);
    CHECK(domain.mappings.insert(late) == Inserted::ok);
    CHECK(domain.mappings.find(late.range.last) == late);
    CHECK(domain.remove(late.range) == Removed::all);
    CHECK(domain.remove(one.range) == Removed::all);
    CHECK(seen(domain.mappings) == dense);
  }
}

TEST_CASE("what is left of many mappings is kept together again", "[virtio-iommu][SEC-8][P6]") {
  constexpr std::uint64_t count = 1 << 18;
  Domain domain;
  for (std::uint64_t i = 0; i < count; ++i) {
    REQUIRE(domain.mappings.insert(pages(i << 12, i << 12)) == Inserted::ok);
    if (i % 64 == 0) domain.drain();
  }
  // One of 500 stays: by then there are as many lists, and none in the node of another.
  std::uint64_t left = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (i % 500 == 0) {
      ++left;
    } else {
      REQUIRE(domain.remove(pages(i << 12, i << 12).range) == Removed::all);
    }
    if (i % 64 == 0) domain.drain();
  }
  domain.drain();
  constexpr std::uint64_t kept = 256 * (sizeof(List) + sizeof(Inner));
  CHECK(domain.nodes.bytes() < kept + left * 80);
}

TEST_CASE("no more mappings than the limit, and room again after an UNMAP", "[virtio-iommu][S3.13][A29][B91]") {
  Domain domain{{4, 1 << 20}};
  for (std::uint64_t page = 0; page < 4; ++page) REQUIRE(domain.mappings.insert(pages(page, page)) == Inserted::ok);
  CHECK(domain.mappings.insert(pages(9, 9)) == Inserted::limit);
  CHECK(domain.mappings.insert(pages(3, 3)) == Inserted::overlap);  // which comes first
  CHECK(domain.mappings.size() == 4);
  Mappings other{domain.nodes};  // of another domain: the limit is of all
  CHECK(other.insert(pages(0, 0)) == Inserted::limit);
  REQUIRE(domain.remove(pages(1, 1).range) == Removed::all);
  CHECK(domain.mappings.insert(pages(9, 9)) == Inserted::ok);
  domain.mappings.clear();
  CHECK(other.insert(pages(0, 0)) == Inserted::ok);
}

TEST_CASE("a MAP waits for memory that readers may still use, and gets none early",
          "[virtio-iommu][S3.13][SEC-8][P6]") {
  Domain domain{{1000, 3 * sizeof(List)}};
  std::uint64_t page = 0;
  Inserted result = Inserted::ok;
  for (; result == Inserted::ok; page += 1000) result = domain.mappings.insert(pages(page, page));
  CHECK(result == Inserted::later);  // each made the list anew, and nobody has said that the old ones are unused
  const std::vector<Mapping> before = seen(domain.mappings);
  CHECK(before.size() == 3);
  domain.nodes.seal(7);
  CHECK_FALSE(domain.nodes.reclaim(6, 100));
  CHECK(domain.mappings.insert(pages(page, page)) == Inserted::later);
  CHECK(seen(domain.mappings) == before);
  CHECK_FALSE(domain.nodes.reclaim(7, 100));
  CHECK(domain.mappings.insert(pages(page, page)) == Inserted::ok);
  CHECK(domain.nodes.bytes() <= 3 * sizeof(List));
}

TEST_CASE("without memory to come a MAP is refused for good", "[virtio-iommu][S3.13][SEC-8]") {
  Domain domain{{1000, sizeof(List)}};
  REQUIRE(domain.mappings.insert(pages(0, 0)) == Inserted::ok);
  CHECK(domain.mappings.insert(pages(1000, 1000)) == Inserted::no_memory);
  CHECK(seen(domain.mappings) == std::vector{pages(0, 0)});
}

TEST_CASE("a removal needs no memory, and a MAP of the same range right after none either", "[virtio-iommu][S3.11]") {
  Domain domain;
  std::vector<Mapping> wanted;
  for (std::uint64_t i = 0; i < 100; ++i) {
    wanted.push_back(i % 2 == 0 ? pages(i, i) : pages(i << 20, (i << 20) + 3));
    REQUIRE(domain.mappings.insert(wanted.back()) == Inserted::ok);
  }
  domain.drain();
  for (const Mapping& one : wanted) {
    domain.memory.fail_at(1);
    REQUIRE(domain.remove(one.range) == Removed::all);
    CHECK_FALSE(domain.mappings.find(one.range.first));
    Mapping elsewhere = one;
    elsewhere.gpa = one.gpa + 0x100000000;
    elsewhere.rights = read_only;
    REQUIRE(domain.mappings.insert(elsewhere) == Inserted::ok);
    CHECK(domain.mappings.find(one.range.last) == elsewhere);
    REQUIRE(domain.remove(one.range) == Removed::all);
    REQUIRE(domain.mappings.insert(one) == Inserted::ok);
  }
  domain.memory.fail_at(1);
  CHECK(domain.remove(all_iovas) == Removed::all);
  CHECK(domain.mappings.size() == 0);
  CHECK(seen(domain.mappings).empty());
}

TEST_CASE("a big UNMAP goes in slices, ascending, and tells of each mapping before it vanishes",
          "[virtio-iommu][S3.11][P5]") {
  Domain domain;
  std::vector<Mapping> wanted;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    wanted.push_back(i < 500 ? pages(i, i) : pages(i << 16, (i << 16) + 7));
    REQUIRE(domain.mappings.insert(wanted.back()) == Inserted::ok);
  }
  std::vector<Mapping> gone;
  std::size_t slices = 0;
  for (Removed result = Removed::more; result == Removed::more; ++slices) {
    std::size_t in_slice = 0;
    result = domain.mappings.remove(all_iovas, 7, [&](const Mapping& one) {
      CHECK(domain.mappings.find(one.range.first) == one);
      gone.push_back(one);
      ++in_slice;
    });
    CHECK(in_slice <= 7);
  }
  CHECK(gone == wanted);
  CHECK(slices == (1000 + 6) / 7);
}

TEST_CASE("a domain that goes gives its nodes back in slices once its ticket has passed", "[virtio-iommu][S3.1][P5]") {
  Domain domain;
  for (std::uint64_t i = 0; i < 3000; ++i) REQUIRE(domain.mappings.insert(pages(i << 12, i << 12)) == Inserted::ok);
  domain.drain();
  domain.mappings.clear();
  CHECK(domain.mappings.size() == 0);
  CHECK_FALSE(domain.mappings.find({0}));
  CHECK(domain.nodes.mappings() == 0);
  domain.nodes.seal(5);
  CHECK_FALSE(domain.nodes.reclaim(4, 1));
  CHECK(domain.nodes.waiting());
  const std::uint64_t before = domain.nodes.bytes();
  std::size_t slices = 1;
  for (; domain.nodes.reclaim(5, 10); ++slices) CHECK(domain.nodes.waiting());
  CHECK(slices > 10);
  CHECK_FALSE(domain.nodes.waiting());
  CHECK(domain.nodes.bytes() < before);
}

TEST_CASE("neighbours are found across leaves and holes", "[virtio-iommu]") {
  Domain domain;
  for (std::uint64_t i = 1; i <= 100; ++i)
    REQUIRE(domain.mappings.insert(mapping(i * 1000, i * 1000 + 9)) == Inserted::ok);
  REQUIRE(domain.remove(range(20'000, 80'000 + 9)) == Removed::all);
  CHECK(domain.mappings.first_from({19'009}) == mapping(19'000, 19'009));
  CHECK(domain.mappings.first_from({19'010}) == mapping(81'000, 81'009));
  CHECK_FALSE(domain.mappings.first_from({100'010}));
  CHECK(seen(domain.mappings, range(19'005, 82'000)) ==
        std::vector{mapping(19'000, 19'009), mapping(81'000, 81'009), mapping(82'000, 82'009)});
  std::size_t visits = 0;
  CHECK_FALSE(domain.mappings.visit(all_iovas, [&](const Mapping&) { return ++visits < 5; }));
  CHECK(visits == 5);
}

}  // namespace viommu::virtio_iommu
