// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Time a thread worked or waited for what it asked for: wall time without the time it was ready to run and had no core,
// which is the scheduler's own count for the thread. Sleeping on a lock is in it; another process on the core is not.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace viommu::bench {

/// Keeps the calling thread on the core it is on.
void pin_this_thread();
/// Keeps it on the `index`-th core after the one that pin_this_thread() chose first; cores are used again in turn.
void pin_this_thread(unsigned index);
/// Cores this process may use.
[[nodiscard]] unsigned core_count();
/// 1, 2, 4 and so on up to the cores there are, and two where there is one.
[[nodiscard]] std::vector<int> thread_counts();

[[nodiscard]] std::uint64_t monotonic_ns() noexcept;

/// How long a thread of this process has been ready to run without a core, since it began.
class WaitCount {
 public:
  /// @param thread  its id; 0: the calling thread
  explicit WaitCount(pid_t thread = 0);
  WaitCount(const WaitCount&) = delete;
  WaitCount& operator=(const WaitCount&) = delete;
  ~WaitCount();
  [[nodiscard]] std::uint64_t read_ns() const noexcept;

 private:
  int file_;
};

struct Elapsed {
  double ns = 0;           // without the wait for a core
  double waited_part = 0;  // of the wall time, 0..1
};

class Stopwatch {
 public:
  Stopwatch() noexcept;
  [[nodiscard]] Elapsed stop() const noexcept;

 private:
  std::uint64_t waited_ns_;
  std::uint64_t wall_ns_;  // read last, and first at the end: the measured work stands between these two
};

/// Other processes took less of a measurement than this, or it is repeated.
inline constexpr double quiet_part = 0.03;
inline constexpr int quiet_tries = 5;
/// Two threads are seldom left alone at the same time; on a busy machine it may not take forever.
inline constexpr int quiet_tries_of_two = 20;
inline constexpr std::uint64_t quiet_patience_ns = 100'000'000;

/// Runs `measure`, which returns an Elapsed, again while another process took too much of it; the quietest counts.
template <class Measure>
[[nodiscard]] Elapsed quietest(Measure measure, int tries = quiet_tries) {
  const std::uint64_t end = monotonic_ns() + quiet_patience_ns;
  Elapsed best = measure();
  for (int attempt = 1; attempt < tries && best.waited_part > quiet_part && monotonic_ns() < end; ++attempt) {
    const Elapsed again = measure();
    if (again.waited_part < best.waited_part) best = again;
  }
  return best;
}

/// The middle one; of an even number the mean of the two. 0 for none.
[[nodiscard]] double median(std::vector<double> values);

}  // namespace viommu::bench
