// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The names under which shared state is declared and ordered, so that a test build can put instrumented ones in their
// place: its own file of this name comes first on the include path.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <thread>

#include "engine/base/build.hpp"

namespace viommu {

template <class T>
using Atomic = std::atomic<T>;
using Mutex = std::mutex;

/// Two cache lines: neighbours that different threads write must not share one, nor the line fetched along with it.
inline constexpr std::size_t shared_line_bytes = 128;

/// Everything before it is visible to everybody before anything after it happens. The only fence that orders stores:
/// thread sanitizers do not understand one, and get a read-modify-write in its place.
inline void full_fence() noexcept {
  if constexpr (thread_sanitizer) {
    static constinit std::atomic<unsigned> everybody{0};
    everybody.fetch_add(1, std::memory_order_seq_cst);
  } else {
    fence_of_this_build();
  }
}

/// Keeps the compiler from moving memory accesses across; the CPU may.
inline void compiler_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Inside a loop that waits for another thread's next few instructions, `round` counting up: gives the core away now
/// and then, should that thread have none.
inline void spin_pause(unsigned round) noexcept {
  constexpr unsigned rounds_between_yields = 64;
  if (round % rounds_between_yields == rounds_between_yields - 1) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace viommu
