// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The packed ring: what a driver may do, and each thing it may not, with its answer.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/virtqueue/queue.hpp"
#include "tests/virtqueue/packed_driver.hpp"

namespace viommu::virtqueue {
namespace {

using test::direct;
using test::indirect;
using test::PackedDriver;
using test::Piece;
using test::Reach;
using test::RingGuest;
using test::UsedBuffer;

constexpr std::uint64_t data = RingGuest::first + 0x40000;
constexpr std::uint64_t table = RingGuest::first + 0x30000;
constexpr std::uint16_t size = 7;  // no power of two

struct World {
  explicit World(Reach reach, bool event_index = false, bool may_indirect = true)
      : guest{reach}, driver{guest, size, event_index} {
    REQUIRE(queue.enable(driver.config(may_indirect)) == ConfigProblem::none);
  }
  [[nodiscard]] Taken take() { return queue.take(Memory{guest.memory()}, chain); }
  void raw(std::uint64_t position, const Piece& piece, std::uint16_t flags = 0, std::uint16_t id = 0) {
    driver.descriptor(position, piece, flags, id);
  }

  RingGuest guest;
  PackedDriver driver;
  Queue queue;
  Chain chain;
};

const std::array reaches{Reach::mapped, Reach::callbacks};

constexpr Piece readable{data, 16, false};
constexpr Piece writable{data + 0x100, 4, true};

TEST_CASE("a packed chain has the id of its last descriptor, and comes back in the place of its first",
          "[virtqueue][packed]") {
  for (const Reach reach : reaches) {
    World world{reach};
    const auto id = world.driver.add(direct({readable, writable}));
    CHECK(world.take() == Taken::empty);
    world.driver.publish();
    REQUIRE(world.take() == Taken::chain);
    CHECK(world.chain.token() == Token{id, 2});
    REQUIRE(world.chain.readable().size() == 1);
    CHECK(world.chain.readable()[0] == Segment{{data}, 16});
    REQUIRE(world.chain.writable().size() == 1);
    CHECK(world.chain.writable()[0] == Segment{{data + 0x100}, 4});
    CHECK(world.take() == Taken::empty);
    CHECK(world.driver.collect().empty());
    REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
    CHECK(world.driver.collect() == std::vector{UsedBuffer{id, 4}});
    CHECK(world.queue.state() == State{2, 2, true, true, 2});
  }
}

TEST_CASE("a packed descriptor is available when AVAIL is the counter and USED is not", "[virtqueue][packed]") {
  for (const bool wrap : {true, false})
    for (const bool available : {true, false})
      for (const bool used : {true, false}) {
        World world{Reach::mapped};
        REQUIRE(world.queue.load(world.driver.config(), {0, 0, wrap, wrap}) == ConfigProblem::none);
        world.raw(0, readable);
        const unsigned flags = (available ? PackedDriver::flag_available : 0u) | (used ? PackedDriver::flag_used : 0u);
        world.guest.put(PackedDriver::ring + 14, static_cast<std::uint16_t>(flags));
        CHECK((world.take() == Taken::chain) == (available == wrap && used != wrap));
        CHECK(world.queue.problem() == Problem::none);
      }
}

TEST_CASE("of the flags in a packed table WRITE alone counts", "[virtqueue][packed][indirect]") {
  for (const Reach reach : reaches)
    for (std::size_t before = 0; before <= 2; ++before) {
      World world{reach};
      const std::vector<Piece> pieces{readable, {data + 0x20, 8, false}, writable};
      world.driver.add(indirect(pieces, table, before));
      for (std::size_t i = before; i < pieces.size(); ++i)
        world.driver.table_entry(table, i - before, pieces[i],
                                 PackedDriver::flag_next | PackedDriver::flag_indirect | PackedDriver::flag_used);
      world.driver.publish();
      REQUIRE(world.take() == Taken::chain);
      CHECK(world.chain.token().slots == before + 1);
      CHECK(world.chain.readable_bytes() == 24);
      CHECK(world.chain.writable_bytes() == 4);
    }
}

TEST_CASE("a malformed packed ring breaks the queue, and nothing else", "[virtqueue][packed][B98][SEC-8]") {
  struct Row {
    std::string name;
    Problem problem;
    std::function<void(World&)> spoil;
    bool may_indirect = true;
  };
  constexpr auto next = PackedDriver::flag_next;
  constexpr auto refers = PackedDriver::flag_indirect;
  constexpr std::uint64_t nowhere = 0x40000000;
  const std::vector<Row> rows{
      {"a chain all around the ring", Problem::too_long,
       [](World& w) {
         for (std::uint16_t i = 0; i < size; ++i) w.raw(i, readable, next);
       }},
      {"a chain of nothing all around the ring", Problem::too_long,
       [](World& w) {
         for (std::uint16_t i = 0; i < size; ++i) w.raw(i, {0, 0, false}, next);
       }},
      {"readable after writable", Problem::readable_after_writable,
       [](World& w) { w.driver.add(direct({writable, readable})), w.driver.publish(); }},
      {"readable after writable in a table", Problem::readable_after_writable,
       [](World& w) { w.driver.add(indirect({readable, writable, readable}, table)), w.driver.publish(); }},
      {"readable in a table after a writable direct one", Problem::readable_after_writable,
       [](World& w) { w.driver.add(indirect({writable, readable}, table, 1)), w.driver.publish(); }},
      {"indirect without negotiation", Problem::indirect_not_negotiated,
       [](World& w) { w.driver.add(indirect({readable}, table)), w.driver.publish(); }, false},
      {"indirect of no length", Problem::indirect_length, [](World& w) { w.raw(0, {table, 0, false}, refers); }},
      {"indirect of 15 bytes", Problem::indirect_length, [](World& w) { w.raw(0, {table, 15, false}, refers); }},
      {"indirect of 24 bytes", Problem::indirect_length, [](World& w) { w.raw(0, {table, 24, false}, refers); }},
      {"indirect with next", Problem::indirect_with_next,
       [](World& w) { w.raw(0, {table, 16, false}, refers | next), w.raw(1, writable); }},
      {"a table that is no memory", Problem::not_memory, [](World& w) { w.raw(0, {nowhere, 16, false}, refers); }},
      {"a table that ends behind memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::last - 15, 32, false}, refers); }},
      {"a descriptor of a table that ends behind memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::last - 7, 16, false}, refers); }},
      {"a descriptor of a table that begins before memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::first - 8, 16, false}, refers); }},
      {"a table that wraps", Problem::address_wraps,
       [](World& w) { w.raw(0, {~std::uint64_t{0} - 15, 32, false}, refers); }},
      {"a table of all there is", Problem::too_long, [](World& w) { w.raw(0, {table, 0xFFFFFFF0, false}, refers); }},
      {"a table of 1025 nothings", Problem::too_long, [](World& w) { w.raw(0, {table, 1025 * 16, false}, refers); }},
      {"a buffer that wraps", Problem::address_wraps, [](World& w) { w.raw(0, {~std::uint64_t{0}, 2, false}); }},
      {"a buffer that ends behind memory", Problem::not_memory, [](World& w) { w.raw(0, {RingGuest::last, 2, true}); }},
      {"a buffer that begins before memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::first - 1, 2, false}); }},
  };
  for (const Row& row : rows) {
    World world{Reach::mapped, false, row.may_indirect};
    row.spoil(world);
    INFO(row.name);
    CHECK(world.take() == Taken::broken);
    CHECK(text_of(world.queue.problem()) == text_of(row.problem));
    CHECK(world.take() == Taken::broken);
    CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, {0, 1}, 0));
    world.guest.put<std::uint16_t>(PackedDriver::ring + 14, 0);
    REQUIRE(world.queue.enable(world.driver.config()) == ConfigProblem::none);
    CHECK(world.take() == Taken::empty);
  }
}

TEST_CASE("a packed table of 1024 descriptors is taken whole", "[virtqueue][packed][indirect]") {
  World world{Reach::mapped};
  world.driver.add(indirect(test::single_bytes(data, Chain::most_segments, 2, 0), table));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  CHECK(world.chain.writable().size() == Chain::most_segments);
}

TEST_CASE("a chain of as many descriptors as a packed ring has is whole, and goes around its end",
          "[virtqueue][packed]") {
  World world{Reach::mapped};
  const auto pass = [&](const std::vector<Piece>& pieces) {
    const auto id = world.driver.add(direct(pieces));
    world.driver.publish();
    REQUIRE(world.take() == Taken::chain);
    CHECK(world.chain.readable().size() == pieces.size());
    REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 0));
    CHECK(world.take() == Taken::empty);
    CHECK(world.driver.collect() == std::vector{UsedBuffer{id, 0}});
  };
  const std::vector<Piece> whole = test::single_bytes(data, size, 2, size);
  for (std::uint16_t round = 0; round < 2 * size; ++round) {  // each starts one further
    pass(whole);
    pass({readable});
  }
}

TEST_CASE("each descriptor of a packed chain is read once, flags first", "[virtqueue][packed][B98]") {
  World world{Reach::callbacks};
  world.driver.add(indirect({readable, writable}, table, 1));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  using Access = RingGuest::Access;
  const std::uint64_t first = PackedDriver::ring;
  CHECK(world.guest.accesses == std::vector{Access{false, first + 8, 8}, Access{false, first, 8},
                                            Access{false, first + 24, 8}, Access{false, first + 16, 8},
                                            Access{false, table + 8, 8}, Access{false, table, 8}});
}

TEST_CASE("a used descriptor of a packed ring is written in one piece", "[virtqueue][packed][Used-ring writes]") {
  World world{Reach::callbacks};
  world.driver.add(direct({writable}));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  world.guest.accesses.clear();
  REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
  CHECK(world.guest.accesses == std::vector{RingGuest::Access{true, PackedDriver::ring + 8, 8}});
}

TEST_CASE("packed ring memory that is not there, or goes, breaks the queue", "[virtqueue][packed][B98]") {
  World world{Reach::mapped};
  world.driver.add(direct({readable, writable}));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  world.guest.remove();
  SECTION("take") {
    CHECK(world.take() == Taken::broken);
    CHECK(world.queue.problem() == Problem::ring_unreadable);
  }
  SECTION("put") {
    CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
    CHECK(world.queue.problem() == Problem::ring_unwritable);
  }
  SECTION("listen") {
    CHECK_FALSE(world.queue.listen(Memory{world.guest.memory()}));
    CHECK(world.queue.problem() == Problem::ring_unwritable);
  }
}

TEST_CASE("each access to a packed ring that fails breaks the queue", "[virtqueue][packed][B98]") {
  for (const std::uint64_t word : {PackedDriver::ring, PackedDriver::ring + 8, PackedDriver::ring + 24}) {
    World world{Reach::callbacks};
    world.driver.add(direct({readable, writable}));
    world.driver.publish();
    world.guest.hole = [&](std::uint64_t gpa) { return gpa == word; };
    CHECK(world.take() == Taken::broken);
    CHECK(world.queue.problem() == Problem::ring_unreadable);
  }
}

}  // namespace
}  // namespace viommu::virtqueue
