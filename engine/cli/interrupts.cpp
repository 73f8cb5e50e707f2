// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/interrupts.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "engine/base/bits.hpp"
#include "engine/cli/inspect_command.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/trace/fields.hpp"
#include "engine/vtd/interrupt_entry.hpp"
#include "engine/vtd/interrupt_layouts.hpp"

namespace viommu::cli {
namespace {

namespace low_row = vtd::interrupt_entry_low;
namespace high_row = vtd::interrupt_entry_high;

std::string_view delivery_text(vtd::DeliveryMode mode) {
  switch (mode) {
    case vtd::DeliveryMode::fixed:    return "fixed";
    case vtd::DeliveryMode::lowest:   return "lowest priority";
    case vtd::DeliveryMode::smi:      return "SMI";
    case vtd::DeliveryMode::nmi:      return "NMI";
    case vtd::DeliveryMode::init:     return "INIT";
    case vtd::DeliveryMode::external: return "ExtINT";
  }
  return "reserved delivery";
}

std::string source_text(vtd::InterruptEntryHigh high) {
  const SourceId source = get(high, high_row::source);
  const unsigned qualifier = get(high, high_row::qualifier);
  switch (get(high, high_row::check)) {
    case vtd::SourceCheck::none: return "any source";
    case vtd::SourceCheck::source:
      return "from " + text_of(source) +
             (qualifier == 0 ? "" : ", " + std::to_string(qualifier) + " bits of the function not compared");
    case vtd::SourceCheck::bus_range: return "from bus " + hex(source.bus(), 2) + " to " + hex(source.devfn(), 2);
    case vtd::SourceCheck::reserved:  return "reserved SVT";
  }
  return "";
}

std::string meaning_of(const vtd::InterruptEntry& entry, bool extended) {
  const std::string vector = "vector " + hex(get(entry.low, low_row::vector));
  if (get(entry.low, low_row::posted))
    return "posted: " + vector + " in the descriptor at " + hex(vtd::descriptor_of(entry).value) +
           (get(entry.low, low_row::urgent) ? ", urgent, " : ", ") + source_text(entry.high);
  const std::uint32_t destination =
      extended ? get(entry.low, low_row::destination) : std::uint32_t{get(entry.low, low_row::xapic)};
  return "remapped: " + vector + (get(entry.low, low_row::logical) ? " to logical " : " to ") + hex(destination) +
         ", " + std::string{delivery_text(get(entry.low, low_row::delivery))} +
         (get(entry.low, low_row::level) ? ", level, " : ", edge, ") + source_text(entry.high);
}

std::span<const Row> rows_of_low(bool posted, bool extended) {
  if (posted) return low_row::posted_rows.list;
  if (extended) return low_row::remapped_rows.list;
  return low_row::xapic_rows.list;
}
std::uint64_t reserved_in(std::span<const Row> rows) {
  std::uint64_t mask = 0;
  for (const Row& row : rows)
    if (row.rule == Rule::reserved) mask |= row.mask();
  return mask;
}

ShownWord shown(std::string title, std::uint64_t gpa, std::optional<std::uint64_t> raw, std::span<const Row> rows,
                bool present) {
  ShownWord word{std::move(title), gpa, raw, {}, {}};
  if (raw) word.fields = fields_of(*raw, rows, present ? reserved_in(rows) : 0);
  return word;
}

InterruptView entry_at(const GuestMemory& guest, const vtd::Capabilities& capabilities, std::uint64_t gpa,
                       std::uint32_t index, bool extended) {
  InterruptView view;
  view.index = index;
  const std::optional pair = guest.load_u128({gpa});
  const vtd::InterruptEntry entry{{pair ? pair->low : 0}, {pair ? pair->high : 0}};
  view.present = get(entry.low, low_row::present);
  view.posted = get(entry.low, low_row::posted);
  const auto low = pair ? std::optional{entry.low.raw} : std::nullopt;
  const auto high = pair ? std::optional{entry.high.raw} : std::nullopt;
  const std::string name = "entry " + hex(index);
  view.low = shown(name + ", low", gpa, low, rows_of_low(view.posted, extended), view.present);
  const std::span<const Row> of_high = view.posted ? std::span<const Row>{high_row::posted_rows.list}
                                                   : std::span<const Row>{high_row::remapped_rows.list};
  view.high = shown(name + ", high", gpa + 8, high, of_high, view.present);
  if (!pair) {
    view.verdict = verdict(FaultReason::interrupt_table_unreadable);
  } else if (!view.present) {
    view.verdict = verdict(FaultReason::interrupt_entry_not_present);
  } else if (!vtd::well_formed(entry, capabilities, extended)) {
    view.verdict = verdict(FaultReason::interrupt_entry_invalid);
  } else {
    view.verdict.text = meaning_of(entry, extended);
  }
  return view;
}

bool hex_index(std::string_view text, std::uint32_t& index) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  std::string lower{text};
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  trace::Fields fields{lower, true};
  const std::uint64_t value = fields.hex({}, 16);
  fields.end();
  index = low_half(value);
  return !fields.error();
}

}  // namespace

bool parse_interrupts(std::string_view text, std::optional<InterruptRange>& range) {
  InterruptRange parsed;
  if (!text.empty()) {
    parsed.all = true;
    const std::size_t dash = text.find('-');
    if (!hex_index(text.substr(0, dash), parsed.first)) return false;
    parsed.last = parsed.first;
    if (dash != std::string_view::npos && !hex_index(text.substr(dash + 1), parsed.last)) return false;
    if (parsed.last < parsed.first) return false;
  }
  range = parsed;
  return true;
}

InterruptTableView interrupt_entries(const Memory& memory, const vtd::Capabilities& capabilities,
                                     vtd::InterruptTableAddress in_force, const InterruptRange& range) {
  InterruptTableView view;
  view.table = get(in_force, vtd::irta::table).value;
  view.entries = low_half(low_bits(get(in_force, vtd::irta::size) + 1) + 1);
  view.extended = get(in_force, vtd::irta::extended);
  const GuestMemory guest = guest_memory(memory);
  for (std::uint32_t index = range.first; index <= range.last && index < view.entries; ++index) {  // at most 65,536
    const std::uint64_t gpa = view.table + std::uint64_t{index} * vtd::interrupt_entry_bytes;
    if (!range.all && !memory.touched(gpa)) continue;
    InterruptView entry = entry_at(guest, capabilities, gpa, index, view.extended);
    if (range.all || entry.present) view.list.push_back(std::move(entry));
  }
  return view;
}

}  // namespace viommu::cli
