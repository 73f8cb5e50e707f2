// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One timed pass of a recording through one side, and the comparison of its answers once the clock has stopped.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/support/recording.hpp"
#include "bench/support/sides.hpp"
#include "bench/support/stopwatch.hpp"

namespace viommu::bench {

template <class Side>
class Contestant {
 public:
  explicit Contestant(Recording& recording)
      : recording_{recording}, side_{recording}, answers_(recording.asks.size()) {}

  /// Feeds the whole recording from the state after reset and returns the time of the feeding alone. Memory, caches and
  /// registers are as at the start of the recording; host memory is warm from earlier passes.
  [[nodiscard]] Elapsed pass() {
    recording_.ram.clear();
    side_.reset();
    const std::uint64_t messages_before = side_.messages();
    const Stopwatch stopwatch;
    feed(recording_, side_, answers_.data());
    const Elapsed elapsed = stopwatch.stop();
    messages_ = side_.messages() - messages_before;
    return elapsed;
  }

  /// As pass(), again while another process took more than 3 % of it; the quietest counts.
  [[nodiscard]] double quiet_pass_ns() {
    return quietest([this] { return pass(); }).ns;
  }

  /// Wrong answers of the last pass; a completion that is not in memory counts as one, and so do interrupts too many or
  /// too few.
  [[nodiscard]] std::uint64_t wrong_answers() const noexcept {
    std::uint64_t wrong = messages_ == recording_.messages ? 0 : 1;
    for (std::size_t index = 0; index < answers_.size(); ++index) {
      if (!right(recording_.expected[index], recording_.asks[index], answers_[index])) ++wrong;
    }
    for (const Written& written : recording_.written) {
      if (!is_there(written)) ++wrong;
    }
    return wrong;
  }

 private:
  Recording& recording_;
  Side side_;
  std::vector<Answer> answers_;
  std::uint64_t messages_ = 0;
};

/// Times of a recording, ns for one translation; register writes and what they cause are in them.
struct Times {
  double library = 0;
  double peer = 0;
  double feeding = 0;               // the recording's own share, already taken from the other two
  std::uint64_t library_wrong = 0;  // of the round with the most
  std::uint64_t peer_wrong = 0;
};

/// Runs `rounds` rounds; in each round every side runs once, and the order changes from round to round.
template <class Progress>
[[nodiscard]] Times measure(Recording& recording, int rounds, Progress progress) {
  Contestant<Viommu> library{recording};
  Contestant<Shape> peer{recording};
  Contestant<Nobody> nobody{recording};
  Times times;
  std::vector<double> library_ns;
  std::vector<double> peer_ns;
  std::vector<double> nobody_ns;
  const auto run_library = [&] {
    library_ns.push_back(library.quiet_pass_ns());
    times.library_wrong = std::max(times.library_wrong, library.wrong_answers());
  };
  const auto run_peer = [&] {
    peer_ns.push_back(peer.quiet_pass_ns());
    times.peer_wrong = std::max(times.peer_wrong, peer.wrong_answers());
  };
  // The first passes touch every page the sides will use.
  static_cast<void>(library.pass());
  static_cast<void>(peer.pass());
  for (int round = 0; round < rounds; ++round) {
    progress(round, rounds);
    if (round % 2 == 0) run_library();
    run_peer();
    if (round % 2 != 0) run_library();
    nobody_ns.push_back(nobody.quiet_pass_ns());
  }
  const auto translations = static_cast<double>(recording.asks.empty() ? 1 : recording.asks.size());
  times.feeding = median(nobody_ns) / translations;
  times.library = median(library_ns) / translations - times.feeding;
  times.peer = median(peer_ns) / translations - times.feeding;
  return times;
}

}  // namespace viommu::bench
