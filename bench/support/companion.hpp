// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A second thread that works on a core of its own while something is measured.
#pragma once

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "bench/support/stopwatch.hpp"

namespace viommu::bench {

/// What a companion's loop asks before each turn; so it is seen to run.
class Pulse {
 public:
  [[nodiscard]] bool goes_on() noexcept {
    turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return !stop_.load(std::memory_order_relaxed);
  }

 private:
  friend class Companion;
  alignas(64) std::atomic<std::uint64_t> turns_{0};
  alignas(64) std::atomic<bool> stop_{false};
};

class Companion {
 public:
  /// Runs `body(pulse)`, which ends soon after the pulse stops, until the companion is gone. Returns once it runs.
  template <class Body>
  explicit Companion(Body body) {
    thread_ = std::thread{[this, body = std::move(body)]() mutable {
      pin_this_thread(1);
      id_.store(gettid(), std::memory_order_release);
      body(pulse_);
    }};
    while (id_.load(std::memory_order_acquire) == 0) std::this_thread::yield();
    waited_.emplace(id_.load(std::memory_order_relaxed));
  }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;
  ~Companion() {
    pulse_.stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

  /// Measures as Elapsed what `work()` takes; the companion's wait for a core counts as this thread's.
  template <class Work>
  [[nodiscard]] Elapsed time(Work work) const {
    // The scheduler counts a wait when it ends: a companion that is out of its core must first come back.
    await_turn();
    const std::uint64_t waited_before = waited_->read_ns();
    const std::uint64_t begin = monotonic_ns();
    const Stopwatch stopwatch;
    work();
    Elapsed elapsed = stopwatch.stop();
    const auto wall = static_cast<double>(std::max(monotonic_ns() - begin, std::uint64_t{1}));
    await_turn();
    elapsed.waited_part = std::max(elapsed.waited_part, static_cast<double>(waited_->read_ns() - waited_before) / wall);
    return elapsed;
  }

 private:
  void await_turn() const {
    const std::uint64_t turns = pulse_.turns_.load(std::memory_order_relaxed);
    while (pulse_.turns_.load(std::memory_order_relaxed) == turns) {  // ends: the companion's loop does
    }
  }

  Pulse pulse_;
  std::atomic<pid_t> id_{0};
  std::optional<WaitCount> waited_;
  std::thread thread_;
};

}  // namespace viommu::bench
