// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following a second-stage tree for one request of scalable mode: the walk of flag_walk.hpp, which leaves flags behind
// where they are enabled. walkers/walk.hpp and walkers/walk_one.hpp do it for trees without flags.
//
// Where the specification leaves a choice: a path that grants neither right is absent, whatever is asked, and is judged
// at its end; one that grants the other right alone is denied.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "walkers/flag_walk.hpp"
#include "walkers/format/format.hpp"
#include "walkers/format/second_stage.hpp"

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

/// What a walk goes through, for FlagWalk. `common` are the right bits of all entries so far.
struct SecondStageTree {
  using Format = SecondStage;
  using End = SecondStageEnd;
  using Answer = SecondStageAnswer;

  const SecondStage& format;
  const SecondStageControls& controls;
  const SecondStageRequest& request;

  [[nodiscard]] unsigned top_level() const noexcept { return request.top_level; }
  /// That an entry needs before it is used.
  [[nodiscard]] std::uint64_t flags(EntryKind kind) const noexcept {
    return controls.flags ? SecondStage::flags(kind, request.asked.write()) : 0;
  }
  [[nodiscard]] bool snooped() const noexcept { return controls.snooped; }
  [[nodiscard]] bool is_dirty(std::uint64_t entry) const noexcept {
    return !controls.flags || SecondStage::is_dirty(entry);
  }
  /// What the path so far says to the request; `leaf` when nothing is missing.
  [[nodiscard]] SecondStageEnd judge(std::uint64_t common) const noexcept {
    const Rights rights = SecondStage::rights(common);
    if (rights.none()) return SecondStageEnd::absent;
    if (rights.covers(request.asked)) return SecondStageEnd::leaf;
    return rights.read() ? SecondStageEnd::write_denied : SecondStageEnd::read_denied;
  }
  [[nodiscard]] static bool leads_to_page(SecondStageEnd end) noexcept {
    return end == SecondStageEnd::leaf || end == SecondStageEnd::read_denied || end == SecondStageEnd::write_denied;
  }
  static void grant(std::uint64_t common, SecondStageAnswer& answer) noexcept {
    answer.rights = SecondStage::rights(common);
  }
};

/// walk_second_stage() into an answer that is there, and without its fence.
/// @tparam Memory  has load_u64 and compare_exchange_u64 as MemoryView does
template <class Memory>
void follow_second_stage(const SecondStage& format, const SecondStageControls& controls, const Memory& memory,
                         const SecondStageRequest& request, SecondStageAnswer& answer) noexcept {
  assert(request.top_level >= second_stage_leaf_levels - 1 && request.top_level < second_stage_levels);
  answer = {};
  FlagWalk{SecondStageTree{format, controls, request}, memory, answer}.run();
}

/// Follows the tree of `request` and sets the flags. No allocation, no lock; flag_walk.hpp says the bound.
template <class Memory>
[[nodiscard]] SecondStageAnswer walk_second_stage(const SecondStage& format, const SecondStageControls& controls,
                                                  const Memory& memory, const SecondStageRequest& request) noexcept {
  SecondStageAnswer answer;
  follow_second_stage(format, controls, memory, request, answer);
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
  return answer;
}

}  // namespace viommu::walkers
