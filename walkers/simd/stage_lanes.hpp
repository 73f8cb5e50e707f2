// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Walks of one stage in lanes, as far as they need nothing written and meet nothing unusual: each entry of the path is
// mapped memory, clean, and has every bit that the walk needs of it, flags too. What else a walk may meet it does not
// say: that walk falls out, and comes to no leaf.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/simd/lanes.hpp"
#include "walkers/simd/span_lanes.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// Facts: what the bits of an entry mean (first_stage_lanes.hpp, second_stage_lanes.hpp).
template <class Lanes, class Facts>
class StageLanes {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  using Masks = typename Facts::Masks;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  using Spans = SpanLanes<Lanes>;
  using Constants = typename Spans::Constants;
  static constexpr std::size_t size = 64;  ///< as many misses as a core keeps open, and some to follow
  using Column = std::array<std::uint64_t, size>;

  /// @param needs  the bits that all entries must have, D the leaf alone
  void begin(std::size_t at, const Word& iova, const Word& needs) noexcept {
    Lanes::store(&iova_[at], iova);
    Lanes::store(&needs_[at], needs);
    Lanes::store(&common_[at], all(~std::uint64_t{0}));
    Lanes::store(&leaf_[at], all(0));
  }

  /// The walks of `here` come to `level`, each at its `table`. All others, and those that are in no span, load zeros
  /// from now on: no entry that has what it needs.
  void enter(std::size_t at, unsigned level, const Constants& constants, const Word& table, const Mask& here) noexcept {
    const Word iova = Lanes::load(&iova_[at]);
    const Word slot = table | ((iova >> static_cast<int>(Facts::slot_shift(level))) & all(0xFF8));
    Word host;
    static_cast<void>(Spans::find(constants, here, slot, host));
    Lanes::store(&address_[at], host);
  }

  /// From the entries at `level`, not the lowest, to whatever `next` makes of the tables they name:
  /// next(at, table, moves) for each vector, with the walks that go on.
  template <unsigned level, class Next>
  void step(const Masks& masks, std::size_t vectors, const Next& next) noexcept {
    for (std::size_t at = 0; at < vectors * lanes; at += lanes) {
      const Word entry = Lanes::load_lanes(&address_[at]);
      const Word needs = Lanes::load(&needs_[at]);
      const Word in_table = needs & all(~Facts::dirty);
      const Word common = Lanes::load(&common_[at]) & entry;
      Mask moves = with_some_right(Op::equal(Op::every(), entry & in_table, in_table), common);
      if constexpr (level < Facts::leaf_levels) {
        Mask leaves = Op::any_of(moves, entry, all(Facts::leaf));
        moves = Op::without(moves, leaves);
        leaves = Op::none_of(leaves, entry, all(masks.leaf[level]));
        end_at<level>(at, leaves, entry, needs, common);
      }
      moves = Op::none_of(moves, entry, all(masks.table[level]));
      Lanes::store(&common_[at], common);
      next(at, entry & all(Facts::address), moves);
    }
  }

  /// From `top_level`, 2 to 4, to the leaf tables, whose words are then on their way to the cache.
  void descend(unsigned top_level, const Masks& masks, std::size_t vectors, const Spans& spans) noexcept {
    if (top_level == 4) step_down<4>(masks, vectors, spans);
    if (top_level >= 3) step_down<3>(masks, vectors, spans);
    step_down<2>(masks, vectors, spans);
    step_down<1>(masks, vectors, spans);
  }

  /// The entries of the leaf tables.
  void take_leaves(const Masks& masks, std::size_t vectors) noexcept {
    for (std::size_t at = 0; at < vectors * lanes; at += lanes) {
      const Word entry = Lanes::load_lanes(&address_[at]);
      const Word common = Lanes::load(&common_[at]) & entry;
      const Mask leaves = with_some_right(Op::none_of(Op::every(), entry, all(masks.leaf[0])), common);
      end_at<0>(at, leaves, entry, Lanes::load(&needs_[at]), common);
    }
  }

  [[nodiscard]] Word iova(std::size_t at) const noexcept { return Lanes::load(&iova_[at]); }

  /// What the walks came to: zero where they fell out, else of the leaf frame and D, with the rights of the whole path
  /// in the place of its own, and the level (level_of).
  [[nodiscard]] Word leaf(std::size_t at) const noexcept { return Lanes::load(&leaf_[at]); }
  [[nodiscard]] static Mask came(const Word& leaf) noexcept { return Op::any_of(Op::every(), leaf, leaf); }
  [[nodiscard]] static Word level_of(const Word& leaf) noexcept { return leaf >> static_cast<int>(level_shift); }
  [[nodiscard]] static Word frame_of(const Word& leaf) noexcept { return leaf & all(Facts::address); }
  /// The offset bits of a page of these levels.
  [[nodiscard]] static Word offset_bits(const Word& level) noexcept {
    static_assert(Facts::slot_shift(1) - Facts::slot_shift(0) == 9);
    return Lanes::shifted(all(std::uint64_t{1} << page_shift), (level << 3) + level) - all(1);
  }

  static Word all(std::uint64_t value) noexcept { return Word(value); }  // braces would make a list of one lane
  /// A bit of each word, and no other, moved.
  template <std::uint64_t mask, unsigned to>
  static Word bit_to(const Word& word) noexcept {
    constexpr int by = static_cast<int>(to) - std::countr_zero(mask);
    if constexpr (by < 0) return (word & all(mask)) >> -by;
    return (word & all(mask)) << by;
  }

 private:
  static constexpr unsigned level_shift = 52;  // addresses end below
  static_assert(Facts::address >> level_shift == 0);

  static Mask with_some_right(const Mask& among, const Word& common) noexcept {
    if constexpr (Facts::needs_some_right) return Op::any_of(among, common, all(Facts::right_bits));
    return among;
  }

  template <unsigned level>
  void step_down(const Masks& masks, std::size_t vectors, const Spans& spans) noexcept {
    const Constants constants = spans.constants();
    step<level>(masks, vectors, [&](std::size_t at, const Word& table, const Mask& moves) {
      enter(at, level - 1, constants, table, moves);
      if constexpr (level == 1)
        for (std::size_t lane = at; lane < at + lanes; ++lane) __builtin_prefetch(host_at(address_[lane]));
    });
  }

  /// Walks that come to a page, if it has what they need.
  template <unsigned level>
  void end_at(std::size_t at, const Mask& leaves, const Word& entry, const Word& needs, const Word& common) noexcept {
    constexpr std::uint64_t kept = Facts::present | Facts::dirty | Facts::right_bits | Facts::frame_bits(level);
    const Mask done = Op::equal(leaves, entry & needs, needs);
    const Word leaf =
        (entry & all(kept) & (common | all(~Facts::right_bits))) | all(std::uint64_t{level} << level_shift);
    Lanes::store(&leaf_[at], Op::choose(done, leaf, Lanes::load(&leaf_[at])));
  }

  alignas(line_bytes) Column address_;  ///< of the host: the word each walk loads next
  alignas(line_bytes) Column iova_;
  alignas(line_bytes) Column needs_;
  alignas(line_bytes) Column common_;  ///< the AND of the entries so far
  alignas(line_bytes) Column leaf_;
};

}  // namespace viommu::walkers
