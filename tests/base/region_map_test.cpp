// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which region an address is in.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu {
namespace {

constexpr std::uint64_t last_address = ~std::uint64_t{0};

struct Destroy {
  void operator()(const RegionMap* map) const { RegionMap::destroy({}, map); }
};
using MapPointer = std::unique_ptr<const RegionMap, Destroy>;

MapPointer with(const RegionMap* map, const Region& region) {
  RegionMap* const next = RegionMap::create({}, (map == nullptr ? 0 : map->regions().size()) + 1);
  next->assign_with(map, region);
  return MapPointer{next};
}
MapPointer map_of(const std::vector<Region>& regions) {
  MapPointer map;
  for (const Region& region : regions) map = with(map.get(), region);
  return map;
}

Region region(std::uint64_t first, std::uint64_t last) { return {{{first}, {last}}, nullptr, false}; }

/// Regions at both ends of the address space, some side by side, some with holes; in a random order.
std::vector<Region> some_regions(std::size_t count, test::Random& random) {
  std::vector<Region> regions;
  std::uint64_t first = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t length = (1 + random.below(4)) * page_size_bytes;
    regions.push_back(region(first, first + length - 1));
    first += length + (random.chance(1, 2) ? 0 : (1 + random.below(8)) * page_size_bytes);
  }
  regions.back().range.last = {last_address};
  for (std::size_t i = regions.size(); i > 1; --i) std::swap(regions[i - 1], regions[random.below(i)]);
  return regions;
}

const Region* naive_find(const std::vector<Region>& regions, std::uint64_t gpa) {
  const auto found = std::ranges::find_if(regions, [gpa](const Region& r) { return r.range.contains(Gpa{gpa}); });
  return found == regions.end() ? nullptr : &*found;
}

void check_every_edge(const RegionMap& map, const std::vector<Region>& regions) {
  for (const Region& each : regions) {
    for (const std::uint64_t edge : {each.range.first.value, each.range.last.value}) {
      for (const std::uint64_t gpa : {edge - 1, edge, edge + 1}) {  // beyond the first and last address it wraps: fine
        const Region* const expected = naive_find(regions, gpa);
        const Region* const found = map.find({gpa});
        CAPTURE(gpa);
        REQUIRE((found == nullptr) == (expected == nullptr));
        if (found != nullptr) REQUIRE(found->range == expected->range);
      }
    }
  }
}

}  // namespace

TEST_CASE("an address is found in the region that holds it, however many there are", "[base][guest-memory]") {
  test::Random random{1};
  const std::size_t count = GENERATE(1U, 2U, 3U, 4U, 5U, 6U, 17U, 1500U);
  const std::vector<Region> regions = some_regions(count, random);
  const MapPointer map = map_of(regions);
  REQUIRE(map->regions().size() == count);
  check_every_edge(*map, regions);
}

TEST_CASE("regions stand in ascending order whatever order they came in", "[base][guest-memory]") {
  test::Random random{2};
  for (unsigned round = 0; round < 50; ++round) {
    const MapPointer map = map_of(some_regions(1 + random.below(9), random));
    REQUIRE(std::ranges::is_sorted(map->regions(), {}, [](const Region& r) { return r.range.first; }));
  }
}

TEST_CASE("removing a region takes that one and leaves the others as they are", "[base][guest-memory]") {
  test::Random random{3};
  std::vector<Region> regions = some_regions(9, random);
  MapPointer map = map_of(regions);
  while (regions.size() > 1) {
    const std::size_t victim = random.below(regions.size());
    RegionMap* const next = RegionMap::create({}, regions.size() - 1);
    next->assign_without(*map, regions[victim].range.first);
    map.reset(next);
    const Gpa gone = regions[victim].range.first;
    regions.erase(regions.begin() + static_cast<std::ptrdiff_t>(victim));
    REQUIRE(map->regions().size() == regions.size());
    REQUIRE(map->find(gone) == nullptr);
    check_every_edge(*map, regions);
  }
}

TEST_CASE("the spans are those of the largest regions that are there, also after one is removed",
          "[base][guest-memory]") {
  MapPointer map;
  const std::uint64_t pages[] = {3, 6, 1, 4, 5, 2};
  std::byte anywhere{};  // nothing is read there
  for (std::uint64_t i = 0; i < std::size(pages); ++i) {
    Region mapped = region(i << 20, (i << 20) + pages[i] * page_size_bytes - 1);
    mapped.host = &anywhere;
    map = with(map.get(), mapped);
  }
  const auto spans = [&map, &pages] {
    std::vector<std::uint64_t> found;
    for (const MemorySpan& span : map->spans()) {
      CHECK(span.last_offset + 1 == pages[span.first.value >> 20] * page_size_bytes);
      found.push_back((span.last_offset + 1) / page_size_bytes);
    }
    return found;
  };
  const auto remove = [&map](std::uint64_t number) {
    RegionMap* const next = RegionMap::create({}, map->regions().size() - 1);
    next->assign_without(*map, {number << 20});
    map.reset(next);
  };
  CHECK(spans() == std::vector<std::uint64_t>{6, 5, 4, 3});
  remove(4);
  CHECK(spans() == std::vector<std::uint64_t>{6, 4, 3, 2});
  remove(2);
  remove(1);
  CHECK(spans() == std::vector<std::uint64_t>{4, 3, 2});
}

TEST_CASE("an overlap is seen in every shape", "[base][guest-memory][VIO-16]") {
  const MapPointer map = map_of({region(0x10000, 0x1FFFF), region(0x40000, 0x4FFFF), region(0xFFFFF000, last_address)});
  const auto overlaps = [&map](std::uint64_t first, std::uint64_t last) { return map->overlaps({{first}, {last}}); };
  CHECK(overlaps(0x14000, 0x14FFF));
  CHECK(overlaps(0x8000, 0x13FFF));
  CHECK(overlaps(0x18000, 0x23FFF));
  CHECK(overlaps(0x8000, 0x2FFFF));
  CHECK(overlaps(0x10000, 0x1FFFF));
  CHECK(overlaps(0x0, 0x10000));
  CHECK(overlaps(0x1FFFF, 0x3FFFF));
  CHECK(overlaps(0, last_address));
  CHECK(overlaps(last_address, last_address));
  CHECK_FALSE(overlaps(0x20000, 0x3FFFF));
  CHECK_FALSE(overlaps(0, 0xFFFF));
  CHECK_FALSE(overlaps(0x50000, 0xFFFFEFFF));
}

TEST_CASE("an address below the first region is in none, whatever lies in front of the regions",
          "[base][guest-memory]") {
  // Memory in front of each block looks like a region that holds every address.
  struct Planted {
    alignas(64) std::array<std::byte, 4096> bytes{};
    std::size_t used = 0;
  } planted;
  const HostAllocator allocator{&planted,
                                [](void* self, std::size_t size, std::size_t) -> void* {
                                  Planted& from = *static_cast<Planted*>(self);
                                  const Region everything = region(0, last_address);
                                  constexpr std::size_t gap = 64;
                                  static_assert(sizeof everything <= gap);
                                  std::byte* const block = from.bytes.data() + from.used + gap;
                                  std::memcpy(block - sizeof everything, &everything, sizeof everything);
                                  from.used += gap + (size + 63) / 64 * 64;
                                  return block;
                                },
                                [](void*, void*, std::size_t, std::size_t) {}};
  const std::size_t count = GENERATE(1U, 4U, 5U, 9U);
  RegionMap* const map = RegionMap::create(allocator, count);
  REQUIRE(map != nullptr);
  MapPointer before;
  for (std::uint64_t i = 0; i + 1 < count; ++i)
    before = with(before.get(), region(0x20000 + i * 0x2000, 0x20FFF + i * 0x2000));
  map->assign_with(before.get(), region(0x10000, 0x10FFF));
  REQUIRE(planted.used <= planted.bytes.size());
  CHECK(map->find({0}) == nullptr);
  CHECK(map->find({0xFFFF}) == nullptr);
  CHECK(map->find({0x10000}) == map->regions().data());
  RegionMap::destroy(allocator, map);
}

TEST_CASE("a map without regions holds no address", "[base][guest-memory]") {
  const MapPointer one = map_of({region(0x1000, 0x1FFF)});
  RegionMap* const empty = RegionMap::create({}, 0);
  empty->assign_without(*one, {0x1000});
  const MapPointer map{empty};
  CHECK(map->regions().empty());
  CHECK(map->find({0x1000}) == nullptr);
  CHECK_FALSE(map->overlaps({{0}, {last_address}}));
}

TEST_CASE("a map that the host has no memory for is not there, and costs nothing", "[base][guest-memory][SEC-15]") {
  test::CountingAllocator host;
  for (std::uint64_t k = 1; k <= 2; ++k) {
    host.fail_at(k);
    CHECK(RegionMap::create(host.functions(), 8) == nullptr);
    CHECK(host.open_blocks() == 0);
  }
  host.fail_at(0);
  const RegionMap* const map = RegionMap::create(host.functions(), 8);
  REQUIRE(map != nullptr);
  CHECK(map->capacity() == 8);
  RegionMap::destroy(host.functions(), map);
  RegionMap::destroy(host.functions(), nullptr);
  CHECK(host.open_blocks() == 0);
  CHECK(host.mistakes() == 0);
}

TEST_CASE("a part of a region is another piece of it, and one again when nothing tells them apart",
          "[base][guest-memory][S1.24]") {
  MapPointer map = with(nullptr, region(0x1000, 0x8FFF));
  map = with(map.get(), region(0x9000, 0x9FFF));
  const auto make = [&map](std::uint64_t first, std::uint64_t last, Part part) {
    RegionMap* const next = RegionMap::create({}, map->regions().size() + 2);
    next->assign_part(*map, {{first}, {last}}, part);
    map.reset(next);
  };
  CHECK(map->inside_one({{0x1000}, {0x8FFF}}));
  CHECK_FALSE(map->inside_one({{0x8000}, {0x9FFF}}));
  make(0x3000, 0x4FFF, Part::discarded);
  REQUIRE(map->regions().size() == 4);
  CHECK(map->find({0x3000})->part == Part::discarded);
  CHECK(map->find({0x5000})->part == Part::shared);
  CHECK(map->inside_one({{0x1000}, {0x8FFF}}));
  make(0x5000, 0x5FFF, Part::discarded);
  CHECK(map->regions().size() == 4);
  make(0x4000, 0x4FFF, Part::private_to);
  CHECK(map->regions().size() == 6);
  make(0x1000, 0x8FFF, Part::shared);
  REQUIRE(map->regions().size() == 2);
  CHECK(map->regions().front().range == GpaRange{{0x1000}, {0x8FFF}});
  make(0x1000, 0x1FFF, Part::discarded);
  RegionMap* const next = RegionMap::create({}, map->regions().size());
  next->assign_without(*map, {0x1000});
  map.reset(next);
  REQUIRE(map->regions().size() == 1);
  CHECK(map->regions().front().range.first == Gpa{0x9000});
}

}  // namespace viommu
