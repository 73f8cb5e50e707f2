// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory while the guest writes it and the VMM changes it.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/paths.hpp"

namespace viommu {
namespace {

using test::GuardedRegion;

constexpr std::uint64_t gpa = 0x10000;

/// Whether load_u128 is one load here: not where the CPU may tear it, nor where a thread sanitizer has to see it.
bool loads_whole() {
#if defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
  return false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
  return false;
#else
  return __builtin_cpu_supports("avx") != 0;
#endif
#else
  return __builtin_cpu_supports("avx") != 0;
#endif
}

const RegionMap* map_of(GuardedRegion& ram) {
  RegionMap* const map = RegionMap::create({}, 1);
  map->assign_with(nullptr, {{{ram.gpa()}, {ram.gpa() + ram.length() - 1}}, ram.data(), false});
  return map;
}

/// One more thread that repeats `work` until the test is over.
class Repeating {
 public:
  template <class Work>
  explicit Repeating(const Work& work)
      : thread_{[this, work] {
          for (std::uint64_t round = 1; !stop_.load(std::memory_order_relaxed); ++round) {
            work(round);
            rounds_.store(round, std::memory_order_relaxed);
          }
        }} {}
  Repeating(const Repeating&) = delete;
  Repeating& operator=(const Repeating&) = delete;
  ~Repeating() {
    stop_ = true;
    thread_.join();
  }
  [[nodiscard]] std::uint64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> rounds_{0};
  std::thread thread_;
};

}  // namespace

TEST_CASE("16 bytes come as one value while the guest rewrites them", "[base][guest-memory][SEC-3]") {
  const std::uint64_t least = test::run_whole() ? 100'000'000 : 100'000;
  GuardedRegion ram{gpa, 0x1000};
  GuestMemory memory{{}};
  RegionMap::destroy({}, memory.publish(map_of(ram)));
  std::uint64_t behind = 0;   // most that the low half was behind the high one
  std::uint64_t changes = 0;  // loads that found something new
  {
    // High first, as a driver that sets the present bit last: at each instant high is low or low + 1.
    const Repeating guest{[&ram](std::uint64_t round) {
      ram.store_u64(gpa + 8, round);
      ram.store_u64(gpa, round);
    }};
    std::uint64_t before = 0;
    for (std::uint64_t i = 0; i < least || (changes < 100 && i < least * 1000); ++i) {
      if (i % 1024 == 0) std::this_thread::yield();
      const Word128 found = memory.load_u128({gpa}).value_or(Word128{1, 0});
      // Low is loaded first (or at once), so what stood in high by then is at least as new.
      if (found.low > found.high || found.low < before) {
        behind = ~std::uint64_t{0};
        break;
      }
      behind = std::max(behind, found.high - found.low);
      changes += found.low != before ? 1 : 0;
      before = found.low;
    }
  }
  RegionMap::destroy({}, memory.publish(nullptr));
  CHECK(behind != ~std::uint64_t{0});
  if (loads_whole()) CHECK(behind <= 1);
  CHECK(changes > 0);
}

TEST_CASE("loading 16 bytes ends however fast the guest writes", "[base][guest-memory][SEC-3][SEC-4]") {
  // A flipping low half never stands still for the low-high-low form: it must give up, with halves that were there.
  const unsigned loads = test::run_whole() ? 20'000'000 : 100'000;
  GuardedRegion ram{gpa, 0x1000};
  GuestMemory memory{{}};
  RegionMap::destroy({}, memory.publish(map_of(ram)));
  unsigned strange = 0;
  {
    const Repeating guest{[&ram](std::uint64_t round) {
      ram.store_u64(gpa, round % 2 == 0 ? 0xA : 0xB);
      ram.store_u64(gpa + 8, round % 2 == 0 ? 0xC : 0xD);
    }};
    while (guest.rounds() == 0) std::this_thread::yield();
    for (unsigned i = 0; i < loads; ++i) {
      const Word128 found = memory.load_u128({gpa}).value_or(Word128{});
      if ((found.low != 0xA && found.low != 0xB) || (found.high != 0xC && found.high != 0xD)) ++strange;
    }
  }
  RegionMap::destroy({}, memory.publish(nullptr));
  CHECK(strange == 0);
}

TEST_CASE("compare-exchanges of several threads on one word each count", "[base][guest-memory][P4]") {
  constexpr unsigned threads = 3;
  const std::uint64_t each = test::run_whole() ? 1'000'000 : 5'000;
  GuardedRegion ram{gpa, 0x1000};
  GuestMemory memory{{}};
  RegionMap::destroy({}, memory.publish(map_of(ram)));
  {
    std::vector<std::thread> all;
    all.reserve(threads);
    for (unsigned t = 0; t < threads; ++t)
      all.emplace_back([&memory, each] {
        for (std::uint64_t done = 0; done < each;) {
          std::uint64_t expected = memory.load_u64({gpa}).value_or(0);
          if (memory.compare_exchange_u64({gpa}, expected, expected + 1) == Exchange::done) ++done;
        }
      });
    for (std::thread& thread : all) thread.join();
  }
  RegionMap::destroy({}, memory.publish(nullptr));
  CHECK(ram.load_u64(gpa) == threads * each);
}

TEST_CASE("a map is complete before a reader can see it", "[base][guest-memory][P4]") {
  const unsigned swaps = test::run_whole() ? 100'000 : 500;
  GuardedRegion even{gpa, 0x1000};
  GuardedRegion odd{gpa, 0x2000};
  even.store_u64(gpa + 0xFF8, 2);
  odd.store_u64(gpa + 0xFF8, 1);
  odd.store_u64(gpa + 0x1000, 3);
  GuestMemory memory{{}};
  std::vector<const RegionMap*> maps{map_of(even)};  // kept: whether a reader is done with one is not the point here
  memory.publish(maps.front());
  std::atomic<unsigned> strange{0};
  std::atomic<std::uint64_t> seen_odd{0};
  {
    const Repeating reader{[&](std::uint64_t) {
      const auto common = memory.load_u64({gpa + 0xFF8});
      if (common != 1 && common != 2) ++strange;
      const auto tail = memory.load_u64({gpa + 0x1000});
      if (tail && tail != 3) ++strange;
      if (tail) ++seen_odd;
    }};
    for (unsigned swap = 0; swap < swaps || (seen_odd == 0 && swap < swaps * 50); ++swap) {
      maps.push_back(map_of(swap % 2 == 0 ? odd : even));
      memory.publish(maps.back());
      if (swap % 17 == 0) std::this_thread::yield();
    }
  }
  memory.publish(nullptr);
  for (const RegionMap* map : maps) RegionMap::destroy({}, map);
  CHECK(strange == 0);
  CHECK(seen_odd > 0);
}

TEST_CASE("no write is refused while a region comes and goes over memory that the callbacks have too",
          "[base][guest-memory][P4]") {
  // Hotplug over callback memory: each instant has somewhere to write to. The region differs from the callbacks only in
  // where the value goes, so a refused write was judged by two maps at once.
  const unsigned least = test::run_whole() ? 20'000'000 : 200'000;
  GuardedRegion ram{gpa, 0x1000};
  std::atomic<std::uint64_t> by_callback{0};
  MemoryCallbacks callbacks;
  callbacks.opaque = &by_callback;
  callbacks.write = [](void* count, std::uint64_t, const void*, std::uint64_t) -> std::int32_t {
    static_cast<std::atomic<std::uint64_t>*>(count)->fetch_add(1, std::memory_order_relaxed);
    return 0;
  };
  callbacks.compare_exchange = [](void* count, std::uint64_t, std::uint64_t*, std::uint64_t) -> std::int32_t {
    static_cast<std::atomic<std::uint64_t>*>(count)->fetch_add(1, std::memory_order_relaxed);
    return 0;
  };
  GuestMemory memory{callbacks};
  const RegionMap* const map = map_of(ram);
  std::uint64_t stores_refused = 0;
  std::uint64_t exchanges_refused = 0;
  std::uint64_t writes = 0;
  {
    const Repeating hotplug{[&](std::uint64_t round) { memory.publish(round % 2 == 0 ? map : nullptr); }};
    const auto both_seen = [&] { return by_callback.load() != 0 && by_callback.load() != writes; };
    for (unsigned i = 0; i < least || (!both_seen() && i < least * 50); ++i) {
      if (i % 1024 == 0) std::this_thread::yield();
      if (!memory.store_u32({gpa}, i)) ++stores_refused;
      std::uint64_t expected = 0;
      if (memory.compare_exchange_u64({gpa + 8}, expected, 0) == Exchange::failed) ++exchanges_refused;
      writes += 2;
    }
  }
  memory.publish(nullptr);
  RegionMap::destroy({}, map);
  CHECK(stores_refused == 0);
  CHECK(exchanges_refused == 0);
  CHECK(by_callback.load() > 0);
  CHECK(by_callback.load() < writes);
}

}  // namespace viommu
