// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The walk of tables.hpp: what it shows is what the engine's own walk looks at.
#include <algorithm>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/tables.hpp"
#include "engine/core/explain.hpp"
#include "engine/vtd/fault_reasons.hpp"
#include "engine/vtd/page_formats.hpp"

namespace viommu::cli {
namespace {

using core::Outcome;
using core::Stage;
using walkers::EntryKind;

std::string_view kind_text(EntryKind kind) {
  switch (kind) {
    case EntryKind::absent:    return "nothing mapped";
    case EntryKind::malformed:
    case EntryKind::table:     return "table";
    case EntryKind::leaf:      return "page";
  }
  return "";
}

WalkStep step_of(const core::EntrySeen& entry, bool nested) {
  WalkStep step;
  step.first_stage = entry.stage == Stage::first;
  step.for_table = entry.for_table;
  std::string title = core::name_of_level(entry.level);
  if (nested) title = (step.first_stage ? "first " : step.for_table ? "  second " : "second ") + title;
  step.entry = {std::move(title), entry.at.value, entry.raw, {}, {}};
  if (!entry.raw) return step;
  step.entry.fields = fields_of(*entry.raw, rows_of(entry), entry.wrong);
  step.entry.meaning = kind_text(entry.kind);
  return step;
}

/// size - 1 of the page that the path ends in: of the smaller one of two stages.
std::uint64_t page_mask(const core::PathSeen& path) {
  unsigned level = walkers::second_stage_leaf_levels;
  for (const core::EntrySeen& entry : path.seen())
    if (entry.kind == EntryKind::leaf && entry.raw && !entry.for_table) level = std::min<unsigned>(level, entry.level);
  return level == walkers::second_stage_leaf_levels ? low_bits(page_shift)
                                                    : low_bits(walkers::SecondStage::page_shift(level));
}

/// What a read and a write come to, in words.
Verdict outcome_of(const WalkView& view, FaultReason of_read, FaultReason of_write, bool legacy, bool absent) {
  const auto why = [](FaultReason reason) { return verdict(reason).text; };
  if (view.read && view.write) return {0, "readable and writable"};
  if (view.read) return {0, "readable; a write is " + why(of_write)};
  if (view.write) return {0, "writable; a read is " + why(of_read)};
  const bool by_rights = of_read == FaultReason::read_denied;
  if (!legacy || !by_rights) return verdict(of_read);
  const std::string_view what = absent ? "nothing mapped" : "no right";
  return {static_cast<std::uint8_t>(of_read), std::string{what} + ": a read is fault 6, a write fault 5"};
}

}  // namespace

WalkView walk(const Memory& memory, const TableRules& rules, const ContextView& context, Iova iova) {
  WalkView view;
  if (context.verdict.reason != 0) {
    view.verdict = context.verdict;
    return view;
  }
  const caches::AddressSpaceKey& key = context.key;
  const walkers::SecondStage second{vtd::second_stage_rules(rules.capabilities)};
  const walkers::FirstStage first{vtd::first_stage_rules(rules.capabilities), {}};
  const GuestMemory guest = guest_memory(memory);
  // A clean page is not writable yet to one that reads, so both are asked.
  core::PathSeen reading;
  core::PathSeen writing;
  core::explain(second, first, guest, key, iova, read_only, reading);
  core::explain(second, first, guest, key, iova, write_only, writing);
  view.read = reading.found.outcome == Outcome::translated;
  view.write = writing.found.outcome == Outcome::translated;
  view.mapped = view.read || view.write;
  const core::PathSeen& path = view.read ? reading : view.write ? writing : reading;
  const bool nested = key.interpretation == caches::Interpretation::nested;
  for (const core::EntrySeen& entry : path.seen()) view.steps.push_back(step_of(entry, nested));
  view.gpa = path.found.gpa.value;
  view.mask = page_mask(path);
  view.verdict =
      outcome_of(view, vtd::reason_of(reading.found, key, read_only), vtd::reason_of(writing.found, key, write_only),
                 !key.pasid, reading.found.outcome == Outcome::absent);
  if (view.mapped && key.interpretation == caches::Interpretation::pass_through)
    view.verdict.text = "passes through untranslated: " + view.verdict.text;
  return view;
}

}  // namespace viommu::cli
