// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The executor of viommu_tbb.h. A call makes as many runners as there are threads, and each takes the next task until
// none is left: a long task keeps nobody else waiting, and one counter is all that they share.
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>
#include <viommu/viommu_tbb.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

struct viommu_tbb {
  explicit viommu_tbb(std::uint32_t count) : threads{count}, arena{static_cast<int>(count)} {}

  std::uint32_t threads;
  tbb::task_arena arena;
};

extern "C" {

viommu_result viommu_tbb_create(uint32_t threads, viommu_tbb** executor) {
  constexpr std::uint32_t most_threads = 256;
  if (executor == nullptr) return VIOMMU_E_ARGUMENT;
  *executor = nullptr;
  if (threads == 0 || threads > most_threads) return VIOMMU_E_ARGUMENT;
  try {
    // oneTBB has no more workers than this, and complains on stderr where more are asked for.
    const auto most = static_cast<std::uint32_t>(std::max(tbb::info::default_concurrency(), 1));
    *executor = new viommu_tbb{std::min(threads, most)};
    (*executor)->arena.initialize();
  } catch (...) {
    viommu_tbb_destroy(*executor);
    *executor = nullptr;
    return VIOMMU_E_MEMORY;
  }
  return VIOMMU_OK;
}

void viommu_tbb_destroy(viommu_tbb* executor) { delete executor; }

void viommu_tbb_execute(viommu_tbb* executor, uint32_t count, void (*task)(void* context, uint32_t index),
                        void* context) {
  std::atomic<std::uint32_t> next{0};
  const auto run = [&](std::uint32_t /*runner*/) {
    for (;;) {  // ends: the counter reaches `count`, and goes beyond it once a runner
      const std::uint32_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      task(context, index);
    }
  };
  const std::uint32_t runners = std::min(executor->threads, count);
  if (runners <= 1) return run(0);
  try {
    executor->arena.execute([&] {
      // Isolated: while it waits for the last runner, this thread takes up no task of another call.
      tbb::this_task_arena::isolate([&] { tbb::parallel_for(0U, runners, run, tbb::simple_partitioner{}); });
    });
  } catch (...) {
    run(0);  // oneTBB had no memory: those that had begun have ended, and this does what is left
  }
}

}  // extern "C"
