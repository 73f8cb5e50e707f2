// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/context_cache.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/caches/test_contexts.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

using Kind = Scope::Kind;

using test::key_of;
using test::of_source;
using test::source;
using Cache = test::Contexts;

}  // namespace

TEST_CASE("an inserted context is found for its source and no other", "[caches][contexts][B01]") {
  Cache cache;
  const ContextEntry entry = cache.insert(0x0110, 5, true);
  REQUIRE(entry);
  CHECK(cache->find(source(0x0110)) == entry);
  CHECK(entry.fault_disable());
  CHECK(entry.space().key == key_of(5));
  CHECK_FALSE(cache.insert(0x0111, 5).fault_disable());
  cache->drop(of_source(0x0111));
  for (unsigned bit = 0; bit < 16; ++bit) CHECK_FALSE(cache.has(0x0110U ^ (1U << bit)));
}

TEST_CASE("devices with equal contexts share one address space", "[caches][contexts]") {
  Cache cache;
  const ContextEntry first = cache.insert(1, 5);
  const ContextEntry second = cache.insert(2, 5);
  const ContextEntry third = cache.insert(3, 6);
  CHECK(&first.space() == &second.space());
  CHECK(&first.space() != &third.space());
  CHECK(cache.spaces.in_use() == 2);
  cache->drop(of_source(1));
  CHECK(cache.spaces.in_use() == 2);
  cache->drop(of_source(2));
  CHECK(cache.spaces.in_use() == 1);
}

TEST_CASE("a context read before an invalidation of contexts is not inserted after it",
          "[caches][contexts][P1][PR-2]") {
  Cache cache;
  const std::uint64_t version = cache->version();
  SECTION("everything") { cache->drop({}); }
  SECTION("all contexts") { cache->drop({Kind::contexts, {}, all_iovas, {}, 0}); }
  SECTION("a domain's, whichever") { cache->drop({Kind::domain_contexts, {77}, all_iovas, {}, 0}); }
  SECTION("one source's, whichever") { cache->drop(of_source(0x7777)); }
  CHECK(cache->insert(version, source(1), key_of(5), false) == ContextEntry{});
  CHECK_FALSE(cache.has(1));
  CHECK(cache.spaces.in_use() == 0);
  CHECK(cache.insert(1, 5));
}

TEST_CASE("invalidating translations leaves contexts, and refuses none", "[caches][contexts]") {
  Cache cache;
  const std::uint64_t version = cache->version();
  static_cast<void>(cache.insert(1, 5));
  for (const Kind kind : {Kind::translations, Kind::domain, Kind::pages})
    cache->drop({kind, {5}, all_iovas, source(1), 0});
  CHECK(cache.has(1));
  CHECK(cache->version() == version);
  CHECK(cache->insert(version, source(2), key_of(5), false));
}

TEST_CASE("of two walks of one source the first insert stays", "[caches][contexts]") {
  Cache cache;
  const std::uint64_t version = cache->version();
  const ContextEntry first = cache->insert(version, source(1), key_of(5), false);
  const ContextEntry second = cache->insert(version, source(1), key_of(6), true);
  CHECK(second == first);
  CHECK(cache->find(source(1)).space().key == key_of(5));
  CHECK(cache.spaces.in_use() == 1);
}

TEST_CASE("a function mask drops exactly the functions it names", "[caches][contexts][B04]") {
  constexpr unsigned device = 0x0148;  // bus 1, device 9
  // FM 0 compares all three bits of the function, 1 ignores bit 2, 2 ignores bits 2:1, 3 ignores all.
  constexpr std::array ignored_by_mask{0U, 4U, 6U, 7U};
  for (const unsigned ignored : ignored_by_mask) {
    for (unsigned function = 0; function < 8; ++function) {
      Cache cache;
      for (unsigned i = 0; i < 8; ++i) {
        static_cast<void>(cache.insert(device | i, 5));
        static_cast<void>(cache.insert((device + 8) | i, 5));      // the next device
        static_cast<void>(cache.insert((device + 0x100) | i, 5));  // the same on another bus
      }
      cache->drop(of_source(device | function, ignored));
      for (unsigned i = 0; i < 8; ++i) {
        CAPTURE(ignored, function, i);
        CHECK(cache.has(device | i) == ((i | ignored) != (function | ignored)));
        CHECK(cache.has((device + 8) | i));
        CHECK(cache.has((device + 0x100) | i));
      }
    }
  }
}

TEST_CASE("a domain's contexts go by the domain id that is cached", "[caches][contexts]") {
  Cache cache;
  for (unsigned id = 0; id < 30; ++id) static_cast<void>(cache.insert(id, id % 3));
  cache->drop({Kind::domain_contexts, {1}, all_iovas, {}, 0});
  for (unsigned id = 0; id < 30; ++id) CHECK(cache.has(id) == (id % 3 != 1));
  CHECK(cache.spaces.in_use() == 2);
}

TEST_CASE("a global invalidation drops every context", "[caches][contexts]") {
  const Kind kind = GENERATE(Kind::everything, Kind::contexts);
  Cache cache;
  for (unsigned id = 0; id < 30; ++id) static_cast<void>(cache.insert(id * 1000, id));
  cache->drop({kind, {}, all_iovas, {}, 0});
  for (unsigned id = 0; id < 30; ++id) CHECK_FALSE(cache.has(id * 1000));
  CHECK(cache.spaces.in_use() == 0);
}

TEST_CASE("a full cache gives up one context for another, and takes no more memory", "[caches][contexts][P6][SEC-8]") {
  test::CountingAllocator host;
  {
    Cache cache{4, host.functions()};
    CHECK(host.open_bytes() == cache.iotlb.bytes() + cache.structures.bytes() + cache.spaces.bytes() + cache->bytes() +
                                   cache.accounts.bytes());
    const std::uint64_t calls = host.calls();
    for (unsigned id = 0; id < 5000; ++id) {
      REQUIRE(cache.insert(id, id % 7));
      cache.tidy();
      REQUIRE(cache.has(id));
      if (id < 4) continue;
      unsigned held = 0;
      for (unsigned other = id - 4; other <= id; ++other) held += cache.has(other) ? 1U : 0U;
      REQUIRE(held <= 4);
    }
    CHECK(host.calls() == calls);
    CHECK(cache.spaces.in_use() <= 4);
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("what an entry says stays as it is while a reader may look at it, and nothing is inserted for want of one",
          "[caches][contexts][PR-4][P6]") {
  Cache cache{4, {}, 4};
  cache.epochs.enter(1);
  const ContextEntry seen = cache.insert(1, 5, true);
  REQUIRE(seen);
  cache->drop(of_source(1));
  unsigned inserted = 0;
  for (unsigned id = 10; id < 40; ++id) {
    const ContextEntry entry = cache.insert(id, id);
    if (entry) CHECK(&entry.space() != &seen.space());
    inserted += entry ? 1U : 0U;
    cache.tidy();
  }
  CHECK(inserted == 7);  // twice as many address spaces as can be in use, less the one that is seen
  CHECK(seen.fault_disable());
  CHECK(seen.space().key == key_of(5));
  cache.epochs.leave(1);
  for (unsigned id = 10; id < 40; ++id) {
    cache.tidy();
    CHECK(cache.insert(id, id));
  }
}

TEST_CASE("without an address space there is no context, and the next try finds things as they were",
          "[caches][contexts][P6]") {
  Cache cache{8, {}, 2};
  CHECK(cache.insert(1, 1));
  CHECK(cache.insert(2, 2));
  for (unsigned i = 0; i < 100; ++i) CHECK_FALSE(cache.insert(3, 3));
  CHECK(cache.has(1));
  CHECK(cache.has(2));
  CHECK(cache.insert(4, 2));
  cache->drop(of_source(1));
  CHECK(cache.insert(3, 3));
}

TEST_CASE("a context is counted by its device and domain, and one that is gone by nobody's",
          "[caches][contexts][accounts]") {
  Cache cache;
  REQUIRE(cache.accounts.reset({}, 4, 1, cache.epochs.epochs));
  REQUIRE(cache->reset({}, 8, cache.spaces, cache.accounts, {8, 1}));
  REQUIRE(cache.insert(1, 5));
  REQUIRE(cache.insert(2, 6));
  const Account first = cache->account(source(1));
  const Account second = cache->account(source(2));
  CHECK(first != 0);
  CHECK(second != 0);
  CHECK(first != second);
  cache->drop(of_source(2));
  CHECK(cache->account(source(1)) == first);
  CHECK(cache->account(source(2)) == 0);
  REQUIRE(cache.insert(2, 6));
  CHECK(cache->account(source(2)) == second);
}

TEST_CASE("a cache that the host has no memory for is refused", "[caches][contexts][SEC-15]") {
  test::CountingAllocator host;
  AddressSpaces spaces;
  test::TestEpochs<1> epochs;
  Accounts accounts;
  REQUIRE(accounts.reset({}, 4, 1, epochs.epochs));
  for (std::uint64_t k = 1; k <= 5; ++k) {
    host.fail_at(k);
    ContextCache contexts;
    CHECK_FALSE(contexts.reset(host.functions(), 8, spaces, accounts, {8, 1}));
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("whoever finds an entry sees it whole and unchanged for as long as the guard is open",
          "[caches][contexts][PR-4][SEC-10]") {
  // Domain n belongs to source n, so that an entry for another source shows.
  const unsigned rounds = test::run_whole() ? 1'000'000 : 10'000;
  constexpr unsigned sources = 6;
  Cache cache{4};  // fewer than sources: evictions too
  std::mutex lock;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> found{0};
  std::vector<std::thread> readers;
  readers.reserve(2);
  for (std::size_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      test::Random random{reader + 1};
      while (!stop.load(std::memory_order_relaxed)) {
        const auto id = static_cast<unsigned>(random.below(sources));
        cache.epochs.enter(reader);
        const std::uint64_t version = cache->version();
        ContextEntry entry = cache->find(source(id));
        if (!entry) {
          const std::unique_lock guard{lock, std::try_to_lock};
          if (guard.owns_lock()) entry = cache->insert(version, source(id), key_of(id), id % 2 != 0);
        }
        for (unsigned look = 0; look < 3 && entry; ++look) {
          if (entry.fault_disable() != (id % 2 != 0) || entry.space().key != key_of(id)) ++wrong;
          ++found;
        }
        cache.epochs.leave(reader);
      }
    });
  }
  test::Random random{3};
  for (unsigned round = 0; round < rounds || found < 1000; ++round) {
    const auto id = static_cast<unsigned>(random.below(sources));
    {
      const std::lock_guard guard{lock};
      if (random.chance(1, 8)) {
        cache->drop({});
      } else {
        cache->drop(of_source(id));
      }
      if (cache.has(id)) ++wrong;
    }
    if (round % 8 == 0) {  // the worker's role: this thread scans
      static_cast<void>(cache.epochs.scan());
      const std::lock_guard guard{lock};
      cache.tidy_without_scan();
    }
    if (round % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

}  // namespace viommu::caches
