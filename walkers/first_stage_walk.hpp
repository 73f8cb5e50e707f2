// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following a first-stage tree for one request, which leaves accessed and dirty flags behind.
//
//   load -> absent, malformed, denied: the end
//        -> flags set already: down, or the page
//        -> else compare-exchange on the copy: done, and so down; lost: load the same entry again and decide anew
//
// Bound: an entry is loaded and exchanged at most `exchanges_per_entry` times; when all are lost the whole walk begins
// again, once. 40 loads and as many exchanges for 5 levels; one load a level and no exchange where flags are set.
//
// Where the specification leaves a choice:
// - An absent or malformed entry wins over a missing right further up: rights are judged at the end of the path.
// - Of two missing rights U/S is told before R/W.
// - D is set for a write that is granted, A and EA of a leaf for any request that is granted. In a table they are set
//   on the way down, as long as what is asked is granted: an absent or malformed entry further down comes too late for
//   the ones above it, which the specification allows. A request that is denied changes nothing from that entry on.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/flag_update.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/format.hpp"
#include "walkers/guest_word.hpp"

#include <atomic>
#include <cassert>
#include <cstdint>

namespace viommu::walkers {

/// Where a first-stage walk ended, in the order in which it is looked for. VT-d's reason beside each, and its code in
/// "Fault Reason Encodings" for a walk that no second stage follows.
enum class FirstStageEnd : std::uint8_t {
  leaf,
  execute_blocked,  ///< SPT.5, 5Ch: execute requests are not supported. From major version 8 on they end earlier: 34h
  supervisor_blocked,  ///< SPT.6, 5Dh
  not_canonical,       ///< SGN.1, 80h
  top_unreadable,      ///< SFS.4, 73h
  unreadable,          ///< SFS.1, 70h
  absent,              ///< SFS.2, 71h
  malformed,           ///< SFS.3, 72h
  user_denied,         ///< SGN.2, 81h: U/S is clear on the way of a user request
  write_denied,        ///< SGN.6, 85h
  not_snooped,         ///< SFS.9, 90h: a flag has to be set and may not be
  update_failed,       ///< SFS.10, 91h: it could not be set, or the guest changed the entry each time
};

struct FirstStageRequest {
  Gpa root{};  ///< FSPTPTR; its page offset does not count
  Iova iova{};
  Rights asked;  ///< an atomic asks for both. A translation request that may write does too; denied, it asks for less
  Privilege privilege = Privilege::user;
  bool execute = false;
};

/// The whole outcome. A walk that ends before the tables names the top level.
struct FirstStageAnswer {
  FirstStageEnd end = FirstStageEnd::absent;
  std::uint8_t level = 0;      ///< of the entry the walk ended at; of a leaf it says the page size
  std::uint8_t loads = 0;      ///< guest words loaded
  std::uint8_t exchanges = 0;  ///< asked for
  std::uint8_t updates = 0;    ///< exchanges done: entries in which A, EA or D was set
  bool wrote_dirty = false;    ///< D among them
  bool dirty = false;          ///< of a leaf: D is set now. Without it no right to write may be cached
  // Of a path that leads to a page, granted or denied; else all clear.
  bool user = false;      ///< U/S of all entries
  bool writable = false;  ///< R/W of all entries
  Rights rights;          ///< what follows for a request of this privilege
  Gpa frame{};            ///< of a leaf: first byte of its page
};

/// One walk. Use walk_first_stage().
/// @tparam Memory  has load_u64 and compare_exchange_u64 as MemoryView does
template <class Memory>
class FirstStageWalk {
 public:
  FirstStageWalk(const FirstStage& format, const Memory& memory, const FirstStageRequest& request,
                 FirstStageAnswer& answer) noexcept
      : format_{format}, memory_{memory}, request_{request}, answer_{answer} {
    answer = {};
    assert(format.controls().levels == 4 || format.controls().levels == first_stage_levels);
  }

  void run() noexcept {
    answer_.level = static_cast<std::uint8_t>(format_.top_level());
    if (request_.execute) {
      end(FirstStageEnd::execute_blocked);
    } else if (request_.privilege == Privilege::supervisor && !format_.controls().supervisor) {
      end(FirstStageEnd::supervisor_blocked);
    } else if (!format_.is_canonical(request_.iova)) {
      end(FirstStageEnd::not_canonical);
    } else {
      Step step = Step::lost;
      for (unsigned pass = 0; pass < walk_passes && step == Step::lost; ++pass) step = go_down();
      if (step == Step::lost) end(FirstStageEnd::update_failed);
    }
  }

 private:
  enum class Step : std::uint8_t {
    down,
    over,  ///< `answer_` is complete
    lost,  ///< every exchange on an entry
  };

  Step go_down() noexcept {
    table_ = {request_.root.value & ~low_bits(page_shift)};
    common_ = FirstStage::right_bits;
    Step step = Step::down;
    for (unsigned level = format_.top_level(); step == Step::down; --level) step = visit(level);  // none below level 0
    return step;
  }

  Step visit(unsigned level) noexcept {
    const Gpa slot = FirstStage::slot(table_, request_.iova, level);
    const std::uint64_t above = common_;
    answer_.level = static_cast<std::uint8_t>(level);
    for (unsigned exchange = 0; exchange < exchanges_per_entry; ++exchange) {
      std::uint64_t entry = 0;
      const bool is_there = load_word(memory_, slot, entry);
      ++answer_.loads;
      if (!is_there)
        return end(level == format_.top_level() ? FirstStageEnd::top_unreadable : FirstStageEnd::unreadable);
      // The guest may rewrite the entry at any time: every decision below uses this one copy.
      const EntryKind kind = format_.classify(entry, level);
      if (kind == EntryKind::absent) return end(FirstStageEnd::absent);
      if (kind == EntryKind::malformed) return end(FirstStageEnd::malformed);
      common_ = above & entry;
      const FirstStageEnd verdict = judge();
      if (kind == EntryKind::leaf && verdict != FirstStageEnd::leaf) return end(verdict);
      const std::uint64_t updated = entry | format_.flags(kind, request_.asked.write());
      if (updated == entry || verdict != FirstStageEnd::leaf) return go_on(kind, entry);
      if (!format_.controls().snooped) return end(FirstStageEnd::not_snooped);
      std::uint64_t expected = entry;
      ++answer_.exchanges;
      switch (memory_.compare_exchange_u64(slot, expected, updated)) {
        case Exchange::done:
          ++answer_.updates;
          answer_.wrote_dirty = FirstStage::is_dirty(updated & ~entry);
          return go_on(kind, updated);
        case Exchange::failed: return end(FirstStageEnd::update_failed);
        case Exchange::lost:   break;
      }
    }
    return Step::lost;
  }

  /// What the path so far says to the request; `leaf` when nothing is missing.
  [[nodiscard]] FirstStageEnd judge() const noexcept {
    if (request_.privilege == Privilege::user && !FirstStage::is_user(common_)) return FirstStageEnd::user_denied;
    if (!format_.rights(common_, request_.privilege).covers(request_.asked)) return FirstStageEnd::write_denied;
    return FirstStageEnd::leaf;
  }

  Step go_on(EntryKind kind, std::uint64_t entry) noexcept {
    table_ = FirstStage::next_table(entry);
    if (kind == EntryKind::table) return Step::down;
    answer_.dirty = FirstStage::is_dirty(entry);
    answer_.frame = FirstStage::frame(entry, answer_.level);
    return end(FirstStageEnd::leaf);
  }

  Step end(FirstStageEnd how) noexcept {
    answer_.end = how;
    const bool leads_to_page =
        how == FirstStageEnd::leaf || how == FirstStageEnd::user_denied || how == FirstStageEnd::write_denied;
    if (leads_to_page) {
      answer_.user = FirstStage::is_user(common_);
      answer_.writable = FirstStage::is_writable(common_);
      answer_.rights = format_.rights(common_, request_.privilege);
    }
    return Step::over;
  }

  const FirstStage& format_;
  const Memory& memory_;
  const FirstStageRequest& request_;
  FirstStageAnswer& answer_;
  Gpa table_{};               // is looked at next
  std::uint64_t common_ = 0;  // the right bits of all entries above it
};

/// Follows the tree of `request` and sets the flags. No allocation, no lock; the bound stands above.
template <class Memory>
[[nodiscard]] FirstStageAnswer walk_first_stage(const FirstStage& format, const Memory& memory,
                                                const FirstStageRequest& request) noexcept {
  FirstStageAnswer answer;
  FirstStageWalk{format, memory, request, answer}.run();
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
  return answer;
}

}  // namespace viommu::walkers
