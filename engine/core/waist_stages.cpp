// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Misses of address spaces whose walks set accessed and dirty flags. Source: VT-d, "First-Stage Translation" and
// "Accessed and Dirty Bits".
//
// What may be cached: an entry whose accessed flag is set, which the walk itself sees to; with the right to write only
// if the dirty flag is set. So the first write after a read walks again, and sets it. A request is answered with the
// same rights, because who asks may keep the answer. No neighbours: their flags are another request's to set.
#include "engine/core/waist.hpp"
#include "walkers/first_stage_walk.hpp"

namespace viommu::core {
namespace {

[[nodiscard]] Outcome outcome_of(walkers::FirstStageEnd end) noexcept {
  switch (end) {
    case walkers::FirstStageEnd::leaf:               return Outcome::translated;
    case walkers::FirstStageEnd::execute_blocked:    return Outcome::denied;  // these two end before any walk
    case walkers::FirstStageEnd::supervisor_blocked: return Outcome::denied;
    case walkers::FirstStageEnd::not_canonical:      return Outcome::beyond_width;
    case walkers::FirstStageEnd::top_unreadable:     return Outcome::top_table_unreadable;
    case walkers::FirstStageEnd::unreadable:         return Outcome::table_unreadable;
    case walkers::FirstStageEnd::absent:             return Outcome::absent;
    case walkers::FirstStageEnd::malformed:          return Outcome::malformed;
    case walkers::FirstStageEnd::user_denied:        return Outcome::user_denied;
    case walkers::FirstStageEnd::write_denied:       return Outcome::denied;
    case walkers::FirstStageEnd::not_snooped:        return Outcome::flags_forbidden;
    case walkers::FirstStageEnd::update_failed:      return Outcome::flags_not_set;
  }
  return Outcome::absent;
}

[[nodiscard]] walkers::FirstStage first_stage_of(const caches::AddressSpaceKey& key,
                                                 const walkers::FirstStageRules& rules) noexcept {
  walkers::FirstStageControls controls;
  controls.levels = key.top_level + 1U;
  controls.supervisor = true;  // else the PASID entry is no context for such a request
  controls.write_protect = key.flags.write_protect;
  controls.extended_accessed = key.flags.extended_accessed;
  controls.snooped = key.flags.snooped;
  return {rules, controls};
}

}  // namespace

bool Waist::walk_stages(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked, Translation& found,
                        caches::CachedPage& page) const noexcept {
  walkers::FirstStageRequest request;
  request.root = key.root;
  request.iova = iova;
  request.asked = asked;
  request.privilege = key.flags.privileged ? walkers::Privilege::supervisor : walkers::Privilege::user;
  const walkers::FirstStageAnswer walk =
      walkers::walk_first_stage(first_stage_of(key, options_.first_stage_rules), memory_.view(), request);
  reader.counters.add(Count::walks);
  reader.counters.add(Count::walk_loads, walk.loads);
  found.stage = Stage::first;
  if (walk.end != walkers::FirstStageEnd::leaf) {
    found.set(outcome_of(walk.end), walk.rights);
    return false;
  }
  page.frame = walk.frame;
  page.size = size_at(walk.level);
  page.rights = walk.dirty ? walk.rights : Rights{walk.rights.read(), false};
  const bool cacheable = judge(iova, page.frame, page.size, page.rights, found);
  if (found.outcome == Outcome::translated) reader.counters.add(Count::answers_with_walk);
  return cacheable && !interrupt_window.contains(iova.value);
}

void Waist::walk_stages_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                 Translation& found) noexcept {
  const Iova folded{space.key.folded(iova.value)};
  Start start;  // before the first guest load
  start.place = space.place();
  start.fillable = space.fillable.load(std::memory_order_acquire);
  iotlb_.sample(start.place, folded, start.fillable, start.pages);
  caches::CachedPage page;
  if (!walk_stages(reader, space.key, iova, asked, found, page)) return;
  if (options_.uncached || space.tag() != start.place.tag()) return;
  fill_page(reader, space, start, folded, page);
}

void Waist::translate_beyond_last(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                  Translation& found) noexcept {
  if (!space.key.is_upper(iova)) return beyond_width(reader, space.key, found);
  const Hit hit = look_up_folded(reader, space, {space.key.folded(iova.value)}, asked.bits());
  if (hit.found()) return found.set(Outcome::translated, Rights::in(hit.rights), hit.gpa, hit.mask);
  walk_stages_and_fill(reader, space, iova, asked, found);
}

}  // namespace viommu::core
