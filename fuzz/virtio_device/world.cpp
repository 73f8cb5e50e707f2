// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which record is what, and how a device is made.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fuzz/support/require.hpp"
#include "fuzz/support/work_done.hpp"

namespace viommu::fuzz::virtio_device {

World::World(Guest& guest, const Setup& setup)
    : guest_{guest}, setup_{setup}, model_{setup.setting}, page_sizes_{~(setup.setting.granule - 1)} {
  model_.accept(0);
  side_ = make_side();
  for (const std::uint64_t above : {std::uint64_t{0}, events_above})
    parts_.add({RingGuest::first + above, RingGuest::last + above});
  for (const Memory& memory : memories) add_memory(memory);
  for (std::size_t i = 0; i < places.size(); ++i)
    if ((setup_.devices >> i & 1) != 0) plug(i, 0, 0);
  boot(setup_.wanted);
}

void World::run(Input input) {
  while (!input.empty()) {
    step(input.record(record_bytes));
    if (!burst_.empty()) continue;
    compare();
    ++work_done;
  }
  finish_burst();
  compare();
}

std::unique_ptr<VirtioSide> World::make_side() const {
  std::vector<viommu_virtio_region> regions;
  regions.reserve(setup_.configured.size());
  for (const Model::Reserved& region : setup_.configured)
    regions.push_back({region.first, region.last, region.msi ? 1U : 0U, 0});
  const Model::Setting& setting = model_.setting();
  viommu_virtio_options options{};
  options.size = sizeof options;
  options.page_size_mask = page_sizes_;
  options.first_input = setting.input_first;
  options.last_input = setting.input_last;
  options.first_domain = setting.domain_first;
  options.last_domain = setting.domain_last;
  options.probe_size = setting.probe_size;
  options.flags = setup_.blocked_at_boot ? VIOMMU_VIRTIO_BLOCKED_AT_BOOT : 0;
  if (setting.strict_detach) options.flags |= VIOMMU_VIRTIO_STRICT_DETACH;
  if ((setup_.choice & 1) != 0) options.flags |= VIOMMU_VIRTIO_SHARE_SPACES;
  if ((setup_.choice & 2) != 0) options.flags |= VIOMMU_VIRTIO_UNCACHED;
  options.without = 0x70 & ~setup_.wanted;
  options.regions = regions.data();
  options.region_count = static_cast<std::uint32_t>(regions.size());
  options.domains = setting.domains;
  options.endpoints = 16;
  options.mappings = setting.mappings != 0 ? setting.mappings : 4096;
  options.fill = (setup_.choice & 0x10) != 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_ALL;
  options.hash_seed = 1;
  options.iotlb_pages = 16;
  options.context_entries = 4;
  options.tag_bits = 4;
  options.readers = 1;
  options.holds = 4;
  options.regions_of_memory = 16;
  options.subscriptions = 8;
  auto side = std::make_unique<VirtioSide>(options);
  const auto add = [&](RingGuest& ring, std::uint64_t above) {
    require(side->add_region(RingGuest::first + above, RingGuest::bytes,
                             ring.span(RingGuest::first, RingGuest::bytes).data(), 0) == VIOMMU_OK,
            "a region that is not taken");
  };
  add(guest_.requests, 0);
  add(guest_.reports, events_above);
  return side;
}

void World::step(Input record) {
  const unsigned operation = record.below(16);
  const auto endpoint = record.take<std::uint8_t>();
  if (operation <= 7) return request(operation, endpoint, record);
  finish_burst();
  other(operation, endpoint, record);
  void_uses();
}

void World::other(unsigned operation, std::uint8_t endpoint, Input& record) {
  const auto a = record.take<std::uint8_t>();
  const auto b = record.take<std::uint8_t>();
  const auto c = record.take<std::uint8_t>();
  const auto x = record.take<std::uint64_t>();
  const auto y = record.take<std::uint64_t>();
  switch (operation) {
    case 8:  return translate(endpoint, b, c, x, y);
    case 9:  return post(b, c);
    case 10: return write_config(b, x % 48, y);
    case 11:
      if ((a & 3) == 0) return unplug(endpoint);
      return (a & 3) == 1 ? unset_facts(endpoint) : plug(endpoint, b, c);
    case 12: return transport(endpoint, b, x);
    case 13: return subscribe(endpoint, b, c, x, y);
    case 14: return change_memory(endpoint, b, x);
    default: break;
  }
  switch (endpoint % 6) {
    case 0:  return move(b, static_cast<std::uint16_t>(y), x);
    case 1:  return static_cast<void>(viommu_drop_caches(side_->engine));
    case 2:  return host_fault(a, b, c, x);
    case 3:  return static_cast<void>(get_ready());
    case 4:  return end_uses();
    default: return dump();
  }
}

void World::dump() {
  viommu_dump_options options{};
  options.size = sizeof options;
  std::size_t bytes = 0;
  options.opaque = &bytes;
  options.write = [](void* all, const char*, std::size_t length) { *static_cast<std::size_t*>(all) += length; };
  require(viommu_dump(side_->engine, &options) == VIOMMU_OK && bytes != 0, "a dump");
}

}  // namespace viommu::fuzz::virtio_device
