// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Misses of address spaces whose walks set accessed and dirty flags. Source: VT-d, "First-Stage Translation" and
// "Accessed and Dirty Bits".
//
// What may be cached: an entry whose accessed flag is set, which the walk itself sees to; with the right to write only
// if the dirty flag is set. So the first write after a read walks again, and sets it. A request is answered with the
// same rights, because who asks may keep the answer. No neighbours: their flags are another request's to set.
#include "engine/core/waist.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/second_stage_walk.hpp"

namespace viommu::core {

/// What a walk of any stages comes to. `dirty`: without it there is no right to write yet.
struct Waist::Walked {
  Outcome outcome = Outcome::absent;
  Stage stage = Stage::second;
  unsigned level = 0;
  unsigned loads = 0;
  bool dirty = false;
  Rights rights;
  Gpa frame{};

  [[nodiscard]] static Walked of(const walkers::FirstStageAnswer& walk) noexcept;
  [[nodiscard]] static Walked of(const walkers::SecondStageAnswer& walk) noexcept;
  [[nodiscard]] static Walked of(const walkers::NestedAnswer& walk) noexcept;
};

namespace {

[[nodiscard]] Outcome outcome_of(walkers::FirstStageEnd end) noexcept {
  switch (end) {
    case walkers::FirstStageEnd::leaf:               return Outcome::translated;
    case walkers::FirstStageEnd::not_canonical:      return Outcome::beyond_width;
    case walkers::FirstStageEnd::top_unreadable:     return Outcome::top_table_unreadable;
    case walkers::FirstStageEnd::unreadable:         return Outcome::table_unreadable;
    case walkers::FirstStageEnd::absent:             return Outcome::absent;
    case walkers::FirstStageEnd::malformed:          return Outcome::malformed;
    case walkers::FirstStageEnd::user_denied:        return Outcome::user_denied;
    case walkers::FirstStageEnd::execute_blocked:    // these two end before any walk
    case walkers::FirstStageEnd::supervisor_blocked:
    case walkers::FirstStageEnd::write_denied:       return Outcome::denied;
    case walkers::FirstStageEnd::not_snooped:        return Outcome::flags_forbidden;
    case walkers::FirstStageEnd::update_failed:      return Outcome::flags_not_set;
  }
  return Outcome::absent;
}

[[nodiscard]] Outcome outcome_of(walkers::SecondStageEnd end) noexcept {
  switch (end) {
    case walkers::SecondStageEnd::leaf:           return Outcome::translated;
    case walkers::SecondStageEnd::top_unreadable: return Outcome::top_table_unreadable;
    case walkers::SecondStageEnd::unreadable:     return Outcome::table_unreadable;
    case walkers::SecondStageEnd::absent:         return Outcome::absent;
    case walkers::SecondStageEnd::malformed:      return Outcome::malformed;
    case walkers::SecondStageEnd::read_denied:
    case walkers::SecondStageEnd::write_denied:   return Outcome::denied;
    case walkers::SecondStageEnd::not_snooped:    return Outcome::flags_forbidden;
    case walkers::SecondStageEnd::update_failed:  return Outcome::flags_not_set;
  }
  return Outcome::absent;
}

struct StageOutcome {
  Stage stage;
  Outcome outcome;
};
[[nodiscard]] StageOutcome outcome_of(walkers::NestedEnd end) noexcept {
  using enum walkers::NestedEnd;
  switch (end) {
    case leaf:                  return {Stage::second, Outcome::translated};
    case root_out_of_range:     // a PASID entry with such a root is no context
    case address_out_of_range:  return {Stage::first, Outcome::table_beyond_width};
    case execute_blocked:       // these two end before any walk
    case supervisor_blocked:    return {Stage::first, Outcome::denied};
    case not_canonical:         return {Stage::first, Outcome::beyond_width};
    case top_unreadable:        return {Stage::first, Outcome::top_table_unreadable};
    case unreadable:            return {Stage::first, Outcome::table_unreadable};
    case absent:                return {Stage::first, Outcome::absent};
    case malformed:             return {Stage::first, Outcome::malformed};
    case top_entry_denied:      return {Stage::first, Outcome::top_table_denied};
    case entry_denied:          return {Stage::first, Outcome::table_denied};
    case update_denied:         return {Stage::first, Outcome::table_update_denied};
    case user_denied:           return {Stage::first, Outcome::user_denied};
    case not_snooped:           return {Stage::first, Outcome::flags_forbidden};
    case update_failed:         return {Stage::first, Outcome::flags_not_set};
    case write_denied:          // told by the right that is missing, not as an absent page
    case read_denied:           return {Stage::first, Outcome::denied};
    case second_top_unreadable: return {Stage::second, Outcome::top_table_unreadable};
    case second_unreadable:     return {Stage::second, Outcome::table_unreadable};
    case second_absent:         return {Stage::second, Outcome::absent};
    case second_malformed:      return {Stage::second, Outcome::malformed};
    case second_not_snooped:    return {Stage::second, Outcome::flags_forbidden};
    case second_update_failed:  return {Stage::second, Outcome::flags_not_set};
  }
  return {Stage::second, Outcome::absent};
}

[[nodiscard]] walkers::FirstStage first_stage_of(const caches::AddressSpaceKey& key,
                                                 const walkers::FirstStage& unit) noexcept {
  walkers::FirstStageControls controls;
  controls.levels = key.top_level + 1U;
  controls.supervisor = true;  // else the PASID entry is no context for such a request
  controls.write_protect = key.flags.write_protect;
  controls.extended_accessed = key.flags.extended_accessed;
  controls.snooped = key.flags.snooped;
  return unit.under(controls);
}

[[nodiscard]] walkers::FirstStageRequest request_of(const caches::AddressSpaceKey& key, Iova iova,
                                                    Rights asked) noexcept {
  walkers::FirstStageRequest request;
  request.root = key.root;
  request.iova = iova;
  request.asked = asked;
  request.privilege = key.flags.privileged ? walkers::Privilege::supervisor : walkers::Privilege::user;
  return request;
}

[[nodiscard]] walkers::SecondStageControls second_stage_of(const caches::AddressSpaceKey& key) noexcept {
  return {key.flags.second_flags, key.flags.snooped};
}

[[nodiscard]] walkers::SecondStageRequest second_stage_request_of(const caches::AddressSpaceKey& key, Iova iova,
                                                                  Rights asked) noexcept {
  return {key.root, iova, asked, key.top_level};
}

[[nodiscard]] walkers::NestedStages stages_of(const caches::AddressSpaceKey& key, const walkers::FirstStage& first,
                                              const walkers::SecondStage& second) noexcept {
  return {first_stage_of(key, first), second,          second_stage_of(key), key.second_root,
          key.second_top_level,       key.second_width};
}

}  // namespace

Waist::Walked Waist::Walked::of(const walkers::FirstStageAnswer& walk) noexcept {
  return {outcome_of(walk.end), Stage::first, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}
Waist::Walked Waist::Walked::of(const walkers::SecondStageAnswer& walk) noexcept {
  return {outcome_of(walk.end), Stage::second, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}
Waist::Walked Waist::Walked::of(const walkers::NestedAnswer& walk) noexcept {
  const StageOutcome end = outcome_of(walk.end);
  return {end.outcome, end.stage, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}

bool Waist::walk_stages(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked, Translation& found,
                        caches::CachedPage& page) const noexcept {
  const MemoryView memory = memory_.view();
  const auto walk = [&]() -> Walked {
    if (key.interpretation == caches::Interpretation::nested)
      return Walked::of(
          walkers::walk_nested(stages_of(key, first_stage_, format_), memory, request_of(key, iova, asked)));
    if (key.interpretation == caches::Interpretation::first_stage)
      return Walked::of(
          walkers::walk_first_stage(first_stage_of(key, first_stage_), memory, request_of(key, iova, asked)));
    return Walked::of(
        walkers::walk_second_stage(format_, second_stage_of(key), memory, second_stage_request_of(key, iova, asked)));
  };
  return conclude_stages(reader, iova, walk(), found, page);
}

bool Waist::conclude_stages(Reader& reader, Iova iova, const Walked& walked, Translation& found,
                            caches::CachedPage& page) noexcept {
  reader.count(Count::walks, caches::Use::walks);
  reader.counters.add(Count::walk_loads, walked.loads);
  found.stage = walked.stage;
  if (walked.outcome != Outcome::translated) {
    found.set(walked.outcome, walked.rights);
    return false;
  }
  page.frame = walked.frame;
  page.size = size_at(walked.level);
  page.rights = walked.dirty ? walked.rights : Rights{walked.rights.read(), false};
  const bool cacheable = judge(iova, page.frame, page.size, page.rights, found);
  if (found.outcome == Outcome::translated) reader.counters.add(Count::answers_with_walk);
  return cacheable && !interrupt_window.contains(iova.value);
}

void Waist::sample_stages(const caches::AddressSpace& space, Iova iova, Start& start) const noexcept {
  start.place = space.place();
  start.fillable = space.fillable.load(std::memory_order_acquire);
  if (!options_.uncached) iotlb_.sample(start.place, {space.key.folded(iova.value)}, start.fillable, start.pages);
}

void Waist::fill_staged(Reader& reader, caches::AddressSpace& space, const Start& start, Iova iova,
                        const caches::CachedPage& page) noexcept {
  if (options_.uncached || space.tag() != start.place.tag()) return;
  fill_page(reader, space, start, {space.key.folded(iova.value)}, page);
}

void Waist::walk_stages_and_fill(Reader& reader, std::span<Miss> misses, MissNumbers& numbers,
                                 std::size_t count) noexcept {
  while (count != 0) {  // ends: at least the first one goes each time
    caches::AddressSpace& space = misses[numbers[0]].space();
    MissNumbers together;
    std::size_t of_space = 0;
    std::size_t others = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint8_t number = numbers[i];
      if (&misses[number].space() == &space)
        together.put(of_space++, number);
      else
        numbers.put(others++, number);
    }
    count = others;
    if (of_space > 1) {
      walk_space_and_fill(reader, misses, together, of_space);
    } else {
      Miss& miss = misses[together[0]];
      reader.account = miss.account;
      walk_stages_and_fill(reader, space, miss.iova, miss.asked, miss.found);
    }
  }
}

void Waist::walk_space_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers,
                                std::size_t count) noexcept {
  const caches::AddressSpaceKey& key = misses[numbers[0]].space().key;
  const MemoryView memory = memory_.view();
  const auto request = [&key](const Miss& miss) { return request_of(key, miss.iova, miss.asked); };
  if (key.interpretation == caches::Interpretation::nested) {
    const walkers::NestedStages stages = stages_of(key, first_stage_, format_);
    walk_together_and_fill<walkers::FirstStageRequest, walkers::NestedAnswer>(
        reader, misses, numbers, count, request,
        [&](const auto* requests, auto* walks) { kernels_->walk_nested(stages, memory, requests, walks, count); });
  } else if (key.interpretation == caches::Interpretation::first_stage) {
    const walkers::FirstStage format = first_stage_of(key, first_stage_);
    walk_together_and_fill<walkers::FirstStageRequest, walkers::FirstStageAnswer>(
        reader, misses, numbers, count, request,
        [&](const auto* requests, auto* walks) { kernels_->walk_first_stage(format, memory, requests, walks, count); });
  } else {
    walk_together_and_fill<walkers::SecondStageRequest, walkers::SecondStageAnswer>(
        reader, misses, numbers, count,
        [&key](const Miss& miss) { return second_stage_request_of(key, miss.iova, miss.asked); },
        [&](const auto* requests, auto* walks) {
          kernels_->walk_second_stage(format_, second_stage_of(key), memory, requests, walks, count);
        });
  }
}

template <class Request, class Answer, class Ask, class Walk>
void Waist::walk_together_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers,
                                   std::size_t count, const Ask& request, const Walk& walk) noexcept {
  caches::AddressSpace& space = misses[numbers[0]].space();
  Scratch<Start, batch_width> starts;
  Scratch<Request, batch_width> requests;
  Scratch<Answer, batch_width> walks;
  for (std::size_t i = 0; i < count; ++i) {
    const Miss& miss = misses[numbers[i]];
    sample_stages(space, miss.iova, starts.emplace(i));  // all before the first guest load
    requests.put(i, request(miss));
    walks.put(i, {});
  }
  walk(requests.data(), walks.data());
  for (std::size_t i = 0; i < count; ++i) {
    Miss& miss = misses[numbers[i]];
    reader.account = miss.account;
    caches::CachedPage page;
    if (conclude_stages(reader, miss.iova, Walked::of(walks[i]), miss.found, page))
      fill_staged(reader, space, starts[i], miss.iova, page);
  }
}

void Waist::walk_stages_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                 Translation& found) noexcept {
  Start start;  // before the first guest load
  sample_stages(space, iova, start);
  caches::CachedPage page;
  if (walk_stages(reader, space.key, iova, asked, found, page)) fill_staged(reader, space, start, iova, page);
}

void Waist::translate_beyond_last(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                  Translation& found) noexcept {
  if (!space.key.is_upper(iova)) return beyond_width(reader, space.key, found);
  const Hit hit = look_up_folded(reader, space, {space.key.folded(iova.value)}, asked.bits());
  if (hit.found()) return found.set(Outcome::translated, Rights::in(hit.rights), hit.gpa, hit.mask);
  walk_stages_and_fill(reader, space, iova, asked, found);
}

}  // namespace viommu::core
