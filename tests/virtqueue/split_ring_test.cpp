// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The split ring: what a driver may do, and each thing it may not, with its answer.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/virtqueue/queue.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtqueue {
namespace {

using test::direct;
using test::indirect;
using test::Piece;
using test::Reach;
using test::RingGuest;
using test::SplitDriver;
using test::UsedBuffer;

constexpr std::uint64_t data = RingGuest::first + 0x40000;
constexpr std::uint64_t table = RingGuest::first + 0x30000;
constexpr std::uint16_t size = 8;

struct World {
  explicit World(Reach reach, bool event_index = false, bool may_indirect = true)
      : guest{reach}, driver{guest, size, event_index} {
    REQUIRE(queue.enable(driver.config(may_indirect)) == ConfigProblem::none);
  }
  [[nodiscard]] Taken take() { return queue.take(Memory{guest.memory()}, chain); }
  /// One descriptor at `index`, raw.
  void raw(std::uint32_t index, const Piece& piece, std::uint16_t flags = 0, std::uint16_t next = 0) {
    driver.descriptor(SplitDriver::table, index, piece, flags, next);
  }
  void offer(std::uint16_t head) {
    driver.entry(0, head);
    driver.announce(1);
  }

  RingGuest guest;
  SplitDriver driver;
  Queue queue;
  Chain chain;
};

const std::array reaches{Reach::mapped, Reach::callbacks};

constexpr Piece readable{data, 16, false};
constexpr Piece writable{data + 0x100, 4, true};

TEST_CASE("a split chain is its readable segments, then its writable ones", "[virtqueue][split]") {
  for (const Reach reach : reaches) {
    World world{reach};
    const auto head = world.driver.add(direct({readable, writable}));
    CHECK(world.take() == Taken::empty);
    world.driver.publish();
    REQUIRE(world.take() == Taken::chain);
    CHECK(world.chain.token().id == head);
    CHECK(world.chain.readable().size() == 1);
    CHECK(world.chain.readable()[0] == Segment{{data}, 16});
    CHECK(world.chain.writable().size() == 1);
    CHECK(world.chain.writable()[0] == Segment{{data + 0x100}, 4});
    CHECK(world.chain.readable_bytes() == 16);
    CHECK(world.chain.writable_bytes() == 4);
    CHECK(world.take() == Taken::empty);
    REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
    CHECK(world.driver.collect() == std::vector{UsedBuffer{head, 4}});
  }
}

TEST_CASE("direct descriptors may end in one indirect, whose table follows next, at any address",
          "[virtqueue][split][indirect]") {
  const std::vector<Piece> pieces{
      {data, 3, false}, {data + 0x10, 5, false}, {data + 0x20, 7, true}, {data + 0x30, 1, true}};
  for (const Reach reach : reaches)
    for (std::size_t before = 0; before <= 3; ++before)
      for (const std::uint64_t where : {table, table + 8, table + 1}) {
        World world{reach};
        world.driver.add(indirect(pieces, where, before));
        world.driver.publish();
        INFO("direct " << before << ", table at " << where);
        REQUIRE(world.take() == Taken::chain);
        CHECK(world.chain.readable_bytes() == 8);
        CHECK(world.chain.writable_bytes() == 8);
        REQUIRE(world.chain.writable().size() == 2);
        CHECK(world.chain.writable()[1] == Segment{{data + 0x30}, 1});
      }
}

TEST_CASE("WRITE on a descriptor that refers to a table is ignored", "[virtqueue][split][indirect]") {
  World world{Reach::mapped};
  world.driver.descriptor(table, 0, readable, 0, 0);
  world.raw(3, {table, 16, true}, SplitDriver::flag_indirect);
  world.offer(3);
  REQUIRE(world.take() == Taken::chain);
  CHECK(world.chain.readable_bytes() == 16);
}

TEST_CASE("a descriptor of no length is skipped, whatever its address", "[virtqueue][split]") {
  World world{Reach::mapped};
  world.driver.add(direct({{~std::uint64_t{0}, 0, true}, readable, {0, 0, false}, writable, {7, 0, false}}));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  CHECK(world.chain.readable_bytes() == 16);
  CHECK(world.chain.writable_bytes() == 4);
  CHECK(world.chain.readable().size() + world.chain.writable().size() == 2);
}

TEST_CASE("a malformed split ring breaks the queue, and nothing else", "[virtqueue][split][B98][SEC-8]") {
  struct Row {
    std::string name;
    Problem problem;
    std::function<void(World&)> spoil;
    bool may_indirect = true;
  };
  constexpr auto goes_on = SplitDriver::flag_next;
  constexpr auto refers = SplitDriver::flag_indirect;
  constexpr std::uint64_t nowhere = 0x40000000;
  const std::vector<Row> rows{
      {"more available than entries", Problem::available_index, [](World& w) { w.driver.announce(size + 1); }},
      {"an index that goes back", Problem::available_index, [](World& w) { w.driver.announce(0xFFFF); }},
      {"a head outside the ring", Problem::head_index, [](World& w) { w.offer(size); }},
      {"a head far outside", Problem::head_index, [](World& w) { w.offer(0xFFFF); }},
      {"a next outside the ring", Problem::next_index, [](World& w) { w.raw(0, readable, goes_on, size), w.offer(0); }},
      {"a loop of one", Problem::too_long, [](World& w) { w.raw(0, readable, goes_on, 0), w.offer(0); }},
      {"a loop of two", Problem::too_long,
       [](World& w) { w.raw(0, readable, goes_on, 1), w.raw(1, readable, goes_on, 0), w.offer(0); }},
      {"a loop of nothing", Problem::too_long, [](World& w) { w.raw(0, {0, 0, false}, goes_on, 0), w.offer(0); }},
      {"readable after writable", Problem::readable_after_writable,
       [](World& w) { w.driver.add(direct({writable, readable})), w.driver.publish(); }},
      {"readable after writable in a table", Problem::readable_after_writable,
       [](World& w) { w.driver.add(indirect({readable, writable, readable}, table)), w.driver.publish(); }},
      {"readable in a table after a writable direct one", Problem::readable_after_writable,
       [](World& w) { w.driver.add(indirect({writable, readable}, table, 1)), w.driver.publish(); }},
      {"indirect without negotiation", Problem::indirect_not_negotiated,
       [](World& w) { w.driver.add(indirect({readable}, table)), w.driver.publish(); }, false},
      {"indirect inside a table", Problem::indirect_nested,
       [](World& w) {
         w.driver.descriptor(table, 0, {table, 16, false}, refers, 0);
         w.raw(0, {table, 16, false}, refers), w.offer(0);
       }},
      {"indirect of no length", Problem::indirect_length,
       [](World& w) { w.raw(0, {table, 0, false}, refers), w.offer(0); }},
      {"indirect of 15 bytes", Problem::indirect_length,
       [](World& w) { w.raw(0, {table, 15, false}, refers), w.offer(0); }},
      {"indirect of 24 bytes", Problem::indirect_length,
       [](World& w) { w.raw(0, {table, 24, false}, refers), w.offer(0); }},
      {"indirect with next", Problem::indirect_with_next,
       [](World& w) { w.raw(0, {table, 16, false}, refers | goes_on, 1), w.raw(1, writable), w.offer(0); }},
      {"a table that is no memory", Problem::not_memory,
       [](World& w) { w.raw(0, {nowhere, 16, false}, refers), w.offer(0); }},
      {"a table that ends behind memory", Problem::not_memory,
       [](World& w) {
         w.guest.put<std::uint16_t>(RingGuest::last - 15 + 12, goes_on),
             w.guest.put<std::uint16_t>(RingGuest::last - 1, 1);
         w.raw(0, {RingGuest::last - 15, 32, false}, refers), w.offer(0);
       }},
      {"a descriptor of a table that ends behind memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::last - 7, 16, false}, refers), w.offer(0); }},
      {"a descriptor of a table that begins before memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::first - 8, 16, false}, refers), w.offer(0); }},
      {"a table that wraps", Problem::address_wraps,
       [](World& w) { w.raw(0, {~std::uint64_t{0} - 15, 32, false}, refers), w.offer(0); }},
      {"a next outside its table", Problem::next_index,
       [](World& w) {
         w.driver.descriptor(table, 0, readable, goes_on, 2);
         w.raw(0, {table, 32, false}, refers), w.offer(0);
       }},
      {"a loop in a table", Problem::too_long,
       [](World& w) {
         w.driver.descriptor(table, 0, readable, goes_on, 1), w.driver.descriptor(table, 1, readable, goes_on, 0);
         w.raw(0, {table, 32, false}, refers), w.offer(0);
       }},
      {"a loop in a table of all there is", Problem::too_long,
       [](World& w) {
         w.driver.descriptor(table, 0, {0, 0, false}, goes_on, 0);
         w.raw(0, {table, 0xFFFFFFF0, false}, refers), w.offer(0);
       }},
      {"a buffer that wraps", Problem::address_wraps,
       [](World& w) { w.raw(0, {~std::uint64_t{0}, 2, false}), w.offer(0); }},
      {"a buffer that ends behind memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::last, 2, true}), w.offer(0); }},
      {"a buffer that begins before memory", Problem::not_memory,
       [](World& w) { w.raw(0, {RingGuest::first - 1, 2, false}), w.offer(0); }},
  };
  for (const Row& row : rows) {
    World world{Reach::mapped, false, row.may_indirect};
    row.spoil(world);
    INFO(row.name);
    CHECK(world.take() == Taken::broken);
    CHECK(text_of(world.queue.problem()) == text_of(row.problem));
    // For good, until it is set up anew.
    world.driver.announce(0);
    CHECK(world.take() == Taken::broken);
    CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, {0, 1}, 0));
    CHECK(world.guest.get<std::uint16_t>(SplitDriver::used + 2) == 0);
    REQUIRE(world.queue.enable(world.driver.config()) == ConfigProblem::none);
    CHECK(world.take() == Taken::empty);
  }
}

TEST_CASE("as many buffers as entries are available at once, around the end of the index", "[virtqueue][split]") {
  RingGuest guest{Reach::mapped};
  constexpr std::uint16_t start = 0xFFFC;
  SplitDriver driver{guest, size, false, start};
  Queue queue;
  REQUIRE(queue.load(driver.config(), {start, start}) == ConfigProblem::none);
  Chain chain;
  std::vector<UsedBuffer> expected(size);
  for (std::uint32_t i = 0; i < size; ++i) expected[i] = {driver.add(direct({writable})), i};
  driver.publish();
  std::uint32_t length = 0;
  const auto result = queue.run(Memory{guest.memory()}, chain, 100,
                                [&](const Chain&) { return Served{Served::Outcome::done, length++}; });
  CHECK(result.stop == RunResult::Stop::idle);
  CHECK(driver.collect() == expected);
  CHECK(queue.state() == State{4, 4});
}

TEST_CASE("a chain of as many descriptors as the ring has is whole", "[virtqueue][split]") {
  World world{Reach::mapped};
  world.driver.add(direct(test::single_bytes(data, size, 2, 4)));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  CHECK(world.chain.readable().size() == 4);
  CHECK(world.chain.writable().size() == 4);
}

TEST_CASE("an indirect table may have more entries than the ring, up to 1024 segments",
          "[virtqueue][split][indirect]") {
  for (const std::uint64_t count : {1024u, 1025u}) {
    World world{Reach::mapped};
    world.driver.add(indirect(test::single_bytes(data, count, 2, 0), table));
    world.driver.publish();
    CHECK((world.take() == Taken::chain) == (count == Chain::most_segments));
    CHECK((world.queue.problem() == Problem::too_long) == (count > Chain::most_segments));
  }
}

TEST_CASE("each descriptor of a chain is read once, flags first", "[virtqueue][split][B98]") {
  World world{Reach::callbacks};
  world.driver.add(indirect({readable, writable}, table, 1));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  using Access = RingGuest::Access;
  const std::uint64_t first = SplitDriver::table;
  CHECK(world.guest.accesses == std::vector{Access{false, SplitDriver::available - 2, 8},  // the index
                                            Access{false, SplitDriver::available - 2, 8},  // the entry it announces
                                            Access{false, first + 8, 8}, Access{false, first, 8},  // direct
                                            Access{false, first + 24, 8},
                                            Access{false, first + 16, 8},  // refers to the table
                                            Access{false, table + 8, 8}, Access{false, table, 8}});
}

TEST_CASE("the index that announces several chains is read once for all of them", "[virtqueue][split]") {
  World world{Reach::callbacks};
  for (unsigned i = 0; i < 3; ++i) world.driver.add(direct({readable}));
  world.driver.publish();
  for (unsigned i = 0; i < 3; ++i) REQUIRE(world.take() == Taken::chain);
  const RingGuest::Access index{false, SplitDriver::available - 2, 8};
  CHECK(std::ranges::count(world.guest.accesses, index) == 2);  // once for the first entry, which stands beside it
  CHECK(world.take() == Taken::empty);
  CHECK(std::ranges::count(world.guest.accesses, index) == 3);
}

TEST_CASE("a used element is written before the index that shows it", "[virtqueue][split][Used-ring writes]") {
  World world{Reach::callbacks};
  world.driver.add(direct({writable}));
  world.driver.publish();
  REQUIRE(world.take() == Taken::chain);
  world.guest.accesses.clear();
  REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
  using Access = RingGuest::Access;
  CHECK(world.guest.accesses == std::vector{Access{true, SplitDriver::used + 4, 4},
                                            Access{true, SplitDriver::used + 8, 4},
                                            Access{true, SplitDriver::used + 2, 2}});
}

TEST_CASE("ring memory that is not there, or goes, breaks the queue", "[virtqueue][split][B98]") {
  for (const Reach reach : reaches) {
    World world{reach};
    world.driver.add(direct({readable, writable}));
    world.driver.add(direct({readable, writable}));
    world.driver.publish();
    REQUIRE(world.take() == Taken::chain);
    if (reach == Reach::mapped)
      world.guest.remove();
    else
      world.guest.refuse_reads = world.guest.refuse_writes = true;
    SECTION(reach == Reach::mapped ? "mapped: take" : "callbacks: take") {
      CHECK(world.take() == Taken::broken);
      CHECK(world.queue.problem() == Problem::ring_unreadable);
    }
    SECTION(reach == Reach::mapped ? "mapped: put" : "callbacks: put") {
      CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
      CHECK(world.queue.problem() == Problem::ring_unwritable);
    }
    SECTION(reach == Reach::mapped ? "mapped: listen" : "callbacks: listen") {
      CHECK_FALSE(world.queue.listen(Memory{world.guest.memory()}));
      CHECK(world.queue.problem() == Problem::ring_unwritable);
    }
    SECTION(reach == Reach::mapped ? "mapped: buffer" : "callbacks: buffer") {
      std::array<std::byte, 4> bytes{};
      CHECK_FALSE(world.chain.read(Memory{world.guest.memory()}, 0, bytes));
      CHECK_FALSE(world.chain.write(Memory{world.guest.memory()}, 0, bytes));
    }
  }
}

TEST_CASE("each access to a split ring that fails breaks the queue", "[virtqueue][split][B98]") {
  constexpr std::uint64_t first = SplitDriver::table;
  for (const std::uint64_t word : {SplitDriver::available - 2, first, first + 8}) {
    World world{Reach::callbacks};
    world.driver.add(direct({readable, writable}));
    world.driver.publish();
    world.guest.hole = [&](std::uint64_t gpa) { return gpa == word; };
    CHECK(world.take() == Taken::broken);
    CHECK(world.queue.problem() == Problem::ring_unreadable);
  }
  for (const std::uint64_t word : {SplitDriver::used + 4, SplitDriver::used + 8, SplitDriver::used + 2}) {
    World world{Reach::callbacks};
    world.guest.hole = [&](std::uint64_t gpa) { return gpa == word; };
    CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, {0, 1}, 0));
    CHECK(world.queue.problem() == Problem::ring_unwritable);
  }
}

TEST_CASE("used rings in memory that cannot be written break the queue", "[virtqueue][split]") {
  World world{Reach::mapped};
  world.driver.add(direct({readable}));
  world.driver.publish();
  world.guest.restore(true);
  REQUIRE(world.take() == Taken::chain);
  CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 0));
  SECTION("and so does a writable buffer there") {
    REQUIRE(world.queue.enable(world.driver.config()) == ConfigProblem::none);
    world.raw(0, writable);
    world.offer(0);
    CHECK(world.take() == Taken::broken);
    CHECK(world.queue.problem() == Problem::not_memory);
  }
}

}  // namespace
}  // namespace viommu::virtqueue
