// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The switch of dirty tracking. The mode goes on first and off first, so what is given from then on is right; what was
// given before has ended when the ticket is drained. Until then holds and the engine's own writes are logged either
// way.
//
// Threads: want() and on() any; everything else by whoever has the role of the front end's work.
#pragma once

#include <optional>

#include "engine/base/atomic.hpp"
#include "engine/consumer/consumers.hpp"
#include "engine/core/completions.hpp"
#include "engine/core/obstacle.hpp"
#include "engine/core/waist.hpp"

namespace viommu::consumer {

class WriteTracking {
 public:
  WriteTracking(core::Waist& waist, Consumers& consumers) noexcept : waist_{waist}, consumers_{consumers} {}

  /// There is room for the bits of every region. @return whether there is anything for advance() to do
  [[nodiscard]] bool want(bool on) noexcept;
  /// Switched, and drained.
  [[nodiscard]] bool on() const noexcept { return on_.load(std::memory_order_acquire); }
  /// @return false while a switch waits for its ticket
  [[nodiscard]] bool advance(core::Completions& completions) noexcept;
  /// The switch under way, and what it waits for.
  [[nodiscard]] core::Obstacle obstacle() const noexcept {
    if (!ticket_) return {};
    return {"dirty tracking", "is being switched", core::delay_of(waist_, *ticket_).owner};
  }
  /// Takes what was logged. @return whether the guards in which it was logged have ended, so that it may be fetched
  [[nodiscard]] bool collect() noexcept;

 private:
  core::Waist& waist_;
  Consumers& consumers_;
  Atomic<bool> wanted_{false};
  Atomic<bool> on_{false};
  std::optional<core::Ticket> ticket_;
  core::Withheld withheld_;
  bool begun_ = false;                        ///< what it is switched to, or was last
  std::optional<core::Ticket> dirty_ticket_;  ///< of what collect() has taken
};

}  // namespace viommu::consumer
