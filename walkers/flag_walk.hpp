// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following one table tree for one request, which leaves accessed and dirty flags behind: the movement of both stages.
// Source: VT-d, "Accessed, Extended Accessed, and Dirty Flags".
//
//   load -> absent, malformed, denied: the end
//        -> no flags, or set already: down, or the page
//        -> else compare-exchange on the copy: done, and so down; lost: load the same entry again and decide anew
//
// Bound: an entry is loaded and exchanged at most `exchanges_per_entry` times; when all are lost the whole walk begins
// again, once. 40 loads and as many exchanges for 5 levels; one load a level and no exchange where flags are set.
//
// Where the specification leaves a choice:
// - An absent or malformed entry wins over a missing right further up: rights are judged at the end of the path.
// - D is set for a write that is granted, A and EA of a leaf for any request that is granted. In a table they are set
//   on the way down, as long as what is asked is granted: an absent or malformed entry further down comes too late for
//   the ones above it, which the specification allows. A request that is denied changes nothing from that entry on.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/format/format.hpp"
#include "walkers/guest_word.hpp"

#include <cstdint>

namespace viommu::walkers {

// The specification names no number for either.
inline constexpr unsigned exchanges_per_entry = 4;  ///< loads of an entry too: each exchange is based on its own
inline constexpr unsigned walk_passes = 2;  ///< from the top: when all exchanges on an entry were lost, once more

/// One walk.
/// @tparam Tree    a format, a request, and what follows from both: FirstStageTree, SecondStageTree
/// @tparam Memory  has load_u64 and compare_exchange_u64 as MemoryView does
template <class Tree, class Memory>
class FlagWalk {
  using Format = typename Tree::Format;
  using End = typename Tree::End;
  using Answer = typename Tree::Answer;

 public:
  /// @param answer  as it is made
  FlagWalk(const Tree& tree, const Memory& memory, Answer& answer) noexcept
      : tree_{tree}, memory_{memory}, answer_{answer} {}

  void run() noexcept {
    for (unsigned pass = 0; pass < walk_passes; ++pass)
      if (go_down() != Step::lost) return;
    end(End::update_failed);
  }

 private:
  enum class Step : std::uint8_t {
    down,
    over,  ///< `answer_` is complete
    lost,  ///< every exchange on an entry
  };

  Step go_down() noexcept {
    table_ = {tree_.request.root.value & ~low_bits(page_shift)};
    common_ = Format::right_bits;
    Step step = Step::down;
    for (unsigned level = tree_.top_level(); step == Step::down; --level) step = visit(level);  // none below level 0
    return step;
  }

  Step visit(unsigned level) noexcept {
    const Gpa slot = Format::slot(table_, tree_.request.iova, level);
    const std::uint64_t above = common_;
    answer_.level = static_cast<std::uint8_t>(level);
    for (unsigned exchange = 0; exchange < exchanges_per_entry; ++exchange) {
      std::uint64_t entry = 0;
      const bool is_there = load_word(memory_, slot, entry);
      ++answer_.loads;
      if (!is_there) return end(level == tree_.top_level() ? End::top_unreadable : End::unreadable);
      // The guest may rewrite the entry at any time: every decision below uses this one copy.
      const EntryKind kind = tree_.format.classify(entry, level);
      if (kind == EntryKind::absent) return end(End::absent);
      if (kind == EntryKind::malformed) return end(End::malformed);
      common_ = above & entry;
      const End verdict = tree_.judge(common_);
      if (kind == EntryKind::leaf && verdict != End::leaf) return end(verdict);
      const std::uint64_t updated = entry | tree_.flags(kind);
      if (updated == entry || verdict != End::leaf) return go_on(kind, entry);
      if (!tree_.snooped()) return end(End::not_snooped);
      std::uint64_t expected = entry;
      ++answer_.exchanges;
      switch (memory_.compare_exchange_u64(slot, expected, updated)) {
        case Exchange::done:
          ++answer_.updates;
          answer_.wrote_dirty = Format::is_dirty(updated & ~entry);
          return go_on(kind, updated);
        case Exchange::failed: return end(End::update_failed);
        case Exchange::lost:   break;
      }
    }
    return Step::lost;
  }

  Step go_on(EntryKind kind, std::uint64_t entry) noexcept {
    table_ = Format::next_table(entry);
    if (kind == EntryKind::table) return Step::down;
    answer_.dirty = tree_.is_dirty(entry);
    answer_.frame = Format::frame(entry, answer_.level);
    return end(End::leaf);
  }

  Step end(End how) noexcept {
    answer_.end = how;
    if (Tree::leads_to_page(how)) tree_.grant(common_, answer_);
    return Step::over;
  }

  const Tree tree_;
  const Memory& memory_;
  Answer& answer_;
  Gpa table_{};               // is looked at next
  std::uint64_t common_ = 0;  // the right bits of all entries above it
};

}  // namespace viommu::walkers
