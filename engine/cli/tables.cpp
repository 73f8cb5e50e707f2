// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/tables.hpp"

#include <array>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::cli {
namespace {

constexpr std::array<std::string_view, 4> type_texts{"translate, no ATS", "translate, with ATS", "pass-through",
                                                     "reserved type"};

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

}  // namespace

ContextView look_up_context(const Memory& memory, const TableRules& rules, SourceId source,
                            std::optional<Pasid> pasid) {
  const vtd::Capabilities& capabilities = rules.capabilities;
  ContextView view;
  switch (get(rules.root, vtd::rtaddr::mode)) {
    case vtd::TableMode::legacy: break;
    case vtd::TableMode::scalable:
      if (capabilities.scalable_mode) return look_up_pasid(memory, rules, source, pasid);
      view.verdict = verdict(FaultReason::root_address_invalid);
      return view;
    case vtd::TableMode::abort_dma:
      view.verdict = verdict(capabilities.abort_mode ? FaultReason::aborted : FaultReason::root_address_invalid);
      return view;
    case vtd::TableMode::reserved: view.verdict = verdict(FaultReason::root_address_invalid); return view;
  }
  if (pasid) {
    view.verdict = verdict(FaultReason::pasid_in_legacy_mode);
    return view;
  }
  vtd::RootLow root_low{};
  vtd::RootHigh root_high{};
  const std::uint64_t root_gpa =
      get(rules.root, vtd::rtaddr::root).value + std::uint64_t{source.bus()} * vtd::root_entry_bytes;
  view.words.push_back(word_at(memory, "root entry, low", root_gpa, vtd::root_low::rows, root_low));
  view.words.push_back(word_at(memory, "root entry, high", root_gpa + 8, vtd::root_high::rows, root_high));
  if (!view.words[0].raw || !view.words[1].raw) {
    view.verdict = verdict(FaultReason::root_unreadable);
    return view;
  }
  if (!get(root_low, vtd::root_low::present)) {
    view.verdict = verdict(FaultReason::root_not_present);
    return view;
  }
  const std::uint64_t root_reserved = vtd::root_low_reserved(capabilities.host_address_width).raw;
  const std::uint64_t root_high_reserved = reserved_mask(vtd::root_high::rows);
  view.words[0].fields = fields_of(root_low, vtd::root_low::rows, root_reserved);
  view.words[1].fields = fields_of(root_high, vtd::root_high::rows, root_high_reserved);
  if ((root_low.raw & root_reserved) != 0 || (root_high.raw & root_high_reserved) != 0) {
    view.verdict = verdict(FaultReason::root_reserved);
    return view;
  }

  vtd::ContextLow low{};
  vtd::ContextHigh high{};
  const std::uint64_t gpa =
      get(root_low, vtd::root_low::context_table).value + std::uint64_t{source.devfn()} * vtd::context_entry_bytes;
  view.words.push_back(word_at(memory, "context entry, low", gpa, vtd::context_low::rows, low));
  view.words.push_back(word_at(memory, "context entry, high", gpa + 8, vtd::context_high::rows, high));
  if (!view.words[2].raw || !view.words[3].raw) {
    view.verdict = verdict(FaultReason::context_unreadable);
    return view;
  }
  view.fault_disable = get(low, vtd::context_low::fault_disable);
  view.present = get(low, vtd::context_low::present);
  if (!view.present) {
    view.verdict = verdict(FaultReason::context_not_present);
    return view;
  }
  const vtd::TranslationType type = get(low, vtd::context_low::type);
  const std::uint64_t low_reserved = vtd::context_low_reserved(capabilities.host_address_width, type).raw;
  const std::uint64_t high_reserved = vtd::context_high_reserved(capabilities.domain_id_bits).raw;
  view.words[2].fields = fields_of(low, vtd::context_low::rows, low_reserved);
  view.words[3].fields = fields_of(high, vtd::context_high::rows, high_reserved);
  view.words[3].meaning = meaning_of(low, high);
  if ((low.raw & low_reserved) != 0 || (high.raw & high_reserved) != 0) {
    view.verdict = verdict(FaultReason::context_reserved);
    return view;
  }
  const unsigned width = get(high, vtd::context_high::width);
  const bool width_offered = capabilities.supports_width(width);
  const bool type_offered = type == vtd::TranslationType::untranslated_only ||
                            (type == vtd::TranslationType::with_device_tlb && capabilities.device_tlb) ||
                            (type == vtd::TranslationType::pass_through && capabilities.pass_through);
  view.pass_through = type == vtd::TranslationType::pass_through;
  if (!width_offered || !type_offered || (view.pass_through && width != capabilities.largest_width)) {
    view.pass_through = false;
    view.verdict = verdict(FaultReason::context_invalid);
    return view;
  }
  if (!view.pass_through) {
    view.table = get(low, vtd::context_low::root).value;
    view.levels = vtd::levels_of(width);
    view.last = capabilities.last_input_address(width);
  }
  view.verdict.text = view.pass_through ? "passes through untranslated" : "translates";
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
