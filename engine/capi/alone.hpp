// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Calls that only one thread at a time may make, between two steps of the unit's work.
#pragma once

#include <viommu/viommu.h>

#include "engine/capi/engine.hpp"

namespace viommu::capi {

/// Runs `use()` alone, as far as devices and the unit's work go; what it returns is the result. BUSY from a
/// callback, and while another thread is at that work.
template <class Use>
[[nodiscard]] viommu_result alone(viommu_engine& engine, const Use& use) noexcept {
  if (engine.host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine.recorder.get()};
  viommu_result result = VIOMMU_E_BUSY;
  static_cast<void>(engine.front.exclusively([&] { result = use(); }));
  return result;
}

}  // namespace viommu::capi
