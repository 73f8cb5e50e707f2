// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Time a thread spent working: the scheduler's own count for the thread, in which the time it was ready to run but had
// no core is not. The monotonic clock beside it tells how much that was.
#pragma once

#include <cstdint>
#include <vector>

namespace viommu::bench {

/// Keeps the calling thread on the core it is on.
void pin_this_thread();

struct Elapsed {
  double ns = 0;           // on a core
  double waited_part = 0;  // of the wall time, 0..1
};

class Stopwatch {
 public:
  Stopwatch() noexcept;
  [[nodiscard]] Elapsed stop() const noexcept;

 private:
  std::uint64_t wall_ns_;
  std::uint64_t ran_ns_;  // read last, and first at the end: the measured work stands between these two
};

/// The middle one; of an even number the mean of the two. 0 for none.
[[nodiscard]] double median(std::vector<double> values);

}  // namespace viommu::bench
