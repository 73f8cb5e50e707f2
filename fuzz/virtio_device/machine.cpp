// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The VMM: memory, devices with their hosts, and consumers.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/models/reserved_memory.hpp"
#include "fuzz/support/require.hpp"

namespace viommu::fuzz::virtio_device {

void World::add_memory(const Memory& memory) {
  require(side_->add_region(memory.gpa, memory.length, nullptr, memory.flags) == VIOMMU_OK,
          "a region that is not taken");
  parts_.add({memory.gpa, memory.gpa + memory.length - 1, (memory.flags & VIOMMU_REGION_MMIO) != 0,
              (memory.flags & VIOMMU_REGION_READ_ONLY) != 0});
}

void World::change_memory(std::uint8_t which, std::uint8_t how, std::uint64_t where) {
  const Memory& memory = memories[which % memories.size()];
  const std::uint64_t last = memory.gpa + memory.length - 1;
  const bool there = parts_.find(memory.gpa) != nullptr;
  if (!there) return add_memory(memory);
  if ((how & 1) != 0) {
    const std::uint64_t from = memory.gpa + (where % memory.length & ~std::uint64_t{0xFFF});
    const std::uint64_t bytes = std::min((std::uint64_t{how} >> 2) * 0x1000 + 0x1000, last - from + 1);
    const bool back = (how & 2) != 0;
    const viommu_result result =
        viommu_region_part(side_->engine, from, bytes, back ? VIOMMU_PART_SHARED : VIOMMU_PART_DISCARDED, 1);
    require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a part");
    if (result == VIOMMU_OK) parts_.set_there(from, from + bytes - 1, back);
    return;
  }
  const viommu_result result = viommu_region_remove(side_->engine, memory.gpa, 1);
  require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT, "what becomes of a region");
  if (result == VIOMMU_OK) parts_.remove(memory.gpa, last);
}

std::vector<Model::Reserved> World::reserved_of(std::uint16_t requester) const {
  ReservedMemory memory{setup_.configured};
  for (const PluggedDevice& device : plugged_) {
    if (device.requester != requester || device.bypassed) continue;
    for (const viommu_range& range : device.reserved) memory.add({range.first, range.last});
    if (device.facts && device.facts->tells_ranges) memory.add_holes_of(device.facts->ranges);
  }
  return memory.regions();
}

HostFacts World::facts_of(std::uint8_t which) {
  constexpr std::uint64_t top = ~std::uint64_t{0};
  constexpr std::array<std::uint64_t, 8> sizes{
      ~std::uint64_t{0xFFF}, 0x4020'1000, ~std::uint64_t{0xFFFF}, 0, top, 0x4020'1000, 0x20'0000, top};
  HostFacts facts;
  facts.page_sizes = sizes[which & 7];
  switch (which >> 3 & 3) {
    case 0:  facts.ranges = {{0, 0xFEDF'FFFF}, {0xFEF0'0000, (std::uint64_t{1} << 48) - 1}}; break;
    case 1:  facts.ranges = {{0, (std::uint64_t{1} << 39) - 1}}; break;
    case 2:  facts.ranges = {{0x10'0000, 0x2F'FFFF}, {0x40'0000, top}}; break;
    default: facts.tells_ranges = (which & 0x20) != 0; break;
  }
  return facts;
}

PluggedDevice* World::plugged(std::uint16_t source) {
  const auto found = std::ranges::find(plugged_, source, &PluggedDevice::source);
  return found == plugged_.end() ? nullptr : &*found;
}

const PluggedDevice* World::behind(std::uint16_t requester) const {
  for (const PluggedDevice& device : plugged_)
    if (device.requester == requester && !device.bypassed) return &device;
  return nullptr;
}

bool World::bypasses(std::uint16_t source) const {
  return std::ranges::any_of(plugged_, [&](const auto& one) { return one.bypassed && one.source == source; });
}

void World::plug(std::size_t number, std::uint8_t how, std::uint8_t facts) {
  const Place& place = places[number % places.size()];
  // Once its guest maps, hosts leave the device as it is.
  if (place.has_host && model_.mapping_count() != 0 && !get_ready()) return;
  PluggedDevice device{place.source, place.requester, place.endpoint, place.bypassed, std::nullopt, {}};
  if ((how & 1) != 0) device.reserved.push_back({0x10'2000, 0x10'2FFF});
  if ((how & 2) != 0) device.reserved.push_back({0x1008'0000, 0x1009'FFFF});
  if ((how & 4) != 0 && place.requester == place.source) device.endpoint = 0x100;
  if (place.has_host) device.facts = facts_of(facts);

  PluggedDevice* const before = plugged(place.source);
  const bool is_new = before == nullptr;
  const bool exists = !is_new && !withdrawn(place.source);
  // Those who share a requester id are one endpoint, named by the first.
  if (const PluggedDevice* const first = behind(place.requester)) device.endpoint = first->endpoint;
  if (!is_new) device.endpoint = before->endpoint;
  const bool named_already =
      behind(place.requester) == nullptr && !place.bypassed && model_.view(device.endpoint) != View::unknown;
  std::uint64_t sizes = page_sizes_;
  bool fits = true;
  if (device.facts) {
    fits = ready_ ? (device.facts->page_sizes & page_sizes_ & (~page_sizes_ + 1)) != 0
                  : (device.facts->page_sizes & page_sizes_) != 0;
    if (!ready_) sizes = page_sizes_ & device.facts->page_sizes;
  }
  viommu_refusal refusal{};
  const viommu_result result = side_->plug(device, refusal);
  if (exists) {
    require(result == VIOMMU_E_REFUSED && refusal.code == VIOMMU_REFUSED_ALREADY_EXISTS, "a device plugged twice");
    return;
  }
  if (!fits) {
    const std::uint32_t code = ready_ ? VIOMMU_REFUSED_GRANULE_FROZEN : VIOMMU_REFUSED_PAGE_SIZES_DISJOINT;
    require(result == VIOMMU_E_REFUSED && refusal.code == code, "a host that cannot map what the guest may");
    return;
  }
  if (named_already) return require(result == VIOMMU_E_EXISTS, "an endpoint whose id another one has");
  require(result == VIOMMU_OK, "a device that is not taken");
  page_sizes_ = sizes;
  model_.set_granule(page_sizes_ & (~page_sizes_ + 1));
  const bool known = behind(place.requester) != nullptr;
  if (is_new)
    plugged_.push_back(device);
  else
    *before = device;
  std::erase(withdrawn_, place.source);
  if (place.bypassed) return;
  if (known)
    model_.set_reserved(device.endpoint, reserved_of(place.requester));
  else
    model_.add(device.endpoint, reserved_of(place.requester));
}

void World::unplug(std::size_t number) {
  const Place& place = places[number % places.size()];
  const PluggedDevice* const device = plugged(place.source);
  const bool was = device != nullptr;
  const std::uint32_t endpoint = was ? device->endpoint : 0;
  require(viommu_device_remove(side_->engine, place.source) == VIOMMU_OK, "a device that is not let go");
  std::erase(withdrawn_, place.source);
  std::erase_if(plugged_, [&](const auto& one) { return one.source == place.source; });
  // The subscriptions of whoever is not there any more have ended, and what was mapped is withdrawn.
  std::uint16_t gone = place.source;
  if (was && !place.bypassed) {
    if (behind(place.requester) != nullptr) {
      model_.set_reserved(endpoint, reserved_of(place.requester));
    } else {
      model_.remove(endpoint);
      gone = place.requester;
    }
  }
  for (const auto& keeper : side_->keepers)
    if (keeper->source == gone && keeper->maps() && keeper->model.host == nullptr)
      require(keeper->model.extents().empty(), "what the consumer of a device that is gone still has");
  side_->forget_keepers_of(gone);
}

bool World::withdrawn(std::uint16_t source) const { return std::ranges::find(withdrawn_, source) != withdrawn_.end(); }

void World::unset_facts(std::size_t number) {
  const Place& place = places[number % places.size()];
  require(viommu_host_facts_unset(side_->engine, place.source) == VIOMMU_OK, "facts that are not taken back");
  PluggedDevice* const device = plugged(place.source);
  if (device == nullptr || !device->facts) return;
  device->facts.reset();
  withdrawn_.push_back(place.source);
  if (!device->bypassed) model_.set_reserved(device->endpoint, reserved_of(place.requester));
}

void World::subscribe(std::uint8_t which, std::uint8_t declares, std::uint8_t how, std::uint64_t first,
                      std::uint64_t last) {
  if ((how & 0x80) != 0) {
    if (!side_->keepers.empty()) side_->unsubscribe(which % side_->keepers.size());
    return;
  }
  std::uint32_t words = declares & 0x2F;  // LEAF, NO_BLINK, SPLIT, POW2, MMIO
  if ((how & 1) != 0) words |= VIOMMU_CONSUMER_UNMAP_ALL;
  // No more addresses than the quota of mappings has pages for: the model knows none.
  constexpr std::uint64_t most = std::uint64_t{1} << 35;
  if ((how & 2) == 0) {
    first = 0;
    last = (how & 4) != 0 ? most - 1 : 0xFFFF'FFFF;
  } else if (last < first) {
    std::swap(first, last);
  }
  if (last - first >= most) first = last - (most - 1);
  const bool maps = (how & 8) == 0;
  const std::uint16_t by = sources[which % sources.size()];
  // A device behind an alias is known by that.
  const PluggedDevice* const device = plugged(by);
  auto keeper = std::make_unique<Keeper>(device != nullptr ? device->requester : by, words, first, last, maps);
  if ((how & 0x10) != 0) keeper->model.consumer.unit_bytes = 0x4000'0000;
  side_->subscribe(std::move(keeper), by, (setup_.choice & 1) != 0 && (how & 0x20) != 0);
}

bool World::get_ready() {
  if (viommu_ready(side_->engine, nullptr, 0, nullptr) == VIOMMU_OK) ready_ = true;
  return ready_;
}

}  // namespace viommu::fuzz::virtio_device
