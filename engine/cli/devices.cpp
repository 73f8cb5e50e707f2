// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/devices.hpp"

#include <algorithm>
#include <vector>

namespace viommu::cli {
namespace {

constexpr std::int32_t no_such_fact = -5;

/// What the host functions answer from.
struct Facts {
  trace::PlugOptions options;
  std::vector<viommu_range> ranges;
};

const Facts& facts_of(void* opaque) noexcept { return *static_cast<const Facts*>(opaque); }

std::int32_t kind(void* opaque, std::uint32_t* value) noexcept {
  *value = facts_of(opaque).options.host_kind == trace::HostKind::smmu ? VIOMMU_HOST_KIND_SMMUV3 : VIOMMU_HOST_KIND_VTD;
  return 0;
}
std::int32_t width(void* opaque, std::uint32_t* bits) noexcept {
  const trace::PlugOptions& options = facts_of(opaque).options;
  if (options.fails == trace::HostFact::width || !options.width) return no_such_fact;
  *bits = *options.width;
  return 0;
}
std::int32_t capabilities(void* opaque, std::uint64_t* cap, std::uint64_t* ecap) noexcept {
  const trace::PlugOptions& options = facts_of(opaque).options;
  if (options.fails == trace::HostFact::caps) return no_such_fact;
  *cap = options.capability.value_or(0);
  *ecap = options.extended_capability.value_or(0);
  return 0;
}
std::int32_t iova_ranges(void* opaque, viommu_range* ranges, std::uint32_t capacity, std::uint32_t* count) noexcept {
  const Facts& facts = facts_of(opaque);
  if (facts.options.fails == trace::HostFact::ranges) return no_such_fact;
  *count = static_cast<std::uint32_t>(facts.ranges.size());
  std::copy_n(facts.ranges.begin(), std::min(capacity, *count), ranges);
  return 0;
}
std::int32_t page_sizes(void* opaque, std::uint64_t* mask) noexcept {
  const trace::PlugOptions& options = facts_of(opaque).options;
  if (options.fails == trace::HostFact::pages || !options.page_sizes) return no_such_fact;
  *mask = *options.page_sizes;
  return 0;
}

/// A fact that the line does not have is one that the backend does not have, unless it is to fail.
viommu_host_facts table_of(Facts& facts) {
  const trace::PlugOptions& options = facts.options;
  const auto is_there = [&](bool said, trace::HostFact fact) { return said || options.fails == fact; };
  const bool modern = options.backend == trace::Backend::iommufd;
  viommu_host_facts table{};
  table.size = sizeof table;
  table.opaque = &facts;
  table.backend = modern ? VIOMMU_BACKEND_IOMMUFD : VIOMMU_BACKEND_VFIO;
  if (modern) table.kind = kind;
  const bool has_capabilities = options.capability || options.extended_capability;
  if (modern && is_there(has_capabilities, trace::HostFact::caps)) table.capabilities = capabilities;
  if (is_there(options.width.has_value(), trace::HostFact::width)) table.width = width;
  if (is_there(!facts.ranges.empty(), trace::HostFact::ranges)) table.iova_ranges = iova_ranges;
  if (is_there(options.page_sizes.has_value(), trace::HostFact::pages)) table.page_sizes = page_sizes;
  return table;
}

trace::PlugOptions options_of(const PluggedDevice& device) {
  trace::PlugOptions options;
  static_cast<void>(parse_plug_options(device.pairs, options));  // the parser of the line has looked at them
  return options;
}

std::uint32_t kind_of(trace::DeviceKind kind) noexcept {
  switch (kind) {
    case trace::DeviceKind::host:     return VIOMMU_DEVICE_HOST;
    case trace::DeviceKind::mediated: return VIOMMU_DEVICE_MEDIATED;
    default:                          return VIOMMU_DEVICE_EMULATED;
  }
}

std::uint8_t ability_of(trace::Ability ability) noexcept {
  switch (ability) {
    case trace::Ability::able:    return VIOMMU_ABILITY_ABLE;
    case trace::Ability::notable: return VIOMMU_ABILITY_NOT_ABLE;
    case trace::Ability::unknown: break;
  }
  return VIOMMU_ABILITY_UNKNOWN;
}
std::uint8_t wish_of(trace::Wish wish) noexcept {
  switch (wish) {
    case trace::Wish::translate: return VIOMMU_WISH_TRANSLATE;
    case trace::Wish::bypass:    return VIOMMU_WISH_BYPASS;
    case trace::Wish::unset:     break;
  }
  return VIOMMU_WISH_UNSET;
}

}  // namespace

viommu_result add_device(viommu_engine* engine, const PluggedDevice& device, viommu_refusal& refusal) {
  Facts facts{options_of(device), {}};
  trace::AddressRange range;
  for (std::string_view list = facts.options.ranges; next_range(list, range);)
    facts.ranges.push_back({range.first, range.last});
  const viommu_host_facts host = table_of(facts);
  viommu_range reserved{};
  viommu_device added{};
  added.size = sizeof added;
  added.source = device.source;
  added.kind = kind_of(device.kind);
  if (device.bypassed || facts.options.bypassed) added.flags |= VIOMMU_DEVICE_BYPASSED;
  if (device.kind == trace::DeviceKind::virtio) added.flags |= VIOMMU_DEVICE_VIRTIO;
  if (facts.options.platform_offered) added.flags |= VIOMMU_DEVICE_OFFERS_PLATFORM;
  added.ability = ability_of(facts.options.ability);
  added.wish = wish_of(facts.options.wish);
  if (facts.options.alias) {
    added.flags |= VIOMMU_DEVICE_HAS_ALIAS;
    added.alias = *facts.options.alias;
  }
  if (facts.options.endpoint) {
    added.flags |= VIOMMU_DEVICE_ENDPOINT;
    added.endpoint = *facts.options.endpoint;
  }
  if (facts.options.reserved) {
    reserved = {facts.options.reserved->first, facts.options.reserved->last};
    added.reserved_count = 1;
    added.reserved_memory = &reserved;
  }
  if (device.kind == trace::DeviceKind::host) added.facts = &host;
  refusal = {};
  refusal.size = sizeof refusal;
  return viommu_device_add(engine, &added, &refusal);
}

}  // namespace viommu::cli
