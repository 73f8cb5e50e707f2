// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/capi/endpoints.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/virtio_iommu/reserved.hpp"

namespace viommu::capi {
namespace {

using machine::Device;
using virtio_iommu::Domains;
using virtio_iommu::EndpointView;
using virtio_iommu::ReservedRegion;

template <class Use>
void for_each_behind(const viommu_engine& engine, SourceId id, const Use& use) {
  engine.machine.for_each([&](const Device& device) {
    if (!device.bypassed && device.requester() == id) use(device);
  });
}

/// Of all devices behind the id. @return false when the host has no memory
[[nodiscard]] bool collect(const viommu_engine& engine, SourceId id, HostArray<ReservedRegion>& regions) noexcept {
  std::size_t count = 0;
  for_each_behind(engine, id, [&](const Device& device) { count += device.reserved_memory.size(); });
  HostArray<GpaRange> own;
  if (!own.reset(engine.host.allocator(), count)) return false;
  GpaRange* to = own.begin();
  virtio_iommu::ReservedSources sources;
  for_each_behind(engine, id, [&](const Device& device) {
    to = std::ranges::copy(device.reserved_memory, to).out;
    // Those behind one alias have the same ranges, or were not let in.
    if (!device.facts || !device.facts->has_ranges) return;
    sources.has_usable = device.facts->ranges.size() != 0;
    sources.usable = {device.facts->ranges.begin(), device.facts->ranges.size()};
  });
  sources.configured = {engine.reserved.begin(), engine.reserved.size()};
  sources.device = {own.begin(), count};
  return virtio_iommu::collect_reserved(sources, engine.host.allocator(), regions);
}

}  // namespace

SourceId id_of(const viommu_engine& engine, const Device& device) noexcept {
  return engine.front.virtio() != nullptr ? device.requester() : device.source;
}

SourceId id_at(const viommu_engine& engine, SourceId source) noexcept {
  const Device* const device = engine.machine.find(source);
  return device == nullptr ? source : id_of(engine, *device);
}

Behind behind(const viommu_engine& engine, SourceId id) noexcept {
  Behind all;
  engine.machine.for_each([&](const Device& device) {
    if (id_of(engine, device) != id) return;
    const bool is_first = all.count == 0;
    all.way = is_first ? device.now() : machine::stricter(all.way, device.now());
    all.bypassed = device.bypassed && (is_first || all.bypassed);
    ++all.count;
  });
  return all;
}

viommu_result put_endpoint(viommu_engine& engine, const Device& device,
                           std::optional<std::uint32_t> endpoint) noexcept {
  virtio_iommu::Device* const front = engine.front.virtio();
  if (front == nullptr || device.bypassed) return VIOMMU_OK;
  const SourceId id = device.requester();
  HostArray<ReservedRegion> regions;
  if (!collect(engine, id, regions)) return VIOMMU_E_MEMORY;
  const std::span<const ReservedRegion> all{regions.begin(), regions.size()};
  if (front->seen(id).kind != EndpointView::Kind::unknown)
    return front->set_reserved(id, all) ? VIOMMU_OK : VIOMMU_E_MEMORY;
  switch (front->add_endpoint({{endpoint.value_or(id.value)}, id}, all)) {
    case Domains::Added::ok:        return VIOMMU_OK;
    case Domains::Added::exists:    return VIOMMU_E_EXISTS;
    case Domains::Added::limit:     return VIOMMU_E_LIMIT;
    case Domains::Added::no_memory: return VIOMMU_E_MEMORY;
  }
  return VIOMMU_E_ARGUMENT;
}

bool refresh_endpoint(viommu_engine& engine, SourceId id) noexcept {
  virtio_iommu::Device* const front = engine.front.virtio();
  if (front == nullptr) return true;
  HostArray<ReservedRegion> regions;
  return collect(engine, id, regions) && front->set_reserved(id, {regions.begin(), regions.size()});
}

void remove_endpoint(viommu_engine& engine, const Device& device) noexcept {
  virtio_iommu::Device* const front = engine.front.virtio();
  if (front == nullptr || device.bypassed) return;
  bool alone = true;
  for_each_behind(engine, device.requester(), [&](const Device& other) { alone = alone && &other == &device; });
  if (alone) front->remove_endpoint(device.requester());
}

}  // namespace viommu::capi
