// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Invalidations of device TLBs on their way to the devices, and the answers on their way back. Source: VT-d,
// "Device-TLB Invalidate Descriptor" and "Invalidation Time-outs"; PCI Express, "Address Translation Services".
//
//   the role      add(): a place, in the queue's order -> older guards gone -> host.device_invalidate
//   any thread    answer(): asked -> answered or timed out, once
//   the role      advance(): places that were answered become free; who did not answer in time is named
//
// A device is asked when the guards have ended that were open while caches still had what is to go: whoever completes a
// translation request inside a guard has told the device by then, so no translation arrives behind its invalidation.
//
// One word a place says whose it is (caches nothing else another thread looks at):
//   generation 63:32 | source 31:16 | state 7:0
// It goes free -> queued -> asked by the role; asked -> answered or timed out by whoever exchanges it first; -> free,
// with the next generation, by the role. So an answer that comes late, twice, or to a place used again finds nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/atomic.hpp"
#include "engine/base/ids.hpp"
#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/work_seen.hpp"

namespace viommu::vtd {

/// Threads: answer(), source_of(), deadline_ns() and the figures from any thread; the rest by the unit's worker.
class DeviceTlbs {
 public:
  static constexpr std::size_t most_open = WorkSeen::most_devices;

  /// @param per_function  whether descriptors name the function whose limit counts (ECAP.DIT)
  /// @param timeout_ns    how long a device has for its answer; counts only where the host has a clock
  DeviceTlbs(core::Waist& waist, const core::Host& host, bool per_function, std::uint64_t timeout_ns) noexcept
      : waist_{waist}, host_{host}, per_function_{per_function}, timeout_ns_{timeout_ns} {}

  struct Invalidation {
    core::DeviceInvalidation what;
    SourceId physical_function;  ///< whose limit counts, where that is not the source
    unsigned max_pending = 0;    ///< MIP: as many of that function at a time; 0 stands for 32
  };
  /// Takes one in, where somebody is to be told at all. @return false while there is no place, or the function has as
  /// many open as it can: then the queue stands until one is answered
  [[nodiscard]] bool add(const Invalidation& invalidation) noexcept;
  /// Something was dropped from the caches: devices are asked for what comes from now on when its readers have gone.
  void caches_dropped() noexcept { epoch_.reset(); }
  /// Asks whom it can and takes in the answers. @return a source that has not answered in time, of several the first
  std::optional<SourceId> advance() noexcept;
  /// How many were added by now; those up to a number are answered when none of them is open.
  [[nodiscard]] std::uint64_t issued() const noexcept { return issued_; }
  [[nodiscard]] bool answered_up_to(std::uint64_t number) const noexcept;
  [[nodiscard]] bool any_open() const noexcept { return open_.load(std::memory_order_relaxed) != 0; }
  /// Copies what is open, by number. @return how many
  [[nodiscard]] std::size_t describe(std::array<DeviceInvalidationSeen, most_open>& seen) const noexcept;
  /// What is open is nobody's any more; answers to it go nowhere.
  void forget() noexcept;

  enum class Answer : std::uint8_t { done, timed_out };
  /// @return false when no such invalidation is open
  bool answer(std::uint64_t handle, Answer answer) noexcept;
  /// Whose invalidation that is; nothing when it is not open.
  [[nodiscard]] std::optional<SourceId> source_of(std::uint64_t handle) const noexcept;
  /// When the next one is late, of the host's clock; all ones when none is open.
  [[nodiscard]] std::uint64_t deadline_ns() const noexcept { return deadline_ns_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t open_count() const noexcept { return open_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t timeouts() const noexcept { return timeouts_.load(std::memory_order_relaxed); }

 private:
  enum class State : std::uint8_t { free, queued, asked, answered, timed_out };
  struct Place {
    Atomic<std::uint64_t> word{0};
    // The role's:
    Invalidation invalidation;
    std::uint64_t number = 0;
    std::uint64_t epoch = 0;  ///< of the ticket that is to be drained before the device is asked
    std::uint64_t deadline_ns = 0;
  };
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  [[nodiscard]] static constexpr State state_of(std::uint64_t word) noexcept { return static_cast<State>(word & 0xFF); }
  [[nodiscard]] static constexpr std::uint64_t in_state(std::uint64_t word, State state) noexcept {
    return (word & ~std::uint64_t{0xFF}) | static_cast<std::uint64_t>(state);
  }
  [[nodiscard]] static constexpr std::uint64_t generation_of(std::uint64_t word) noexcept { return word >> 32; }
  /// Never 0.
  [[nodiscard]] static constexpr std::uint64_t handle_of(std::size_t index, std::uint64_t word) noexcept {
    return generation_of(word) << 32 | (index + 1);
  }
  /// Of an invalidation that is open and was asked for; nothing otherwise.
  [[nodiscard]] std::optional<std::uint64_t> asked_word(std::uint64_t handle) const noexcept;
  [[nodiscard]] SourceId function_of(const Invalidation& invalidation) const noexcept {
    return per_function_ ? invalidation.physical_function : invalidation.what.source;
  }
  [[nodiscard]] bool function_is_busy(const Invalidation& invalidation) const noexcept;
  [[nodiscard]] bool older_guards_are_gone(std::uint64_t epoch) noexcept;
  /// @return false when the one whose turn it is has to wait
  [[nodiscard]] bool ask_next() noexcept;
  void release(Place& place) noexcept;

  core::Waist& waist_;
  const core::Host& host_;
  const bool per_function_;
  const std::uint64_t timeout_ns_;
  std::array<Place, most_open> places_{};
  std::array<std::uint8_t, most_open> queued_{};  ///< a ring of places, in the queue's order
  std::size_t first_queued_ = 0;
  std::size_t queued_count_ = 0;
  std::uint64_t issued_ = 0;
  std::optional<std::uint64_t> epoch_;  ///< of a ticket made since the last drop
  std::uint64_t drained_epoch_ = 0;     ///< up to here, guards are known to be gone
  Atomic<std::uint64_t> open_{0};
  Atomic<std::uint64_t> deadline_ns_{never};
  Atomic<std::uint64_t> timeouts_{0};
};

}  // namespace viommu::vtd
