// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_reporter.hpp"

namespace viommu::vtd {

FaultStatus FaultReporter::report(const FaultEntry& entry) noexcept {
  const FaultStatus status = registers_.with([&](RegisterFile& file) {
    const RecordedFault recorded = file.record_fault(entry);
    registers_.queue(recorded.event);
    return recorded.status;
  });
  registers_.deliver();
  if (status == FaultStatus::recorded) recorded_.fetch_add(1, std::memory_order_relaxed);
  if (status == FaultStatus::overflow_set || status == FaultStatus::overflowed)
    overflowed_.fetch_add(1, std::memory_order_relaxed);
  return status;
}

}  // namespace viommu::vtd
