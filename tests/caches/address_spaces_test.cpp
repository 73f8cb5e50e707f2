// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/address_spaces.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <set>
#include <vector>

#include "tests/caches/test_epochs.hpp"
#include "tests/support/counting_allocator.hpp"

namespace viommu::caches {
namespace {

constexpr Iova iova{0x40000000};
constexpr AddressSpaceKey key{{1}, Interpretation::second_stage, 2, {0x5000}, {low_bits(39)}};

AddressSpaceKey of_domain(unsigned domain) {
  AddressSpaceKey other = key;
  other.domain = {static_cast<std::uint16_t>(domain)};
  return other;
}

/// Address spaces with what carries their tags, and two readers.
class Spaces {
 public:
  explicit Spaces(std::size_t count = 8, unsigned tag_bits = 8, const HostAllocator& host = {}) {
    REQUIRE(iotlb.reset(host, 1024, 1, 5));
    REQUIRE(structures.reset(host, 64, 1, 5));
    REQUIRE(spaces.reset(host, count, tag_bits, epochs.epochs, {&iotlb, &structures}));
  }
  AddressSpaces* operator->() { return &spaces; }
  [[nodiscard]] static Tag tag_of(const AddressSpace& space) { return space.tag(); }
  void fill(AddressSpace& space, Iova at, std::uint64_t frame = 0x7000) {
    const Place place = space.place();
    REQUIRE(announce(space.sizes, space.fillable, space.fillable, PageSize::kib4));
    REQUIRE(
        iotlb.fill(iotlb.sample(place, at, small_sizes), place, at, {{frame}, PageSize::kib4, read_write}, nullptr));
  }
  [[nodiscard]] bool finds(const AddressSpace& space, Iova at) const {
    return iotlb.lookup(space.place(), at, all_sizes).has_value();
  }
  void fill_table(AddressSpace& space, Iova at, PageSize size) {
    static_cast<void>(announce(space.tables, space.reachable, 0, size));
    const Place place{tag_of(space), 0};
    const FillGuard guard = structures.sample(place, at, space.reachable);
    REQUIRE(structures.fill(guard, place, at, {{0x3000}, size, read_write}, nullptr));
  }
  [[nodiscard]] bool finds_table(const AddressSpace& space, Iova at, PageSize size) const {
    return structures.lookup({tag_of(space), 0}, at, bit_of(size)).has_value();
  }
  void drop_pages(AddressSpace& space, IovaRange range, bool keep_structures = false) {
    full_fence();
    spaces.drop_pages(space, range, keep_structures);
  }
  /// The worker's round: a scan, and a whole sweep if there is something to sweep.
  void tidy() {
    static_cast<void>(epochs.scan());
    if (!spaces.begin_sweep()) return;
    spaces.sweep_slice(0, spaces.sweep_groups());
    spaces.end_sweep();
  }
  test::TestEpochs<2> epochs;
  Iotlb iotlb;
  Iotlb structures;
  AddressSpaces spaces;
};

}  // namespace

TEST_CASE("an address space is shared when every field of the key is equal, and only then", "[caches][spaces][P3]") {
  Spaces spaces;
  AddressSpace* const first = spaces->acquire(key);
  REQUIRE(first != nullptr);
  CHECK(first->key == key);
  CHECK(spaces->acquire(key) == first);
  CHECK(spaces->in_use() == 1);

  std::array<AddressSpaceKey, 5> others{key, key, key, key, key};
  others[0].domain = {2};
  others[1].interpretation = Interpretation::pass_through;
  others[2].top_level = 3;
  others[3].root = {0x6000};
  others[4].last = {low_bits(48)};
  std::set<Tag> tags{Spaces::tag_of(*first)};
  for (const AddressSpaceKey& other : others) {
    AddressSpace* const space = spaces->acquire(other);
    REQUIRE(space != nullptr);
    CHECK(space->key == other);
    CHECK(tags.insert(Spaces::tag_of(*space)).second);
  }
  CHECK(spaces->in_use() == 6);
  CHECK_FALSE(tags.contains(0));
}

TEST_CASE("an address space lives as long as its last reference", "[caches][spaces]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  static_cast<void>(spaces->acquire(key));
  const Tag tag = Spaces::tag_of(*space);
  spaces->release(*space);
  CHECK(spaces->in_use() == 1);
  CHECK(spaces->acquire(key) == space);
  spaces->release(*space);
  spaces->release(*space);
  CHECK(spaces->in_use() == 0);
  AddressSpace* const again = spaces->acquire(key);
  REQUIRE(again != nullptr);
  CHECK(Spaces::tag_of(*again) != tag);
  CHECK(again->sizes.load() == 0);
}

TEST_CASE("what was cached for a key is not found when the key comes back", "[caches][spaces][P3][SEC-10]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  spaces.fill(*space, iova);
  spaces->release(*space);
  for (unsigned round = 0; round < 1000; ++round) {
    AddressSpace* const again = spaces->acquire(key);
    REQUIRE(again != nullptr);
    REQUIRE_FALSE(spaces.finds(*again, iova));
    spaces.fill(*again, iova);
    spaces->release(*again);
    spaces.tidy();
  }
}

TEST_CASE("forgetting an address space gives it another tag and touches no other", "[caches][spaces]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  AddressSpace* const other = spaces->acquire(of_domain(2));
  spaces.fill(*space, iova);
  spaces.fill(*other, iova);
  const Tag tag = Spaces::tag_of(*space);
  spaces->forget(*space);
  CHECK(Spaces::tag_of(*space) != tag);
  CHECK_FALSE(spaces.finds(*space, iova));
  CHECK(spaces.finds(*other, iova));
  CHECK(spaces->sweeps() == 0);
}

TEST_CASE("a few pages are dropped one by one, many by forgetting all", "[caches][spaces][P5][SEC-5]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  const auto fill = [&] {
    for (unsigned page = 0; page < 4; ++page) spaces.fill(*space, iova + page * page_size_bytes);
  };
  fill();
  const Tag tag = Spaces::tag_of(*space);
  SECTION("pages") {
    spaces.drop_pages(*space, {iova + page_size_bytes, iova + (3 * page_size_bytes - 1)});
    CHECK(Spaces::tag_of(*space) == tag);
    CHECK(spaces.finds(*space, iova));
    CHECK_FALSE(spaces.finds(*space, iova + page_size_bytes));
    CHECK_FALSE(spaces.finds(*space, iova + 2 * page_size_bytes));
    CHECK(spaces.finds(*space, iova + 3 * page_size_bytes));
  }
  SECTION("2^18 pages") {
    spaces.drop_pages(*space, {{0x80000000}, {0x80000000 + low_bits(30)}});
    CHECK(Spaces::tag_of(*space) != tag);
    CHECK_FALSE(spaces.finds(*space, iova));
  }
  SECTION("every address there is") {
    spaces.drop_pages(*space, all_iovas);
    CHECK(Spaces::tag_of(*space) != tag);
    for (unsigned page = 0; page < 4; ++page) CHECK_FALSE(spaces.finds(*space, iova + page * page_size_bytes));
  }
}

TEST_CASE("a large size is announced once before it is filled, a small one never has to be", "[caches][spaces][P1]") {
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  CHECK(space->sizes.load() == 0);
  Sizes announced = 0;
  for (const PageSize size : {PageSize::kib4, PageSize::kib32}) {
    CHECK(announce(space->sizes, space->fillable, space->fillable, size));
    announced = static_cast<Sizes>(announced | bit_of(size));
    CHECK(space->sizes.load() == announced);
  }
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
    const Sizes sampled = space->fillable.load();
    CHECK_FALSE(announce(space->sizes, space->fillable, sampled, size));
    announced = static_cast<Sizes>(announced | bit_of(size));
    CHECK(space->sizes.load() == announced);
    CHECK_FALSE(announce(space->sizes, space->fillable, sampled, size));  // who sampled before is too early still
    CHECK(announce(space->sizes, space->fillable, space->fillable, size));
  }
  spaces->forget(*space);
  CHECK(space->sizes.load() == announced);  // a new tag is the same memory
}

TEST_CASE("cached tables go with the pages that they map, unless only leaves have changed",
          "[caches][spaces][structures]") {
  constexpr Iova other{std::uint64_t{3} << 30};
  const bool keep = GENERATE(false, true);
  Spaces spaces;
  AddressSpace* const space = spaces->acquire(key);
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
    spaces.fill_table(*space, iova, size);
    spaces.fill_table(*space, other, size);
  }
  spaces.drop_pages(*space, {iova + 0x5000, iova + 0x5FFF}, keep);
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
    CHECK(spaces.finds_table(*space, iova, size) == keep);
    CHECK(spaces.finds_table(*space, other, size));
  }
  const FillGuard guard = spaces.structures.sample({Spaces::tag_of(*space), 0}, iova, space->reachable);
  spaces.drop_pages(*space, {iova + 0x7000, iova + 0x7FFF}, keep);
  CHECK(spaces.structures.fill(guard, {Spaces::tag_of(*space), 0}, iova, {{0x3000}, PageSize::mib2, read_write},
                               nullptr) == keep);
  spaces->forget(*space);
  for (const PageSize size : {PageSize::mib2, PageSize::gib1}) CHECK_FALSE(spaces.finds_table(*space, other, size));
}

TEST_CASE("a domain is all its address spaces, whatever else shares their chain", "[caches][spaces][B17]") {
  Spaces spaces{40};
  std::set<const AddressSpace*> wanted;
  for (unsigned i = 0; i < 3; ++i) {
    AddressSpaceKey mine = of_domain(7);
    mine.root = {0x1000 * (1 + std::uint64_t{i})};
    wanted.insert(spaces->acquire(mine));
    for (unsigned chain = 0; chain < 4; ++chain) {
      AddressSpaceKey other = of_domain(7 + 40 * (chain + 1));
      other.root = mine.root;
      REQUIRE(spaces->acquire(other) != nullptr);
    }
  }
  std::set<const AddressSpace*> seen;
  spaces->for_each_of({7}, [&](AddressSpace& space) { CHECK(seen.insert(&space).second); });
  CHECK(seen == wanted);
  std::size_t all = 0;
  spaces->for_each([&](AddressSpace&) { ++all; });
  CHECK(all == 15);
  CHECK(spaces->in_use() == 15);
}

TEST_CASE("visiting a domain may release what it visits", "[caches][spaces]") {
  Spaces spaces;
  for (unsigned i = 0; i < 5; ++i) {
    AddressSpaceKey mine = key;
    mine.root = {0x1000 * (1 + std::uint64_t{i})};
    static_cast<void>(spaces->acquire(mine));
  }
  unsigned visited = 0;
  spaces->for_each_of(key.domain, [&](AddressSpace& space) {
    ++visited;
    spaces->release(space);
  });
  CHECK(visited == 5);
  CHECK(spaces->in_use() == 0);
}

TEST_CASE("there are never more address spaces in use than asked for", "[caches][spaces][P6][SEC-8]") {
  Spaces spaces{4};
  std::vector<AddressSpace*> all;
  all.reserve(4);
  for (unsigned domain = 0; domain < 4; ++domain) all.push_back(spaces->acquire(of_domain(domain)));
  CHECK(spaces->acquire(of_domain(4)) == nullptr);
  CHECK(spaces->acquire(of_domain(3)) == all[3]);
  spaces->release(*all[0]);
  CHECK(spaces->acquire(of_domain(4)) != nullptr);
  CHECK(spaces->acquire(of_domain(5)) == nullptr);
}

TEST_CASE("an object is not used for another key while a reader may still look at it", "[caches][spaces][PR-4]") {
  Spaces spaces{2};
  spaces.epochs.enter(0);
  AddressSpace* const seen = spaces->acquire(key);
  spaces->release(*seen);
  unsigned made = 0;
  for (unsigned domain = 10; domain < 20; ++domain) {
    AddressSpace* const space = spaces->acquire(of_domain(domain));
    if (space == nullptr) continue;
    ++made;
    CHECK(space != seen);
    spaces->release(*space);
    spaces.tidy();
  }
  CHECK(seen->key == key);
  CHECK(made == 3);  // twice as many objects as can be in use, and one of them is seen
  spaces.epochs.leave(0);
  spaces.tidy();
  for (unsigned domain = 10; domain < 20; ++domain) {
    AddressSpace* const space = spaces->acquire(of_domain(domain));
    REQUIRE(space != nullptr);
    spaces->release(*space);
    spaces.tidy();
  }
}

TEST_CASE("address spaces take their memory once", "[caches][spaces][P6]") {
  test::CountingAllocator host;
  {
    Spaces spaces{64, 8, host.functions()};
    CHECK(host.open_bytes() == spaces.iotlb.bytes() + spaces.structures.bytes() + spaces->bytes());
    const std::uint64_t calls = host.calls();
    for (unsigned domain = 0; domain < 3000; ++domain) {
      AddressSpace* const space = spaces->acquire(of_domain(domain));
      REQUIRE(space != nullptr);
      spaces->forget(*space);
      spaces->release(*space);
      spaces.tidy();
    }
    CHECK(host.calls() == calls);
  }
  CHECK(host.open_blocks() == 0);
  Epochs epochs;
  Iotlb iotlb;
  for (std::uint64_t k = 1; k <= 6; ++k) {
    host.fail_at(k);
    AddressSpaces spaces;
    CHECK_FALSE(spaces.reset(host.functions(), 8, 4, epochs, {&iotlb, &iotlb}));
  }
  CHECK(host.open_blocks() == 0);
}

}  // namespace viommu::caches
