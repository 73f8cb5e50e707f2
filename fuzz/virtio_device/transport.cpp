// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The driver's transport: features, rings, resets and the configuration.
#include "fuzz/virtio_device/world.hpp"

#include <array>
#include <cstdint>

#include "fuzz/support/require.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::fuzz::virtio_device {

void World::void_uses() {
  for (Use& use : uses_)
    if (use.counts) use.counts = still_good(use);
}

void World::forget_rings() {
  requests_.end();
  reports_.end();
  posted_.clear();
}

void World::reset(bool system) {
  require((system ? viommu_reset(side_->engine) : viommu_virtio_reset(side_->engine)) == VIOMMU_OK,
          "a reset that is not done");
  model_.reset(system);
  forget_rings();
  features_ = 0;
  running_ = broken_ = false;
}

void World::negotiate(std::uint64_t features) {
  const bool right = !running_ && (features & ~setup_.offered) == 0 && (features & virtio_version_1) != 0;
  const viommu_result result = viommu_virtio_negotiate(side_->engine, features);
  require(result == (right ? VIOMMU_OK : VIOMMU_E_REFUSED), "whether features are accepted");
  if (!right) return;
  features_ = features;
  model_.accept(features);
}

void World::set_queue(std::uint32_t index) {
  DriverRing& ring = index == VIOMMU_VIRTIO_REQUESTS ? requests_ : reports_;
  if (index == VIOMMU_VIRTIO_EVENTS) posted_.clear();
  ring.begin(features_);
  const viommu_virtio_queue queue = ring.place(index == VIOMMU_VIRTIO_REQUESTS ? 0 : events_above);
  require(viommu_virtio_queue_set(side_->engine, index, &queue) == VIOMMU_OK, "a queue that is not taken");
}

void World::drop_queue(std::uint32_t index) {
  require(viommu_virtio_queue_set(side_->engine, index, nullptr) == VIOMMU_OK, "a queue that does not go");
  (index == VIOMMU_VIRTIO_REQUESTS ? requests_ : reports_).end();
  if (index == VIOMMU_VIRTIO_EVENTS) posted_.clear();
}

void World::start() {
  const bool right = (features_ & virtio_version_1) != 0;
  require(viommu_virtio_start(side_->engine) == (right ? VIOMMU_OK : VIOMMU_E_REFUSED), "whether the device runs");
  if (right) running_ = true;
}

void World::boot(std::uint64_t features) {
  reset(false);
  negotiate(features);
  if (features_ == 0) return;
  set_queue(VIOMMU_VIRTIO_REQUESTS);
  set_queue(VIOMMU_VIRTIO_EVENTS);
  start();
}

void World::notify(std::uint32_t index) {
  require(viommu_virtio_notify(side_->engine, index) == VIOMMU_OK, "a notification that is refused");
}

void World::break_ring() {
  if (!serves() || requests_.room() < 2) return;
  requests_.add(test::direct({{0x7000'0000, 20, false}, {0x7000'1000, 4, true}}));
  requests_.publish();
  const std::uint64_t before = side_->needs_reset;
  notify(VIOMMU_VIRTIO_REQUESTS);
  require_equal(side_->needs_reset, before + 1, "times that the device asked for a reset");
  broken_ = true;
  requests_.end();
}

void World::transport(std::uint8_t which, std::uint8_t how, std::uint64_t raw) {
  switch (which % 8) {
    case 0:  return boot((how & 1) != 0 ? (setup_.wanted ^ raw) & (setup_.offered | raw) : setup_.wanted);
    case 1:  return reset(false);
    case 2:  return reset(true);
    case 3:  return negotiate(raw ^ setup_.wanted);
    case 4:  return drop_queue(how & 1);
    case 5:  return set_queue(how & 1);
    case 6:  return start();
    default: return break_ring();
  }
}

void World::write_config(std::uint8_t how, std::uint64_t offset, std::uint64_t value) {
  constexpr std::uint64_t bypass_at = 36;
  constexpr std::array<std::uint32_t, 4> sizes{1, 2, 4, 8};
  const std::uint32_t size = sizes[how & 3];
  if ((how & 4) == 0) {
    offset = bypass_at;
    value &= 1;
  }
  const bool named = offset <= bypass_at && bypass_at - offset < size;
  const std::uint64_t byte = named ? value >> 8 * (bypass_at - offset) & 0xFF : 0;
  const bool right = !named || (byte <= 1 && model_.setting().bypass_config);
  const bool changes = named && right && model_.bypass() != (byte == 1);
  require(viommu_virtio_config_write(side_->engine, offset, size, value) == (right ? VIOMMU_OK : VIOMMU_E_REFUSED),
          "what becomes of a write to the configuration");
  if (changes) model_.set_bypass(byte == 1);
}

}  // namespace viommu::fuzz::virtio_device
