// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_reporter.hpp"

namespace viommu::vtd {

FaultStatus FaultReporter::report(const FaultEntry& entry) noexcept {
  const std::uint64_t now_ns = limit_.is_on() ? host_.now_ns() : 0;  // the host's function, so not under the lock
  const FaultStatus status = registers_.with([&](RegisterFile& file) {
    if (!limit_.allows(entry.source, now_ns)) return FaultStatus::limited;
    const RecordedFault recorded = file.record_fault(entry);
    if (recorded.status == FaultStatus::recorded) limit_.count(entry.source, now_ns);
    registers_.queue(recorded.event);
    return recorded.status;
  });
  registers_.deliver();
  if (status == FaultStatus::recorded) recorded_.fetch_add(1, std::memory_order_relaxed);
  if (status == FaultStatus::limited) suppressed_.fetch_add(1, std::memory_order_relaxed);
  if (status == FaultStatus::overflow_set || status == FaultStatus::overflowed)
    overflowed_.fetch_add(1, std::memory_order_relaxed);
  return status;
}

}  // namespace viommu::vtd
