// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guards and holds: no request is answered while one of them may use what it took away.
#include "fuzz/virtio_device/world.hpp"

#include <cstdint>
#include <utility>
#include <vector>

#include "fuzz/support/require.hpp"

namespace viommu::fuzz::virtio_device {

void World::begin_guard(std::uint8_t how, std::uint8_t source) {
  if ((how & 8) == 0) return;
  viommu_enter(side_->reader);
  in_guard_ = true;
  const viommu_request asked = dma(source, near_.first, VIOMMU_READ, VIOMMU_NO_REPORT);
  viommu_translation found{};
  static_cast<void>(viommu_translate(side_->reader, &asked, &found));
  const Answer right = answer_of(asked);
  check(asked, found, right);
  uses_.push_back({0, asked, right, found.kind != VIOMMU_FAULT});
}

void World::end_guard() {
  if (!std::exchange(in_guard_, false)) return;
  viommu_leave(side_->reader);
  std::erase_if(uses_, [](const Use& use) { return use.handle == 0; });
}

void World::end_uses() {
  for (const Use& use : uses_)
    if (use.handle != 0) require(viommu_release(side_->engine, use.handle) == VIOMMU_OK, "a hold that does not end");
  uses_.clear();
  if (std::exchange(in_guard_, false)) viommu_leave(side_->reader);
}

void World::release_all() {
  end_uses();
  side_->work();
}

bool World::still_good(const Use& use) const {
  const Answer now = answer_of(use.request);
  return now.kind == use.answer.kind && now.gpa == use.answer.gpa;
}

void World::check_uses() const {
  for (const Use& use : uses_)
    require(!use.counts || still_good(use), "a request is answered while somebody uses what it took away");
}

void World::hold(const viommu_request& asked) {
  viommu_translation found{};
  std::uint64_t handle = 0;
  const viommu_result result = viommu_hold(side_->reader, &asked, 1, &found, &handle);
  const Answer right = answer_of(asked);
  check(asked, found, right);
  if (right.kind == VIOMMU_INTERRUPT) return require(result != VIOMMU_OK, "a doorbell that is held");
  if (right.kind == VIOMMU_FAULT) return require(result == VIOMMU_E_FAULT, "a fault that is held");
  require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a hold");
  if (result == VIOMMU_OK) uses_.push_back({handle, asked, right, true});
}

}  // namespace viommu::fuzz::virtio_device
