// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A walk of an address space by its key, whatever stages it has and whatever memory it reads: that of translating, and
// that of explaining.
#pragma once

#include "caches/address_spaces.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/core/waist.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/walk.hpp"

namespace viommu::core {

/// What a walk of any stages comes to. `dirty`: without it there is no right to write yet.
struct StageWalk {
  Outcome outcome = Outcome::absent;
  Stage stage = Stage::second;
  unsigned level = 0;
  unsigned loads = 0;
  bool dirty = false;
  Rights rights;
  Gpa frame{};

  [[nodiscard]] static StageWalk of(const walkers::FirstStageAnswer& walk) noexcept;
  [[nodiscard]] static StageWalk of(const walkers::SecondStageAnswer& walk) noexcept;
  [[nodiscard]] static StageWalk of(const walkers::NestedAnswer& walk) noexcept;
};

[[nodiscard]] inline Outcome outcome_of(walkers::WalkEnd end) noexcept {
  switch (end) {
    case walkers::WalkEnd::leaf:           return Outcome::translated;
    case walkers::WalkEnd::absent:         return Outcome::absent;
    case walkers::WalkEnd::malformed:      return Outcome::malformed;
    case walkers::WalkEnd::top_unreadable: return Outcome::top_table_unreadable;
    case walkers::WalkEnd::unreadable:     return Outcome::table_unreadable;
  }
  return Outcome::absent;
}

[[nodiscard]] inline Outcome outcome_of(walkers::FirstStageEnd end) noexcept {
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

[[nodiscard]] inline Outcome outcome_of(walkers::SecondStageEnd end) noexcept {
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
[[nodiscard]] inline StageOutcome outcome_of(walkers::NestedEnd end) noexcept {
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

[[nodiscard]] inline walkers::FirstStage first_stage_of(const caches::AddressSpaceKey& key,
                                                        const walkers::FirstStage& unit) noexcept {
  walkers::FirstStageControls controls;
  controls.levels = key.top_level + 1U;
  controls.supervisor = true;  // else the PASID entry is no context for such a request
  controls.write_protect = key.flags.write_protect;
  controls.extended_accessed = key.flags.extended_accessed;
  controls.snooped = key.flags.snooped;
  return unit.under(controls);
}

[[nodiscard]] inline walkers::FirstStageRequest request_of(const caches::AddressSpaceKey& key, Iova iova,
                                                           Rights asked) noexcept {
  walkers::FirstStageRequest request;
  request.root = key.root;
  request.iova = iova;
  request.asked = asked;
  request.privilege = key.flags.privileged ? walkers::Privilege::supervisor : walkers::Privilege::user;
  return request;
}

inline StageWalk StageWalk::of(const walkers::FirstStageAnswer& walk) noexcept {
  return {outcome_of(walk.end), Stage::first, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}

inline StageWalk StageWalk::of(const walkers::SecondStageAnswer& walk) noexcept {
  return {outcome_of(walk.end), Stage::second, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}
inline StageWalk StageWalk::of(const walkers::NestedAnswer& walk) noexcept {
  const StageOutcome end = outcome_of(walk.end);
  return {end.outcome, end.stage, walk.level, walk.loads, walk.dirty, walk.rights, walk.frame};
}

/// What the unit's tables look like, before a PASID entry has its say.
struct StageFormats {
  const walkers::SecondStage& second;
  const walkers::FirstStage& first;
};

[[nodiscard]] inline walkers::SecondStageControls second_controls_of(const caches::AddressSpaceKey& key) noexcept {
  return {key.flags.second_flags, key.flags.snooped};
}

[[nodiscard]] inline walkers::SecondStageRequest second_stage_request_of(const caches::AddressSpaceKey& key, Iova iova,
                                                                         Rights asked) noexcept {
  return {key.root, iova, asked, key.top_level};
}
[[nodiscard]] inline walkers::NestedStages stages_of(const StageFormats& formats,
                                                     const caches::AddressSpaceKey& key) noexcept {
  return {first_stage_of(key, formats.first),
          formats.second,
          second_controls_of(key),
          key.second_root,
          key.second_top_level,
          key.second_width};
}

/// Follows the tables and sets flags. Of an address that is not beyond them, and of no pass-through.
/// @param translate_table  of a nested walk (walkers::walk_nested)
template <class Memory, walkers::TableTranslator Translate>
[[nodiscard]] StageWalk walk_stages(const StageFormats& formats, const Memory& memory,
                                    const caches::AddressSpaceKey& key, Iova iova, Rights asked,
                                    const Translate& translate_table) noexcept {
  switch (key.interpretation) {
    case caches::Interpretation::nested:
      return StageWalk::of(
          walkers::walk_nested(stages_of(formats, key), memory, request_of(key, iova, asked), translate_table));
    case caches::Interpretation::first_stage:
      return StageWalk::of(
          walkers::walk_first_stage(first_stage_of(key, formats.first), memory, request_of(key, iova, asked)));
    default:
      return StageWalk::of(walkers::walk_second_stage(formats.second, second_controls_of(key), memory,
                                                      second_stage_request_of(key, iova, asked)));
  }
}
template <class Memory>
[[nodiscard]] StageWalk walk_stages(const StageFormats& formats, const Memory& memory,
                                    const caches::AddressSpaceKey& key, Iova iova, Rights asked) noexcept {
  const walkers::SecondStageControls controls = second_controls_of(key);
  return walk_stages(formats, memory, key, iova, asked, [&](const walkers::SecondStageRequest& table) noexcept {
    return walkers::walk_second_stage(formats.second, controls, memory, table);
  });
}

/// What it comes to for an address. @return whether it may be cached, but for the address itself; `page` is then what
inline bool conclude(Iova iova, const StageWalk& walked, Translation& found, caches::CachedPage& page) noexcept {
  found.stage = walked.stage;
  if (walked.outcome != Outcome::translated) {
    found.set(walked.outcome, walked.rights);
    return false;
  }
  page.frame = walked.frame;
  page.size = Waist::size_at(walked.level);
  page.rights = walked.dirty ? walked.rights : Rights{walked.rights.read(), false};
  return Waist::judge(iova, page.frame, page.size, page.rights, found);
}

}  // namespace viommu::core
