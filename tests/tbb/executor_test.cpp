// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Built where viommu_tbb is.
#include <viommu/viommu_tbb.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace viommu::test {
namespace {

struct Destroy {
  void operator()(viommu_tbb* executor) const noexcept { viommu_tbb_destroy(executor); }
};
using Executor = std::unique_ptr<viommu_tbb, Destroy>;

[[nodiscard]] Executor make(std::uint32_t threads) {
  viommu_tbb* made = nullptr;
  REQUIRE(viommu_tbb_create(threads, &made) == VIOMMU_OK);
  return Executor{made};
}

/// How often each task has run, and on which threads.
struct Work {
  explicit Work(std::size_t count) : runs(count) {}
  void run(viommu_tbb* executor, std::uint32_t count) {
    viommu_tbb_execute(
        executor, count,
        [](void* self, std::uint32_t index) {
          auto& work = *static_cast<Work*>(self);
          work.runs.at(index).fetch_add(1);
          const std::lock_guard lock{work.mutex};
          work.threads.insert(std::this_thread::get_id());
        },
        this);
  }
  std::vector<std::atomic<unsigned>> runs;
  std::mutex mutex;
  std::set<std::thread::id> threads;
};

}  // namespace

TEST_CASE("each task runs once, and all have ended when the call returns", "[tbb][execute]") {
  const auto threads = GENERATE(1U, 2U, 5U);
  const Executor executor = make(threads);
  for (const std::uint32_t count : {0U, 1U, 2U, 7U, 1000U}) {
    Work work{count};
    work.run(executor.get(), count);
    CHECK(std::ranges::all_of(work.runs, [](const auto& runs) { return runs.load() == 1; }));
    CHECK(work.threads.size() <= threads);
  }
}

TEST_CASE("one thread is the calling one", "[tbb][execute]") {
  const Executor executor = make(1);
  Work work{100};
  work.run(executor.get(), 100);
  CHECK(work.threads == std::set{std::this_thread::get_id()});
}

TEST_CASE("tasks of one call meet on several threads", "[tbb][execute]") {
  if (std::thread::hardware_concurrency() < 2) return;
  const Executor executor = make(2);
  // Each waits for the other: only two threads come to an end.
  std::atomic<unsigned> there{0};
  viommu_tbb_execute(
      executor.get(), 2,
      [](void* self, std::uint32_t) {
        auto& number = *static_cast<std::atomic<unsigned>*>(self);
        number.fetch_add(1);
        while (number.load() != 2) std::this_thread::yield();
      },
      &there);
  CHECK(there.load() == 2);
}

TEST_CASE("engines on several threads share an executor", "[tbb][execute]") {
  const Executor executor = make(3);
  Work first{500};
  Work second{500};
  std::thread other{[&] { second.run(executor.get(), 500); }};
  first.run(executor.get(), 500);
  other.join();
  for (const Work* work : {&first, &second})
    CHECK(std::ranges::all_of(work->runs, [](const auto& runs) { return runs.load() == 1; }));
}

TEST_CASE("an executor of no threads, or of too many, is refused", "[tbb][execute]") {
  viommu_tbb* made = nullptr;
  CHECK(viommu_tbb_create(0, &made) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_tbb_create(257, &made) == VIOMMU_E_ARGUMENT);
  CHECK(made == nullptr);
  CHECK(viommu_tbb_create(1, nullptr) == VIOMMU_E_ARGUMENT);
  viommu_tbb_destroy(nullptr);
}

}  // namespace viommu::test
