// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/consumer.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/cli/tool.hpp"

namespace viommu::test {
namespace {

using cli::Consumer;
using cli::Extent;

constexpr std::uint64_t page = 0x1000;
constexpr std::uint8_t read_write = VIOMMU_READ | VIOMMU_WRITE;

/// A consumer in a machine with 2 GiB of memory, and a device's page at C000_0000.
struct World {
  explicit World(trace::ConsumerFlags flags, std::uint64_t first = 0, std::uint64_t last = 0x7fffffffff)
      : consumer(line_of(flags, first, last), false, around) {
    around.regions.add({0, 0x7fffffff}, false);
    around.regions.add({0xc0000000, 0xc0000fff}, true);
    around.views[0x100] = VIOMMU_VIEW_TRANSLATED;
  }
  static trace::Subscribe line_of(trace::ConsumerFlags flags, std::uint64_t first, std::uint64_t last) {
    trace::Subscribe line;
    line.id = "c";
    line.source_id = 0x100;
    line.flags = flags;
    line.first = first;
    line.last = last;
    return line;
  }

  std::int32_t map(std::uint64_t iova, std::uint64_t length, std::uint64_t gpa, std::uint8_t rights = read_write) {
    viommu_event event{};
    event.kind = VIOMMU_EVENT_MAP;
    event.iova = iova;
    event.last = iova + length - 1;
    event.gpa = gpa;
    event.rights = rights;
    consumer.take(event);
    return event.status;
  }
  std::int32_t unmap(std::uint64_t iova, std::uint64_t length, std::uint64_t gpa = VIOMMU_NO_GPA) {
    viommu_event event{};
    event.kind = VIOMMU_EVENT_UNMAP;
    event.iova = iova;
    event.last = iova + length - 1;
    event.gpa = gpa;
    consumer.take(event);
    return event.status;
  }
  /// What was complained about since the last time.
  std::string complaints() {
    std::string all;
    for (const cli::Complaint& complaint : std::exchange(around.complaints, {})) all += complaint.expected + "\n";
    return all;
  }

  cli::Surroundings around;
  Consumer consumer;
};

constexpr trace::ConsumerFlags plain{.map = true, .unmap = true};
constexpr trace::ConsumerFlags with_split{.map = true, .unmap = true, .split = true};
constexpr trace::ConsumerFlags with_pow2{.map = true, .unmap = true, .pow2 = true};
constexpr trace::ConsumerFlags with_leaf{.map = true, .unmap = true, .leaf = true};
constexpr trace::ConsumerFlags with_mmio{.map = true, .unmap = true, .mmio = true};
constexpr trace::ConsumerFlags with_private{.map = true, .unmap = true, .private_memory = true};

std::string one(const char* text) { return std::string{text} + "\n"; }

}  // namespace

TEST_CASE("A consumer holds maximal runs of what it was given", "[scenarios][consumer]") {
  World world{plain};
  world.map(0x1000, page, 0x200000);
  world.map(0x2000, page, 0x201000);
  world.map(0x3000, page, 0x203000);
  world.map(0x4000, page, 0x204000, VIOMMU_READ);
  CHECK(world.consumer.extents() == std::vector<Extent>{{{0x1000, 0x2fff}, 0x200000, read_write},
                                                        {{0x3000, 0x3fff}, 0x203000, read_write},
                                                        {{0x4000, 0x4fff}, 0x204000, VIOMMU_READ}});
  world.unmap(0x1000, 3 * page);
  CHECK(world.consumer.extents() == std::vector<Extent>{{{0x4000, 0x4fff}, 0x204000, VIOMMU_READ}});
  CHECK(world.complaints().empty());
}

TEST_CASE("A map over what is held, and an unmap that cuts, are complained about", "[scenarios][consumer]") {
  World world{plain};
  world.map(0x1000, 2 * page, 0x200000);
  CHECK(world.complaints().empty());
  world.map(0x2000, page, 0x300000);
  CHECK(world.complaints() == one("no map over what it holds"));
  World cut{plain};
  cut.map(0x1000, 2 * page, 0x200000);
  cut.unmap(0x1000, page);
  CHECK(cut.complaints() == one("no unmap that cuts an earlier map"));
  CHECK(cut.consumer.extents() == std::vector<Extent>{{{0x2000, 0x2fff}, 0x201000, read_write}});
  cut.unmap(0x10000, page);  // of what it does not hold
  CHECK(cut.complaints().empty());
  World split{with_split};
  split.map(0x1000, 3 * page, 0x200000);
  split.unmap(0x2000, page);
  CHECK(split.complaints().empty());
  CHECK(split.consumer.extents().size() == 2);
}

TEST_CASE("Events outside the range, and after the end, are complained about", "[scenarios][consumer]") {
  World world{plain, 0x1000, 0x1fff};
  world.map(0x1000, page, 0x200000);
  CHECK(world.complaints().empty());
  world.unmap(0x0, 2 * page);
  CHECK(world.complaints() == one("only events in 1000-1fff"));
  world.consumer.end();
  world.map(0x1000, page, 0x200000);
  CHECK(world.complaints() == one("no event after unsubscribe"));
  CHECK(world.consumer.extents().empty());
}

TEST_CASE("Events that are no aligned power of two, or more than a leaf, are complained about where that was declared",
          "[scenarios][consumer]") {
  World pow2{with_pow2};
  pow2.map(0x2000, 2 * page, 0x202000);
  CHECK(pow2.complaints().empty());
  pow2.map(0x5000, 2 * page, 0x202000);
  CHECK(pow2.complaints() == one("an aligned power of two"));
  pow2.unmap(0x8000, 3 * page);
  CHECK(pow2.complaints() == one("an aligned power of two"));
  World leaf{with_leaf};
  leaf.map(0x200000, 0x200000, 0x400000);
  leaf.map(0x1000, page, 0x200000);
  CHECK(leaf.complaints().empty());
  leaf.map(0x2000, 2 * page, 0x300000);
  CHECK(leaf.complaints() == one("one leaf at a time"));
  leaf.around.views[0x100] = VIOMMU_VIEW_SYSTEM;  // sections of memory are no leaves
  leaf.map(0x10000, 3 * page, 0x10000);
  CHECK(leaf.complaints().empty());
}

TEST_CASE("Maps to what is no usable memory are complained about", "[scenarios][consumer]") {
  World world{plain};
  world.map(0x1000, page, 0x90000000);
  CHECK(world.complaints() == one("only usable memory is mapped"));
  world.map(0x2000, 2 * page, 0x7ffff000);
  CHECK(world.complaints() == one("only usable memory is mapped"));
  world.map(0x4000, page, 0xc0000000, read_write | VIOMMU_MMIO);
  CHECK(world.complaints() == one("only usable memory is mapped"));
  world.around.regions.set({0x100000, 0x1fffff}, cli::Regions::State::private_memory);
  world.map(0x5000, page, 0x100000);
  CHECK(world.complaints() == one("only usable memory is mapped"));
  World able{with_private};
  able.around.regions.set({0x100000, 0x1fffff}, cli::Regions::State::private_memory);
  able.map(0x5000, page, 0x100000);
  CHECK(able.complaints().empty());
  able.around.regions.set({0x100000, 0x1fffff}, cli::Regions::State::discarded);
  able.map(0x6000, page, 0x100000);
  CHECK(able.complaints() == one("only usable memory is mapped"));
  World mmio{with_mmio};
  mmio.map(0x1000, page, 0xc0000000, read_write | VIOMMU_MMIO);
  CHECK(mmio.complaints().empty());
  mmio.map(0x2000, page, 0xc0000000);
  CHECK(mmio.complaints() == one("the mark of a device's memory"));
  mmio.map(0x3000, page, 0x200000, read_write | VIOMMU_MMIO);
  CHECK(mmio.complaints() == one("no mark of a device's memory"));
}

TEST_CASE("While dirty pages are tracked a withdrawal says the gpa of one map", "[scenarios][consumer][S1.21]") {
  World world{plain};
  const auto held = [&] {
    world.map(0x1000, page, 0x200000);
    world.map(0x2000, page, 0x209000);
  };
  held();
  world.unmap(0x1000, 2 * page);
  CHECK(world.complaints().empty());
  world.around.dirty_tracking = true;
  held();
  world.unmap(0x1000, page, 0x200000);
  world.unmap(0x2000, page, 0x209000);
  CHECK(world.complaints().empty());
  const std::string complaint = one("while dirty pages are tracked, the gpa of one map");
  held();
  world.unmap(0x1000, page);
  CHECK(world.complaints() == complaint);
  world.unmap(0x2000, page, 0x200000);
  CHECK(world.complaints() == complaint);
  held();
  world.unmap(0x1000, 2 * page, 0x200000);
  CHECK(world.complaints() == complaint);
  world.unmap(0x8000, page);
  CHECK(world.complaints().empty());
}

TEST_CASE("The operation that was to fail fails, and changes nothing", "[scenarios][consumer][S1.20]") {
  World world{plain};
  world.consumer.fail_next(false, 2);
  CHECK(world.map(0x1000, page, 0x200000) == 0);
  CHECK(world.map(0x2000, page, 0x201000) < 0);
  CHECK(world.map(0x3000, page, 0x202000) == 0);
  world.consumer.fail_next(true, 1);
  CHECK(world.unmap(0x1000, page) < 0);
  CHECK(world.consumer.extents().size() == 2);
  CHECK(world.unmap(0x1000, page) == 0);
  CHECK(world.consumer.extents().size() == 1);
}

TEST_CASE("What is taken away and given back beside a change does not count, elsewhere it does",
          "[scenarios][consumer][S1.8]") {
  const auto delta_of = [](World& world) {
    world.consumer.end_line();
    const Consumer::Delta delta = world.consumer.take_delta();
    return std::vector<std::uint64_t>{delta.mapped.low, delta.unmapped.low};
  };
  using Counts = std::vector<std::uint64_t>;
  World world{plain};
  world.map(0x1000, 4 * page, 0x200000);
  world.map(0x200000, page, 0x400000);
  CHECK(delta_of(world) == Counts{5 * page, 0});
  SECTION("the rest of a unit, one page of which changed") {
    world.unmap(0x1000, 4 * page);
    world.map(0x1000, page, 0x200000);
    world.map(0x2000, page, 0x301000);
    world.map(0x3000, 2 * page, 0x202000);
    CHECK(delta_of(world) == Counts{page, page});
  }
  SECTION("nothing changed") {
    world.unmap(0x1000, 4 * page);
    world.map(0x1000, 4 * page, 0x200000);
    CHECK(delta_of(world) == Counts{4 * page, 4 * page});
  }
  SECTION("the change is in another 2 MiB") {
    world.unmap(0x1000, 4 * page);
    world.map(0x1000, 4 * page, 0x200000);
    world.unmap(0x200000, page);
    CHECK(delta_of(world) == Counts{4 * page, 5 * page});
  }
  SECTION("in two lines it counts") {
    world.unmap(0x1000, 4 * page);
    CHECK(delta_of(world) == Counts{0, 4 * page});
    world.map(0x1000, 3 * page, 0x200000);
    CHECK(delta_of(world) == Counts{3 * page, 0});
  }
}

TEST_CASE("Who can split, or takes leaves, is never told of what did not change", "[scenarios][consumer][S1.8]") {
  for (const trace::ConsumerFlags flags : {with_split, with_leaf}) {
    World world{flags};
    world.map(0x1000, page, 0x200000);
    world.map(0x2000, page, 0x209000);
    world.consumer.end_line();
    world.unmap(0x1000, page);
    world.map(0x1000, page, 0x200000);
    world.unmap(0x2000, page);
    world.consumer.end_line();
    CHECK(world.complaints() == one("what did not change stays"));
    // A change of the view takes all away first.
    world.unmap(0x1000, page);
    world.around.views[0x100] = VIOMMU_VIEW_SYSTEM;
    world.map(0x1000, page, 0x200000);
    world.consumer.end_line();
    CHECK(world.complaints().empty());
  }
}

TEST_CASE("Of a consumer without maps the bytes that are named count, inside its range", "[scenarios][consumer]") {
  World world{trace::ConsumerFlags{.unmap = true}, 0x1000, 0x4fff};
  world.unmap(0x2000, page);
  world.unmap(0x2000, page);
  world.consumer.end_line();
  CHECK(world.consumer.take_delta().unmapped.low == 2 * page);
  CHECK(world.consumer.take_counts().unmaps == 2);
  World whole{trace::ConsumerFlags{.unmap = true}, 0, ~std::uint64_t{0}};
  whole.unmap(0, 0);  // all of 2^64
  whole.unmap(0, page);
  whole.consumer.end_line();
  CHECK(whole.consumer.take_delta().unmapped == trace::Bytes{page, 1});
}

}  // namespace viommu::test
