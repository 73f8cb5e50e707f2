// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/obstacle.hpp"

#include "engine/core/waist.hpp"

namespace viommu::core {

Obstacle delay_of(const Waist& waist, const Ticket& ticket) noexcept {
  if (const std::optional cookie = waist.holds().delayer(ticket.scopes, ticket.epoch))
    return {"hold", "a completion waits for a hold", *cookie};
  return {"guard", "a completion waits for a guard", ticket.epoch};
}

Obstacle open_hold(const Waist& waist) noexcept {
  if (const std::optional cookie = waist.holds().writer()) return {"hold", "is open for writing", *cookie};
  return {};
}

Obstacle removed_region(Waist& waist) noexcept {
  Waist::RegionsSeen regions;
  waist.peek_removed_regions(regions);
  if (regions.count == 0) return {};
  return {"region", "that was removed may still be in use", regions.removed[0].cookie};
}

}  // namespace viommu::core
