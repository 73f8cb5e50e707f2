// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A queue of either kind, and one run over it:
//
//   take a chain -> serve it -> put it back, with how much was written     at most `budget` times
//   nothing left -> ask the driver to notify, fence, look once more
//   at the end   -> does the driver want to hear of what was put?
//
// Bound: a run looks at most `budget` chains, and twice at an empty ring after each. No allocation, no lock.
// One thread at a time, inside a guard: memory that the ring lies in may go at any other time.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/atomic.hpp"
#include "engine/virtqueue/chain.hpp"
#include "engine/virtqueue/memory.hpp"
#include "engine/virtqueue/packed_ring.hpp"
#include "engine/virtqueue/ring.hpp"
#include "engine/virtqueue/split_ring.hpp"

namespace viommu::virtqueue {

/// What has become of a chain.
struct Served {
  enum class Outcome : std::uint8_t {
    done,         ///< to be given back, with `used_bytes` written from the start of its writable part
    later,        ///< not ready: the run ends; put() and another run() are to follow
    memory_gone,  ///< it could not be read or written: the queue is broken
  };
  Outcome outcome = Outcome::done;
  std::uint32_t used_bytes = 0;
};

struct RunResult {
  enum class Stop : std::uint8_t {
    idle,    ///< the driver will notify of the next chain
    more,    ///< the budget is spent
    later,   ///< a chain is not ready
    broken,  ///< Queue::problem() says why: the device needs a reset
  };
  Stop stop = Stop::idle;
  bool notify = false;  ///< the driver wants to hear of what was put
};

class Queue {
 public:
  /// From the start of both rings. With a problem it stays as it was.
  [[nodiscard]] ConfigProblem enable(const Config& config) noexcept { return load(config, State{}); }
  /// From where it was saved. A state that cannot be is ConfigProblem::size.
  [[nodiscard]] ConfigProblem load(const Config& config, const State& state) noexcept;
  void disable() noexcept { *this = Queue{}; }

  [[nodiscard]] bool enabled() const noexcept { return ring_.config.size != 0; }
  [[nodiscard]] const Config& config() const noexcept { return ring_.config; }
  /// To be saved when no chain is out: one that is would be lost.
  [[nodiscard]] const State& state() const noexcept { return ring_.state; }
  /// What broke it, until it is enabled again.
  [[nodiscard]] Problem problem() const noexcept { return ring_.problem; }

  /// A queue that is not enabled is empty.
  [[nodiscard]] Taken take(const Memory& memory, Chain& chain) noexcept {
    if (!usable()) return enabled() ? Taken::broken : Taken::empty;
    return ring_.config.features.packed ? packed::take(ring_, memory, chain) : split::take(ring_, memory, chain);
  }
  /// @return false when it is broken
  [[nodiscard]] bool put(const Memory& memory, Token token, std::uint32_t used_bytes) noexcept {
    if (!usable()) return false;
    return ring_.config.features.packed ? packed::put(ring_, memory, token, used_bytes)
                                        : split::put(ring_, memory, token, used_bytes);
  }
  /// Whether the driver wants to hear of what was put since the last time this was asked.
  [[nodiscard]] bool notification_due(const Memory& memory) noexcept;
  /// Asks the driver to notify of new chains. @return false when it is broken. Afterwards take() may find one that came
  /// in between.
  [[nodiscard]] bool listen(const Memory& memory) noexcept;
  void fail(Problem problem) noexcept { ring_.fail(problem); }

  /// @param serve  Served(const Chain&), called for each chain in order
  template <class Serve>
  [[nodiscard]] RunResult run(const Memory& memory, Chain& chain, std::uint32_t budget, const Serve& serve) noexcept {
    RunResult result;
    result.stop = serve_all(memory, chain, budget, serve);
    result.notify = notification_due(memory);
    if (!usable() && enabled()) result.stop = RunResult::Stop::broken;
    return result;
  }

 private:
  [[nodiscard]] bool usable() const noexcept { return enabled() && ring_.problem == Problem::none; }
  /// Asks it not to, where that takes a word.
  [[nodiscard]] bool hush(const Memory& memory) noexcept;

  template <class Serve>
  [[nodiscard]] RunResult::Stop serve_all(const Memory& memory, Chain& chain, std::uint32_t budget,
                                          const Serve& serve) noexcept {
    using Stop = RunResult::Stop;
    for (std::uint32_t count = 0; count < budget;) {
      switch (take(memory, chain)) {
        case Taken::broken: return Stop::broken;
        case Taken::empty:
          if (!enabled() || ring_.listening == Listening::yes) return Stop::idle;
          if (!listen(memory)) return Stop::broken;
          full_fence();  // the driver looks at the wish after it has made a chain available: one of both sees the other
          continue;
        case Taken::chain: break;
      }
      ++count;
      if (!hush(memory)) return Stop::broken;
      const Served served = serve(static_cast<const Chain&>(chain));
      switch (served.outcome) {
        case Served::Outcome::done:        break;
        case Served::Outcome::later:       return Stop::later;
        case Served::Outcome::memory_gone: fail(Problem::memory_gone); return Stop::broken;
      }
      if (!put(memory, chain.token(), served.used_bytes)) return Stop::broken;
    }
    return Stop::more;
  }

  Ring ring_;
};

}  // namespace viommu::virtqueue
