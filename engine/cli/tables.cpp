// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/tables.hpp"

#include <array>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/vtd/explanation.hpp"
#include "engine/vtd/scalable_layouts.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::cli {
namespace {

using vtd::ContextTable;
using vtd::WordSeen;

constexpr std::array<std::string_view, 4> type_texts{"translate, no ATS", "translate, with ATS", "pass-through",
                                                     "reserved type"};

/// The word of that table, if it was reached and can be read.
std::optional<std::uint64_t> raw_of(const vtd::ContextSeen& seen, ContextTable table) {
  for (const WordSeen& word : seen.seen())
    if (word.table == table) return word.raw;
  return std::nullopt;
}

/// Of a present context entry of legacy mode, whatever else is wrong with it.
std::string meaning_of(vtd::ContextLow low, vtd::ContextHigh high) {
  const auto type = static_cast<std::size_t>(get(low, vtd::context_low::type));
  const unsigned width = get(high, vtd::context_high::width);
  std::string text{type_texts[type]};
  if (width >= 1 && width <= 3)
    text += ", " + std::to_string(vtd::address_bits_of(width)) + " bit in " + std::to_string(vtd::levels_of(width)) +
            " levels";
  else
    text += ", reserved width";
  return text + ", domain " + hex(get(high, vtd::context_high::domain).value);
}

/// Of what a PASID table entry comes to.
std::string meaning_of(const caches::AddressSpaceKey& key) {
  using caches::Interpretation;
  const std::string levels = std::to_string(key.top_level + 1) + " levels";
  std::string text;
  switch (key.interpretation) {
    case Interpretation::pass_through: text = "pass-through"; break;
    case Interpretation::first_stage:  text = "first stage, " + levels; break;
    case Interpretation::second_stage: text = "second stage, " + levels; break;
    case Interpretation::mappings:     text = "mappings"; break;  // of no tables: never read here
    case Interpretation::nested:
      text = "nested, first stage of " + levels + " behind a second of " + std::to_string(key.second_top_level + 1) +
             " levels";
      break;
  }
  return text + ", domain " + hex(key.domain.value);
}

/// "PASID 5, word 0" for a word of a PASID table entry, its own name for any other.
std::string title_of(const WordSeen& word, Pasid pasid) {
  const std::string of_pasid = "PASID " + hex(pasid.value) + ", ";
  switch (word.table) {
    case ContextTable::pasid_entry_0:    return of_pasid + "word 0";
    case ContextTable::pasid_entry_1:    return of_pasid + "word 1";
    case ContextTable::pasid_entry_2:    return of_pasid + "word 2";
    case ContextTable::pasid_entry_rest: return of_pasid + "rest";
    default:                             return std::string{vtd::name_of(word.table)};
  }
}

/// What is only there to be 0 is shown when it is not.
bool is_worth_showing(const WordSeen& word) {
  const bool is_rest =
      word.table == ContextTable::scalable_context_rest || word.table == ContextTable::pasid_entry_rest;
  return !is_rest || word.raw != 0U;
}

}  // namespace

ContextView look_up_context(const Memory& memory, const TableRules& rules, SourceId source,
                            std::optional<Pasid> pasid) {
  const vtd::Capabilities& capabilities = rules.capabilities;
  ContextView view;
  vtd::DmaRequest request;
  request.source = source;
  request.asked = read_only;
  request.has_pasid = pasid.has_value();
  request.pasid = pasid.value_or(Pasid{});
  const vtd::TableMode mode = vtd::mode_in_force(capabilities, get(rules.root, vtd::rtaddr::mode));
  if (const FaultReason reason = vtd::mode_fault(capabilities, mode, request); reason != FaultReason::none) {
    view.verdict = verdict(reason);
    return view;
  }
  vtd::ContextSeen seen;
  const GuestMemory guest = guest_memory(memory);
  vtd::explain_context(guest, capabilities, get(rules.root, vtd::rtaddr::root), mode, request, seen);
  const bool scalable = mode == vtd::TableMode::scalable;
  view.root_words = scalable ? 1 : 2;
  const auto low = raw_of(seen, scalable ? ContextTable::scalable_context_low : ContextTable::context_low);
  const auto high = raw_of(seen, scalable ? ContextTable::scalable_context_high : ContextTable::context_high);
  Pasid by = request.pasid;
  if (scalable && !pasid && high && capabilities.rid_pasid)
    by = get(vtd::ScalableContextHigh{*high}, vtd::scalable_context_high::rid_pasid);
  for (const WordSeen& word : seen.seen()) {
    if (!is_worth_showing(word)) continue;
    ShownWord shown{title_of(word, by), word.at.value, word.raw, {}, {}};
    if (word.raw) shown.fields = fields_of(*word.raw, rows_of(word), word.wrong);
    view.words.push_back(std::move(shown));
  }
  view.present = low && get(vtd::ContextLow{*low}, vtd::context_low::present);
  if (view.present && !scalable && high)
    view.words.back().meaning = meaning_of(vtd::ContextLow{*low}, vtd::ContextHigh{*high});
  view.fault_disable = seen.fault_disable;
  if (seen.fault != FaultReason::none) {
    view.verdict = verdict(seen.fault);
    return view;
  }
  view.key = seen.key;
  if (scalable) view.words.back().meaning = meaning_of(view.key);
  view.verdict.text =
      view.key.interpretation == caches::Interpretation::pass_through ? "passes through untranslated" : "translates";
  return view;
}

std::vector<SourceLine> present_sources(const Memory& memory, const TableRules& rules) {
  std::vector<SourceLine> lines;
  for (unsigned bus = 0; bus < 256; ++bus) {
    const SourceId first{static_cast<std::uint16_t>(bus << 8)};
    for (unsigned devfn = 0; devfn < 256; ++devfn) {
      if (devfn % 128 == 0) {  // another half of a root entry in scalable mode, the same one in legacy mode
        const SourceId at{static_cast<std::uint16_t>(first.value | devfn)};
        const ContextView of_half = look_up_context(memory, rules, at);
        if (of_half.words.size() <= of_half.root_words || !memory.touched(of_half.words[of_half.root_words].gpa)) {
          devfn += 127;  // the root entry leads nowhere
          continue;
        }
      }
      const SourceId source{static_cast<std::uint16_t>(bus << 8 | devfn)};
      ContextView context = look_up_context(memory, rules, source);
      if (context.present) lines.push_back({source, std::move(context)});
    }
  }
  return lines;
}

}  // namespace viommu::cli
