// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Timing the parts of a work that count, where what lies between them (refilling what was dropped) does not.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bench/support/question.hpp"
#include "bench/support/stopwatch.hpp"

namespace viommu::bench {

class Sections {
 public:
  template <class Work>
  void time(Work work) {
    const std::uint64_t before = monotonic_ns();
    work();
    ns_ += static_cast<double>(monotonic_ns() - before) - clock_ns();
  }
  [[nodiscard]] double ns() const noexcept { return ns_; }

 private:
  /// What reading the clock adds to a section.
  static double clock_ns() {
    static const double cost = [] {
      std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
      for (int round = 0; round < 1000; ++round) {
        const std::uint64_t before = monotonic_ns();
        least = std::min(least, monotonic_ns() - before);
      }
      return static_cast<double>(least);
    }();
    return cost;
  }

  double ns_ = 0;
};

/// How long a chunk took, when this thread alone works on it.
struct OneThread {
  template <class Work>
  [[nodiscard]] Elapsed operator()(Work work) const {
    const Stopwatch whole;
    work();
    return whole.stop();
  }
  static constexpr int tries = quiet_tries;
};

/// Times the sections of `work(sections)`, which does `items` each time. Another process may not have taken more than
/// 3 % of the whole of a chunk.
/// @param timer  how long the whole took, and what part of it was waited for a core; and how often it may be tried
template <class Work, class Timer = OneThread>
void measure_sections(benchmark::State& state, std::int64_t items, Work work, const Timer& timer = {}) {
  constexpr std::uint64_t chunk_ns = 2'000'000;
  pin_this_thread();
  Sections warm;
  work(warm);
  std::int64_t all = 0;
  Disturbance disturbance;
  for (auto _ : state) {
    std::int64_t done = 0;
    const auto chunk = [&] {
      Sections sections;
      done = 0;
      const Elapsed whole = timer([&] {
        const std::uint64_t end = monotonic_ns() + chunk_ns;
        do {
          work(sections);
          done += items;
        } while (monotonic_ns() < end);
      });
      return Elapsed{sections.ns() / static_cast<double>(done), whole.waited_part};
    };
    const Elapsed elapsed = quietest(chunk, Timer::tries);
    state.SetIterationTime(elapsed.ns * static_cast<double>(done) * 1e-9);
    disturbance.add(elapsed.waited_part);
    all += done;
  }
  state.SetItemsProcessed(all);
  disturbance.tell(state);
}

}  // namespace viommu::bench
