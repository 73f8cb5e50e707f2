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

constexpr unsigned pages = 12;
constexpr unsigned tags = 3;

/// The only answer there may be for a page of a tag and size, by the number of the page or block. All pages of one size
/// lie apart from those of others.
CachedPage page_of(Tag tag, Iova iova, PageSize size) {
  test::Random hash{std::uint64_t{tag} << 32 ^ iova.value >> shift_of(size) ^ static_cast<std::uint64_t>(size) << 60};
  const std::uint64_t value = hash.next();
  std::uint64_t frame = value & low_bits(52) & ~mask_of(size);
  if (size == PageSize::kib32) frame += iova.value & mask_of(size) & ~low_bits(page_shift);
  return {{frame}, size, {(value & 1) != 0, (value & 2) != 0}, static_cast<std::uint8_t>(1U << page_in_block(iova))};
}
Iova page_at(std::uint64_t number, PageSize size) {
  return {(static_cast<std::uint64_t>(size) << 50) + (number << shift_of(size))};
}
Place place(Tag tag) { return {tag, 0}; }
const Atomic<Sizes> every_size{all_sizes};
bool sample_and_fill(Iotlb& iotlb, Tag tag, Iova iova, const CachedPage& page) {
  return iotlb.fill(iotlb.sample(place(tag), iova, all_sizes), place(tag), iova, page, nullptr);
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
  REQUIRE(iotlb.reset({}, 1, 1, 77));  // one group: everybody meets
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&iotlb](test::Random& random) {
        const auto tag = static_cast<Tag>(1 + random.below(tags));
        const PageSize size = random.pick(page_sizes);
        const Iova iova = page_at(random.below(pages), size) + (random.below(mask_of(size)) & ~low_bits(page_shift));
        static_cast<void>(sample_and_fill(iotlb, tag, iova, page_of(tag, iova, size)));
      });
    }
    crowd.join_in(3, [&iotlb](test::Random& random) {
      const Iova iova = page_at(random.below(pages), random.pick(page_sizes));
      iotlb.drop_pages(place(static_cast<Tag>(1 + random.below(tags))), {iova, iova + 0x1FFF}, every_size);
      std::this_thread::yield();
    });
    crowd.join_in(4, [&](test::Random& random) {
      const auto tag = static_cast<Tag>(1 + random.below(tags));
      const PageSize size = random.pick(page_sizes);
      const Iova iova = page_at(random.below(pages), size) + random.below(mask_of(size));
      const std::optional<CachedTranslation> found = iotlb.lookup(place(tag), iova, all_sizes);
      if (!found) return;
      const CachedPage expected = page_of(tag, iova, size);
      const std::uint64_t in_page = iova.value & (size == PageSize::kib32 ? low_bits(page_shift) : mask_of(size));
      const bool mask_fits = found->mask == mask_of(size) || (size == PageSize::kib32 && found->mask == low_bits(12));
      if (found->gpa != expected.frame + in_page || found->rights != expected.rights || !mask_fits) ++wrong;
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
  REQUIRE(iotlb.reset({}, 1, 1, 77));
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> wrong{0};
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&](test::Random& random) {
        static_cast<void>(sample_and_fill(iotlb, tag, iova, fill_of(random.next())));
      });
    }
    crowd.join_in(3, [&](test::Random&) {
      const std::optional<CachedTranslation> found = iotlb.lookup(place(tag), iova, all_sizes);
      if (!found) return;
      const std::uint64_t number = found->gpa.value >> 12;
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
  REQUIRE(iotlb.reset({}, 64, 1, 77));
  std::atomic<std::uint64_t> entry{1};  // what a walk would find
  std::atomic<std::uint64_t> fills{0};
  std::uint64_t stale = 0;
  {
    Crowd crowd;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      crowd.join_in(seed, [&](test::Random&) {
        const FillGuard guard = iotlb.sample(place(tag), iova, all_sizes);
        const std::uint64_t found = entry.load(std::memory_order_acquire);
        if (iotlb.fill(guard, place(tag), iova, {{found << 12}, PageSize::kib4, read_write}, nullptr))
          fills.fetch_add(1, std::memory_order_relaxed);
      });
    }
    for (std::uint64_t round = 2; round < rounds || fills < 20; ++round) {
      entry.store(round, std::memory_order_release);
      iotlb.drop_pages(place(tag), {iova, iova}, every_size);
      const auto found = iotlb.lookup(place(tag), iova, all_sizes);
      if (found && found->gpa.value >> 12 < round) ++stale;
      if (round % 32 == 0) std::this_thread::yield();
    }
  }
  CHECK(stale == 0);
}

TEST_CASE("sweeps and page drops of several threads let each other through", "[caches][iotlb][P5]") {
  const unsigned each = test::run_whole() ? 100'000 : 1'000;
  Iotlb iotlb;
  REQUIRE(iotlb.reset({}, 16, 1, 77));
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    threads.emplace_back([&iotlb, each, seed] {
      test::Random random{seed};
      const auto tag_of_thread = static_cast<Tag>(seed);
      TagSet swept;
      swept.set(tag_of_thread);
      for (unsigned i = 0; i < each; ++i) {
        const Iova iova = page_at(random.below(pages), PageSize::kib4);
        const auto tag = static_cast<Tag>(seed);
        static_cast<void>(sample_and_fill(iotlb, tag, iova, page_of(tag, iova, PageSize::kib4)));
        iotlb.sweep(swept, 0, iotlb.groups());
        iotlb.drop_pages(place(tag), {iova, iova + 0x3FFF}, every_size);
      }
      iotlb.sweep(tag_of_thread);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (unsigned number = 0; number < pages; ++number)
    for (Tag tag = 1; tag <= tags; ++tag)
      CHECK_FALSE(iotlb.lookup(place(tag), page_at(number, PageSize::kib4), all_sizes));
}

}  // namespace viommu::caches
