// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/inspect_command.hpp"

#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/input.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/trace_file.hpp"
#include "engine/trace/fields.hpp"
#include "engine/vtd/fault_layouts.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/register_map.hpp"

namespace viommu::cli {
namespace {

/// As in a trace, but a person may also write capitals.
bool hex_number(std::string_view text, std::uint64_t& value) {
  std::string lower{text};
  for (char& c : lower)
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  trace::Fields fields{lower, true};
  value = fields.hex({}, 64);
  fields.end();
  return !fields.error();
}

template <class Layout, class Rows>
ShownRegister shown(Engine& engine, std::string_view name, std::uint32_t offset, const Rows& rows) {
  constexpr unsigned size = sizeof(Word<Layout>);
  ShownRegister reg{name, offset, 2 * size, engine.mmio_read(offset, size), {}, {}};
  reg.fields = fields_of(reg.raw, rows.list, 0);
  return reg;
}

std::string_view mode_text(vtd::TableMode mode) {
  switch (mode) {
    case vtd::TableMode::legacy:    return "legacy mode";
    case vtd::TableMode::scalable:  return "scalable mode";
    case vtd::TableMode::reserved:  return "reserved mode";
    case vtd::TableMode::abort_dma: return "abort-DMA mode";
  }
  return "";
}

std::vector<ShownRegister> registers_of(Engine& engine, const TableRules& rules) {
  namespace offset = vtd::offset;
  std::vector<ShownRegister> list;
  list.push_back(shown<vtd::GlobalStatus>(engine, "GSTS", offset::global_status, vtd::gsts::rows));
  list.push_back(shown<vtd::RootTableAddress>(engine, "RTADDR", offset::root_table, vtd::rtaddr::rows));
  list.back().note = list.back().raw == rules.root.raw ? std::string{mode_text(get(rules.root, vtd::rtaddr::mode))}
                                                       : "in force: " + hex(rules.root.raw) + ", " +
                                                             std::string{mode_text(get(rules.root, vtd::rtaddr::mode))};
  list.push_back(shown<vtd::FaultStatusRegister>(engine, "FSTS", offset::fault_status, vtd::fsts::rows));
  list.push_back(shown<vtd::EventControl>(engine, "FECTL", offset::fault_event_control, vtd::event_control::rows));
  if (rules.capabilities.queue) {
    list.push_back(shown<vtd::QueueAddress>(engine, "IQA", offset::queue_address, vtd::iqa::rows));
    list.push_back(shown<vtd::QueuePointer>(engine, "IQH", offset::queue_head, vtd::queue_pointer::rows));
    list.push_back(shown<vtd::QueuePointer>(engine, "IQT", offset::queue_tail, vtd::queue_pointer::rows));
    list.push_back(shown<vtd::QueueErrorRecord>(engine, "IQERCD", offset::queue_error_record, vtd::iqercd::rows));
  }
  if (rules.capabilities.interrupt_remapping)
    list.push_back(shown<vtd::InterruptTableAddress>(engine, "IRTA", offset::interrupt_table, vtd::irta::rows));
  for (unsigned i = 0; i < rules.capabilities.fault_records; ++i) {
    const std::uint32_t at = rules.capabilities.fault_record_offset + 16 * i;
    ShownRegister high = shown<vtd::FaultRecordHigh>(engine, "FRCD high", at + 8, vtd::frcd_high::rows);
    if (!get(vtd::FaultRecordHigh{high.raw}, vtd::frcd_high::fault)) continue;
    list.push_back(shown<vtd::FaultRecordLow>(engine, "FRCD low", at, vtd::frcd_low::rows));
    const vtd::FaultRecordHigh record{high.raw};
    high.note = text_of(get(record, vtd::frcd_high::source)) + ": " +
                std::string{reason_text(static_cast<std::uint8_t>(get(record, vtd::frcd_high::reason)))};
    list.push_back(std::move(high));
  }
  return list;
}

/// Follows which tables are in force: RTADDR and IRTA count from the SRTP and the SIRTP command on.
class TablesInForce {
 public:
  void after(const trace::Event& event, Engine& engine) {
    if (const auto* write = std::get_if<trace::RegisterWrite>(&event)) {
      // The command may be any byte of the register's that holds it.
      const bool command = write->offset >= vtd::offset::global_command &&
                           write->offset <= vtd::offset::global_command + 3 &&
                           write->offset + write->size > vtd::offset::global_command + 3;
      if (!command) return;
      const unsigned shift = 8 * (write->offset - vtd::offset::global_command);
      const vtd::GlobalCommand gcmd{low_half(write->value << shift)};
      if (get(gcmd, vtd::gcmd::srtp)) root_ = {engine.mmio_read(vtd::offset::root_table, 8)};
      if (get(gcmd, vtd::gcmd::sirtp)) interrupts_ = {engine.mmio_read(vtd::offset::interrupt_table, 8)};
    } else if (std::holds_alternative<trace::Reset>(event) || std::holds_alternative<trace::MachineReset>(event)) {
      root_ = {};
      interrupts_ = {};
    }
  }
  [[nodiscard]] vtd::RootTableAddress root() const noexcept { return root_; }
  [[nodiscard]] vtd::InterruptTableAddress interrupts() const noexcept { return interrupts_; }

 private:
  vtd::RootTableAddress root_;
  vtd::InterruptTableAddress interrupts_;
};

}  // namespace

bool parse_source(std::string_view text, std::optional<SourceId>& source) {
  std::uint64_t bus = 0;
  std::uint64_t device = 0;
  std::uint64_t function = 0;
  const std::size_t colon = text.find(':');
  const std::size_t dot = text.find('.');
  if (colon == std::string_view::npos && dot == std::string_view::npos) {
    if (!hex_number(text, bus) || bus > 0xffff) return false;
    source = SourceId{static_cast<std::uint16_t>(bus)};
    return true;
  }
  if (colon == std::string_view::npos || dot == std::string_view::npos || dot < colon) return false;
  if (!hex_number(text.substr(0, colon), bus) || !hex_number(text.substr(colon + 1, dot - colon - 1), device) ||
      !hex_number(text.substr(dot + 1), function))
    return false;
  if (bus > 0xff || device > 0x1f || function > 7) return false;
  source = SourceId{static_cast<std::uint16_t>(bus << 8 | device << 3 | function)};
  return true;
}

bool parse_address(std::string_view text, std::optional<Iova>& address) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  Iova value;
  if (!hex_number(text, value.value)) return false;
  address = value;
  return true;
}

bool parse_pasid(std::string_view text, std::optional<Pasid>& pasid) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  std::uint64_t number = 0;
  if (!hex_number(text, number) || number > low_bits(20)) return false;
  pasid = Pasid{low_half(number)};
  return true;
}

std::string text_of(SourceId source) {
  return hex(source.bus(), 2) + ":" + hex(std::uint64_t{source.devfn()} >> 3, 2) + "." + hex(source.devfn() & 7u);
}

Inspection inspect_text(std::string_view text, const InspectCommand& command) {
  Inspection result;
  Replayer replayer{{.explicit_ram = has_ram_line(text)}};
  EventReader events{text};
  TablesInForce tables;
  trace::Event event;
  while (events.line() < command.line && events.next(event) && replayer.feed(event, events.line())) {
    if (replayer.engine() != nullptr) tables.after(event, *replayer.engine());
  }
  result.error = events.error() ? events.error() : replayer.report().error;
  if (result.error) return result;
  if (command.line == 0 || events.line() < command.line) {
    result.error = TraceError{
        0, "--at " + std::to_string(command.line) + ": the trace has the lines 1 to " + std::to_string(events.line())};
    return result;
  }
  replayer.pause();
  Engine* engine = replayer.engine();
  if (engine == nullptr) {
    result.error = TraceError{command.line, "there is no unit yet at this line"};
    return result;
  }
  tables.after(event, *engine);  // a write that was still waiting for its words

  TableRules rules;
  const trace::VtdConfiguration& configuration = replayer.configuration();
  rules.capabilities = vtd::Capabilities::decode(configuration.version, configuration.capability,
                                                 configuration.extended_capability, replayer.host_address_width());
  rules.root = tables.root();
  result.line = command.line;
  result.event = text_of(event);
  result.registers = registers_of(*engine, rules);
  result.translating = get(vtd::GlobalStatus{low_half(result.registers.front().raw)}, vtd::gsts::tes);
  result.source = command.source;
  result.iova = command.iova;
  const Memory& memory = replayer.memory();
  if (command.interrupts)
    result.interrupts = interrupt_entries(memory, rules.capabilities, tables.interrupts(), *command.interrupts);
  if (!command.source) {
    result.sources = present_sources(memory, rules);
    return result;
  }
  result.context = look_up_context(memory, rules, *command.source, command.pasid);
  if (command.iova) result.walk = walk(memory, rules, result.context, *command.iova);
  result.mapped = mapped_ranges(memory, rules, result.context, command.ranges);
  return result;
}

int inspect(const InspectCommand& command, Streams streams) {
  const Text text = read_text(command.file, streams.in);
  Inspection inspection;
  if (text.error.empty())
    inspection = inspect_text(text.bytes, command);
  else
    inspection.error = TraceError{0, text.error};
  if (command.json)
    print_json(inspection, command.file, streams.out);
  else
    print_text(inspection, command.file, streams);
  return inspection.error ? 2 : 0;
}

}  // namespace viommu::cli
