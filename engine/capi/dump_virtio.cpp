// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu in a dump: the device, who its endpoints are and what each sees, and why a request is answered so.
#include "engine/capi/call_guard.hpp"
#include "engine/capi/dump.hpp"

namespace viommu::capi {
namespace {

using virtio_iommu::EndpointView;
using virtio_iommu::ReservedMemoryKind;
using virtio_iommu::ReservedRegion;
using virtio_iommu::Views;

[[nodiscard]] const char* word_of(EndpointView::Kind kind) noexcept {
  switch (kind) {
    case EndpointView::Kind::unknown:    return "unknown";
    case EndpointView::Kind::detached:   return "blocked";
    case EndpointView::Kind::bypass:     return "bypass";
    case EndpointView::Kind::translated: return "translated";
  }
  return "unknown";
}

void write_range(JsonWriter& json, std::string_view key, std::uint64_t first, std::uint64_t last) noexcept {
  json.open_object(key);
  json.hex("first", first);
  json.hex("last", last);
  json.close_object();
}

/// Into the object that is open. Inside a guard.
void write_view(JsonWriter& json, const virtio_iommu::Device& device, const Views::Seen& seen) noexcept {
  json.hex("endpoint", seen.endpoint.value);
  json.text("view", word_of(seen.kind));
  if (seen.kind == EndpointView::Kind::translated) json.hex("domain", device.domains().at(seen.domain).id().value);
}

void write_endpoints(const Dump& dump, const virtio_iommu::Device& device) noexcept {
  JsonWriter& json = dump.json;
  json.open_array("endpoints");
  std::uint32_t lines = 0;
  bool truncated = false;
  constexpr std::uint32_t ids = 0x10000;
  for (std::uint32_t id = 0; id < ids && !truncated; ++id) {
    const SourceId source{static_cast<std::uint16_t>(id)};
    if (device.seen(source).kind == EndpointView::Kind::unknown) continue;
    truncated = lines++ == dump.most;
    if (truncated) break;
    json.open_object();
    write_source(json, source.value);
    {
      const CallGuard guard{dump.engine.waist, dump.reader};
      write_view(json, device, device.seen(source));
    }
    json.close_object();
  }
  json.close_array();
  if (truncated) json.boolean("truncated", true);
}

}  // namespace

void dump_device(const Dump& dump) noexcept {
  virtio_iommu::Device& device = *dump.engine.front.virtio();
  JsonWriter& json = dump.json;
  json.open_object("device");
  json.hex("offered", device.offered().raw);
  json.hex("negotiated", device.negotiated().raw);
  json.boolean("needs_reset", device.broken());
  const virtio_iommu::ConfigSpace config = device.seen_config();
  json.hex("page_size_mask", config.values().page_size_mask);
  write_range(json, "input", config.values().input.first.value, config.values().input.last.value);
  write_range(json, "domains", config.values().domains.first.value, config.values().domains.last.value);
  json.number("probe_size", config.values().probe_size);
  json.boolean("bypass", config.bypass());
  write_endpoints(dump, device);
  json.close_object();
}

void dump_path(const Dump& dump, const viommu_request& request) noexcept {
  virtio_iommu::Device& device = *dump.engine.front.virtio();
  JsonWriter& json = dump.json;
  json.open_object("explanation");
  const CallGuard guard{dump.engine.waist, dump.reader};
  const Views::Seen seen = device.seen({request.source});
  write_view(json, device, seen);
  if (const ReservedRegion* const region = seen.region_at({request.iova}); region != nullptr) {
    write_range(json, "reserved", region->range.first.value, region->range.last.value);
    json.text("kind", region->kind == ReservedMemoryKind::msi ? "MSI" : "reserved");
  } else if (seen.kind == EndpointView::Kind::translated) {
    core::StoredMapping mapping;
    if (device.find_mapping(seen.domain, {request.iova}, mapping)) {
      write_range(json, "mapping", mapping.range.first.value, mapping.range.last.value);
      json.hex("gpa", mapping.gpa_of({request.iova}).value);
      write_rights(json, mapping.rights);
    } else {
      json.null("mapping");
    }
  }
  json.close_object();
}

}  // namespace viommu::capi
