// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Blocked requests on their way into the fault log: the record, then the event, and how many there were.
#pragma once

#include <cstdint>

#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/vtd/fault_log.hpp"
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

/// Threads: any.
class FaultReporter {
 public:
  explicit FaultReporter(Registers& registers) noexcept : registers_{registers} {}

  /// Records a fault that is to be reported, and sends the event that follows from it.
  FaultStatus report(const FaultEntry& entry) noexcept;

  struct Figures {
    std::uint64_t recorded;
    std::uint64_t overflowed;  ///< no record was free
  };
  [[nodiscard]] Figures figures() const noexcept {
    return {recorded_.load(std::memory_order_relaxed), overflowed_.load(std::memory_order_relaxed)};
  }

 private:
  Registers& registers_;
  Atomic<std::uint64_t> recorded_{0};
  Atomic<std::uint64_t> overflowed_{0};
};

}  // namespace viommu::vtd
