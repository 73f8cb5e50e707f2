// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a guest can bring about as often as it likes is told the 1st, 2nd, 4th, 8th ... time only: at most 64 lines in an
// engine's life, and the VMM still sees that it goes on, and how often it was.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/base/atomic.hpp"

namespace viommu::core {

/// Threads: any.
class LogLimit {
 public:
  /// Once each time it happens. @return how often it was by now when this time is to be told, else 0.
  [[nodiscard]] std::uint64_t happened() noexcept {
    const std::uint64_t times = times_.fetch_add(1, std::memory_order_relaxed) + 1;
    return std::has_single_bit(times) ? times : 0;
  }

 private:
  Atomic<std::uint64_t> times_{0};
};

}  // namespace viommu::core
