// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following a first-stage tree for one request: the walk of flag_walk.hpp, behind what is looked at before the tables.
// Where the specification leaves a choice, of two missing rights U/S is told before R/W.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "walkers/flag_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/format.hpp"

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

/// What a walk goes through, for FlagWalk. `common` are the right bits of all entries so far.
struct FirstStageTree {
  using Format = FirstStage;
  using End = FirstStageEnd;
  using Answer = FirstStageAnswer;

  const FirstStage& format;
  const FirstStageRequest& request;

  [[nodiscard]] unsigned top_level() const noexcept { return format.top_level(); }
  /// That an entry needs before it is used.
  [[nodiscard]] std::uint64_t flags(EntryKind kind) const noexcept { return format.flags(kind, request.asked.write()); }
  [[nodiscard]] bool snooped() const noexcept { return format.controls().snooped; }
  [[nodiscard]] static bool is_dirty(std::uint64_t entry) noexcept { return FirstStage::is_dirty(entry); }
  /// What the path so far says to the request; `leaf` when nothing is missing.
  [[nodiscard]] FirstStageEnd judge(std::uint64_t common) const noexcept {
    if (request.privilege == Privilege::user && !FirstStage::is_user(common)) return FirstStageEnd::user_denied;
    if (!format.rights(common, request.privilege).covers(request.asked)) return FirstStageEnd::write_denied;
    return FirstStageEnd::leaf;
  }
  [[nodiscard]] static bool leads_to_page(FirstStageEnd end) noexcept {
    return end == FirstStageEnd::leaf || end == FirstStageEnd::user_denied || end == FirstStageEnd::write_denied;
  }
  void grant(std::uint64_t common, FirstStageAnswer& answer) const noexcept {
    answer.user = FirstStage::is_user(common);
    answer.writable = FirstStage::is_writable(common);
    answer.rights = format.rights(common, request.privilege);
  }
};

/// walk_first_stage() into an answer that is there, and without its fence.
/// @tparam Memory  has load_u64 and compare_exchange_u64 as MemoryView does
template <class Memory>
void follow_first_stage(const FirstStage& format, const Memory& memory, const FirstStageRequest& request,
                        FirstStageAnswer& answer) noexcept {
  assert(format.controls().levels == 4 || format.controls().levels == first_stage_levels);
  answer = {};
  answer.level = static_cast<std::uint8_t>(format.top_level());
  if (request.execute) {
    answer.end = FirstStageEnd::execute_blocked;
  } else if (request.privilege == Privilege::supervisor && !format.controls().supervisor) {
    answer.end = FirstStageEnd::supervisor_blocked;
  } else if (!format.is_canonical(request.iova)) {
    answer.end = FirstStageEnd::not_canonical;
  } else {
    FlagWalk{FirstStageTree{format, request}, memory, answer}.run();
  }
}

/// Follows the tree of `request` and sets the flags. No allocation, no lock; flag_walk.hpp says the bound.
template <class Memory>
[[nodiscard]] FirstStageAnswer walk_first_stage(const FirstStage& format, const Memory& memory,
                                                const FirstStageRequest& request) noexcept {
  FirstStageAnswer answer;
  follow_first_stage(format, memory, request, answer);
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
  return answer;
}

}  // namespace viommu::walkers
