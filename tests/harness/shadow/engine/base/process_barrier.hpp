// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of the library's header of this name, in the harness.
#pragma once

#include "engine/base/atomic.hpp"

namespace viommu {
namespace harness {
/// Set by a scenario before it makes its objects: whether there is such a thing.
inline bool has_process_barrier = true;
}  // namespace harness

[[nodiscard]] inline bool enable_process_barrier() noexcept { return harness::has_process_barrier; }
inline void process_barrier(std::source_location place = std::source_location::current()) noexcept {
  harness::simulator().process_barrier(place);
}

}  // namespace viommu
