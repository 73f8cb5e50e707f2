// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Random drivers against the queue: buffers of any shape, in split and packed rings, mapped and behind callbacks, go
// round and round. Each byte that arrives, each used element, each byte written and each notification is compared with
// what the driver's side, written on its own, expects.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/virtqueue/queue.hpp"
#include "tests/support/random.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtqueue {
namespace {

using test::PackedDriver;
using test::Piece;
using test::Random;
using test::Reach;
using test::RingBuffer;
using test::RingGuest;
using test::SplitDriver;
using test::UsedBuffer;

using Bytes = std::vector<std::byte>;
using Stop = RunResult::Stop;

constexpr std::uint64_t arena = RingGuest::first + 0x20000;
constexpr std::uint64_t arena_bytes = 0x60000;
constexpr std::byte untouched{0xEE};

/// A buffer on its way, and what is to become of it.
struct Flight {
  std::uint32_t id = 0;
  RingBuffer buffer;
  Bytes sent;      ///< the readable bytes
  Bytes answered;  ///< what the device wrote, from the start of the writable part
};

template <class Driver>
class Twins {
 public:
  Twins(Reach reach, std::uint16_t size, bool event_index, std::uint64_t start, std::uint64_t seed)
      : random_{seed},
        guest_{reach},
        driver_{make(guest_, size, event_index, start)},
        size_{size},
        event_{event_index} {
    State state;
    if constexpr (std::is_same_v<Driver, PackedDriver>)
      state.available_wrap = state.used_wrap = start / size % 2 == 0;
    else
      state.next_available = state.next_used = static_cast<std::uint16_t>(start);
    REQUIRE(queue_.load(driver_.config(), state) == ConfigProblem::none);
  }

  void step() {
    add_some();
    wish();
    run();
    collect();
  }
  [[nodiscard]] std::size_t served() const { return served_; }

 private:
  static Driver make(RingGuest& guest, std::uint16_t size, bool event_index, std::uint64_t start) {
    if constexpr (std::is_same_v<Driver, PackedDriver>)
      return Driver{guest, size, event_index, start};
    else
      return Driver{guest, size, event_index, static_cast<std::uint16_t>(start)};
  }

  /// Memory of one buffer; each has a place of its own, so what is written beside it shows.
  std::uint64_t place() {
    constexpr std::uint64_t piece_bytes = 0x80;
    next_place_ = (next_place_ + 1) % (arena_bytes / piece_bytes);
    return arena + piece_bytes * next_place_;
  }

  RingBuffer random_buffer() {
    RingBuffer buffer;
    const std::size_t room = driver_.room();
    const bool may_indirect = random_.chance(1, 2);
    const std::size_t count = 1 + random_.below(may_indirect ? 12 : std::min<std::size_t>(room, 8));
    const std::size_t readable = random_.below(count + 1);
    std::uint64_t at = place();
    for (std::size_t i = 0; i < count; ++i) {
      if (random_.chance(1, 2)) at = place() + random_.below(8);
      const auto length = static_cast<std::uint32_t>(random_.below(10));
      buffer.pieces.push_back({at, length, i >= readable});
      at += length;
    }
    buffer.direct = count;
    if (may_indirect) {
      buffer.direct = random_.below(std::min(count, room));  // at least one in the table, and room for it
      buffer.table = place() + random_.below(2) * random_.below(16);
      for (int i = 0; i < 3; ++i) place();
    }
    return buffer;
  }

  void add_some() {
    for (std::uint64_t n = random_.below(4); n-- > 0 && driver_.room() != 0;) {
      Flight flight;
      flight.buffer = random_buffer();
      for (const Piece& piece : flight.buffer.pieces)
        for (std::uint32_t b = 0; b < piece.length; ++b) {
          const auto value = piece.device_writes ? untouched : static_cast<std::byte>(random_.next() & 0xFF);
          guest_.put(piece.gpa + b, value);
          if (!piece.device_writes) flight.sent.push_back(value);
        }
      flight.id = driver_.add(flight.buffer);
      available_.push_back(flight);
    }
    driver_.publish();
  }

  void wish() {
    if (event_)
      driver_.want_after(random_.below(size_));
    else
      driver_.want(random_.chance(1, 2));
  }

  Served serve(const Chain& chain) {
    REQUIRE_FALSE(available_.empty());
    Flight flight = available_.front();
    available_.pop_front();
    REQUIRE(chain.token().id == flight.id);
    std::uint64_t writable = 0;
    for (const Piece& piece : flight.buffer.pieces) writable += piece.device_writes ? piece.length : 0;
    REQUIRE(chain.readable_bytes() == flight.sent.size());
    REQUIRE(chain.writable_bytes() == writable);
    const Memory memory{guest_.memory()};
    Bytes received(flight.sent.size());
    REQUIRE(chain.read(memory, 0, received));
    REQUIRE(received == flight.sent);
    if (!received.empty()) {
      const std::size_t from = random_.below(received.size());
      Bytes part(random_.below(received.size() - from + 1));
      REQUIRE(chain.read(memory, from, part));
      REQUIRE(std::equal(part.begin(), part.end(), flight.sent.begin() + static_cast<std::ptrdiff_t>(from)));
    }
    flight.answered.resize(random_.below(writable + 1));
    for (std::byte& byte : flight.answered) byte = static_cast<std::byte>(random_.below(0xEE));
    for (std::size_t done = 0; done < flight.answered.size();) {  // in pieces
      const std::size_t count = 1 + random_.below(flight.answered.size() - done);
      REQUIRE(chain.write(memory, done, std::span{flight.answered}.subspan(done, count)));
      done += count;
    }
    const Served answer{random_.chance(1, 10) ? Served::Outcome::later : Served::Outcome::done,
                        static_cast<std::uint32_t>(flight.answered.size())};
    flights_.push_back(std::move(flight));
    return answer;
  }

  void run() {
    const std::uint64_t seen = driver_.seen();
    const std::size_t waiting = available_.size();
    const auto budget = static_cast<std::uint32_t>(1 + random_.below(6));
    const RunResult result =
        queue_.run(Memory{guest_.memory()}, chain_, budget, [&](const Chain& c) { return serve(c); });
    bool notify = result.notify;
    switch (result.stop) {
      case Stop::broken: FAIL("broken: " << text_of(queue_.problem())); break;
      case Stop::later:
        REQUIRE(queue_.put(Memory{guest_.memory()}, chain_.token(),
                           static_cast<std::uint32_t>(flights_.back().answered.size())));
        notify = queue_.notification_due(Memory{guest_.memory()}) || notify;
        break;
      case Stop::more: REQUIRE(waiting - available_.size() == budget); break;
      case Stop::idle:
        REQUIRE(available_.empty());
        REQUIRE(driver_.device_listens());
        break;
    }
    if (random_.chance(1, 8)) {  // it moves to another machine
      Queue other;
      REQUIRE(other.load(driver_.config(), queue_.state()) == ConfigProblem::none);
      queue_ = other;
    }
    collect();
    REQUIRE(notify == driver_.due(seen, driver_.seen()));
  }

  void collect() {
    for (const UsedBuffer& used : driver_.collect()) {
      REQUIRE_FALSE(flights_.empty());
      const Flight flight = flights_.front();
      flights_.pop_front();
      REQUIRE(used == UsedBuffer{flight.id, static_cast<std::uint32_t>(flight.answered.size())});
      std::size_t at = 0;
      for (const Piece& piece : flight.buffer.pieces) {
        if (!piece.device_writes) continue;
        for (std::uint32_t b = 0; b < piece.length; ++b, ++at)
          REQUIRE(guest_.get<std::byte>(piece.gpa + b) ==
                  (at < flight.answered.size() ? flight.answered[at] : untouched));
      }
      ++served_;
    }
  }

  Random random_;
  RingGuest guest_;
  Driver driver_;
  Queue queue_;
  Chain chain_;
  std::uint16_t size_;
  bool event_;
  std::uint64_t next_place_ = 0;
  std::size_t served_ = 0;
  std::deque<Flight> available_;  ///< the device has not seen them
  std::deque<Flight> flights_;    ///< the driver has not seen them again
};

template <class Driver>
std::size_t go_round(std::uint64_t seed) {
  Random random{seed};
  constexpr std::array<std::uint16_t, 6> split_sizes{1, 2, 4, 8, 32, 256};
  constexpr std::array<std::uint16_t, 6> packed_sizes{1, 2, 3, 7, 32, 200};
  constexpr bool packed = std::is_same_v<Driver, PackedDriver>;
  const std::uint16_t size = random.pick(packed ? packed_sizes : split_sizes);
  const std::uint64_t start = packed ? size * random.below(2) : random.pick(std::array<std::uint64_t, 3>{0, 5, 0xFFF0});
  const Reach reach = random.chance(1, 2) ? Reach::mapped : Reach::callbacks;
  const bool event_index = random.chance(1, 2);
  INFO("seed " << seed << " size " << size << " start " << start);
  Twins<Driver> twins{reach, size, event_index, start, random.next()};
  for (int i = 0; i < 300; ++i) twins.step();
  return twins.served();
}

}  // namespace

TEMPLATE_TEST_CASE("any driver gets what it sent for, byte for byte, and is notified when it wants to be",
                   "[virtqueue][property][B85]", SplitDriver, PackedDriver) {
  std::size_t served = 0;
  for (std::uint64_t seed = 0; seed < 120; ++seed) served += go_round<TestType>(seed);
  CHECK(served > 10'000);
}

}  // namespace viommu::virtqueue
