// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtqueue/ring.hpp"

#include <array>
#include <bit>

#include "engine/virtqueue/descriptor.hpp"
#include "engine/virtqueue/split_layout.hpp"

namespace viommu::virtqueue {
namespace {

struct Area {
  Gpa first;
  std::uint64_t alignment = 0;
  std::uint64_t size_bytes = 0;
};

[[nodiscard]] std::array<Area, 3> areas_of(const Config& config) noexcept {
  const Area descriptors{config.descriptor_area, descriptor_bytes, std::uint64_t{descriptor_bytes} * config.size};
  if (config.features.packed) {
    constexpr std::uint64_t event_bytes = sizeof(EventSuppression);
    return {
        {descriptors, {config.driver_area, event_bytes, event_bytes}, {config.device_area, event_bytes, event_bytes}}};
  }
  return {{descriptors,
           {config.driver_area, 2, split::available_ring_bytes(config.size)},
           {config.device_area, 4, split::used_ring_bytes(config.size)}}};
}

}  // namespace

ConfigProblem problem_of(const Config& config) noexcept {
  if (config.size == 0 || config.size > most_entries) return ConfigProblem::size;
  if (!config.features.packed && !std::has_single_bit(config.size)) return ConfigProblem::size;
  const std::array<Area, 3> areas = areas_of(config);
  for (const Area& area : areas)
    if (area.first.value % area.alignment != 0) return ConfigProblem::alignment;
  for (const Area& area : areas)
    if (area.first + (area.size_bytes - 1) < area.first) return ConfigProblem::address;
  return ConfigProblem::none;
}

bool possible(const Config& config, const State& state) noexcept {
  if (config.features.packed) return state.next_available < config.size && state.next_used < config.size;
  const auto open = static_cast<std::uint16_t>(state.next_available - state.next_used);
  return open <= config.size && state.available_wrap && state.used_wrap;
}

}  // namespace viommu::virtqueue
