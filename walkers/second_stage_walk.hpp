// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following a second-stage tree for one request of scalable mode, which leaves accessed and dirty flags behind where
// they are enabled. walkers/walk.hpp and walkers/walk_one.hpp do it for trees without flags.
//
//   load -> absent, malformed, denied: the end
//        -> no flags, or set already: down, or the page
//        -> else compare-exchange on the copy: done, and so down; lost: load the same entry again and decide anew
//
// Bound: an entry is loaded and exchanged at most `exchanges_per_entry` times; when all are lost the whole walk begins
// again, once. 40 loads and as many exchanges for 5 levels; one load a level and no exchange where flags are set.
//
// Where the specification leaves a choice:
// - An absent or malformed entry wins over a missing right further up: rights are judged at the end of the path, and so
//   is a path of which no right is left.
// - A path that grants neither right is absent, whatever is asked; one that grants the other right alone is denied.
// - D is set for a write that is granted, A of a leaf for any request that is granted. In a table A is set on the way
//   down, as long as what is asked is granted: an absent or malformed entry further down comes too late for the ones
//   above it, which the specification allows. A request that is denied changes nothing from that entry on.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/flag_update.hpp"
#include "walkers/format/format.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/guest_word.hpp"

#include <atomic>
#include <cassert>
#include <cstdint>

namespace viommu::walkers {

/// What a PASID table entry sets for its second stage.
struct SecondStageControls {
  bool flags = false;   ///< SSADE: A and D are maintained
  bool snooped = true;  ///< ECAP.SMPWCS and PWSNP: else flags may not be written
};

/// Where a second-stage walk ended. VT-d's reason beside each, with its code in scalable mode.
enum class SecondStageEnd : std::uint8_t {
  leaf,
  top_unreadable,  ///< SSS.4, 7Bh
  unreadable,      ///< SSS.1, 78h
  absent,          ///< SSS.2, 79h: an entry, or the whole path, without any right
  malformed,       ///< SSS.3, 7Ah
  read_denied,     ///< SGN.7, 86h
  write_denied,    ///< SGN.6, 85h
  not_snooped,     ///< SSS.5, 7Ch: a flag has to be set and may not be
  update_failed,   ///< SSS.6, 7Dh: it could not be set, or the guest changed the entry each time
};

struct SecondStageRequest {
  Gpa root{};              ///< SSPTPTR; its page offset does not count
  Iova iova{};             ///< within the width of the tables and MGAW: whoever asks has checked it (SGN.5, 84h)
  Rights asked;            ///< an atomic asks for both, a zero-length read that either right allows for none
  unsigned top_level = 3;  ///< AW + 1: 2 to 4
};

/// The whole outcome.
struct SecondStageAnswer {
  SecondStageEnd end = SecondStageEnd::absent;
  std::uint8_t level = 0;      ///< of the entry the walk ended at; of a leaf it says the page size
  std::uint8_t loads = 0;      ///< guest words loaded
  std::uint8_t exchanges = 0;  ///< asked for
  std::uint8_t updates = 0;    ///< exchanges done: entries in which A or D was set
  bool wrote_dirty = false;    ///< D among them
  bool dirty = false;  ///< of a leaf: D is set now, or flags are off. Without it no right to write may be cached
  Rights rights;       ///< of a path that leads to a page, granted or denied: those of all entries
  Gpa frame{};         ///< of a leaf: first byte of its page
};

/// One walk. Use walk_second_stage().
/// @tparam Memory  has load_u64 and compare_exchange_u64 as MemoryView does
template <class Memory>
class SecondStageWalk {
 public:
  SecondStageWalk(const SecondStage& format, const SecondStageControls& controls, const Memory& memory,
                  const SecondStageRequest& request, SecondStageAnswer& answer) noexcept
      : format_{format}, controls_{controls}, memory_{memory}, request_{request}, answer_{answer} {
    answer = {};
    assert(request.top_level >= second_stage_leaf_levels - 1 && request.top_level < second_stage_levels);
  }

  void run() noexcept {
    Step step = Step::lost;
    for (unsigned pass = 0; pass < walk_passes && step == Step::lost; ++pass) step = go_down();
    if (step == Step::lost) end(SecondStageEnd::update_failed);
  }

 private:
  enum class Step : std::uint8_t {
    down,
    over,  ///< `answer_` is complete
    lost,  ///< every exchange on an entry
  };

  Step go_down() noexcept {
    table_ = {request_.root.value & ~low_bits(page_shift)};
    common_ = SecondStage::right_bits;
    Step step = Step::down;
    for (unsigned level = request_.top_level; step == Step::down; --level) step = visit(level);  // none below level 0
    return step;
  }

  Step visit(unsigned level) noexcept {
    const Gpa slot = SecondStage::slot(table_, request_.iova, level);
    const std::uint64_t above = common_;
    answer_.level = static_cast<std::uint8_t>(level);
    for (unsigned exchange = 0; exchange < exchanges_per_entry; ++exchange) {
      std::uint64_t entry = 0;
      const bool is_there = load_word(memory_, slot, entry);
      ++answer_.loads;
      if (!is_there)
        return end(level == request_.top_level ? SecondStageEnd::top_unreadable : SecondStageEnd::unreadable);
      // The guest may rewrite the entry at any time: every decision below uses this one copy.
      const EntryKind kind = format_.classify(entry, level);
      if (kind == EntryKind::absent) return end(SecondStageEnd::absent);
      if (kind == EntryKind::malformed) return end(SecondStageEnd::malformed);
      common_ = above & entry;
      const SecondStageEnd verdict = judge();
      if (kind == EntryKind::leaf && verdict != SecondStageEnd::leaf) return end(verdict);
      const std::uint64_t updated = entry | flags(kind);
      if (updated == entry || verdict != SecondStageEnd::leaf) return go_on(kind, entry);
      if (!controls_.snooped) return end(SecondStageEnd::not_snooped);
      std::uint64_t expected = entry;
      ++answer_.exchanges;
      switch (memory_.compare_exchange_u64(slot, expected, updated)) {
        case Exchange::done:
          ++answer_.updates;
          answer_.wrote_dirty = SecondStage::is_dirty(updated & ~entry);
          return go_on(kind, updated);
        case Exchange::failed: return end(SecondStageEnd::update_failed);
        case Exchange::lost:   break;
      }
    }
    return Step::lost;
  }

  [[nodiscard]] std::uint64_t flags(EntryKind kind) const noexcept {
    return controls_.flags ? SecondStage::flags(kind, request_.asked.write()) : 0;
  }

  /// What the path so far says to the request; `leaf` when nothing is missing.
  [[nodiscard]] SecondStageEnd judge() const noexcept {
    const Rights rights = SecondStage::rights(common_);
    if (rights.none()) return SecondStageEnd::absent;
    if (rights.covers(request_.asked)) return SecondStageEnd::leaf;
    return rights.read() ? SecondStageEnd::write_denied : SecondStageEnd::read_denied;
  }

  Step go_on(EntryKind kind, std::uint64_t entry) noexcept {
    table_ = SecondStage::next_table(entry);
    if (kind == EntryKind::table) return Step::down;
    answer_.dirty = !controls_.flags || SecondStage::is_dirty(entry);
    answer_.frame = SecondStage::frame(entry, answer_.level);
    return end(SecondStageEnd::leaf);
  }

  Step end(SecondStageEnd how) noexcept {
    answer_.end = how;
    const bool leads_to_page =
        how == SecondStageEnd::leaf || how == SecondStageEnd::read_denied || how == SecondStageEnd::write_denied;
    if (leads_to_page) answer_.rights = SecondStage::rights(common_);
    return Step::over;
  }

  const SecondStage& format_;
  const SecondStageControls& controls_;
  const Memory& memory_;
  const SecondStageRequest& request_;
  SecondStageAnswer& answer_;
  Gpa table_{};               // is looked at next
  std::uint64_t common_ = 0;  // the right bits of all entries above it
};

/// Follows the tree of `request` and sets the flags. No allocation, no lock; the bound stands above.
template <class Memory>
[[nodiscard]] SecondStageAnswer walk_second_stage(const SecondStage& format, const SecondStageControls& controls,
                                                  const Memory& memory, const SecondStageRequest& request) noexcept {
  SecondStageAnswer answer;
  SecondStageWalk{format, controls, memory, request, answer}.run();
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
  return answer;
}

}  // namespace viommu::walkers
