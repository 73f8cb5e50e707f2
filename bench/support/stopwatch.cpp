// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/stopwatch.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <string>

namespace viommu::bench {
namespace {

[[nodiscard]] std::vector<int> allowed_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  std::vector<int> allowed;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(static_cast<std::size_t>(core), &cores)) allowed.push_back(core);
    }
  }
  if (allowed.empty()) allowed.push_back(0);
  return allowed;
}

// Read once, before any thread is pinned: threads inherit the set of the one that starts them.
const std::vector<int>& cores_of_the_process() {
  static const std::vector<int> cores = allowed_cores();
  return cores;
}

void pin_to(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<std::size_t>(core), &cores);
  static_cast<void>(sched_setaffinity(0, sizeof cores, &cores));
}

int first_core() {
  static const int core = std::max(sched_getcpu(), 0);
  return core;
}

[[nodiscard]] std::string count_file(pid_t thread) {
  return "/proc/self/task/" + std::to_string(thread == 0 ? gettid() : thread) + "/schedstat";
}

}  // namespace

void pin_this_thread() { pin_this_thread(0); }

void pin_this_thread(unsigned index) {
  const std::vector<int>& cores = cores_of_the_process();
  const auto first = std::find(cores.begin(), cores.end(), first_core());
  const std::size_t start = first == cores.end() ? 0 : static_cast<std::size_t>(first - cores.begin());
  pin_to(cores[(start + index) % cores.size()]);
}

unsigned core_count() { return static_cast<unsigned>(cores_of_the_process().size()); }

std::vector<int> thread_counts() {
  std::vector<int> counts{1, 2};
  for (unsigned count = 4; count <= core_count(); count *= 2) counts.push_back(static_cast<int>(count));
  return counts;
}

std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  static_cast<void>(clock_gettime(CLOCK_MONOTONIC, &now));
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

WaitCount::WaitCount(pid_t thread) : file_{open(count_file(thread).c_str(), O_RDONLY | O_CLOEXEC)} {}

WaitCount::~WaitCount() {
  if (file_ >= 0) close(file_);
}

// "time on a core, time ready without one, slices", in nanoseconds.
std::uint64_t WaitCount::read_ns() const noexcept {
  std::array<char, 96> text{};
  if (file_ < 0 || pread(file_, text.data(), text.size() - 1, 0) <= 0) return 0;
  char* after = nullptr;
  static_cast<void>(std::strtoull(text.data(), &after, 10));
  return std::strtoull(after, nullptr, 10);
}

namespace {

std::uint64_t waited_by_this_thread() noexcept {
  thread_local const WaitCount count;
  return count.read_ns();
}

}  // namespace

Stopwatch::Stopwatch() noexcept : waited_ns_{waited_by_this_thread()}, wall_ns_{monotonic_ns()} {}

Elapsed Stopwatch::stop() const noexcept {
  const auto wall = static_cast<double>(monotonic_ns() - wall_ns_);
  const auto waited = std::min(static_cast<double>(waited_by_this_thread() - waited_ns_), wall);
  return {wall - waited, wall > 0 ? waited / wall : 0};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace viommu::bench
