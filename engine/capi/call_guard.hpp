// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Reader handles and guards as calls of the C interface take and make them.
#pragma once

#include <viommu/viommu.h>

#include "engine/capi/engine.hpp"
#include "engine/core/reader.hpp"
#include "engine/core/waist.hpp"

namespace viommu::capi {

[[nodiscard]] inline core::Reader& reader_of(viommu_reader* handle) noexcept {
  return *reinterpret_cast<core::Reader*>(handle);
}
[[nodiscard]] inline viommu_engine& engine_of(const core::Reader& reader) noexcept {
  return *static_cast<viommu_engine*>(reader.owner);
}

/// A guard for the length of one call, inside whatever guard is open.
class CallGuard {
 public:
  [[gnu::always_inline]] CallGuard(core::Waist& waist, core::Reader& reader) noexcept
      : waist_{waist}, reader_{reader}, entered_{waist.enter_once(reader)} {}
  CallGuard(const CallGuard&) = delete;
  CallGuard& operator=(const CallGuard&) = delete;
  [[gnu::always_inline]] ~CallGuard() { waist_.leave_once(reader_, entered_); }

 private:
  core::Waist& waist_;
  core::Reader& reader_;
  bool entered_;
};

}  // namespace viommu::capi
