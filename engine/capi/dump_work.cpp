// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the unit has under way, and for whom it waits.
#include <array>

#include "engine/capi/dump.hpp"
#include "engine/vtd/work_seen.hpp"

namespace viommu::capi {
namespace {

using vtd::Commands;

void write_commands(JsonWriter& json, const Commands& commands) noexcept {
  const auto level = [&](std::string_view name, std::optional<bool> to) {
    if (to) json.boolean(name, *to);
  };
  json.open_object("commands");
  if (commands.write_buffer) json.boolean("WBF", true);
  if (commands.root_pointer) json.boolean("SRTP", true);
  if (commands.interrupt_table) json.boolean("SIRTP", true);
  level("CFI", commands.compatibility_format);
  level("QIE", commands.queue);
  level("IRE", commands.interrupt_remapping);
  level("TE", commands.translation);
  level("EPM", commands.protected_memory);
  if (commands.context) json.hex("CIRG", static_cast<std::uint64_t>(commands.context->granularity));
  if (commands.iotlb) json.hex("IIRG", static_cast<std::uint64_t>(commands.iotlb->granularity));
  json.close_object();
}

void write_wait(JsonWriter& json, const vtd::WaitSeen& open) noexcept {
  json.open_object();
  json.number("ticket", open.ticket);
  json.boolean("interrupt", open.wait.interrupt);
  json.boolean("status_write", open.wait.status_write);
  json.boolean("fence", open.wait.fence);
  if (open.wait.status_write) {
    json.hex("status_address", open.wait.status_address.value);
    json.hex("status_data", open.wait.status_data);
  }
  json.hex("head", open.head);
  json.number("device_invalidations_up_to", open.devices);
  json.close_object();
}

void write_devices(JsonWriter& json, const vtd::WorkSeen& seen) noexcept {
  json.open_array("device_invalidations");
  for (std::size_t i = 0; i < seen.device_count; ++i) {
    const vtd::DeviceInvalidationSeen& open = seen.devices[i];
    json.open_object();
    json.number("number", open.number);
    json.boolean("asked", open.handle != 0);
    json.hex("source", open.what.source.value);
    if (open.what.pasid) json.hex("pasid", open.what.pasid->value);
    json.boolean("every_pasid", open.what.every_pasid);
    json.hex("first", open.what.range.first.value);
    json.hex("last", open.what.range.last.value);
    if (open.handle != 0) json.hex("ticket", open.handle);
    if (open.deadline_ns != ~std::uint64_t{0}) json.number("deadline_ns", open.deadline_ns);
    json.close_object();
  }
  json.close_array();
}

void write_queue(JsonWriter& json, const vtd::QueueSeen& queue) noexcept {
  json.open_object("queue");
  json.boolean("enabled", queue.enabled);
  json.boolean("may_run", queue.may_run);
  json.hex("base", queue.geometry.base.value);
  json.number("entries", queue.geometry.entries());
  json.number("entry_bytes", queue.geometry.entry_bytes);
  json.hex("head", queue.head);
  json.hex("tail", queue.tail);
  json.close_object();
}

void write_scan(JsonWriter& json, const core::Waist::ScanSeen& scan) noexcept {
  if (!scan.under_way) return json.null("scan");
  json.open_object("scan");
  json.number("up_to_ticket", scan.target);
  json.open_array("waits_for_readers");
  for (std::size_t i = 0; i < scan.count; ++i) json.number({}, scan.slots[i]);
  json.close_array();
  json.boolean("truncated", scan.truncated);
  json.close_object();
}

void write_regions(const Dump& dump) noexcept {
  core::Waist::RegionsSeen regions;
  dump.engine.waist.peek_removed_regions(regions);
  dump.json.open_array("regions_being_removed");
  for (std::size_t i = 0; i < regions.count; ++i) {
    dump.json.open_object();
    dump.json.number("ticket", regions.removed[i].ticket);
    dump.json.hex("cookie", regions.removed[i].cookie);
    dump.json.close_object();
  }
  dump.json.close_array();
}

}  // namespace

void dump_work(const Dump& dump) noexcept {
  vtd::WorkSeen seen;
  const bool busy = !dump.engine.front.vtd()->describe_work(seen);
  JsonWriter& json = dump.json;
  json.open_object("work");
  json.boolean("busy", busy);
  if (!busy) {
    json.open_object("asked");
    write_commands(json, seen.asked);
    json.close_object();
    json.open_array("begun");
    for (std::size_t i = 0; i < seen.begun_count; ++i) {
      json.open_object();
      json.number("ticket", seen.begun[i].ticket);
      write_commands(json, seen.begun[i].commands);
      json.close_object();
    }
    json.close_array();
    json.open_array("waits");
    for (std::size_t i = 0; i < seen.wait_count; ++i) write_wait(json, seen.waits[i]);
    json.close_array();
    json.number("waits_open", seen.waits_open);
    if (seen.waits_open != 0) json.hex("fetched", seen.fetched);
    write_devices(json, seen);
    write_queue(json, seen.queue);
    json.boolean("invalidated_since_wait", seen.invalidated_since_wait);
    write_scan(json, seen.scan);
  }
  const vtd::PageRequests::Figures pages = dump.engine.front.vtd()->pages().figures();
  json.open_object("page_requests");
  json.number("posted", pages.posted);
  json.number("groups_waiting", pages.groups);
  json.close_object();
  write_regions(dump);
  json.close_object();
}

}  // namespace viommu::capi
