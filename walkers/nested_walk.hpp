// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following a first-stage tree whose tables and pages lie behind a second stage.
//
//   address of an entry  -> second stage -> where the entry lies: a first-stage step there -> next table, or the page
//   address in that page -> second stage, for what the request asks -> the page
//
// It is the first-stage walk itself, on memory that translates. Every address in a first-stage entry is an input of the
// second stage, and no answer of it is ever one.
//
// Bound: an entry that is looked at again right away, because an exchange was lost, keeps its place, so each pass of
// the first stage translates one address a level: 2 x 5 second-stage walks of 40 loads, and one for the page. With the
// 40 loads of first-stage entries that is 480 loads and as many exchanges; 29 loads for 5 levels over 4 where flags are
// set and no page is large.
//
// Where the specification leaves a choice:
// - With SSADE, looking at a first-stage entry counts as a read and a write: it needs both rights, and sets D of the
//   page the entry lies in. Without, it is a read, and setting a flag in the entry needs the right to write.
// - An address beyond the second stage is told like a reserved bit: before missing rights, and no flag is set there.
// - The first stage is done with, flags and all, before its page is looked up: D of its leaf says that its write was
//   granted, and the second stage may still deny it.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/format.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/guest_word.hpp"
#include "walkers/second_stage_walk.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <concepts>
#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// Where a nested walk ended. VT-d's reason beside each, and its code.
enum class NestedEnd : std::uint8_t {
  leaf,
  root_out_of_range,  ///< SPT.4.4, 5Bh: FSPTPTR. Whoever reads the PASID table entry looks at it before
  // Of the first stage.
  execute_blocked,       ///< SPT.5, 5Ch
  supervisor_blocked,    ///< SPT.6, 5Dh
  not_canonical,         ///< SGN.1, 80h
  top_unreadable,        ///< SFS.4, 73h: there is no memory where the second stage leads
  unreadable,            ///< SFS.1, 70h
  absent,                ///< SFS.2, 71h
  malformed,             ///< SFS.3, 72h
  address_out_of_range,  ///< SFS.5, 74h: ADDR of an entry
  top_entry_denied,      ///< SFS.6, 75h: the second stage does not let the top table's entry be read
  entry_denied,          ///< SFS.7, 76h: nor a lower one's
  update_denied,         ///< SFS.8, 77h: nor a flag be set in one
  user_denied,           ///< SGN.2, 81h
  not_snooped,           ///< SFS.9, 90h
  update_failed,         ///< SFS.10, 91h
  // Of either stage: what the page lacks.
  write_denied,  ///< SGN.6, 85h
  read_denied,   ///< SGN.7, 86h: the second stage's right, or no right is in both
  // Of the second stage, on the way to an entry or to the page.
  second_top_unreadable,  ///< SSS.4, 7Bh
  second_unreadable,      ///< SSS.1, 78h
  second_absent,          ///< SSS.2, 79h
  second_malformed,       ///< SSS.3, 7Ah
  second_not_snooped,     ///< SSS.5, 7Ch
  second_update_failed,   ///< SSS.6, 7Dh
};

/// Both stages of an address space, as its PASID table entry sets them.
struct NestedStages {
  FirstStage first;
  SecondStage second;
  SecondStageControls second_controls;
  Gpa second_root{};              ///< SSPTPTR
  unsigned second_top_level = 3;  ///< AW + 1: 2 to 4
  unsigned input_width = 48;      ///< of the second stage: the smaller of MGAW and the width of AW, more than 30
};

/// The whole outcome.
struct NestedAnswer {
  NestedEnd end = NestedEnd::absent;
  /// Of a page, granted or denied by the second stage: of the smaller of its two leaves, and so its size. Else of the
  /// first-stage entry that the walk ended at, or on the way to.
  std::uint8_t level = 0;
  std::uint16_t loads = 0;      ///< guest words loaded
  std::uint16_t exchanges = 0;  ///< asked for
  std::uint16_t updates = 0;    ///< exchanges done
  bool dirty = false;  ///< of a leaf: no D is left to be set, in either stage. Else no right to write may be cached
  Rights rights;       ///< of a page, granted or denied: what both stages grant; the first alone where that one denies
  Gpa frame{};         ///< of a leaf: first byte of the page of that size
};

/// Where a first-stage entry lies: the second-stage walk for its address.
template <class T>
concept TableTranslator = requires(const T translate, const SecondStageRequest& request) {
  { translate(request) } noexcept -> std::same_as<SecondStageAnswer>;
};

/// One walk. Use walk_nested().
template <class Memory, TableTranslator Translate>
class NestedWalk {
 public:
  NestedWalk(const NestedStages& stages, const Memory& memory, const FirstStageRequest& request,
             const Translate& translate_table) noexcept
      : stages_{stages}, memory_{memory}, request_{request}, translate_table_{translate_table} {
    assert(stages.input_width > FirstStage::page_shift(first_stage_leaf_levels - 1));  // else pages might reach beyond
  }

  [[nodiscard]] NestedAnswer run() noexcept {
    answer_.level = static_cast<std::uint8_t>(stages_.first.top_level());
    if (request_.root.value > low_bits(stages_.input_width)) {
      answer_.end = NestedEnd::root_out_of_range;
      return answer_;
    }
    const FirstStage format = stages_.first.within(stages_.input_width);
    const Tables tables{*this};
    FirstStageAnswer first;
    follow_first_stage(format, tables, request_, first);
    answer_.level = first.level;
    answer_.end = end_of(first);
    answer_.rights = first.rights;
    if (answer_.end == NestedEnd::leaf) look_up_page(first);
    return answer_;
  }

 private:
  /// Memory as the first-stage walk sees it.
  struct Tables {
    NestedWalk& walk;

    [[nodiscard]] bool load_word(Gpa at, std::uint64_t& word) const noexcept { return walk.load(at, word); }
    [[nodiscard]] Exchange compare_exchange_u64(Gpa, std::uint64_t& expected, std::uint64_t desired) const noexcept {
      return walk.compare_exchange(expected, desired);
    }
  };

  [[nodiscard]] bool load(Gpa at, std::uint64_t& entry) noexcept {
    if (looked_at_ != at) {
      looked_at_ = at;
      const Rights asked = stages_.second_controls.flags ? read_write : read_only;
      const SecondStageAnswer place = translate_table_(second_request({at.value}, asked));
      count(place);
      if (place.end != SecondStageEnd::leaf) {
        trouble_ = place.end;
        return false;
      }
      place_ = place.frame + (at.value & low_bits(SecondStage::page_shift(place.level)));
      writable_ = place.rights.write();
    }
    ++answer_.loads;
    const bool is_there = walkers::load_word(memory_, place_, entry);
    entry_ = entry;
    return is_there;
  }

  /// Of the entry loaded last.
  Exchange compare_exchange(std::uint64_t& expected, std::uint64_t desired) noexcept {
    if (!writable_) {
      update_denied_ = true;
      return Exchange::failed;
    }
    ++answer_.exchanges;
    const Exchange outcome = memory_.compare_exchange_u64(place_, expected, desired);
    if (outcome == Exchange::done) ++answer_.updates;
    return outcome;
  }

  [[nodiscard]] NestedEnd end_of(const FirstStageAnswer& first) const noexcept {
    const bool at_top = first.level == stages_.first.top_level();
    switch (first.end) {
      case FirstStageEnd::leaf:               return NestedEnd::leaf;
      case FirstStageEnd::execute_blocked:    return NestedEnd::execute_blocked;
      case FirstStageEnd::supervisor_blocked: return NestedEnd::supervisor_blocked;
      case FirstStageEnd::not_canonical:      return NestedEnd::not_canonical;
      case FirstStageEnd::top_unreadable:
      case FirstStageEnd::unreadable:
        switch (trouble_) {
          case SecondStageEnd::leaf:         return at_top ? NestedEnd::top_unreadable : NestedEnd::unreadable;
          case SecondStageEnd::read_denied:
          case SecondStageEnd::write_denied: return at_top ? NestedEnd::top_entry_denied : NestedEnd::entry_denied;
          default:                           return end_of(trouble_);
        }
      case FirstStageEnd::absent: return NestedEnd::absent;
      case FirstStageEnd::malformed:
        return stages_.first.classify(entry_, first.level) == EntryKind::malformed ? NestedEnd::malformed
                                                                                   : NestedEnd::address_out_of_range;
      case FirstStageEnd::user_denied:   return NestedEnd::user_denied;
      case FirstStageEnd::write_denied:  return NestedEnd::write_denied;
      case FirstStageEnd::not_snooped:   return NestedEnd::not_snooped;
      case FirstStageEnd::update_failed: return update_denied_ ? NestedEnd::update_denied : NestedEnd::update_failed;
    }
    return NestedEnd::absent;
  }
  [[nodiscard]] static NestedEnd end_of(SecondStageEnd end) noexcept {
    switch (end) {
      case SecondStageEnd::leaf:           return NestedEnd::leaf;
      case SecondStageEnd::top_unreadable: return NestedEnd::second_top_unreadable;
      case SecondStageEnd::unreadable:     return NestedEnd::second_unreadable;
      case SecondStageEnd::absent:         return NestedEnd::second_absent;
      case SecondStageEnd::malformed:      return NestedEnd::second_malformed;
      case SecondStageEnd::read_denied:    return NestedEnd::read_denied;
      case SecondStageEnd::write_denied:   return NestedEnd::write_denied;
      case SecondStageEnd::not_snooped:    return NestedEnd::second_not_snooped;
      case SecondStageEnd::update_failed:  return NestedEnd::second_update_failed;
    }
    return NestedEnd::second_absent;
  }

  void look_up_page(const FirstStageAnswer& first) noexcept {
    const std::uint64_t offset = request_.iova.value & low_bits(FirstStage::page_shift(first.level));
    const SecondStageRequest request = second_request({first.frame.value + offset}, request_.asked);
    const SecondStageAnswer second = walk_second_stage(stages_.second, stages_.second_controls, memory_, request);
    count(second);
    answer_.end = end_of(second.end);
    answer_.rights = first.rights & second.rights;
    const bool is_page = answer_.end == NestedEnd::leaf || answer_.end == NestedEnd::read_denied ||
                         answer_.end == NestedEnd::write_denied;
    if (is_page) answer_.level = std::min(first.level, second.level);
    if (answer_.end != NestedEnd::leaf) return;
    if (answer_.rights.none()) {  // one stage may be read alone, the other written alone
      answer_.end = NestedEnd::read_denied;
      return;
    }
    answer_.dirty = first.dirty && second.dirty;
    const Gpa page = second.frame + (request.iova.value & low_bits(SecondStage::page_shift(second.level)));
    answer_.frame = {page.value & ~low_bits(SecondStage::page_shift(answer_.level))};
  }

  [[nodiscard]] SecondStageRequest second_request(Iova at, Rights asked) const noexcept {
    return {stages_.second_root, at, asked, stages_.second_top_level};
  }
  void count(const SecondStageAnswer& walk) noexcept {
    answer_.loads = static_cast<std::uint16_t>(answer_.loads + walk.loads);
    answer_.exchanges = static_cast<std::uint16_t>(answer_.exchanges + walk.exchanges);
    answer_.updates = static_cast<std::uint16_t>(answer_.updates + walk.updates);
  }

  const NestedStages& stages_;
  const Memory& memory_;
  const FirstStageRequest& request_;
  const Translate& translate_table_;
  NestedAnswer answer_;
  // Of the first-stage entry that was looked at last.
  std::optional<Gpa> looked_at_;                   // its address
  SecondStageEnd trouble_ = SecondStageEnd::leaf;  // what ended the second-stage walk to it; `leaf`: nothing did
  Gpa place_{};                                    // where it lies
  bool writable_ = false;                          // there
  bool update_denied_ = false;
  std::uint64_t entry_ = 0;  // the copy that the first-stage walk decided on
};

/// Follows both trees and sets the flags. No allocation, no lock; the bound stands above.
/// @param request          its root (FSPTPTR) is an input of the second stage
/// @param translate_table  answers as walk_second_stage() does, from a cache perhaps
template <class Memory, TableTranslator Translate>
[[nodiscard]] NestedAnswer walk_nested(const NestedStages& stages, const Memory& memory,
                                       const FirstStageRequest& request, const Translate& translate_table) noexcept {
  const NestedAnswer answer = NestedWalk{stages, memory, request, translate_table}.run();
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
  return answer;
}
template <class Memory>
[[nodiscard]] NestedAnswer walk_nested(const NestedStages& stages, const Memory& memory,
                                       const FirstStageRequest& request) noexcept {
  return walk_nested(stages, memory, request, [&](const SecondStageRequest& table) noexcept {
    return walk_second_stage(stages.second, stages.second_controls, memory, table);
  });
}

}  // namespace viommu::walkers
