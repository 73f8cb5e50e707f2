// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/epoch.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/base/process_barrier.hpp"
#include "tests/caches/test_epochs.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/paths.hpp"

namespace viommu::caches {
namespace {

using test::TestEpochs;

constexpr std::array every_drain{Drain::fence, Drain::barrier, Drain::automatic};

/// How many entries of `guards` made a fence.
template <std::size_t readers>
std::uint64_t fences_of(TestEpochs<readers>& epochs, std::uint64_t guards) {
  const std::uint64_t before = epochs.words[0].fences.load();
  for (std::uint64_t i = 0; i < guards; ++i) {
    epochs.enter(0);
    epochs.leave(0);
  }
  return epochs.words[0].fences.load() - before;
}

}  // namespace

TEST_CASE("a ticket passes when the guards that were open have ended, and not by itself", "[caches][epoch][PR-6]") {
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<3> epochs{drain};
  const std::uint64_t first = epochs->advance();
  CHECK_FALSE(epochs->passed(first));  // nobody is inside, but nobody has looked
  CHECK(epochs->scan(first));
  CHECK(epochs->passed(first));

  epochs.enter(1);
  CHECK(epochs->passed(first));
  const std::uint64_t second = epochs->advance();
  CHECK(second > first);
  CHECK_FALSE(epochs->scan(second));

  epochs.enter(2);
  CHECK_FALSE(epochs->scan(second));
  epochs.leave(1);
  CHECK_FALSE(epochs->passed(second));
  CHECK(epochs->scan(second));  // the other one entered after the scan began

  const std::uint64_t third = epochs->advance();
  CHECK_FALSE(epochs->scan(third));
  CHECK(epochs->passed(second));
  epochs.leave(2);
  CHECK(epochs->scan(third));
}

TEST_CASE("leaving and entering again makes a reader a new one", "[caches][epoch][PR-6]") {
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<1> epochs{drain};
  epochs.enter(0);
  const std::uint64_t ticket = epochs->advance();
  CHECK_FALSE(epochs->scan(ticket));
  epochs.leave(0);
  epochs.enter(0);
  CHECK(epochs->scan(ticket));
  epochs.leave(0);
}

TEST_CASE("a scan that was under way when a ticket was made does not cover it", "[caches][epoch][PR-6]") {
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<2> epochs{drain};
  epochs.enter(0);
  const std::uint64_t first = epochs->advance();
  CHECK_FALSE(epochs->scan(first));
  epochs.enter(1);  // after the scan began: that one will not wait for it
  const std::uint64_t second = epochs->advance();
  epochs.leave(0);
  CHECK_FALSE(epochs->scan(second));
  CHECK(epochs->passed(first));
  epochs.leave(1);
  CHECK(epochs->scan(second));
}

TEST_CASE("one scan covers every ticket given out before it", "[caches][epoch]") {
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<1> epochs{drain};
  std::uint64_t last = 0;
  for (unsigned i = 0; i < 100; ++i) last = epochs->advance();
  CHECK(epochs->scan(1));
  CHECK(epochs->passed(last));
}

TEST_CASE("tickets count up, and each advance has its own", "[caches][epoch]") {
  TestEpochs<1> epochs;
  std::uint64_t before = epochs->issued();
  for (unsigned i = 0; i < 100; ++i) {
    const std::uint64_t now = epochs->advance();
    REQUIRE(now == before + 1);
    REQUIRE(epochs->issued() == now);
    before = now;
  }
}

TEST_CASE("a reader that comes into use later is waited for like the others", "[caches][epoch][PR-6]") {
  const Drain drain = GENERATE(from_range(every_drain));
  std::array<GuardWord, 3> kept;
  std::array<GuardWord, 2> transient;
  Epochs epochs;
  REQUIRE(epochs.reset({}, {kept, transient}, drain));
  CHECK(epochs.scan(epochs.advance()));  // nobody there
  for (GuardWord* const word : {&kept[1], transient.data(), &kept[2], &transient[1], kept.data()}) {
    epochs.use(*word);
    epochs.enter(*word);
    CHECK(Epochs::inside(*word));
    const std::uint64_t ticket = epochs.advance();
    CHECK_FALSE(epochs.scan(ticket));
    epochs.leave(*word);
    CHECK_FALSE(Epochs::inside(*word));
    CHECK(epochs.scan(ticket));
  }
}

TEST_CASE("a reader that comes into use during a scan does not delay it", "[caches][epoch]") {
  const Drain drain = GENERATE(from_range(every_drain));
  std::array<GuardWord, 2> kept;
  Epochs epochs;
  REQUIRE(epochs.reset({}, {kept, {}}, drain));
  epochs.use(kept[0]);
  epochs.enter(kept[0]);
  const std::uint64_t ticket = epochs.advance();
  CHECK_FALSE(epochs.scan(ticket));
  epochs.use(kept[1]);
  epochs.enter(kept[1]);
  epochs.leave(kept[0]);
  CHECK(epochs.scan(ticket));
  CHECK_FALSE(epochs.scan(epochs.advance()));
  epochs.leave(kept[1]);
}

TEST_CASE("with fences each entry makes one and no completion a barrier", "[caches][epoch][drain]") {
  TestEpochs<2> epochs{Drain::fence};
  for (unsigned i = 0; i < 20; ++i) {
    CHECK(fences_of(epochs, 10) == 10);
    CHECK(epochs->scan(epochs->advance()));
  }
  epochs.enter(0);
  for (unsigned i = 0; i < 20; ++i) CHECK_FALSE(epochs->scan(epochs->advance()));
  CHECK(epochs->barriers() == 0);
}

TEST_CASE("with barriers no entry makes a fence and each completion one barrier", "[caches][epoch][drain]") {
  if (!enable_process_barrier()) return;
  TestEpochs<2> epochs{Drain::barrier};
  static_cast<void>(fences_of(epochs, 1));  // no pattern of bits leaves a reader's very first entry out
  for (unsigned i = 1; i <= 20; ++i) {
    CHECK(fences_of(epochs, 1000) == 0);
    CHECK(epochs->scan(epochs->advance()));
    CHECK(epochs->barriers() == i);
  }
  epochs.enter(0);
  for (unsigned i = 0; i < 20; ++i) CHECK_FALSE(epochs->scan(epochs->advance()));
  CHECK(epochs->barriers() == 21);  // looking again at a reader that stays inside costs none
  epochs.leave(0);
  CHECK(epochs.scan());
}

TEST_CASE("who pays follows the number of guards between completions, back and forth", "[caches][epoch][drain]") {
  if (!enable_process_barrier()) return;
  TestEpochs<2> epochs{Drain::automatic};
  const auto completions = [&](unsigned count, std::uint64_t guards) {
    for (unsigned i = 0; i < count; ++i) {
      static_cast<void>(fences_of(epochs, guards));
      REQUIRE(epochs->scan(epochs->advance()));
    }
  };
  const auto barriers_of = [&](unsigned count, std::uint64_t guards) {
    const std::uint64_t before = epochs->barriers();
    completions(count, guards);
    return epochs->barriers() - before;
  };
  for (unsigned round = 0; round < 3; ++round) {
    completions(200, 2);  // a strict guest
    CHECK(fences_of(epochs, 64) == 64);
    completions(30, 2);
    CHECK(barriers_of(100, 2) == 0);

    completions(100, 1'000);
    const std::uint64_t some = fences_of(epochs, 6'400);
    CHECK(some >= 6'400 / 64);
    CHECK(some <= 6'400 / 8);
    CHECK(barriers_of(50, 1'000) <= 100);

    // A completion a second or so.
    for (unsigned i = 0; i < 40; ++i) {
      epochs.words[0].turn.store(epochs.words[0].turn.load() + (std::uint64_t{1} << 25));
      REQUIRE(epochs->scan(epochs->advance()));
    }
    CHECK(fences_of(epochs, 1'000) == 1);
    CHECK(barriers_of(10, 1) == 10);
  }
}

TEST_CASE("whatever the mode was when a guard began, it is waited for", "[caches][epoch][drain][PR-6]") {
  // Three rhythms, so that the mode changes between a guard's beginning and the completions that it holds back.
  TestEpochs<3> epochs{Drain::automatic};
  constexpr std::array<std::uint64_t, 3> rhythms{0, 500, std::uint64_t{1} << 22};
  for (unsigned round = 0; round < 30; ++round) {
    const std::size_t stalled = round % 3;
    const std::uint64_t rhythm = rhythms[round / 2 % 3];
    for (unsigned i = 0; i < 60; ++i) {
      epochs.words[(stalled + 1) % 3].turn.store(epochs.words[(stalled + 1) % 3].turn.load() + 2 * rhythm);
      REQUIRE(epochs.scan() == (i != 59));
      if (i == 58) epochs.enter(stalled);
      static_cast<void>(epochs->advance());
    }
    for (unsigned i = 0; i < 5; ++i) REQUIRE_FALSE(epochs.scan());
    epochs.leave(stalled);
    REQUIRE(epochs.scan());
  }
}

TEST_CASE("the clock takes its memory at once", "[caches][epoch][P6]") {
  test::CountingAllocator host;
  std::array<GuardWord, 4> words;
  {
    Epochs epochs;
    REQUIRE(epochs.reset(host.functions(), {{words.data(), 3}, {&words[3], 1}}, Drain::automatic));
    CHECK(epochs.bytes() == host.open_bytes());
    const std::uint64_t calls = host.calls();
    epochs.use(words[2]);
    for (unsigned i = 0; i < 100; ++i) CHECK(epochs.scan(epochs.advance()));
    CHECK(host.calls() == calls);
    for (std::uint64_t k = 1; k <= 2; ++k) {
      host.fail_at(k);
      Epochs second;
      CHECK_FALSE(second.reset(host.functions(), {{words.data(), 3}, {&words[3], 1}}, Drain::automatic));
    }
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("after a ticket has passed nobody uses what was unpublished before it", "[caches][epoch][PR-4][PR-6]") {
  // The objects are plain memory, so that a thread sanitizer sees a use that is not ordered before the scribbling.
  struct Thing {
    std::uint64_t left = 0;
    std::uint64_t right = 0;
  };
  constexpr std::uint64_t dead = 0xDEAD;
  const unsigned rounds = test::run_whole() ? 300'000 : 512;
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<3> epochs{drain};
  std::array<Thing, 2> things;
  std::atomic<Thing*> published{things.data()};
  std::atomic<bool> stop{false};
  std::atomic<unsigned> dead_seen{0};
  std::atomic<std::uint64_t> uses{0};
  std::vector<std::thread> readers;
  readers.reserve(epochs.words.size());
  for (std::size_t reader = 0; reader < epochs.words.size(); ++reader) {
    readers.emplace_back([&, reader] {
      while (!stop.load(std::memory_order_relaxed)) {
        epochs.enter(reader);
        const Thing* const thing = published.load(std::memory_order_acquire);
        for (unsigned look = 0; look < 4; ++look)
          if (thing->left == dead || thing->right != thing->left) dead_seen.fetch_add(1);
        epochs.leave(reader);
        uses.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (unsigned round = 1; round <= rounds; ++round) {
    Thing& fresh = things[round % 2];
    fresh = {round + dead, round + dead};
    Thing* const old = published.exchange(&fresh, std::memory_order_acq_rel);
    const std::uint64_t ticket = epochs->advance();
    // A pause of its own length between completions, so that the automatic mode goes through all it has.
    if (round % 128 < 64) std::this_thread::yield();
    while (!epochs->scan(ticket)) std::this_thread::yield();
    *old = {dead, 0};
  }
  while (uses < 100) std::this_thread::yield();
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(dead_seen == 0);
}

TEST_CASE("a leaver is seen by the one who waits, or sees that somebody waits", "[caches][epoch][PR-6]") {
  const unsigned rounds = test::run_whole() ? 300'000 : 3'000;
  const Drain drain = GENERATE(from_range(every_drain));
  TestEpochs<1> epochs{drain};
  std::atomic<bool> waiting{false};
  std::atomic<std::uint64_t> told{0};
  std::atomic<bool> stop{false};
  std::thread reader{[&] {
    while (!stop.load(std::memory_order_relaxed)) {
      epochs.enter(0);
      epochs.leave(0);
      if (waiting.load(std::memory_order_relaxed) && waiting.exchange(false)) told.fetch_add(1);
    }
  }};
  unsigned lost = 0;
  for (unsigned round = 0; round < rounds && lost == 0; ++round) {
    const std::uint64_t before = told;
    const std::uint64_t ticket = epochs->advance();
    if (epochs->scan(ticket)) continue;
    waiting.store(true);
    epochs->settle();
    if (epochs->scan(ticket)) {
      waiting.store(false);
      continue;
    }
    // The guard that is in the way has not ended before settle(): when it ends, its reader sees the flag.
    const std::uint64_t turn = epochs.words[0].turn.load();
    while (told == before && epochs.words[0].turn.load() < turn + 8) std::this_thread::yield();
    for (unsigned patience = 0; told == before && patience < 1000; ++patience) std::this_thread::yield();
    if (told == before) ++lost;
    waiting.store(false);
  }
  stop = true;
  reader.join();
  CHECK(lost == 0);
}

}  // namespace viommu::caches
