// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many first-stage walks at once, written once for any lanes. Lanes answer what needs nothing written and meets nothing
// unusual (stage_lanes.hpp).
//
//   requests -> lanes: what each entry must have (P, A, EA, U/S, R/W, and D of a leaf), a word a walk
//   for each level, top first:
//     load     one word for each walk that is still on its way, all independent
//     decide   has what it must and nothing it may not: a page, or a table to go on with
//     move     the next table's host address, and a prefetch
//   lanes -> answers; walks that fell out are done from the top by the single walk, which alone sets flags and faults
//
// A walk that fell out has loaded up to five words in vain; the single walk decides on words of its own. Two groups
// take turns, so that the leaves of one are on their way to the cache while the other goes down.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/simd/by_turns.hpp"
#include "walkers/simd/first_stage_lanes.hpp"
#include "walkers/simd/records.hpp"
#include "walkers/simd/span_lanes.hpp"
#include "walkers/simd/stage_lanes.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// What lanes do not answer. All of it inside this function: nothing inline is left for code of other machines.
template <class Lanes>
[[gnu::noinline, gnu::flatten]] void walk_first_stage_alone(const FirstStage& format, const MemoryView& memory,
                                                            const FirstStageRequest& request,
                                                            FirstStageAnswer& answer) noexcept {
  follow_first_stage(format, memory, request, answer);
}

/// Lanes: the vector type.
template <class Lanes>
class FirstStageGroup {
  using Word = typename Lanes::Word;
  using Facts = FirstStageLanes;
  using Stage = StageLanes<Lanes, Facts>;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  static constexpr std::size_t size = Stage::size;

  FirstStageGroup(const FirstStage& format, const MemoryView& memory) noexcept
      : format_{format}, memory_{memory}, spans_{memory} {}

  /// Takes `count` walks down to the leaf tables, whose words are then on their way to the cache.
  [[gnu::flatten]] void descend(const FirstStageRequest* requests, std::size_t count) noexcept {
    requests_ = requests;
    count_ = count;
    vectors_ = (count + lanes - 1) / lanes;
    const FirstStageNeeds<Lanes> needs{format_};
    const typename Stage::Constants constants = spans_.constants();
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      Word table;
      Word iova;
      Word rest;
      load_requests<Lanes>(requests + at, count - at, table, iova, rest);
      const auto [here, all_entries, free] = needs.of(iova, rest);
      Lanes::store(&free_[at], free);
      stage_.begin(at, iova, all_entries);
      stage_.enter(at, format_.top_level(), constants, table & Stage::all(~low_bits(page_shift)), here);
    }
    stage_.descend(format_.top_level(), format_.masks(), vectors_, spans_);
  }

  /// Ends the walks.
  [[gnu::flatten]] void finish(FirstStageAnswer* answers) noexcept {
    stage_.take_leaves(format_.masks(), vectors_);
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word leaf = stage_.leaf(at);
      const Word level = Stage::level_of(leaf);
      const Word levels_left = Stage::all(format_.controls().levels) - level;
      const Word dirty = Stage::template bit_to<Facts::dirty, answer_dirty>(leaf);
      const Word user = Stage::template bit_to<Facts::user, answer_user>(leaf);
      const Word writable = Stage::template bit_to<Facts::write, 0>(leaf);
      const Word may_write = Stage::template bit_to<Facts::write, answer_rights + 1>(leaf | Lanes::load(&free_[at]));
      Words words;
      words.template put<0>(dirty | user | (level << static_cast<int>(answer_level)) |
                            (levels_left << static_cast<int>(answer_loads)));
      words.template put<1>(writable | may_write | Stage::all(read_only.bits() << answer_rights));
      words.template put<2>(Stage::frame_of(leaf));
      const unsigned came = Lanes::bits(Stage::came(leaf));
      for (std::size_t lane = 0; lane < std::min(lanes, count_ - at); ++lane) {
        if ((came >> lane & 1) == 0)
          walk_first_stage_alone<Lanes>(format_, memory_, requests_[at + lane], answers[at + lane]);
        else
          words.give(lane, answers[at + lane]);
      }
    }
  }

 private:
  using Column = typename Stage::Column;
  using Words = AnswerWords<Lanes, FirstStageAnswer>;

  // An answer's first two words.
  static constexpr unsigned byte_bits = Words::byte_bits;
  static constexpr unsigned answer_level = offsetof(FirstStageAnswer, level) * byte_bits;
  static constexpr unsigned answer_loads = offsetof(FirstStageAnswer, loads) * byte_bits;
  static constexpr unsigned answer_dirty = offsetof(FirstStageAnswer, dirty) * byte_bits;
  static constexpr unsigned answer_user = offsetof(FirstStageAnswer, user) * byte_bits;
  static constexpr unsigned answer_rights = (offsetof(FirstStageAnswer, rights) - 8) * byte_bits;
  static_assert(offsetof(FirstStageAnswer, end) == 0 && FirstStageEnd::leaf == FirstStageEnd{} &&
                offsetof(FirstStageAnswer, writable) == 8 && offsetof(FirstStageAnswer, frame) == 16 &&
                sizeof(FirstStageAnswer) == 24);

  const FirstStage& format_;
  const MemoryView& memory_;
  SpanLanes<Lanes> spans_;
  const FirstStageRequest* requests_ = nullptr;
  std::size_t count_ = 0;
  std::size_t vectors_ = 0;
  Stage stage_;
  alignas(line_bytes) Column free_;  ///< the right to write that needs no bit of an entry
};

/// Kernels::walk_first_stage of one instruction set.
template <class Lanes>
void walk_first_stage_batch(const FirstStage& format, const MemoryView& memory, const FirstStageRequest* requests,
                            FirstStageAnswer* answers, std::size_t count) noexcept {
  if (count >= Lanes::worthwhile_padded) {
    std::array groups{FirstStageGroup<Lanes>{format, memory}, FirstStageGroup<Lanes>{format, memory}};
    walk_by_turns(groups, requests, answers, count);
  } else {
    for (std::size_t i = 0; i < count; ++i) walk_first_stage_alone<Lanes>(format, memory, requests[i], answers[i]);
  }
  // The caller looks at versions and clocks next, and must not have done so before the loads.
  std::atomic_thread_fence(std::memory_order_acquire);
}

}  // namespace viommu::walkers
