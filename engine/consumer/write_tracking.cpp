// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/write_tracking.hpp"

#include "caches/scope.hpp"

namespace viommu::consumer {

bool WriteTracking::want(bool on) noexcept {
  return wanted_.exchange(on, std::memory_order_seq_cst) != on || on_.load(std::memory_order_relaxed) != on;
}

bool WriteTracking::advance(core::Completions& completions) noexcept {
  for (;;) {  // ends: each round begins a switch that another thread has asked for since, or returns
    if (ticket_) {
      if (consumers_.busy() || !completions.drained(*ticket_, withheld_, "dirty tracking")) return false;
      ticket_.reset();
      if (!begun_) waist_.log_own_writes(false);
      on_.store(begun_, std::memory_order_release);
    }
    const bool wanted = wanted_.load(std::memory_order_seq_cst);
    if (wanted == begun_) return true;
    begun_ = wanted;
    if (wanted) waist_.log_own_writes(true);
    waist_.log_requests(wanted);
    const caches::Scope everything;
    waist_.drop(everything);
    consumers_.track_writes(wanted);
    caches::ScopeSet held;
    held.add(everything);
    ticket_ = waist_.ticket(held);
    withheld_ = {};
  }
}

bool WriteTracking::collect() noexcept {
  if (!dirty_ticket_) {
    waist_.dirty().collect();
    dirty_ticket_ = waist_.ticket({});
  }
  if (!waist_.drained(*dirty_ticket_)) return false;
  waist_.dirty().settle();
  dirty_ticket_.reset();
  return true;
}

}  // namespace viommu::consumer
