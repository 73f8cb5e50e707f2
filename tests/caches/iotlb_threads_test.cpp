// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The IOTLB under several threads. What an entry says is a function of what it stands for, so any mix-up shows.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "caches/iotlb.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::caches {
namespace {

constexpr std::uint8_t all_sizes = bit_of(PageSize::kib4) | bit_of(PageSize::mib2) | bit_of(PageSize::gib1);
constexpr unsigned pages = 12;
constexpr unsigned tags = 3;

/// The only answer there may be for a page of a tag and size. All pages of one size lie apart from those of others.
CachedPage page_of(Tag tag, Iova iova, PageSize size) {
  test::Random hash{std::uint64_t{tag} << 32 ^ iova.value >> shift_of(size) ^ static_cast<std::uint64_t>(size) << 60};
  const std::uint64_t value = hash.next();
  return {{value & low_bits(52) & ~mask_of(size)}, size, {(value & 1) != 0, (value & 2) != 0}};
}
Iova place(std::uint64_t number, PageSize size) {
  return {(static_cast<std::uint64_t>(size) << 50) + (number << shift_of(size))};
}

/// Threads that repeat their work until the end of the test.
class Crowd {
 public:
  Crowd() = default;
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd() { dismiss(); }
  template <class Work>
  void join_in(std::uint64_t seed, const Work& work) {
    threads_.emplace_back([this, seed, work] {
      test::Random random{seed};
      while (!stop_.load(std::memory_order_relaxed)) work(random);
    });
  }
  void dismiss() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("a hit is a whole entry that was filled for the page, whoever writes meanwhile",
          "[caches][iotlb][PR-1][SEC-10]") {
  const std::uint64_t wanted = test::run_whole() ? 100'000'000 : 100'000;
  Iotlb iotlb;
  REQUIRE(iotlb.reset({}, 1, 77));  // two sets: everybody meets
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&iotlb](test::Random& random) {
        const auto tag = static_cast<Tag>(1 + random.below(tags));
        const PageSize size = random.pick(page_sizes);
        const Iova iova = place(random.below(pages), size);
        static_cast<void>(iotlb.fill(iotlb.sample(tag, iova), tag, iova, page_of(tag, iova, size)));
      });
    }
    crowd.join_in(3, [&iotlb](test::Random& random) {
      const Iova iova = place(random.below(pages), random.pick(page_sizes));
      iotlb.drop_pages(static_cast<Tag>(1 + random.below(tags)), {iova, iova + 0x1FFF});
      std::this_thread::yield();
    });
    crowd.join_in(4, [&](test::Random& random) {
      const auto tag = static_cast<Tag>(1 + random.below(tags));
      const PageSize size = random.pick(page_sizes);
      const Iova iova = place(random.below(pages), size) + random.below(mask_of(size));
      const std::optional<CachedPage> found = iotlb.lookup(tag, iova, all_sizes);
      if (!found) return;
      const CachedPage expected = page_of(tag, iova, size);
      if (found->frame != expected.frame || found->rights != expected.rights || found->size != size) ++wrong;
      ++hits;
    });
    while (hits < wanted && wrong == 0) std::this_thread::yield();
  }
  CHECK(wrong == 0);
}

TEST_CASE("what is filled again and again is found as one of its fills, never as a mix", "[caches][iotlb][PR-1]") {
  const std::uint64_t wanted = test::run_whole() ? 100'000'000 : 100'000;
  constexpr Tag tag = 5;
  constexpr Iova iova{0x40000000};
  // Frame and rights of one fill are two sides of one number: bits 12 and 13 of the frame repeat in the rights.
  const auto fill_of = [](std::uint64_t number) {
    return CachedPage{{(number << 12) & low_bits(52)}, PageSize::kib4, {(number & 1) != 0, (number & 2) != 0}};
  };
  Iotlb iotlb;
  REQUIRE(iotlb.reset({}, 1, 77));
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&](test::Random& random) {
        static_cast<void>(iotlb.fill(iotlb.sample(tag, iova), tag, iova, fill_of(random.next())));
      });
    }
    crowd.join_in(3, [&](test::Random&) {
      const std::optional<CachedPage> found = iotlb.lookup(tag, iova, all_sizes);
      if (!found) return;
      const std::uint64_t number = found->frame.value >> 12;
      if (found->rights != fill_of(number).rights) ++wrong;
      ++hits;
    });
    while (hits < wanted && wrong == 0) std::this_thread::yield();
  }
  CHECK(wrong == 0);
}

TEST_CASE("nothing that was read before an invalidation is found after it", "[caches][iotlb][P1][PR-2][SEC-11]") {
  const std::uint64_t rounds = test::run_whole() ? 5'000'000 : 5'000;
  constexpr Tag tag = 9;
  constexpr Iova iova{0x40000000};
  Iotlb iotlb;
  REQUIRE(iotlb.reset({}, 64, 77));
  std::atomic<std::uint64_t> entry{1};  // what a walk would find
  std::atomic<std::uint64_t> fills{0};
  std::uint64_t stale = 0;
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&](test::Random&) {
        const FillGuard guard = iotlb.sample(tag, iova);
        const std::uint64_t found = entry.load(std::memory_order_acquire);
        if (iotlb.fill(guard, tag, iova, {{found << 12}, PageSize::kib4, read_write}))
          fills.fetch_add(1, std::memory_order_relaxed);
      });
    }
    for (std::uint64_t round = 2; round < rounds || fills < 20; ++round) {
      entry.store(round, std::memory_order_release);
      iotlb.drop_pages(tag, {iova, iova});
      const auto found = iotlb.lookup(tag, iova, all_sizes);
      if (found && found->frame.value >> 12 < round) ++stale;
      if (round % 32 == 0) std::this_thread::yield();
    }
  }
  CHECK(stale == 0);
}

TEST_CASE("sweeps and page drops of several threads let each other through", "[caches][iotlb][P5]") {
  const unsigned each = test::run_whole() ? 100'000 : 1'000;
  Iotlb iotlb;
  REQUIRE(iotlb.reset({}, 16, 77));
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&iotlb, each, seed] {
      test::Random random{seed};
      TagSet swept;
      swept.set(static_cast<Tag>(seed));
      for (unsigned i = 0; i < each; ++i) {
        const Iova iova = place(random.below(pages), PageSize::kib4);
        const auto tag = static_cast<Tag>(seed);
        static_cast<void>(iotlb.fill(iotlb.sample(tag, iova), tag, iova, page_of(tag, iova, PageSize::kib4)));
        iotlb.sweep(swept);
        iotlb.drop_pages(tag, {iova, iova + 0x3FFF});
      }
      iotlb.sweep(swept);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (unsigned number = 0; number < pages; ++number)
    for (Tag tag = 1; tag <= tags; ++tag) CHECK_FALSE(iotlb.lookup(tag, place(number, PageSize::kib4), all_sizes));
}

}  // namespace viommu::caches
