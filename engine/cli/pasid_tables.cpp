// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The scalable-mode part of tables.hpp: what is shown is read word by word, what it comes to is the unit's own walk.
#include <cstddef>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/tables.hpp"
#include "engine/vtd/pasid_walk.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::cli {
namespace {

std::int32_t read(void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) noexcept {
  const auto& memory = *static_cast<const Memory*>(opaque);
  return memory.read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
}

std::string width_text(unsigned levels) { return std::to_string(levels) + " levels"; }

std::string meaning_of(const vtd::PasidContext& context) {
  std::string text;
  const unsigned first_levels = context.five_levels ? 5 : 4;
  switch (context.translation) {
    case vtd::PasidTranslation::pass_through: text = "pass-through"; break;
    case vtd::PasidTranslation::first_stage:  text = "first stage, " + width_text(first_levels); break;
    case vtd::PasidTranslation::second_stage:
      text = "second stage, " + width_text(vtd::levels_of(context.width));
      break;
    case vtd::PasidTranslation::nested:
      text = "nested, first stage of " + width_text(first_levels) + " behind a second of " +
             width_text(vtd::levels_of(context.width));
      break;
  }
  return text + ", domain " + hex(context.domain.value);
}

/// Reads on until something is not present, or cannot be read.
void show_words(ContextView& view, const Memory& memory, const TableRules& rules, SourceId source,
                std::optional<Pasid> pasid) {
  namespace low_row = vtd::scalable_context_low;
  namespace high_row = vtd::scalable_context_high;
  constexpr unsigned half_of_bus = 128;
  const bool upper = source.devfn() >= half_of_bus;
  vtd::ScalableRootHalf half{};
  const std::uint64_t root_gpa =
      get(rules.root, vtd::rtaddr::root).value + std::uint64_t{source.bus()} * vtd::root_entry_bytes + (upper ? 8 : 0);
  view.words.push_back(
      word_at(memory, upper ? "root entry, upper" : "root entry, lower", root_gpa, vtd::scalable_root::rows, half));
  if (!view.words.back().raw || !get(half, vtd::scalable_root::present)) return;

  vtd::ScalableContextLow low{};
  vtd::ScalableContextHigh high{};
  const std::uint64_t context = get(half, vtd::scalable_root::context_table).value +
                                std::uint64_t{source.devfn() % half_of_bus} * vtd::scalable_context_entry_bytes;
  view.words.push_back(word_at(memory, "context entry, low", context, low_row::rows, low));
  view.words.push_back(word_at(memory, "context entry, high", context + 8, high_row::rows, high));
  view.present = view.words[1].raw && view.words[2].raw && get(low, low_row::present);
  if (!view.present) return;

  const bool has_rid_pasid = rules.capabilities.rid_pasid;
  const Pasid by = pasid.value_or(has_rid_pasid ? get(high, high_row::rid_pasid) : Pasid{});
  vtd::PasidDirectoryEntry directory{};
  const std::uint64_t directory_gpa =
      get(low, low_row::directory).value + std::uint64_t{by.value >> 6} * vtd::pasid_directory_entry_bytes;
  view.words.push_back(word_at(memory, "PASID directory entry", directory_gpa, vtd::pasid_directory::rows, directory));
  if (!view.words.back().raw || !get(directory, vtd::pasid_directory::present)) return;

  vtd::PasidEntry0 w0{};
  vtd::PasidEntry1 w1{};
  vtd::PasidEntry2 w2{};
  const std::uint64_t entry =
      get(directory, vtd::pasid_directory::table).value + std::uint64_t{by.value % 64} * vtd::pasid_entry_bytes;
  const std::string title = "PASID " + hex(by.value) + ", word ";
  view.words.push_back(word_at(memory, title + "0", entry, vtd::pasid_entry_0::rows, w0));
  view.words.push_back(word_at(memory, title + "1", entry + 8, vtd::pasid_entry_1::rows, w1));
  view.words.push_back(word_at(memory, title + "2", entry + 16, vtd::pasid_entry_2::rows, w2));
}

}  // namespace

ContextView look_up_pasid(const Memory& memory, const TableRules& rules, SourceId source, std::optional<Pasid> pasid) {
  ContextView view;
  view.root_words = 1;
  show_words(view, memory, rules, source, pasid);

  MemoryCallbacks callbacks;
  // Only ever read as the const object it is. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
  callbacks.opaque = const_cast<Memory*>(&memory);
  callbacks.read = read;
  vtd::PasidRequest request;
  request.source = source;
  request.pasid = pasid;
  const vtd::PasidWalk walk =
      vtd::walk_pasid(GuestMemory{callbacks}, rules.capabilities, get(rules.root, vtd::rtaddr::root), request);
  view.fault_disable = walk.fault_disable;
  if (walk.fault != FaultReason::none) {
    view.verdict = verdict(walk.fault);
    return view;
  }
  view.words.back().meaning = meaning_of(walk.context);
  const caches::AddressSpaceKey key = vtd::key_of(walk.context, rules.capabilities);
  view.stage = key.has_first_stage() ? StageView::first : StageView::second;
  view.pass_through = key.interpretation == caches::Interpretation::pass_through;
  view.nested = key.interpretation == caches::Interpretation::nested;
  view.table = key.root.value;
  view.levels = key.top_level + 1U;
  view.last = key.last;
  view.verdict.text = view.pass_through ? "passes through untranslated" : "translates";
  return view;
}

}  // namespace viommu::cli
