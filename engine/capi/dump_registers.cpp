// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The registers, from one copy of all of them.
#include "engine/capi/dump.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/fault_texts.hpp"
#include "engine/vtd/page_request_layouts.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/register_map.hpp"

namespace viommu::capi {
namespace {

using vtd::RegisterFile;

/// The cells of a register by its place; none: it has no more to say than its value.
[[nodiscard]] std::span<const Row> rows_at(std::uint32_t where, std::uint32_t iotlb) noexcept {
  namespace o = vtd::offset;
  if (where == iotlb) return vtd::iva::rows.list;
  if (where == iotlb + 8) return vtd::iotlb_command::rows.list;
  switch (where) {
    case o::global_status:            return vtd::gsts::rows.list;
    case o::root_table:               return vtd::rtaddr::rows.list;
    case o::context_command:          return vtd::ccmd::rows.list;
    case o::fault_status:             return vtd::fsts::rows.list;
    case o::fault_event_control:
    case o::completion_event_control:
    case o::page_event_control:       return vtd::event_control::rows.list;
    case o::protected_memory_enable:  return vtd::pmen::rows.list;
    case o::queue_head:
    case o::queue_tail:               return vtd::queue_pointer::rows.list;
    case o::queue_address:            return vtd::iqa::rows.list;
    case o::completion_status:        return vtd::ics::rows.list;
    case o::queue_error_record:       return vtd::iqercd::rows.list;
    case o::interrupt_table:          return vtd::irta::rows.list;
    case o::page_queue_head:
    case o::page_queue_tail:          return vtd::page_queue_pointer::rows.list;
    case o::page_queue_address:       return vtd::pqa::rows.list;
    case o::page_request_status:      return vtd::prs::rows.list;
    default:                          return {};
  }
}

/// The records with F set; at most 256.
void write_fault_records(JsonWriter& json, const RegisterFile& file) noexcept {
  const vtd::Capabilities& capabilities = file.capabilities();
  json.open_array("fault_records");
  for (unsigned i = 0; i < capabilities.fault_records; ++i) {
    const std::uint64_t at = capabilities.fault_record_offset + std::uint64_t{16} * i;
    const std::uint64_t low = file.read(at, 8).value;
    const vtd::FaultRecordHigh high{file.read(at + 8, 8).value};
    if (!get(high, vtd::frcd_high::fault)) continue;
    json.open_object();
    json.number("index", i);
    json.hex("low", low);
    json.hex("high", high.raw);
    write_source(json, get(high, vtd::frcd_high::source).value);
    write_fields(json, "fields", high.raw, vtd::frcd_high::rows.list);
    json.text("text", vtd::text_of(get(high, vtd::frcd_high::reason)));
    json.close_object();
  }
  json.close_array();
}

/// What the pointers' one-shot commands have latched.
void write_in_force(JsonWriter& json, const RegisterFile& file) noexcept {
  json.open_object("in_force");
  const vtd::RootPointer root = file.root_pointer();
  json.hex("root_table", root.table.value);
  switch (root.mode) {
    case vtd::TableMode::legacy:    json.text("mode", "legacy"); break;
    case vtd::TableMode::scalable:  json.text("mode", "scalable"); break;
    case vtd::TableMode::abort_dma: json.text("mode", "abort-DMA"); break;
    case vtd::TableMode::reserved:  json.text("mode", "reserved"); break;
  }
  const vtd::InterruptTable interrupts = file.interrupt_table();
  json.hex("interrupt_table", interrupts.table.value);
  json.number("interrupt_entries", interrupts.entries);
  json.close_object();
}

}  // namespace

void dump_registers(const Dump& dump) noexcept {
  const RegisterFile file = dump.engine.front.vtd()->registers();
  JsonWriter& json = dump.json;
  json.open_object("registers");
  for (const vtd::RegisterRow& row : vtd::register_rows(file.capabilities())) {
    json.open_object(row.name);
    json.hex("offset", row.offset);
    const std::uint64_t value = file.read(row.offset, row.is_64_bit ? 8 : 4).value;
    json.hex("value", value);
    if (const auto rows = rows_at(row.offset, file.capabilities().iotlb_offset); !rows.empty())
      write_fields(json, "fields", value, rows);
    json.close_object();
  }
  json.close_object();
  write_in_force(json, file);
  write_fault_records(json, file);
}

}  // namespace viommu::capi
