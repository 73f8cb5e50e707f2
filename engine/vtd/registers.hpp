// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The register file shared between threads, and the messages on their way to the host.
//
// The lock is held for register arithmetic only: no guest memory, no host function, no cache operation inside it.
// A message that a change of registers asks for is queued under the same lock, in order; deliver() sends what is queued
// without the lock, one thread at a time, so that a message always follows the stores it announces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "engine/base/atomic.hpp"
#include "engine/core/host.hpp"
#include "engine/vtd/event_message.hpp"
#include "engine/vtd/register_file.hpp"

namespace viommu::vtd {

/// Threads: everything from any thread.
class Registers {
 public:
  Registers(const Capabilities& capabilities, RegisterFile::Options options, const core::Host& host) noexcept
      : file_{capabilities, options}, host_{host} {}

  /// Runs `use(RegisterFile&)` under the lock and returns what it returns. `use` calls nothing outside the file.
  template <class Use>
  auto with(Use&& use) noexcept {
    const std::lock_guard guard{lock_};
    return std::forward<Use>(use)(file_);
  }
  /// Only inside with(): queues a message.
  void queue(const std::optional<EventMessage>& message) noexcept;

  /// Only inside with(): messages that are queued.
  [[nodiscard]] std::size_t queued() const noexcept { return count_; }

  /// Sends what is queued, unless another thread is doing so: then that one sends it. Of those that come meanwhile not
  /// without end: then process() is to send the rest.
  void deliver() noexcept;
  /// Forgets what is queued.
  void drop_messages() noexcept;
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] std::optional<EventMessage> take() noexcept;

  Mutex lock_;
  RegisterFile file_;
  /// Each event needs the guest to clear a status before the next, so more than a few never wait; when the ring is full
  /// all the same (a host function that does not return), the last place is overwritten.
  std::array<EventMessage, 16> waiting_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  Atomic<bool> any_waiting_{false};  ///< count_ is not 0
  Atomic<bool> delivering_{false};
  Atomic<std::uint64_t> messages_{0};
  const core::Host& host_;
};

}  // namespace viommu::vtd
