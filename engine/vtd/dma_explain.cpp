// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The way of a request once more, as dma.cpp goes it, without leaving a trace.
#include "engine/vtd/explanation.hpp"
#include "engine/vtd/fault_reasons.hpp"
#include "engine/vtd/page_formats.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/second_stage.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] DmaAnswer blocked(FaultReason reason) noexcept {
  DmaAnswer answer;
  answer.reason = reason;
  return answer;
}

/// Whether a path goes through that table.
[[nodiscard]] bool goes_through(const core::PathSeen& path, const core::CachedTable& table) noexcept {
  for (const core::EntrySeen& entry : path.seen())
    if (entry.level == table.level && (entry.at.value & ~low_bits(page_shift)) == table.table.value) return true;
  return false;
}

}  // namespace

void Dma::explain(const DmaRequest& request, DmaExplanation& why) noexcept {
  const Mode mode = waist_.mode();
  why.translating = mode.has(Mode::translating);
  why.protecting = mode.has(Mode::protecting);
  why.mode = tables_of(mode);
  why.root = mode.root();
  why.context = find_context(request);
  const auto decide = [&](AnsweredBy by, const DmaAnswer& answer) {
    why.by = by;
    why.answer = answer;
    if (answer.kind == DmaKind::fault || answer.kind == DmaKind::interrupt || !why.protecting) return;
    why.answer.mask &= low_bits(page_shift);
    why.protected_region = is_protected(answer.gpa);
    if (why.protected_region) why.answer = {};
  };
  if (const machine::Way way = way_of(request.source); way != machine::Way::unit) {
    why.by = AnsweredBy::way;
    why.answer = way == machine::Way::system ? untranslated(request.iova) : DmaAnswer{};
    return;
  }
  if (!why.translating) return decide(AnsweredBy::mode, untranslated(request.iova));
  if (!request.has_pasid && interrupt_window.contains(request.iova.value)) {
    const Rights rights = rights_in_interrupt_window(request);
    if (rights.none()) return decide(AnsweredBy::mode, blocked(FaultReason::not_an_interrupt));
    return decide(AnsweredBy::mode, {DmaKind::interrupt, rights, {request.iova.value}, 3});
  }
  if (const FaultReason reason = mode_fault(request, mode); reason != FaultReason::none) {
    why.reason = reason;
    return decide(AnsweredBy::mode, blocked(reason));
  }

  const walkers::SecondStage second{second_stage_rules(capabilities_)};
  const walkers::FirstStage first{first_stage_rules(capabilities_), {}};
  const Rights asked = effective(request);
  const auto walk = [&](const caches::AddressSpaceKey& key, core::PathSeen& path) {
    core::explain(second, first, waist_.memory(), key, request.iova, asked, path);
    return reason_of(path.found, key, request.asked);
  };
  const auto answered = [&](const caches::AddressSpaceKey& key, const core::PathSeen& path, FaultReason reason) {
    if (reason != FaultReason::none) return blocked(reason);
    core::Translation found = path.found;
    waist_.mark_device(found);
    return answer(found, key);
  };
  why.walked = true;
  explain_context(waist_.memory(), capabilities_, why.root, why.mode, request, why.contexts);
  why.reason = why.contexts.fault;
  if (why.reason == FaultReason::none) why.reason = walk(why.contexts.key, why.path);

  if (!why.context) {
    if (why.contexts.fault != FaultReason::none) return decide(AnsweredBy::tables, blocked(why.contexts.fault));
    return decide(AnsweredBy::tables, answered(why.contexts.key, why.path, why.reason));
  }
  const caches::AddressSpace& space = why.context.space();
  const caches::AddressSpaceKey& key = space.key;
  why.page = waist_.peek(space, request.iova);
  why.table = waist_.peek_table(space, request.iova);
  if (request.execute) return decide(AnsweredBy::cached_context, blocked(FaultReason::execute_blocked));
  if (why.page && why.page->rights.covers(asked)) {
    core::Translation found;
    found.set(core::Outcome::translated, why.page->rights, why.page->gpa, why.page->mask);
    waist_.mark_device(found);
    return decide(AnsweredBy::iotlb, answer(found, key));
  }
  const bool same = why.contexts.fault == FaultReason::none && key == why.contexts.key;
  if (why.table && !(same && goes_through(why.path, *why.table))) {
    // A walk that begins there and comes to no answer begins again at the root.
    caches::AddressSpaceKey from_table = key;
    from_table.root = why.table->table;
    from_table.top_level = why.table->level;
    why.walked_from_cache = true;
    const FaultReason reason = walk(from_table, why.path_from_cache);
    core::Translation& found = why.path_from_cache.found;
    found.rights = found.rights & why.table->rights;
    if (reason == FaultReason::none && (asked.none() ? !found.rights.none() : found.rights.covers(asked)))
      return decide(AnsweredBy::cached_table, answered(key, why.path_from_cache, reason));
    why.path_from_cache = {};
    why.walked_from_cache = false;
  }
  if (same) return decide(AnsweredBy::tables, answered(key, why.path, why.reason));
  why.walked_from_cache = true;
  const FaultReason reason = walk(key, why.path_from_cache);
  decide(AnsweredBy::cached_context, answered(key, why.path_from_cache, reason));
}

}  // namespace viommu::vtd
