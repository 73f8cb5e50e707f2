// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/epoch.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/paths.hpp"

namespace viommu::caches {

TEST_CASE("an epoch has passed when every reader is outside or entered in it or later", "[caches][epoch][PR-6]") {
  Epochs epochs;
  std::array<EpochWord, 3> words;
  CHECK(Epochs::passed(words, epochs.now()));
  const std::uint64_t first = epochs.advance();
  CHECK(Epochs::passed(words, first));

  epochs.enter(words[1]);
  CHECK(Epochs::passed(words, first));
  const std::uint64_t second = epochs.advance();
  CHECK(second > first);
  CHECK_FALSE(Epochs::passed(words, second));

  epochs.enter(words[2]);
  CHECK_FALSE(Epochs::passed(words, second));
  Epochs::leave(words[1]);
  CHECK(Epochs::passed(words, second));  // the other one entered after the advance

  const std::uint64_t third = epochs.advance();
  CHECK_FALSE(Epochs::passed(words, third));
  CHECK(Epochs::passed(words, second));
  Epochs::leave(words[2]);
  CHECK(Epochs::passed(words, third));
}

TEST_CASE("leaving and entering again makes a reader a new one", "[caches][epoch][PR-6]") {
  Epochs epochs;
  std::array<EpochWord, 1> words;
  epochs.enter(words[0]);
  const std::uint64_t epoch = epochs.advance();
  CHECK_FALSE(Epochs::passed(words, epoch));
  Epochs::leave(words[0]);
  epochs.enter(words[0]);
  CHECK(Epochs::passed(words, epoch));
}

TEST_CASE("epochs count up, and each advance has its own", "[caches][epoch]") {
  Epochs epochs;
  std::uint64_t before = epochs.now();
  CHECK(before != 0);  // 0 is "outside"
  for (unsigned i = 0; i < 100; ++i) {
    const std::uint64_t now = epochs.advance();
    REQUIRE(now == before + 1);
    REQUIRE(epochs.now() == now);
    before = now;
  }
}

TEST_CASE("after an epoch has passed nobody uses what was unpublished before it", "[caches][epoch][PR-4][PR-6]") {
  // The objects are plain memory, so that a thread sanitizer sees a use that is not ordered before the scribbling.
  struct Thing {
    std::uint64_t left = 0;
    std::uint64_t right = 0;
  };
  constexpr std::uint64_t dead = 0xDEAD;
  const unsigned rounds = test::run_whole() ? 300'000 : 3'000;
  Epochs epochs;
  std::array<EpochWord, 3> words;
  std::array<Thing, 2> things;
  std::atomic<const Thing*> published{&things[0]};
  std::atomic<bool> stop{false};
  std::atomic<unsigned> dead_seen{0};
  std::atomic<std::uint64_t> uses{0};
  std::vector<std::thread> readers;
  for (EpochWord& word : words) {
    readers.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        epochs.enter(word);
        const Thing* const thing = published.load(std::memory_order_acquire);
        for (unsigned look = 0; look < 4; ++look)
          if (thing->left == dead || thing->right != thing->left) dead_seen.fetch_add(1);
        Epochs::leave(word);
        uses.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (unsigned round = 1; round <= rounds; ++round) {
    Thing& fresh = things[round % 2];
    fresh = {round + dead, round + dead};
    const auto* const old = published.exchange(&fresh, std::memory_order_acq_rel);
    const std::uint64_t epoch = epochs.advance();
    while (!Epochs::passed(words, epoch)) std::this_thread::yield();
    *const_cast<Thing*>(old) = {dead, 0};
  }
  while (uses < 100) std::this_thread::yield();
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(dead_seen == 0);
}

}  // namespace viommu::caches
