// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/slot_diff.hpp"

#include <algorithm>

namespace viommu::consumer {

bool covered(MappedRun unit, std::span<const MappedRun> wanted) noexcept {
  auto run = std::ranges::lower_bound(wanted, unit.first(), {}, [](MappedRun r) { return r.last(); });
  for (unsigned at = unit.first(); at <= unit.last(); ++run) {  // ends: `at` grows, or a run is missing
    if (run == wanted.end() || run->first() > at || !alike(*run, unit)) return false;
    at = run->last() + 1;
  }
  return true;
}

}  // namespace viommu::consumer
