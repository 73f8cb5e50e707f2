// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the executables share: registering a question for several translators, and timing it.
//
// Manual time is what the stopwatch says. One iteration is one chunk of about a millisecond, measured again while
// another process took more than 3 % of it. `--benchmark_enable_random_interleaving` with repetitions alternates the
// translators.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/bed.hpp"
#include "bench/support/stopwatch.hpp"
#include "bench/support/synthetic_guest.hpp"

namespace viommu::bench {

using Arguments = std::vector<std::int64_t>;

/// What the threads of one benchmark share.
class Together {
 public:
  explicit Together(unsigned threads) : barrier_{threads}, waited_(threads) {}

  /// Returns when all are here.
  void meet() { barrier_.arrive_and_wait(); }

  /// Tells the others how long this thread waited for a core; returns what the one that waited most says.
  [[nodiscard]] double worst(std::size_t thread, double waited_part) {
    waited_[thread] = waited_part;
    meet();
    const double worst = *std::max_element(waited_.begin(), waited_.end());
    meet();
    return worst;
  }

  std::atomic<bool> stop{false};
  std::uint64_t chunk = 0;  // of the first thread; the others go on until it stops

 private:
  std::barrier<> barrier_;
  std::vector<double> waited_;
};

/// How many times `work(count)` must be done to take about a millisecond, a multiple of `block`.
template <class Work>
[[nodiscard]] std::uint64_t chunk_of(Work& work, std::uint64_t block) {
  constexpr double enough_ns = 0.5e6;
  for (std::uint64_t count = block;; count *= 2) {
    double least = std::numeric_limits<double>::max();
    for (int attempt = 0; attempt < quiet_tries && least >= enough_ns; ++attempt) {
      const Stopwatch stopwatch;
      work(count);
      least = std::min(least, stopwatch.stop().ns);
    }
    if (least >= enough_ns) return count;
  }
}

/// Says how undisturbed a benchmark was: the part of its time that a thread of it waited for a core, mean of chunks.
class Disturbance {
 public:
  void add(double waited_part) noexcept {
    sum_ += waited_part;
    ++chunks_;
  }
  void tell(benchmark::State& state) const {
    state.counters["waited"] = benchmark::Counter{sum_ / std::max(chunks_, 1), benchmark::Counter::kAvgThreads};
  }

 private:
  double sum_ = 0;
  int chunks_ = 0;
};

/// Times `work(count)` in every thread at once; an item is one of `count`.
template <class Work>
void measure(benchmark::State& state, Together& together, std::uint64_t block, Work work) {
  const auto thread = static_cast<std::size_t>(state.thread_index());
  const bool leads = thread == 0;
  pin_this_thread(static_cast<unsigned>(thread));
  if (leads) together.chunk = chunk_of(work, block);
  together.meet();
  const int tries = state.threads() > 1 ? quiet_tries_of_two : quiet_tries;
  std::uint64_t items = 0;
  Disturbance disturbance;
  for (auto _ : state) {
    Elapsed best;
    std::uint64_t best_items = 0;
    double best_worst = 2;  // more than any
    for (int attempt = 0; attempt < tries && best_worst > quiet_part; ++attempt) {
      if (leads) together.stop.store(false, std::memory_order_relaxed);
      together.meet();
      const Stopwatch stopwatch;
      std::uint64_t done = 0;
      if (leads) {
        work(together.chunk);
        done = together.chunk;
        together.stop.store(true, std::memory_order_relaxed);
      } else {
        for (; !together.stop.load(std::memory_order_relaxed); done += block) work(block);
      }
      const Elapsed elapsed = stopwatch.stop();
      const double worst = together.worst(thread, elapsed.waited_part);
      if (worst >= best_worst) continue;
      best = elapsed;
      best_items = done;
      best_worst = worst;
    }
    state.SetIterationTime(best.ns * 1e-9);
    disturbance.add(best_worst);
    items += best_items;
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(items));
  disturbance.tell(state);
}

/// Registers `question<Translator>/arguments` for each of the arguments. `chunks` fixes the number of iterations where
/// the time that counts is only a small part of what passes.
template <class Translator, class Run>
void add(const std::string& question, const std::vector<Arguments>& arguments, Run run,
         const std::vector<int>& threads = {1}, int chunks = 0) {
  for (const int count : threads) {
    const auto together = std::make_shared<Together>(static_cast<unsigned>(count));
    auto* const registered =
        benchmark::RegisterBenchmark((question + '<' + Translator::name + '>').c_str(),
                                     [run, together](benchmark::State& state) { run(state, *together); });
    registered->UseManualTime();
    if (count > 1) registered->Threads(count);
    if (chunks != 0) registered->Iterations(chunks);
    for (const Arguments& one : arguments) registered->Args(one);
  }
}

/// As add(), for questions that are answered beside another thread or in sections: five chunks.
template <class Translator, class Run>
void add_chunks(const std::string& question, const std::vector<Arguments>& arguments, Run run) {
  constexpr int chunks = 5;
  add<Translator>(question, arguments, [run](benchmark::State& state, Together&) { run(state); }, {1}, chunks);
}

/// Runs `add_all`, then the benchmarks that the command line names. The executable's exit status.
[[nodiscard]] int run_question(int count, char** words, const std::function<void()>& add_all);

}  // namespace viommu::bench
