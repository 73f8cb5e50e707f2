// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Invalidation waits that were fetched and are not complete: in order, a bounded number of them. Source: VT-d,
// "Invalidation Wait Descriptor" and "Queued Invalidation Ordering Considerations".
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/core/completions.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/invalidation.hpp"

namespace viommu::vtd {

struct OpenWait {
  core::Ticket ticket;
  Wait wait;
  std::uint32_t head = 0;     ///< its own place in the queue
  std::uint64_t devices = 0;  ///< device-TLB invalidations before it (DeviceTlbs::issued)
  core::Withheld withheld{};
};

/// A ring of them. Threads: the unit's worker.
class OpenWaits {
 public:
  static constexpr std::size_t most = 64;

  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] bool full() const noexcept { return count_ == most; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] OpenWait& oldest() noexcept { return waits_[first_]; }
  [[nodiscard]] const OpenWait& oldest() const noexcept { return waits_[first_]; }
  /// The oldest is the first.
  [[nodiscard]] const OpenWait& at(std::size_t number) const noexcept { return waits_[(first_ + number) % most]; }
  [[nodiscard]] const OpenWait& newest() const noexcept { return waits_[(first_ + count_ - 1) % most]; }
  /// To be filled in whole, but for its ticket, which names nothing.
  [[nodiscard]] OpenWait& add() noexcept {
    assert(!full());
    OpenWait& added = waits_[(first_ + count_++) % most];
    added.ticket.epoch = 0;
    added.ticket.scopes.clear();
    added.withheld = {};
    return added;
  }
  void remove_oldest() noexcept {
    first_ = (first_ + 1) % most;
    --count_;
  }
  void clear() noexcept { count_ = 0; }

 private:
  std::array<OpenWait, most> waits_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace viommu::vtd
