// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/pasid_cache.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
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

constexpr std::array all_kinds{
    Kind::everything,         Kind::translations,    Kind::domain, Kind::pages,         Kind::contexts,
    Kind::domain_contexts,    Kind::source_contexts, Kind::pasids, Kind::domain_pasids, Kind::pasid,
    Kind::pasid_translations, Kind::pasid_pages};

Scope of_kind(Kind kind, unsigned domain = 0, std::uint32_t pasid = 0) {
  Scope scope;
  scope.kind = kind;
  scope.domain = {static_cast<std::uint16_t>(domain)};
  scope.pasid = {pasid};
  return scope;
}

}  // namespace

TEST_CASE("a PASID entry is found for its source and PASID and no other", "[caches][contexts][pasid][B02]") {
  Cache cache;
  constexpr unsigned id = 0x0110;
  constexpr std::uint32_t pasid = 0x54321;
  const ContextEntry entry = cache.insert_pasid(id, pasid, 5, true);
  REQUIRE(entry);
  CHECK(cache->find(PasidKey{source(id), {pasid}}) == entry);
  CHECK(entry.fault_disable());
  CHECK(entry.space().key == key_of(5));
  CHECK_FALSE(cache.insert_pasid(id, pasid ^ 1, 5).fault_disable());
  cache->drop(of_kind(Kind::pasid, 5, pasid ^ 1));
  CHECK(cache.has_pasid(id, pasid));
  for (unsigned bit = 0; bit < 16; ++bit) CHECK_FALSE(cache.has_pasid(id ^ (1U << bit), pasid));
  for (unsigned bit = 0; bit < 32; ++bit) CHECK_FALSE(cache.has_pasid(id, pasid ^ (1U << bit)));
  CHECK_FALSE(cache.has(id));
}

TEST_CASE("a PASID of more than 20 bits has no entry", "[caches][contexts][pasid][B02]") {
  Cache cache;
  CHECK(cache.insert_pasid(1, 0xFFFFF, 5));
  CHECK_FALSE(cache.insert_pasid(1, 0x100000, 5));
  CHECK_FALSE(cache.insert_pasid(1, ~0U, 5));
  CHECK_FALSE(cache.has_pasid(1, 0x100000));
  CHECK_FALSE(cache.has_pasid(1, ~0U));
  CHECK_FALSE(cache.has_pasid(1, 0x1FFFFF));
  CHECK(cache.spaces.in_use() == 1);
}

TEST_CASE("source 0 and PASID 0 are like any other, and an empty cache has nothing for them",
          "[caches][contexts][pasid]") {
  Cache cache;
  CHECK_FALSE(cache.has_pasid(0, 0));
  CHECK(cache.insert_pasid(0, 0, 5));
  CHECK(cache.has_pasid(0, 0));
  CHECK_FALSE(cache.has(0));
}

TEST_CASE("requests by PASID and without share the address space of equal contexts", "[caches][contexts][pasid]") {
  Cache cache;
  const ContextEntry first = cache.insert(1, 5);
  CHECK(&cache.insert_pasid(1, 7, 5).space() == &first.space());
  CHECK(&cache.insert_pasid(2, 7, 5).space() == &first.space());
  CHECK(cache.spaces.in_use() == 1);
  cache->drop(of_source(1));
  CHECK(cache.spaces.in_use() == 1);
  cache->drop(of_kind(Kind::pasids));
  CHECK(cache.spaces.in_use() == 0);
}

TEST_CASE("each scope drops the PASID entries that it names or that are derived from what it names",
          "[caches][contexts][pasid][P1]") {
  constexpr unsigned device = 0x0148;
  constexpr std::uint32_t pasid = 0x10007;
  for (const Kind kind : all_kinds) {
    for (const unsigned ignored : {0U, 7U}) {
      for (const unsigned domain : {1U, 2U}) {
        Cache cache{64, {}, 64, 1024};
        for (unsigned id = device; id < device + 16; id += 4) {
          static_cast<void>(cache.insert(id, id % 8));
          for (const std::uint32_t each : {0U, 7U, pasid, pasid + 1})
            static_cast<void>(cache.insert_pasid(id, each, 1 + (each + id / 8) % 2));
        }
        Scope scope = of_kind(kind, domain, pasid);
        scope.source = source(device);
        scope.ignored_source_bits = static_cast<std::uint8_t>(ignored);
        cache->drop(scope);
        for (unsigned id = device; id < device + 16; id += 4) {
          const bool named = (id | ignored) == (device | ignored);
          const bool source_goes = kind == Kind::everything || kind == Kind::contexts ||
                                   (kind == Kind::source_contexts && named) ||
                                   (kind == Kind::domain_contexts && id % 8 == domain);
          CAPTURE(static_cast<int>(kind), ignored, domain, id);
          CHECK(cache.has(id) != source_goes);
          for (const std::uint32_t each : {0U, 7U, pasid, pasid + 1}) {
            const unsigned of = 1 + (each + id / 8) % 2;
            // What cc and pc descriptors remove; a context by PASID names no domain, so a domain's means all of them.
            const bool goes = kind == Kind::everything || kind == Kind::contexts || kind == Kind::domain_contexts ||
                              kind == Kind::pasids || (kind == Kind::source_contexts && named) ||
                              (kind == Kind::domain_pasids && of == domain) ||
                              (kind == Kind::pasid && of == domain && each == pasid);
            CAPTURE(each);
            CHECK(cache.has_pasid(id, each) != goes);
            if (!scope.drops_contexts()) continue;
            // Whose DMA a ticket waits for is what was dropped.
            const Usage usage{source(id), {static_cast<std::uint16_t>(of)}, all_iovas, Pasid{each}};
            CHECK(scope.concerns(usage) == goes);
          }
        }
      }
    }
  }
}

TEST_CASE("a PASID entry read before an invalidation of contexts or PASIDs is not inserted after it",
          "[caches][contexts][pasid][P1][PR-2]") {
  for (const Kind kind : all_kinds) {
    Cache cache;
    const std::uint64_t version = cache->version();
    cache->drop(of_kind(kind, 77, 77));  // whomever it names
    CAPTURE(static_cast<int>(kind));
    const bool refused = of_kind(kind).drops_contexts();
    CHECK(static_cast<bool>(cache->insert(version, PasidKey{source(1), {5}}, key_of(5), false)) != refused);
    CHECK(cache.has_pasid(1, 5) != refused);
    CHECK(static_cast<bool>(cache->insert(version, source(1), key_of(5), false)) != refused);
    CHECK(cache.spaces.in_use() == (refused ? 0 : 1));
    CHECK(cache.insert_pasid(1, 5, 5));
  }
}

TEST_CASE("of two walks of one PASID the first insert stays", "[caches][contexts][pasid]") {
  Cache cache;
  const ContextEntry first = cache.insert_pasid(1, 9, 5);
  CHECK(cache.insert_pasid(1, 9, 6, true) == first);
  CHECK(cache->find(PasidKey{source(1), {9}}) == first);
  CHECK(cache.spaces.in_use() == 1);
}

TEST_CASE("a full set of PASID entries gives up one for another, and takes no more memory",
          "[caches][contexts][pasid][P6][SEC-8]") {
  test::CountingAllocator host;
  {
    Cache cache{4, host.functions(), 64, 16};
    CHECK(host.open_bytes() == cache.iotlb.bytes() + cache.structures.bytes() + cache.spaces.bytes() + cache->bytes() +
                                   cache.accounts.bytes());
    const std::uint64_t calls = host.calls();
    for (std::uint32_t pasid = 0; pasid < 5000; ++pasid) {
      REQUIRE(cache.insert_pasid(pasid % 3, pasid, pasid % 7));
      cache.tidy();
      REQUIRE(cache.has_pasid(pasid % 3, pasid));
      if (pasid < 200) continue;
      unsigned held = 0;
      for (std::uint32_t other = pasid - 200; other <= pasid; ++other) held += cache.has_pasid(other % 3, other);
      REQUIRE(held <= 16);
      REQUIRE(held >= 8);
    }
    CHECK(host.calls() == calls);
    CHECK(cache.spaces.in_use() <= 7);
    cache->drop(of_kind(Kind::pasids));
    CHECK(cache.spaces.in_use() == 0);
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("PASIDs counted up, from many sources, fill most of the cache", "[caches][contexts][pasid]") {
  constexpr unsigned entries = 4096;
  for (const unsigned sources : {1U, 16U, 2048U}) {
    Cache cache{4, {}, 64, entries};
    for (unsigned i = 0; i < entries / 2; ++i) REQUIRE(cache.insert_pasid(8 * (i % sources), i / sources, 5));
    unsigned held = 0;
    for (unsigned i = 0; i < entries / 2; ++i) held += cache.has_pasid(8 * (i % sources), i / sources) ? 1U : 0U;
    CAPTURE(sources);
    CHECK(held >= entries / 2 * 95 / 100);  // as much as fits without a choice of the set
  }
}

TEST_CASE("what a PASID entry says stays as it is while a reader may look at it", "[caches][contexts][pasid][PR-4]") {
  Cache cache{4, {}, 4, 64};
  cache.epochs.enter(1);
  const ContextEntry seen = cache.insert_pasid(1, 1, 5, true);
  REQUIRE(seen);
  cache->drop(of_kind(Kind::pasid, 5, 1));
  CHECK_FALSE(cache.has_pasid(1, 1));
  unsigned inserted = 0;
  for (unsigned domain = 10; domain < 40; ++domain) {
    cache->drop(of_kind(Kind::pasids));
    const ContextEntry entry = cache.insert_pasid(1, domain, domain);
    if (entry) CHECK(&entry.space() != &seen.space());
    inserted += entry ? 1U : 0U;
    cache.tidy();
  }
  CHECK(inserted == 7);  // twice as many address spaces as can be in use, less the one that is seen
  CHECK(seen.fault_disable());
  CHECK(seen.space().key == key_of(5));
  cache.epochs.leave(1);
  cache.tidy();
  CHECK(cache.insert_pasid(1, 50, 50));
}

TEST_CASE("without an address space there is no PASID entry, and a set is not emptied for want of one",
          "[caches][contexts][pasid][P6]") {
  SECTION("too many in use") {
    Cache cache{8, {}, 2, 8};
    CHECK(cache.insert_pasid(1, 1, 1));
    CHECK(cache.insert(2, 2));
    for (unsigned i = 0; i < 100; ++i) CHECK_FALSE(cache.insert_pasid(3, 3, 3));
    CHECK(cache.has_pasid(1, 1));
    CHECK(cache.insert_pasid(3, 3, 2));
    cache->drop(of_kind(Kind::pasid, 1, 1));
    CHECK(cache.insert_pasid(4, 4, 4));
  }
  SECTION("too many waiting for a reader") {
    Cache cache{8, {}, 8, 8};
    for (unsigned i = 0; i < 8; ++i) REQUIRE(cache.insert_pasid(1, i, i));
    cache.epochs.enter(1);
    for (unsigned i = 8; i < 16; ++i) REQUIRE(cache.insert_pasid(1, i, i));
    for (unsigned i = 16; i < 30; ++i) {
      CHECK_FALSE(cache.insert_pasid(1, i, i));
      cache.tidy();
    }
    unsigned held = 0;
    for (unsigned i = 8; i < 16; ++i) held += cache.has_pasid(1, i) ? 1U : 0U;
    CHECK(held == 8);
    cache.epochs.leave(1);
    cache.tidy();
    CHECK(cache.insert_pasid(1, 30, 30));
  }
}

TEST_CASE("a cache without PASID entries finds none and inserts none", "[caches][contexts][pasid][P6]") {
  Cache cache{8, {}, 8, 0};
  CHECK_FALSE(cache.insert_pasid(1, 1, 1));
  CHECK_FALSE(cache.has_pasid(1, 1));
  CHECK_FALSE(cache.has_pasid(0, 0));
  for (const Kind kind : all_kinds) cache->drop(of_kind(kind));
  CHECK(cache.spaces.in_use() == 0);
}

TEST_CASE("PASID entries are those that a map without a limit would have, less some that were replaced",
          "[caches][contexts][pasid][SEC-10]") {
  const unsigned steps = test::run_whole() ? 1'000'000 : 20'000;
  for (const std::size_t entries : {std::size_t{8}, std::size_t{32}, std::size_t{4096}}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      struct Entry {
        unsigned domain = 0;
        bool fault_disable = false;
      };
      Cache cache{4, {}, 16, entries};
      test::Random random{seed};
      std::map<std::pair<unsigned, std::uint32_t>, Entry> oracle;
      constexpr std::array sources{0U, 8U, 9U, 0x0800U};
      constexpr std::array<std::uint32_t, 8> pasids{0, 1, 2, 0x10001, 0x80000, 0x80001, 0xFFFFE, 0xFFFFF};
      for (unsigned step = 0; step < steps; ++step) {
        const unsigned id = random.pick(sources);
        const std::uint32_t pasid = random.pick(pasids);
        const auto domain = static_cast<unsigned>(random.below(6));
        const ContextEntry found = cache->find(PasidKey{source(id), {pasid}});
        const auto known = oracle.find({id, pasid});
        if (found) {
          REQUIRE(known != oracle.end());
          REQUIRE(found.space().key == key_of(known->second.domain));
          REQUIRE(found.fault_disable() == known->second.fault_disable);
        } else if (entries == 4096) {  // no set is ever full: nothing is replaced
          REQUIRE(known == oracle.end());
        }
        if (random.chance(7, 8)) {
          const bool fault_disable = random.chance(1, 2);
          const ContextEntry made = cache.insert_pasid(id, pasid, domain, fault_disable);
          REQUIRE(made);
          if (!found) oracle[{id, pasid}] = {domain, fault_disable};
          REQUIRE(made.space().key == key_of(oracle[{id, pasid}].domain));
        } else {
          Scope scope = of_kind(random.pick(all_kinds), domain, pasid);
          if (scope.kind == Kind::everything && random.chance(3, 4)) scope.kind = Kind::source_contexts;
          scope.source = source(id);
          scope.ignored_source_bits = random.chance(1, 2) ? 0 : 7;
          cache->drop(scope);
          std::erase_if(oracle, [&](const auto& each) {
            const Usage usage{source(each.first.first),
                              {static_cast<std::uint16_t>(each.second.domain)},
                              all_iovas,
                              Pasid{each.first.second}};
            return scope.drops_contexts() && scope.concerns(usage);
          });
        }
        std::set<unsigned> domains;
        for (const auto& [key, entry] : oracle) domains.insert(entry.domain);
        REQUIRE(cache.spaces.in_use() <= domains.size());
        cache.tidy();
      }
    }
  }
}

TEST_CASE("whoever finds a PASID entry sees its address space unchanged for as long as the guard is open",
          "[caches][contexts][pasid][PR-4][SEC-10]") {
  // Domain n belongs to PASID n, so that an entry for another PASID shows. More PASIDs than entries: evictions too.
  const unsigned rounds = test::run_whole() ? 1'000'000 : 10'000;
  constexpr std::uint32_t pasids = 12;
  Cache cache{4, {}, 8, 8};
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
        const auto pasid = static_cast<std::uint32_t>(random.below(pasids));
        cache.epochs.enter(reader);
        const std::uint64_t version = cache->version();
        ContextEntry entry = cache->find(PasidKey{source(1), {pasid}});
        if (!entry) {
          const std::unique_lock guard{lock, std::try_to_lock};
          if (guard.owns_lock())
            entry = cache->insert(version, PasidKey{source(1), {pasid}}, key_of(pasid), pasid % 2 != 0);
        }
        for (unsigned look = 0; look < 3 && entry; ++look) {
          if (entry.fault_disable() != (pasid % 2 != 0) || entry.space().key != key_of(pasid)) ++wrong;
          ++found;
        }
        cache.epochs.leave(reader);
      }
    });
  }
  test::Random random{3};
  for (unsigned round = 0; round < rounds || found < 1000; ++round) {
    const auto pasid = static_cast<std::uint32_t>(random.below(pasids));
    {
      const std::lock_guard guard{lock};
      cache->drop(random.chance(1, 8) ? Scope{} : of_kind(Kind::pasid, pasid, pasid));
      if (cache.has_pasid(1, pasid)) ++wrong;
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
