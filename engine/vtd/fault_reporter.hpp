// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Blocked requests on their way into the fault log: the record, then the event, and how many there were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/core/fault_counts.hpp"
#include "engine/core/fault_limit.hpp"
#include "engine/core/host.hpp"
#include "engine/vtd/fault_log.hpp"
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

/// Threads: any.
class FaultReporter {
 public:
  FaultReporter(Registers& registers, const core::Host& host) noexcept : registers_{registers}, host_{host} {}
  /// @param records_a_second  of one source, 0 for all of them @return false when the host has no memory
  [[nodiscard]] bool limit(std::uint32_t records_a_second) noexcept {
    return limit_.reset(host_.allocator(), records_a_second);
  }

  /// @param pairs  of device and domain that are counted apart @return false when the host has no memory
  [[nodiscard]] bool count_apart(std::size_t pairs) noexcept { return counts_.reset(host_.allocator(), pairs); }
  /// Every blocked request, reported or not.
  void count(FaultReason reason, SourceId source,
             const std::optional<core::DomainUse>& domain = std::nullopt) noexcept {
    counts_.add(reason, source, domain);
  }
  [[nodiscard]] const core::FaultCounts& counts() const noexcept { return counts_; }

  /// Records a fault that is to be reported, and sends the event that follows from it.
  FaultStatus report(const FaultEntry& entry) noexcept;

  struct Figures {
    std::uint64_t recorded;
    std::uint64_t overflowed;  ///< no record was free
    std::uint64_t suppressed;  ///< beyond the limit of their source
  };
  [[nodiscard]] Figures figures() const noexcept {
    return {recorded_.load(std::memory_order_relaxed), overflowed_.load(std::memory_order_relaxed),
            suppressed_.load(std::memory_order_relaxed)};
  }
  /// Faults of one source that its limit kept from being recorded.
  [[nodiscard]] std::uint64_t suppressed(SourceId source) noexcept {
    return registers_.with([&](const RegisterFile&) { return limit_.suppressed(source); });
  }

 private:
  Registers& registers_;
  const core::Host& host_;
  core::FaultCounts counts_;
  core::FaultLimit limit_;  ///< under the registers' lock
  Atomic<std::uint64_t> suppressed_{0};
  Atomic<std::uint64_t> recorded_{0};
  Atomic<std::uint64_t> overflowed_{0};
};

}  // namespace viommu::vtd
