// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What both rings have: how they are set up, saved, run over, and who notifies whom.
#include "engine/virtqueue/queue.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "engine/virtqueue/split_layout.hpp"
#include "tests/support/layout_round_trip.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtqueue {
namespace {

using test::direct;
using test::PackedDriver;
using test::Piece;
using test::Reach;
using test::RingGuest;
using test::SplitDriver;
using test::UsedBuffer;

using Stop = RunResult::Stop;

constexpr std::uint64_t data = RingGuest::first + 0x40000;
constexpr Piece readable{data, 16, false};
constexpr Piece writable{data + 0x100, 4, true};
constexpr std::uint16_t size = 8;

template <class Driver>
struct World {
  explicit World(bool event_index, Reach reach = Reach::mapped) : guest{reach}, driver{guest, size, event_index} {
    REQUIRE(queue.enable(driver.config()) == ConfigProblem::none);
  }
  RunResult run(std::uint32_t budget = 100) {
    return queue.run(Memory{guest.memory()}, chain, budget, [&](const Chain&) { return answer; });
  }
  void add(unsigned count = 1) {
    for (unsigned i = 0; i < count; ++i) driver.add(direct({readable, writable}));
    driver.publish();
  }
  RingGuest guest;
  Driver driver;
  Queue queue;
  Chain chain;
  Served answer{Served::Outcome::done, 4};
};

TEST_CASE("each field of the rings goes in and comes out alone", "[virtqueue][layouts]") {
  test::check_round_trips(split_descriptor::rows);
  test::check_round_trips(packed_descriptor::rows);
  test::check_round_trips(event_suppression::rows);
  test::check_round_trips(split::ring_flags::rows);
  test::check_round_trips(split::used_element::rows);
}

TEST_CASE("a queue is set up with sizes and areas as the specification has them", "[virtqueue][config]") {
  constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  const auto split = [](std::uint16_t entries, std::uint64_t d = 0x1000, std::uint64_t a = 0x2000,
                        std::uint64_t u = 0x3000) { return problem_of({entries, {d}, {a}, {u}, {}}); };
  const auto packed = [](std::uint16_t entries, std::uint64_t d = 0x1000, std::uint64_t a = 0x2000,
                         std::uint64_t u = 0x3000) {
    return problem_of({entries, {d}, {a}, {u}, {false, false, true}});
  };
  CHECK(split(0) == ConfigProblem::size);
  CHECK(packed(0) == ConfigProblem::size);
  for (unsigned entries = 0; entries <= 0xFFFF; ++entries) {
    const auto narrow = static_cast<std::uint16_t>(entries);
    const bool fits = entries != 0 && entries <= 32768;
    REQUIRE((packed(narrow) == ConfigProblem::none) == fits);
    REQUIRE((split(narrow) == ConfigProblem::none) == (fits && (entries & (entries - 1)) == 0));
  }
  for (std::uint64_t off = 1; off < 16; ++off) {
    CHECK(split(8, 0x1000 + off) == ConfigProblem::alignment);
    CHECK(packed(8, 0x1000 + off) == ConfigProblem::alignment);
    CHECK((split(8, 0x1000, 0x2000 + off) == ConfigProblem::none) == (off % 2 == 0));
    CHECK((packed(8, 0x1000, 0x2000 + off) == ConfigProblem::none) == (off % 4 == 0));
    CHECK((split(8, 0x1000, 0x2000, 0x3000 + off) == ConfigProblem::none) == (off % 4 == 0));
    CHECK((packed(8, 0x1000, 0x2000, 0x3000 + off) == ConfigProblem::none) == (off % 4 == 0));
  }
  // The last place of each area, and the one behind it.
  CHECK(split(8, top - 127) == ConfigProblem::none);
  CHECK(split(16, top - 127) == ConfigProblem::address);
  CHECK(split(8, 0x1000, top - 21) == ConfigProblem::none);
  CHECK(split(8, 0x1000, top - 19) == ConfigProblem::address);
  CHECK(split(8, 0x1000, 0x2000, top - 71) == ConfigProblem::none);
  CHECK(split(8, 0x1000, 0x2000, top - 67) == ConfigProblem::address);
  CHECK(packed(7, top - 111) == ConfigProblem::none);
  CHECK(packed(8, top - 111) == ConfigProblem::address);
  CHECK(packed(8, 0x1000, top - 3, top - 3) == ConfigProblem::none);
}

TEST_CASE("a queue that is not set up is empty, and one that cannot be stays as it was", "[virtqueue][config]") {
  World<SplitDriver> world{false};
  world.add();
  CHECK(world.queue.enable({3, {0}, {0}, {0}, {}}) == ConfigProblem::size);
  CHECK(world.queue.config() == world.driver.config());
  CHECK(world.run().stop == Stop::idle);
  CHECK(world.driver.collect().size() == 1);
  world.queue.disable();
  CHECK_FALSE(world.queue.enabled());
  CHECK(world.queue.take(Memory{world.guest.memory()}, world.chain) == Taken::empty);
  CHECK_FALSE(world.queue.put(Memory{world.guest.memory()}, {}, 0));
  CHECK_FALSE(world.queue.listen(Memory{world.guest.memory()}));
  const RunResult result = world.run();
  CHECK(result.stop == Stop::idle);
  CHECK_FALSE(result.notify);
}

TEST_CASE("a state that cannot be is refused", "[virtqueue][state]") {
  const Config split{8, {0x1000}, {0x2000}, {0x3000}, {}};
  Config packed = split;
  packed.size = 7;
  packed.features.packed = true;
  CHECK(possible(split, {4, 0xFFFC}));
  CHECK_FALSE(possible(split, {5, 0xFFFC}));
  CHECK_FALSE(possible(split, {4, 5}));
  CHECK_FALSE(possible(split, {4, 4, false, true}));
  CHECK_FALSE(possible(split, {4, 4, true, false}));
  CHECK(possible(packed, {6, 6, false, true, 7}));
  CHECK_FALSE(possible(packed, {7, 6}));
  CHECK_FALSE(possible(packed, {6, 7}));
  Queue queue;
  CHECK(queue.load(packed, {7, 0}) != ConfigProblem::none);
  CHECK_FALSE(queue.enabled());
}

TEMPLATE_TEST_CASE("a chain has at most 1024 descriptors, however large the queue", "[virtqueue][SEC-8]", SplitDriver,
                   PackedDriver) {
  for (const std::uint64_t count : {1024u, 1025u}) {
    RingGuest guest{Reach::mapped};
    TestType driver{guest, 2048, false};
    Queue queue;
    REQUIRE(queue.enable(driver.config()) == ConfigProblem::none);
    driver.add(direct(test::single_bytes(data, count, 1, 0)));  // one segment in all
    driver.publish();
    Chain chain;
    CHECK((queue.take(Memory{guest.memory()}, chain) == Taken::chain) == (count == Chain::most_segments));
    CHECK((queue.problem() == Problem::too_long) == (count > Chain::most_segments));
  }
}

TEMPLATE_TEST_CASE("a queue that was saved goes on where it was", "[virtqueue][state]", SplitDriver, PackedDriver) {
  for (const bool event_index : {false, true}) {
    World<TestType> world{event_index};
    for (int round = 0; round < 20; ++round) {
      world.add(3);
      world.driver.want_after(0);
      if (!event_index) world.driver.want(true);
      REQUIRE(world.queue.take(Memory{world.guest.memory()}, world.chain) == Taken::chain);
      REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
      // Between a used buffer and its notification: that is not lost.
      const State saved = world.queue.state();
      Queue other;
      REQUIRE(other.load(world.driver.config(), saved) == ConfigProblem::none);
      world.queue = other;
      const RunResult result = world.run();
      CHECK(result.stop == Stop::idle);
      CHECK(result.notify);
      CHECK(world.driver.collect().size() == 3);
      CHECK(world.driver.device_listens());
    }
  }
}

TEMPLATE_TEST_CASE("a run serves at most its budget", "[virtqueue][run]", SplitDriver, PackedDriver) {
  for (const bool event_index : {false, true}) {
    World<TestType> world{event_index};
    world.add(4);
    CHECK(world.run(0).stop == Stop::more);
    CHECK(world.run(3).stop == Stop::more);
    CHECK(world.driver.collect().size() == 3);
    CHECK(world.run(3).stop == Stop::idle);
    CHECK(world.driver.collect().size() == 1);
    CHECK(world.run(3).stop == Stop::idle);
  }
}

TEMPLATE_TEST_CASE("a chain that is not ready holds up the run, and is put later", "[virtqueue][run]", SplitDriver,
                   PackedDriver) {
  World<TestType> world{false};
  world.add(2);
  world.answer.outcome = Served::Outcome::later;
  const RunResult result = world.run();
  CHECK(result.stop == Stop::later);
  CHECK_FALSE(result.notify);
  CHECK(world.driver.collect().empty());
  REQUIRE(world.queue.put(Memory{world.guest.memory()}, world.chain.token(), 4));
  world.answer.outcome = Served::Outcome::done;
  CHECK(world.run().stop == Stop::idle);
  CHECK(world.driver.collect().size() == 2);
}

TEMPLATE_TEST_CASE("chains may be put in another order", "[virtqueue][run]", SplitDriver, PackedDriver) {
  World<TestType> world{false};
  const Memory memory{world.guest.memory()};
  std::array<Token, 3> tokens{};
  const auto a = world.driver.add(direct({readable}));
  const auto b = world.driver.add(direct({readable, writable}));
  const auto c = world.driver.add(direct({readable, {data + 0x20, 1, false}, writable}));
  world.driver.publish();
  for (Token& token : tokens) {
    REQUIRE(world.queue.take(memory, world.chain) == Taken::chain);
    token = world.chain.token();
  }
  REQUIRE(world.queue.put(memory, tokens[2], 3));
  REQUIRE(world.queue.put(memory, tokens[0], 0));
  REQUIRE(world.queue.put(memory, tokens[1], 2));
  CHECK(world.driver.collect() == std::vector{UsedBuffer{c, 3}, UsedBuffer{a, 0}, UsedBuffer{b, 2}});
}

TEMPLATE_TEST_CASE("a buffer whose memory has gone breaks the queue, without a notification", "[virtqueue][run][B98]",
                   SplitDriver, PackedDriver) {
  World<TestType> world{false};
  world.add(3);
  unsigned count = 0;
  const RunResult result = world.queue.run(Memory{world.guest.memory()}, world.chain, 100, [&](const Chain&) {
    return Served{++count == 2 ? Served::Outcome::memory_gone : Served::Outcome::done, 4};
  });
  CHECK(result.stop == Stop::broken);
  CHECK_FALSE(result.notify);
  CHECK(count == 2);
  CHECK(world.queue.problem() == Problem::memory_gone);
  CHECK(world.run().stop == Stop::broken);
  CHECK(world.driver.collect().size() == 1);
}

TEMPLATE_TEST_CASE("an idle device listens, a busy one does not", "[virtqueue][notifications]", SplitDriver,
                   PackedDriver) {
  World<TestType> world{false};
  CHECK(world.run().stop == Stop::idle);
  CHECK(world.driver.device_listens());
  world.add(2);
  const RunResult result = world.queue.run(Memory{world.guest.memory()}, world.chain, 100, [&](const Chain&) {
    CHECK_FALSE(world.driver.device_listens());
    return Served{Served::Outcome::done, 0};
  });
  CHECK(result.stop == Stop::idle);
  CHECK(world.driver.device_listens());
  world.add(2);
  CHECK(world.run(1).stop == Stop::more);
  CHECK_FALSE(world.driver.device_listens());
}

TEMPLATE_TEST_CASE("a run tells its wish for notifications at its first chain and at its end, no more often",
                   "[virtqueue][notifications]", SplitDriver, PackedDriver) {
  for (const bool event_index : {false, true}) {
    World<TestType> world{event_index, Reach::callbacks};
    const std::uint64_t wish = std::is_same_v<TestType, PackedDriver> ? PackedDriver::device_event
                               : event_index                          ? SplitDriver::available_event(size)
                                                                      : SplitDriver::used;
    const auto told = [&] {
      return std::ranges::count_if(world.guest.accesses,
                                   [&](const RingGuest::Access& a) { return a.write && a.gpa == wish; });
    };
    CHECK(world.run().stop == Stop::idle);
    CHECK(told() == 1);
    CHECK(world.run().stop == Stop::idle);
    CHECK(told() == 1);
    world.add(4);
    CHECK(world.run().stop == Stop::idle);
    CHECK(told() == (event_index ? 2 : 3));
  }
}

TEMPLATE_TEST_CASE("a wish for notifications that cannot be told breaks the queue, before anything is served",
                   "[virtqueue][notifications][B98]", SplitDriver, PackedDriver) {
  World<TestType> world{false, Reach::callbacks};
  world.add();
  const std::uint64_t wish = std::is_same_v<TestType, PackedDriver> ? PackedDriver::device_event : SplitDriver::used;
  world.guest.hole = [&](std::uint64_t gpa) { return gpa == wish; };
  unsigned served = 0;
  const RunResult result = world.queue.run(Memory{world.guest.memory()}, world.chain, 100, [&](const Chain&) {
    ++served;
    return Served{};
  });
  CHECK(result.stop == Stop::broken);
  CHECK(served == 0);
  CHECK(world.queue.problem() == Problem::ring_unwritable);
}

TEMPLATE_TEST_CASE("with an event index an idle device listens for the next buffer", "[virtqueue][notifications]",
                   SplitDriver, PackedDriver) {
  World<TestType> world{true};
  for (unsigned i = 0; i < 5 * size; ++i) {
    CHECK(world.run().stop == Stop::idle);
    REQUIRE(world.driver.device_listens());
    world.add(1 + i % 3);
    REQUIRE_FALSE(world.driver.device_listens());
    CHECK(world.run().stop == Stop::idle);
    world.driver.collect();
  }
}

TEMPLATE_TEST_CASE("a buffer that comes while the device begins to listen is not forgotten",
                   "[virtqueue][notifications]", SplitDriver, PackedDriver) {
  for (const bool event_index : {false, true}) {
    World<TestType> world{event_index, Reach::callbacks};
    world.add();
    const std::uint64_t wish = std::is_same_v<TestType, PackedDriver> ? PackedDriver::device_event
                               : event_index                          ? SplitDriver::available_event(size)
                                                                      : SplitDriver::used;
    unsigned late = 3;  // after each of the first wishes there is one more
    world.guest.after = [&](const RingGuest::Access& access) {
      if (!access.write || access.gpa != wish || late == 0) return;
      --late;
      world.add();
    };
    CHECK(world.run().stop == Stop::idle);
    CHECK(late == 0);
    CHECK(world.driver.collect().size() == 4);
    CHECK(world.driver.device_listens());
  }
}

TEMPLATE_TEST_CASE("the driver's flag says whether it is notified, once a run", "[virtqueue][notifications]",
                   SplitDriver, PackedDriver) {
  World<TestType> world{false};
  for (const bool wanted : {true, false, true}) {
    world.driver.want(wanted);
    CHECK_FALSE(world.run().notify);
    world.add(3);
    CHECK(world.run().notify == wanted);
    CHECK_FALSE(world.run().notify);
    world.driver.collect();
  }
}

TEMPLATE_TEST_CASE("with an event index the driver is notified when its entry is passed, and then only",
                   "[virtqueue][notifications]", SplitDriver, PackedDriver) {
  for (std::uint64_t event = 0; event < size; ++event)
    for (unsigned count = 1; count <= size / 2; ++count)
      for (unsigned before = 0; before < 3 * size; before += 3) {  // where in the ring it happens
        World<TestType> world{true};
        for (unsigned i = 0; i < before; ++i) {
          world.add();
          world.run();
          world.driver.collect();
        }
        world.driver.want_after(event);
        const std::uint64_t from = world.driver.seen();
        world.add(count);
        const bool notify = world.run().notify;
        world.driver.collect();
        INFO("event " << event << " count " << count << " before " << before);
        REQUIRE(notify == world.driver.due(from, world.driver.seen()));
      }
}

TEST_CASE("a packed driver may switch notifications off beside an event index, and a reserved value leaves them on",
          "[virtqueue][packed][notifications]") {
  World<PackedDriver> world{true};
  world.driver.want(false);
  world.add();
  CHECK_FALSE(world.run().notify);
  world.driver.want(true);
  world.add();
  CHECK(world.run().notify);
  world.guest.put<std::uint32_t>(PackedDriver::driver_event, 0x30000);
  world.add();
  CHECK(world.run().notify);
  World<PackedDriver> without{false};
  without.guest.put<std::uint32_t>(PackedDriver::driver_event, 0x28006);  // at a descriptor, which was not negotiated
  without.add();
  CHECK(without.run().notify);
}

TEMPLATE_TEST_CASE("a wish for notifications that cannot be read breaks the queue", "[virtqueue][notifications][B98]",
                   SplitDriver, PackedDriver) {
  World<TestType> world{true, Reach::callbacks};
  world.add();
  const std::uint64_t wish =
      std::is_same_v<TestType, PackedDriver> ? PackedDriver::driver_event : SplitDriver::used_event(size);
  world.guest.hole = [&](std::uint64_t gpa) { return gpa == wish / 8 * 8; };
  const RunResult result = world.run();
  CHECK(result.stop == Stop::broken);
  CHECK_FALSE(result.notify);
  CHECK(world.queue.problem() == Problem::ring_unreadable);
}

}  // namespace
}  // namespace viommu::virtqueue
