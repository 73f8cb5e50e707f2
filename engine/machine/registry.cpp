// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/registry.hpp"

#include <utility>

namespace viommu::machine {

Registry::~Registry() {
  for (Bus* const bus : buses_) {
    if (bus == nullptr) continue;
    for (Device* const device : bus->devices)
      if (device != nullptr) unmake(device);
    unmake(bus);
  }
}

const Device* Registry::find(SourceId source) const noexcept {
  const Bus* const bus = buses_[source.bus()];
  return bus == nullptr ? nullptr : bus->devices[source.devfn()];
}

Device* Registry::find(SourceId source) noexcept {
  Bus* const bus = buses_[source.bus()];
  return bus == nullptr ? nullptr : bus->devices[source.devfn()];
}

Device* Registry::create(SourceId source) noexcept {
  auto* const device = make<Device>();
  if (device == nullptr) return nullptr;
  Bus*& bus = buses_[source.bus()];
  if (bus == nullptr) bus = make<Bus>();
  if (bus == nullptr) {
    unmake(device);
    return nullptr;
  }
  device->source = source;
  bus->devices[source.devfn()] = device;
  ++bus->count;
  ++size_;
  return device;
}

void Registry::erase(SourceId source) noexcept {
  Bus*& bus = buses_[source.bus()];
  unmake(std::exchange(bus->devices[source.devfn()], nullptr));
  --size_;
  if (--bus->count == 0) unmake(std::exchange(bus, nullptr));
}

bool Registry::renumber(std::uint8_t from, std::uint8_t to) noexcept {
  if (from == to || buses_[from] == nullptr) return true;
  if (buses_[to] != nullptr) return false;
  buses_[to] = std::exchange(buses_[from], nullptr);
  const auto moved = [to](SourceId id) { return SourceId{static_cast<std::uint16_t>(to << 8 | id.devfn())}; };
  for (Device* const device : buses_[to]->devices)
    if (device != nullptr) device->source = moved(device->source);
  // An alias is the number of a bridge's bus, and bridges of other buses stay what they are.
  for (Bus* const bus : buses_) {
    if (bus == nullptr) continue;
    for (Device* const device : bus->devices) {
      if (device == nullptr) continue;
      if (device->alias && device->alias->bus() == from) device->alias = moved(*device->alias);
      if (device->physical && device->physical->bus() == from) device->physical = moved(*device->physical);
    }
  }
  return true;
}

}  // namespace viommu::machine
