// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many second-stage walks of scalable mode at once, with accessed and dirty flags where they are enabled: the lanes of
// stage_lanes.hpp, as first_stage_kernel.hpp uses them. Trees of legacy mode have a kernel that says everything of a
// walk (walk_kernel.hpp).
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/simd/by_turns.hpp"
#include "walkers/simd/records.hpp"
#include "walkers/simd/second_stage_lanes.hpp"
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
[[gnu::noinline, gnu::flatten]] void walk_second_stage_alone(const SecondStage& format,
                                                             const SecondStageControls& controls,
                                                             const MemoryView& memory,
                                                             const SecondStageRequest& request,
                                                             SecondStageAnswer& answer) noexcept {
  follow_second_stage(format, controls, memory, request, answer);
}

/// Lanes: the vector type.
template <class Lanes>
class SecondStageGroup {
  using Word = typename Lanes::Word;
  using Op = typename Lanes::Predicates;
  using Stage = StageLanes<Lanes, SecondStageLanes>;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  static constexpr std::size_t size = Stage::size;

  SecondStageGroup(const SecondStage& format, const SecondStageControls& controls, const MemoryView& memory) noexcept
      : format_{format}, controls_{controls}, memory_{memory}, spans_{memory} {}

  /// Takes `count` walks down to the leaf tables, whose words are then on their way to the cache.
  [[gnu::flatten]] void descend(const SecondStageRequest* requests, std::size_t count) noexcept {
    requests_ = requests;
    count_ = count;
    vectors_ = (count + lanes - 1) / lanes;
    top_level_ = requests->top_level;
    const SecondStageNeeds<Lanes> needs{controls_.flags};
    const typename Stage::Constants constants = spans_.constants();
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      Word table;
      Word iova;
      Word rest;
      load_requests<Lanes>(requests + at, count - at, table, iova, rest);
      stage_.begin(at, iova, needs.of(rest));
      // A table as high as the first one's: it is the same PASID table entry.
      const auto here = Op::equal(Op::every(), rest >> static_cast<int>(request_top_level), Stage::all(top_level_));
      stage_.enter(at, top_level_, constants, table & Stage::all(~low_bits(page_shift)), here);
    }
    stage_.descend(top_level_, format_.masks(), vectors_, spans_);
  }

  /// Ends the walks.
  [[gnu::flatten]] void finish(SecondStageAnswer* answers) noexcept {
    stage_.take_leaves(format_.masks(), vectors_);
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word leaf = stage_.leaf(at);
      const Word level = Stage::level_of(leaf);
      const Word dirty = Stage::template bit_to<SecondStageLanes::dirty, answer_dirty>(leaf);
      Words words;
      words.template put<0>((level << static_cast<int>(answer_level)) |
                            ((Stage::all(top_level_ + 1U) - level) << static_cast<int>(answer_loads)) |
                            (controls_.flags ? dirty : Stage::all(std::uint64_t{1} << answer_dirty)) |
                            ((leaf & Stage::all(all_right_bits)) << static_cast<int>(answer_rights)));
      words.template put<1>(Stage::frame_of(leaf));
      const unsigned came = Lanes::bits(Stage::came(leaf));
      for (std::size_t lane = 0; lane < std::min(lanes, count_ - at); ++lane) {
        if ((came >> lane & 1) == 0)
          walk_second_stage_alone<Lanes>(format_, controls_, memory_, requests_[at + lane], answers[at + lane]);
        else
          words.give(lane, answers[at + lane]);
      }
    }
  }

 private:
  using Words = AnswerWords<Lanes, SecondStageAnswer>;

  // The third word of a request, and an answer's first.
  static constexpr std::size_t rest_at = offsetof(SecondStageRequest, asked);
  static constexpr unsigned request_top_level = (offsetof(SecondStageRequest, top_level) - rest_at) * Words::byte_bits;
  static constexpr unsigned answer_level = offsetof(SecondStageAnswer, level) * Words::byte_bits;
  static constexpr unsigned answer_loads = offsetof(SecondStageAnswer, loads) * Words::byte_bits;
  static constexpr unsigned answer_dirty = offsetof(SecondStageAnswer, dirty) * Words::byte_bits;
  static constexpr unsigned answer_rights = offsetof(SecondStageAnswer, rights) * Words::byte_bits;
  static_assert(offsetof(SecondStageRequest, root) == 0 && offsetof(SecondStageRequest, iova) == 8 && rest_at == 16 &&
                request_top_level == 32 && sizeof(SecondStageRequest) == 24);
  static_assert(offsetof(SecondStageAnswer, end) == 0 && SecondStageEnd::leaf == SecondStageEnd{} &&
                answer_rights == 56 && offsetof(SecondStageAnswer, frame) == 8 && sizeof(SecondStageAnswer) == 16);

  const SecondStage& format_;
  const SecondStageControls& controls_;
  const MemoryView& memory_;
  SpanLanes<Lanes> spans_;
  const SecondStageRequest* requests_ = nullptr;
  std::size_t count_ = 0;
  std::size_t vectors_ = 0;
  unsigned top_level_ = 0;
  Stage stage_;
};

/// Kernels::walk_second_stage of one instruction set.
template <class Lanes>
void walk_second_stage_batch(const SecondStage& format, const SecondStageControls& controls, const MemoryView& memory,
                             const SecondStageRequest* requests, SecondStageAnswer* answers,
                             std::size_t count) noexcept {
  if (count >= Lanes::worthwhile_padded) {
    using Group = SecondStageGroup<Lanes>;
    std::array groups{Group{format, controls, memory}, Group{format, controls, memory}};
    walk_by_turns(groups, requests, answers, count);
  } else {
    for (std::size_t i = 0; i < count; ++i)
      walk_second_stage_alone<Lanes>(format, controls, memory, requests[i], answers[i]);
  }
  // The caller looks at versions and clocks next, and must not have done so before the loads.
  std::atomic_thread_fence(std::memory_order_acquire);
}

}  // namespace viommu::walkers
