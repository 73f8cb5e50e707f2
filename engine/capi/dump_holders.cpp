// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who may keep a completion back: readers inside guards, and open holds.
#include <array>

#include "engine/capi/dump.hpp"
#include "engine/core/holds.hpp"

namespace viommu::capi {
namespace {

void write_readers(const Dump& dump) noexcept {
  const core::Waist& waist = dump.engine.waist;
  JsonWriter& json = dump.json;
  std::uint32_t left = dump.most;
  bool truncated = false;
  json.open_array("readers");
  for (std::size_t slot = 0; slot < waist.reader_slots() && !truncated; ++slot) {
    const core::Waist::ReaderSeen seen = waist.peek_reader(slot);
    const bool is_own = waist.is_slot_of(dump.reader, slot);
    if (is_own || (!seen.in_use && !seen.inside)) continue;
    truncated = left == 0;
    if (truncated) break;
    --left;
    json.open_object();
    json.number("slot", slot);
    json.boolean("transient", seen.transient);
    json.boolean("in_guard", seen.inside);
    json.number("guards", seen.guards);
    json.close_object();
  }
  json.close_array();
  json.boolean("readers_truncated", truncated);
}

void write_hold(JsonWriter& json, const core::OpenHold& hold, std::uint64_t now_ns, bool has_clock) noexcept {
  json.open_object();
  json.hex("handle", hold.handle);
  json.hex("cookie", hold.cookie);
  if (has_clock) json.number("age_ns", now_ns < hold.since_ns ? 0 : now_ns - hold.since_ns);
  json.number("since_ticket", hold.epoch);
  json.boolean("reported", hold.reported);
  write_source(json, hold.usage.source.value);
  json.hex("domain", hold.usage.domain.value);
  if (hold.usage.pasid) json.hex("entry_pasid", hold.usage.pasid->value);
  json.hex("first", hold.usage.range.first.value);
  json.hex("last", hold.usage.range.last.value);
  json.close_object();
}

void write_holds(const Dump& dump) noexcept {
  JsonWriter& json = dump.json;
  const core::Host& host = dump.engine.host;
  const std::uint64_t now_ns = host.now_ns();
  std::array<core::OpenHold, 32> holds;
  std::size_t slot = 0;
  std::uint32_t left = dump.most;
  bool truncated = false;
  json.open_array("holds");
  for (std::size_t found = holds.size(); found == holds.size() && !truncated;) {  // ends: `slot` grows
    found = dump.engine.waist.holds().copy_open(slot, holds);
    for (std::size_t i = 0; i < found && !truncated; ++i) {
      truncated = left == 0;
      if (truncated) break;
      --left;
      write_hold(json, holds[i], now_ns, host.has_clock());
    }
  }
  json.close_array();
  json.boolean("holds_truncated", truncated);
}

}  // namespace

void dump_holders(const Dump& dump) noexcept {
  JsonWriter& json = dump.json;
  json.open_object("holders");
  json.number("tickets_issued", dump.engine.waist.tickets_issued());
  json.number("tickets_passed", dump.engine.waist.tickets_passed());
  write_readers(dump);
  write_holds(dump);
  json.close_object();
}

}  // namespace viommu::capi
