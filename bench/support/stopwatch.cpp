// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/stopwatch.hpp"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <ctime>

namespace viommu::bench {
namespace {

[[nodiscard]] std::uint64_t read_ns(clockid_t clock) noexcept {
  timespec now{};
  static_cast<void>(clock_gettime(clock, &now));
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

void pin_this_thread() {
  const int core = sched_getcpu();
  if (core < 0) return;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<std::size_t>(core), &cores);
  static_cast<void>(sched_setaffinity(0, sizeof cores, &cores));
}

Stopwatch::Stopwatch() noexcept : wall_ns_{read_ns(CLOCK_MONOTONIC)}, ran_ns_{read_ns(CLOCK_THREAD_CPUTIME_ID)} {}

Elapsed Stopwatch::stop() const noexcept {
  const auto ran = static_cast<double>(read_ns(CLOCK_THREAD_CPUTIME_ID) - ran_ns_);
  const auto wall = static_cast<double>(read_ns(CLOCK_MONOTONIC) - wall_ns_);
  return {ran, wall > ran ? 1 - ran / wall : 0};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace viommu::bench
