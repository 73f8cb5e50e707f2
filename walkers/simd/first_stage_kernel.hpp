// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many first-stage walks at once, written once for any lanes. Lanes answer what needs nothing written and meets nothing
// unusual: every entry of the path is mapped memory, present, clean, has its flags set and the rights that are asked.
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
#include "engine/base/bits.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/simd/lanes.hpp"
#include "walkers/simd/span_lanes.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// What lanes do not answer. All of it inside this function: nothing inline is left for code of other machines.
template <class Lanes>
[[gnu::noinline, gnu::flatten]] void walk_first_stage_alone(const FirstStage& format, const MemoryView& memory,
                                                            const FirstStageRequest& request,
                                                            FirstStageAnswer& answer) noexcept {
  FirstStageWalk{format, memory, request, answer}.run();
}

/// Lanes: the vector type.
template <class Lanes>
class FirstStageGroup {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  using Spans = SpanLanes<Lanes>;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  static constexpr std::size_t size = 64;  ///< as many misses as a core keeps open, and some to follow

  FirstStageGroup(const FirstStage& format, const MemoryView& memory) noexcept
      : format_{format}, memory_{memory}, spans_{memory} {}

  /// Takes `vectors` times `lanes` walks down to the leaf tables, whose words are then on their way to the cache.
  [[gnu::flatten]] void descend(const FirstStageRequest* requests, std::size_t vectors) noexcept {
    requests_ = requests;
    vectors_ = vectors;
    begin();
    if (format_.top_level() == 4) step<4>();
    step<3>();
    step<2>();
    step<1>();
  }

  /// Ends the walks.
  [[gnu::flatten]] void finish(FirstStageAnswer* answers) noexcept {
    decide_leaves();
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const unsigned done = Lanes::bits(done_[at / lanes]);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        if ((done >> lane & 1) == 0) {
          walk_first_stage_alone<Lanes>(format_, memory_, requests_[at + lane], answers[at + lane]);
          continue;
        }
        const std::array words{first_[at + lane], second_[at + lane], frame_[at + lane]};
        answers[at + lane] = std::bit_cast<FirstStageAnswer>(words);
      }
    }
  }

 private:
  using Column = std::array<std::uint64_t, size>;

  static constexpr std::uint64_t present = mask_of(first_stage_table::present);
  static constexpr std::uint64_t write = mask_of(first_stage_table::write);
  static constexpr std::uint64_t user = mask_of(first_stage_table::user);
  static constexpr std::uint64_t page_size = mask_of(first_stage_table::page_size);
  static constexpr std::uint64_t address = mask_of(first_stage_table::address);
  static constexpr std::uint64_t dirty = mask_of(first_stage_leaf::dirty);

  // The third word of a request, and an answer's first two. Both sides are little endian.
  static constexpr unsigned byte_bits = 8;
  static constexpr std::size_t rest_at = offsetof(FirstStageRequest, asked);
  static constexpr std::uint64_t asks_write = 2;
  static constexpr std::uint64_t is_supervisor = std::uint64_t{1}
                                                 << (offsetof(FirstStageRequest, privilege) - rest_at) * byte_bits;
  static constexpr std::uint64_t is_execute = std::uint64_t{1}
                                              << (offsetof(FirstStageRequest, execute) - rest_at) * byte_bits;
  static constexpr unsigned answer_level = offsetof(FirstStageAnswer, level) * byte_bits;
  static constexpr unsigned answer_loads = offsetof(FirstStageAnswer, loads) * byte_bits;
  static constexpr unsigned answer_dirty = offsetof(FirstStageAnswer, dirty) * byte_bits;
  static constexpr unsigned answer_user = offsetof(FirstStageAnswer, user) * byte_bits;
  static constexpr unsigned answer_rights = (offsetof(FirstStageAnswer, rights) - 8) * byte_bits;
  static_assert(offsetof(FirstStageRequest, root) == 0 && offsetof(FirstStageRequest, iova) == 8 && rest_at == 16 &&
                sizeof(FirstStageRequest) == 24);
  static_assert(offsetof(FirstStageAnswer, end) == 0 && FirstStageEnd::leaf == FirstStageEnd{} &&
                offsetof(FirstStageAnswer, writable) == 8 && offsetof(FirstStageAnswer, frame) == 16 &&
                sizeof(FirstStageAnswer) == 24);
  static_assert(static_cast<std::uint64_t>(Privilege::supervisor) == 1 && write_only.bits() == asks_write);

  static Word all(std::uint64_t value) noexcept { return Word(value); }  // braces would make a list of one lane
  /// A bit of each word, and no other, moved.
  template <std::uint64_t mask, unsigned to>
  static Word bit_to(const Word& word) noexcept {
    constexpr int by = static_cast<int>(to) - std::countr_zero(mask);
    if constexpr (by < 0) return (word & all(mask)) >> -by;
    return (word & all(mask)) << by;
  }

  void begin() noexcept {
    const FirstStageControls& controls = format_.controls();
    const unsigned top = format_.top_level();
    const typename Spans::Constants constants = spans_.constants();
    const std::uint64_t sign_bits = ~low_bits(FirstStage::page_shift(controls.levels) - 1);
    const std::uint64_t always = present | format_.flags(EntryKind::table, false);
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      Word table;
      Word iova;
      Word rest;
      Lanes::load_requests(requests_ + at, table, iova, rest);
      const Word sign = iova & all(sign_bits);
      Mask here =
          Op::either(Op::none_of(Op::every(), sign, all(sign_bits)), Op::equal(Op::every(), sign, all(sign_bits)));
      here = Op::none_of(here, rest, all(controls.supervisor ? is_execute : is_execute | is_supervisor));

      const Mask supervisors = Op::any_of(Op::every(), rest, all(is_supervisor));
      const Mask writes = Op::any_of(Op::every(), rest, all(asks_write));
      const Mask writes_on_right = controls.write_protect ? writes : Op::without(writes, supervisors);
      const Word needs = Op::choose(supervisors, all(always), all(always | user)) |
                         Op::choose(writes, all(dirty), all(0)) | Op::choose(writes_on_right, all(write), all(0));
      // Supervisors write all pages where WPE is clear.
      const Mask free = controls.write_protect ? Op::none() : supervisors;
      Lanes::store(&free_[at], Op::choose(free, all(write), all(0)));
      Lanes::store(&needs_[at], needs);
      Lanes::store(&iova_[at], iova);
      Lanes::store(&common_[at], all(~std::uint64_t{0}));
      done_[at / lanes] = Op::none();
      enter(at, top, constants, iova, table & all(~low_bits(page_shift)), here);
    }
  }

  /// The walks of `here` come to `level`, each at its `table`. All others, and those that are in no span, load zeros
  /// from now on: no entry that has what it needs.
  void enter(std::size_t at, unsigned level, const typename Spans::Constants& constants, const Word& iova,
             const Word& table, const Mask& here) noexcept {
    const unsigned slot_shift = FirstStage::page_shift(level) - 3;  // moves the index to where a slot has it
    const Word slot = table | ((iova >> static_cast<int>(slot_shift)) & all(0xFF8));
    Word host;
    static_cast<void>(Spans::find(constants, here, slot, host));
    Lanes::store(&address_[at], host);
  }

  template <unsigned level>
  void step() noexcept {
    const typename Spans::Constants constants = spans_.constants();
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word entry = Lanes::load_lanes(&address_[at]);
      const Word needs = Lanes::load(&needs_[at]);
      const Word in_table = needs & all(~dirty);
      const Word common = Lanes::load(&common_[at]) & entry;
      Mask moves = Op::equal(Op::every(), entry & in_table, in_table);
      if constexpr (level < first_stage_leaf_levels) {
        Mask leaves = Op::any_of(moves, entry, all(page_size));
        moves = Op::without(moves, leaves);
        leaves = Op::none_of(leaves, entry, all(format_.masks().leaf[level]));
        end_at<level>(at, leaves, entry, needs, common);
      }
      moves = Op::none_of(moves, entry, all(format_.masks().table[level]));
      Lanes::store(&common_[at], common);
      enter(at, level - 1, constants, Lanes::load(&iova_[at]), entry & all(address), moves);
      if constexpr (level == 1)
        for (std::size_t lane = at; lane < at + lanes; ++lane) __builtin_prefetch(host_at(address_[lane]));
    }
  }

  void decide_leaves() noexcept {
    for (std::size_t at = 0; at < vectors_ * lanes; at += lanes) {
      const Word entry = Lanes::load_lanes(&address_[at]);
      const Mask leaves = Op::none_of(Op::every(), entry, all(format_.masks().leaf[0]));
      end_at<0>(at, leaves, entry, Lanes::load(&needs_[at]), Lanes::load(&common_[at]) & entry);
    }
  }

  /// Walks that come to a page, if it has what they need.
  template <unsigned level>
  void end_at(std::size_t at, const Mask& leaves, const Word& entry, const Word& needs, const Word& common) noexcept {
    const Mask done = Op::equal(leaves, entry & needs, needs);
    const std::uint64_t loads = format_.controls().levels - level;
    const Word first = bit_to<dirty, answer_dirty>(entry) | bit_to<user, answer_user>(common) |
                       all(loads << answer_loads | std::uint64_t{level} << answer_level);
    const Word second = bit_to<write, 0>(common) | bit_to<write, answer_rights + 1>(common | Lanes::load(&free_[at])) |
                        all(read_only.bits() << answer_rights);
    const Word frame = entry & all(address & ~low_bits(FirstStage::page_shift(level)));
    Lanes::store(&first_[at], Op::choose(done, first, Lanes::load(&first_[at])));
    Lanes::store(&second_[at], Op::choose(done, second, Lanes::load(&second_[at])));
    Lanes::store(&frame_[at], Op::choose(done, frame, Lanes::load(&frame_[at])));
    done_[at / lanes] = Op::either(done_[at / lanes], done);
  }

  const FirstStage& format_;
  const MemoryView& memory_;
  Spans spans_;
  const FirstStageRequest* requests_ = nullptr;
  std::size_t vectors_ = 0;
  alignas(line_bytes) Column address_;  ///< of the host: the word each walk loads next
  alignas(line_bytes) Column iova_;
  alignas(line_bytes) Column needs_;   ///< the bits that its entries must have, D in the leaf alone
  alignas(line_bytes) Column free_;    ///< the right to write that needs no bit of an entry
  alignas(line_bytes) Column common_;  ///< the AND of the entries so far
  alignas(line_bytes) Column first_;   ///< of the answer, of walks that are done; so are the next two
  alignas(line_bytes) Column second_;
  alignas(line_bytes) Column frame_;
  std::array<Mask, size / lanes> done_;  ///< the walks that have come to their page
};

/// Kernels::walk_first_stage of one instruction set.
template <class Lanes>
void walk_first_stage_batch(const FirstStage& format, const MemoryView& memory, const FirstStageRequest* requests,
                            FirstStageAnswer* answers, std::size_t count) noexcept {
  using Group = FirstStageGroup<Lanes>;
  if (count >= Lanes::worthwhile) {
    const auto take = [&](Group& group) {
      const std::size_t vectors = std::min(count, Group::size) / Lanes::count;
      group.descend(requests, vectors);
      requests += vectors * Lanes::count;
      count -= vectors * Lanes::count;
      return vectors * Lanes::count;
    };
    // Two groups by turns: while the leaves of one are on their way to the cache, the other walks down.
    std::array groups{Group{format, memory}, Group{format, memory}};
    std::size_t turn = 0;
    std::size_t walks = take(groups[turn]);
    while (count >= Lanes::count) {
      const std::size_t next = take(groups[turn ^ 1]);
      groups[turn].finish(answers);
      answers += walks;
      walks = next;
      turn ^= 1;
    }
    groups[turn].finish(answers);
    answers += walks;
  }
  for (; count != 0; --count) walk_first_stage_alone<Lanes>(format, memory, *requests++, *answers++);
  // The caller looks at versions and clocks next, and must not have done so before the loads.
  std::atomic_thread_fence(std::memory_order_acquire);
}

}  // namespace viommu::walkers
