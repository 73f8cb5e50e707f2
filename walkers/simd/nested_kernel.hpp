// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many nested walks of one address space at once: the lanes of stage_lanes.hpp, twice.
//
//   requests -> lanes: what each first-stage entry must have, and what the page's second-stage entries must
//   for each level of the first stage, top first:
//     distinct  the pages that the walks' tables lie in; walks of one address space share most of them
//     place     of each such page one second-stage walk, in lanes
//     step      each walk's entry there: a page, or the next table
//   pages -> second stage, in lanes -> answers
//
// Lanes answer what needs nothing written and meets nothing unusual in either stage; every other walk falls out and is
// done from the top by walk_nested(), which alone sets flags and faults.
//
// Why walks may share a second-stage walk: it begins once the entries that name its page are all loaded (the fence
// below), and ends before any of the words it leads to. So each of the walks has loaded, in its own order, words that
// it might have loaded alone; that two of them read one word at one instant nobody can tell from two reads of it. They
// ask for the same rights, and nothing is written. It is kept no longer than for that step.
//
// Bound: at most one second-stage walk a walk and level, as alone; which pages a guest chooses changes no more than how
// many are shared. An answer's loads are those its walk was decided on, shared ones included, and those of a table that
// points at itself once a level: the single walk knows where an entry lies that it has just looked at.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/simd/by_turns.hpp"
#include "walkers/simd/first_stage_lanes.hpp"
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
[[gnu::noinline, gnu::flatten]] void walk_nested_alone(const NestedStages& stages, const MemoryView& memory,
                                                       const FirstStageRequest& request,
                                                       NestedAnswer& answer) noexcept {
  answer = walk_nested(stages, memory, request);
}

/// Lanes: the vector type.
template <class Lanes>
class NestedGroup {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  using FirstFacts = FirstStageLanes;
  using SecondFacts = SecondStageLanes;
  using First = StageLanes<Lanes, FirstFacts>;
  using Second = StageLanes<Lanes, SecondFacts>;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  static constexpr std::size_t size = First::size;

  [[gnu::flatten]] NestedGroup(const NestedStages& stages, const MemoryView& memory) noexcept
      : stages_{stages},
        memory_{memory},
        first_masks_{stages.first.within(stages.input_width).masks()},
        second_needs_{stages.second_controls.flags},
        second_root_{stages.second_root.value & ~low_bits(page_shift)},
        spans_{memory} {}

  /// Takes `count` walks down to the second-stage tables of their pages, whose words are then on their way to the
  /// cache.
  [[gnu::flatten]] void descend(const FirstStageRequest* requests, std::size_t count) noexcept {
    requests_ = requests;
    count_ = count;
    vectors_ = (count + lanes - 1) / lanes;
    begin();
    if (stages_.first.top_level() == 4) step<4>();
    step<3>();
    step<2>();
    step<1>();
    come_to(0);
    first_.take_leaves(first_masks_, vectors_);
    seek_pages();
  }

  /// Ends the walks.
  [[gnu::flatten]] void finish(NestedAnswer* answers) noexcept {
    second_.take_leaves(stages_.second.masks(), vectors_);
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      Words words;
      const unsigned came = Lanes::bits(conclude(at, words));
      for (std::size_t lane = 0; lane < std::min(lanes, count_ - at); ++lane) {
        if ((came >> lane & 1) == 0)
          walk_nested_alone<Lanes>(stages_, memory_, requests_[at + lane], answers[at + lane]);
        else
          words.give(lane, answers[at + lane]);
      }
    }
  }

 private:
  using Column = typename First::Column;
  using Constants = typename First::Constants;
  using Words = AnswerWords<Lanes, NestedAnswer>;

  static constexpr unsigned answer_level = offsetof(NestedAnswer, level) * Words::byte_bits;
  static constexpr unsigned answer_loads = offsetof(NestedAnswer, loads) * Words::byte_bits;
  static constexpr unsigned answer_rights = (offsetof(NestedAnswer, rights) - 8) * Words::byte_bits;
  static_assert(offsetof(NestedAnswer, end) == 0 && NestedEnd::leaf == NestedEnd{} && answer_loads == 16 &&
                offsetof(NestedAnswer, dirty) == 8 && offsetof(NestedAnswer, frame) == 16 &&
                sizeof(NestedAnswer) == 24);

  static constexpr std::uint64_t nowhere = 1;  ///< in the place of a page: the walk has come to its own, or fell out
  static constexpr std::uint64_t loads_bits = low_bits(page_shift);  ///< of a place, which is a page
  // Two stages, and the rights of both in the same bits.
  static constexpr std::uint64_t right_to_write = write_only.bits();
  static_assert(FirstFacts::write == right_to_write && SecondFacts::right_bits == all_right_bits);

  static Word all(std::uint64_t value) noexcept { return First::all(value); }
  [[nodiscard]] Word loads_to(const Word& second_level) const noexcept {
    return all(stages_.second_top_level + 1U) - second_level;
  }

  void begin() noexcept {
    const FirstStageNeeds<Lanes> needs{stages_.first};
    const std::uint64_t beyond = ~low_bits(stages_.input_width);
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      Word table;
      Word iova;
      Word rest;
      load_requests<Lanes>(requests_ + at, count_ - at, table, iova, rest);
      const auto [begins, all_entries, free] = needs.of(iova, rest);
      const Mask here = Op::none_of(begins, table, all(beyond));
      Lanes::store(&free_[at], free);
      Lanes::store(&page_needs_[at], second_needs_.of(rest));
      Lanes::store(&loads_[at], all(0));
      first_.begin(at, iova, all_entries);
      Lanes::store(&table_[at], Op::choose(here, table & all(~low_bits(page_shift)), all(nowhere)));
    }
  }

  template <unsigned level>
  void step() noexcept {
    come_to(level);
    first_.template step<level>(first_masks_, vectors_, [&](std::size_t at, const Word& table, const Mask& moves) {
      Lanes::store(&table_[at], Op::choose(moves, table, all(nowhere)));
    });
  }

  /// The walks come to their tables of this level, where those lie.
  void come_to(unsigned level) noexcept {
    // Whoever goes on from here has loaded the entry that led here before any of the loads that it shares.
    std::atomic_thread_fence(std::memory_order_acquire);
    place(distinct());
    const Constants constants = spans_.constants();
    for (std::size_t lane = 0; lane < vectors_ * lanes; ++lane) table_[lane] = place_[which_[lane]];
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word place = Lanes::load(&table_[at]);
      Lanes::store(&loads_[at], loads_of(at) + (place & all(loads_bits)));
      first_.enter(at, level, constants, place & all(~loads_bits), First::came(place));
    }
  }

  /// Fills `place_` with the pages of `table_`, each but once unless two of them share a place in `recent_`.
  /// @return how many
  std::size_t distinct() noexcept {
    std::size_t count = 0;
    for (std::size_t lane = 0; lane < vectors_ * lanes; ++lane) {
      const std::uint64_t page = table_[lane];
      std::uint8_t& recent = recent_[page >> page_shift & (size - 1)];  // tables are made one behind the other
      // What is left of the last time points at no page of this one, or at one that it is compared with.
      if (recent >= count || place_[recent] != page) {
        recent = static_cast<std::uint8_t>(count);
        place_[count++] = page;
      }
      which_[lane] = recent;
    }
    return count;
  }

  /// Of each page in `place_` the one it lies in, with the number of loads up to an entry there; zero if a walk alone
  /// must say.
  void place(std::size_t count) noexcept {
    const std::size_t vectors = (count + lanes - 1) / lanes;
    const Rights asked = stages_.second_controls.flags ? read_write : read_only;
    const Word needs = all(second_needs_.of(asked));
    const Constants constants = spans_.constants();
    for (; count != vectors * lanes; ++count) place_[count] = nowhere;
    for (std::size_t at = 0; at < count; at += lanes) {
      const Word page = Lanes::load(&place_[at]);
      second_.begin(at, page, needs);
      second_.enter(at, stages_.second_top_level, constants, all(second_root_),
                    Op::none_of(Op::every(), page, all(nowhere)));
    }
    second_.descend(stages_.second_top_level, stages_.second.masks(), vectors, spans_);
    second_.take_leaves(stages_.second.masks(), vectors);
    for (std::size_t at = 0; at < count; at += lanes) {
      const Word leaf = second_.leaf(at);
      const Word level = Second::level_of(leaf);
      const Word page = Second::frame_of(leaf) | (second_.iova(at) & Second::offset_bits(level));
      Lanes::store(&place_[at], Op::choose(Second::came(leaf), page | (loads_to(level) + all(1)), all(0)));
    }
  }

  void seek_pages() noexcept {
    const Constants constants = spans_.constants();
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word leaf = first_.leaf(at);
      const Word offset = first_.iova(at) & First::offset_bits(First::level_of(leaf));
      second_.begin(at, First::frame_of(leaf) | offset, Lanes::load(&page_needs_[at]));
      second_.enter(at, stages_.second_top_level, constants, all(second_root_), First::came(leaf));
    }
    second_.descend(stages_.second_top_level, stages_.second.masks(), vectors_, spans_);
  }

  /// @return the walks that `words` answers
  Mask conclude(std::size_t at, Words& words) const noexcept {
    const Word first = first_.leaf(at);
    const Word second = second_.leaf(at);
    const Word first_level = First::level_of(first);
    const Word second_level = Second::level_of(second);
    // A first stage lets all be read that it lets come here.
    const Word first_rights = ((first | Lanes::load(&free_[at])) & all(right_to_write)) | all(read_only.bits());
    const Word rights = first_rights & second & all(all_right_bits);
    const Word first_dirty = First::template bit_to<FirstFacts::dirty, 0>(first);
    const Word dirty = stages_.second_controls.flags
                           ? first_dirty & Second::template bit_to<SecondFacts::dirty, 0>(second)
                           : first_dirty;
    const Word level = Op::choose(Op::within(Op::every(), first_level, second_level), first_level, second_level);
    const Word loads = loads_of(at) + loads_to(second_level);
    const Word page = Second::frame_of(second) | (second_.iova(at) & Second::offset_bits(second_level));
    words.template put<0>((level << static_cast<int>(answer_level)) | (loads << static_cast<int>(answer_loads)));
    words.template put<1>(dirty | (rights << static_cast<int>(answer_rights)));
    words.template put<2>(page & ~First::offset_bits(level));
    return Op::any_of(Second::came(second), rights, all(all_right_bits));
  }
  [[nodiscard]] Word loads_of(std::size_t at) const noexcept { return Lanes::load(&loads_[at]); }

  const NestedStages& stages_;
  const MemoryView& memory_;
  FirstStageMasks first_masks_;  ///< with what is beyond the second stage
  SecondStageNeeds<Lanes> second_needs_;
  std::uint64_t second_root_;
  SpanLanes<Lanes> spans_;
  const FirstStageRequest* requests_ = nullptr;
  std::size_t count_ = 0;
  std::size_t vectors_ = 0;
  First first_;
  Second second_;                            ///< of tables, then of pages
  alignas(line_bytes) Column free_;          ///< the right to write that needs no bit of a first-stage entry
  alignas(line_bytes) Column page_needs_;    ///< of the second stage
  alignas(line_bytes) Column loads_;         ///< so far
  alignas(line_bytes) Column table_;         ///< of the first stage, to which a walk comes next; then where it lies
  alignas(line_bytes) Column place_;         ///< the pages of those tables; then where they lie
  std::array<std::uint8_t, size> which_;     ///< of them a walk's table is in
  std::array<std::uint8_t, size> recent_{};  ///< a page of `place_`, by some of the page's bits
};

/// Kernels::walk_nested of one instruction set.
template <class Lanes>
void walk_nested_batch(const NestedStages& stages, const MemoryView& memory, const FirstStageRequest* requests,
                       NestedAnswer* answers, std::size_t count) noexcept {
  if (count >= Lanes::worthwhile_padded) {
    using Group = NestedGroup<Lanes>;
    std::array groups{Group{stages, memory}, Group{stages, memory}};
    walk_by_turns(groups, requests, answers, count);
  } else {
    for (std::size_t i = 0; i < count; ++i) walk_nested_alone<Lanes>(stages, memory, requests[i], answers[i]);
  }
  // The caller looks at versions and clocks next, and must not have done so before the loads.
  std::atomic_thread_fence(std::memory_order_acquire);
}

}  // namespace viommu::walkers
