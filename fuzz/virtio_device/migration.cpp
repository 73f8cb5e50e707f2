// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Moves to a second device, and states that somebody has changed.
#include "fuzz/virtio_device/world.hpp"

#include <cstdint>
#include <memory>
#include <utility>

#include "fuzz/support/require.hpp"
#include "fuzz/support/state_bytes.hpp"

namespace viommu::fuzz::virtio_device {

void World::move(std::uint8_t how, std::uint16_t where, std::uint64_t value) {
  release_all();
  require(viommu_quiesce(side_->engine, nullptr) == VIOMMU_OK, "a device that does not come to rest");
  State state = side_->save();
  require(!state.empty(), "a device at rest that is not saved");
  if (!get_ready()) return;
  std::unique_ptr<VirtioSide> there = make_twin();
  if ((how & 0x80) != 0) return attack(*there, state, how, where, value);
  there->load(state, false);
  there->work();
  require_same_state(there->save(), state, "a state that was loaded is saved as other bytes");
  there->event_room = side_->event_room;
  side_ = std::move(there);
  withdrawn_.clear();  // whoever has no facts there is not host-backed
  told_.clear();
  notified_ = reports_notified_ = 0;
}

std::unique_ptr<VirtioSide> World::make_twin() {
  std::unique_ptr<VirtioSide> there = make_side();
  for (const Memory& memory : memories) {
    if (parts_.find(memory.gpa) == nullptr) continue;
    require(there->add_region(memory.gpa, memory.length, nullptr, memory.flags) == VIOMMU_OK, "a region");
  }
  for (const GuestPart& part : parts_.all()) {
    if (part.there) continue;
    const std::uint64_t bytes = part.last - part.first + 1;
    require(viommu_region_part(there->engine, part.first, bytes, VIOMMU_PART_DISCARDED, 1) == VIOMMU_OK, "a part");
  }
  require(viommu_ready(there->engine, nullptr, 0, nullptr) == VIOMMU_OK, "a machine without devices");
  for (PluggedDevice& device : plugged_) {
    viommu_refusal refusal{};
    require(there->plug(device, refusal) == VIOMMU_OK, "a device that one side has taken and the other refuses");
  }
  for (const auto& keeper : side_->keepers) {
    const viommu_consumer& like = keeper->model.consumer;
    auto twin = std::make_unique<Keeper>(keeper->source, like.declares & ~std::uint32_t{VIOMMU_CONSUMER_SHARES},
                                         like.first, like.last, keeper->maps());
    twin->model.consumer.unit_bytes = like.unit_bytes;
    require(there->subscribe(std::move(twin), keeper->source, keeper->model.host != nullptr),
            "a consumer that is not taken again");
  }
  return there;
}

void World::attack(VirtioSide& there, State& state, std::uint8_t how, std::uint16_t where, std::uint64_t value) {
  there.work();
  const State before = there.save();
  require(!before.empty(), "a new device that is not at rest");
  const GuestBytes memory{guest_};  // its rings may be any, and work in the guest's memory
  change_state(state, how, true, where, value);
  if ((how & 8) == 0) reseal(state);
  const bool taken = there.load(state, true);
  there.work();
  if (!taken) require_same_state(there.save(), before, "a state that was refused has changed the device");
  for (const auto& keeper : there.keepers) require(keeper->model.wrong.empty(), "an event after a changed state");
  memory.put_back();
}

}  // namespace viommu::fuzz::virtio_device
