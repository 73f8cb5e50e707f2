// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The batch walk, written once for any lanes. Up to 64 walks advance together, a level at a time:
//
//   requests -> lanes: table, iova, level, rights      each a column of up to 64 words in this frame
//   for each level, top first:
//     load     one word (or, of a leaf table, one line) for each walk that is at this level, all independent
//     decide   absent, malformed, leaf or table: masks; a branch only on whether any walk ends where few do
//     move     next table, its host address, and a prefetch
//   lanes -> answers
//
// A walk that has ended, or starts further down, loads from a line of zeros of ours and changes nothing. A host address
// is chosen by masks too, so that no CPU runs ahead with one that a guest made up. What lies in no span is asked for
// one by one through the view's functions, outside the lanes.
// Two groups take turns: while the leaves of one are on their way to the cache, the other walks down, so that a long
// batch keeps memory busy without a gap (a random leaf from DRAM for less than a plain loop of independent loads).
// Cost: level + 1 loads a walk; nothing is allocated, nothing loops longer than the number of levels and of requests.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/batch.hpp"
#include "walkers/simd/by_turns.hpp"
#include "walkers/simd/lanes.hpp"
#include "walkers/simd/span_lanes.hpp"
#include "walkers/walk_one.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// A leaf's line in lanes, loaded once: the asked entry, and which neighbours go with it. Answers as LeafLineByWords.
template <class Lanes, class Format>
class LeafLineByLanes {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  explicit LeafLineByLanes(std::uint64_t must_be_zero) noexcept : must_be_zero_{all(must_be_zero)} {}

  [[nodiscard]] LeafLine operator()(std::byte* host, std::size_t index, std::uint64_t granted) const noexcept {
    Word entry;
    const unsigned run = read(host, index, compared(granted), entry);
    const unsigned own = 1U << index;
    return {Lanes::first(entry), static_cast<std::uint8_t>((run & own) != 0 ? run : own)};
  }

  /// The bits in which pages of one run agree, but for what they are apart. What the path does not grant may differ.
  static std::uint64_t compared(std::uint64_t granted) noexcept { return Format::address | granted; }

  /// @param entry  the asked one, in every lane
  /// @return the run; without the asked page's own bit when that is no leaf or in the interrupt window
  unsigned read(std::byte* host, std::uint64_t index, std::uint64_t compared, Word& entry) const noexcept {
    std::array<Word, words_per_line / lanes> line;
    std::array<Word, words_per_line / lanes> base;
    Lanes::load_line(host, line);
    // Differences are taken in 64 bits, addresses have 52: no wrap looks like contiguity.
    for (std::size_t i = 0; i < line.size(); ++i)
      base[i] = (line[i] & all(compared)) - Lanes::load(&page_offsets[i * lanes]);
    const Word wanted = Lanes::pick(base, index);
    unsigned run = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      Mask good = Op::equal(Op::every(), base[i], wanted);
      good = Op::any_of(good, line[i], all(Format::present));
      good = Op::none_of(good, line[i], must_be_zero_);
      good = Op::differ(good, line[i] & all(window_bits), all(interrupt_window.first));
      run |= Lanes::bits(good) << (i * lanes);
    }
    entry = Lanes::pick(line, index);
    return run;
  }

 private:
  static Word all(std::uint64_t value) noexcept { return Word(value); }

  static constexpr std::uint64_t window_bits =
      Format::address & ~(interrupt_window.last - interrupt_window.first);  // the window is aligned to its size
  alignas(line_bytes) static constexpr std::array<std::uint64_t, words_per_line> page_offsets{
      0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000};

  Word must_be_zero_;
};

/// Lanes: the vector type. Format: what the bits of an entry mean (second_stage_lanes.hpp).
template <class Lanes, class Format>
class WalkGroup {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  using Masks = typename Format::Masks;
  using Spans = SpanLanes<Lanes>;
  using Constants = typename Spans::Constants;
  static constexpr std::size_t lanes = Lanes::count;

 public:
  static constexpr std::size_t size = 64;  ///< as many misses as a core keeps open, and some to follow

  WalkGroup(const MemoryView& memory, const Masks& masks, Fill fill) noexcept
      : spans_{memory}, memory_{memory}, masks_{masks}, fill_{fill} {}

  /// Takes `count` walks, which fill vectors, down to the leaf tables, whose words are then on their way to the cache.
  [[gnu::flatten]] void descend(const WalkRequest* requests, std::size_t count) noexcept {
    vectors_ = count / lanes;
    switch (begin(requests)) {
      default: step<4>(); [[fallthrough]];
      case 3:  step<3>(); [[fallthrough]];
      case 2:  step<2>(); [[fallthrough]];
      case 1:  step<1>(); [[fallthrough]];
      case 0:  break;
    }
  }

  /// Ends the walks.
  [[gnu::flatten]] void finish(WalkAnswer* answers) noexcept {
    if (elsewhere_) fetch_elsewhere(0, fill_);
    if (fill_ == Fill::line) {
      load_leaf_lines();
      decide_leaves<Fill::line>(answers);
    } else {
      decide_leaves<Fill::exact>(answers);
    }
    if (unreadable_ == 0) return;
    for (std::uint64_t left = unreadable_; left != 0; left &= left - 1) {
      const std::size_t lane = first_of(left);
      answers[lane].end = end_of_unreadable(lane, 0);
      answers[lane].rights = answers[lane].table_rights;
    }
    unreadable_ = 0;
  }

 private:
  using Column = std::array<std::uint64_t, size>;
  // Words of a request and an answer as batch.hpp lays them out; both sides are little endian.
  static constexpr std::uint64_t byte = 0xFF;
  static constexpr unsigned request_rights = 8;
  static constexpr unsigned request_is_root = 16;
  static constexpr unsigned answer_level = 8;
  static constexpr unsigned answer_loads = 16;
  static constexpr unsigned answer_rights = 24;
  static constexpr unsigned answer_run = 8;
  static_assert(offsetof(WalkRequest, rights) * 8 == offsetof(WalkRequest, level) * 8 + request_rights &&
                offsetof(WalkRequest, is_root) * 8 == offsetof(WalkRequest, level) * 8 + request_is_root);
  static_assert(offsetof(WalkAnswer, level) * 8 == answer_level && offsetof(WalkAnswer, loads) * 8 == answer_loads &&
                offsetof(WalkAnswer, rights) * 8 == answer_rights);
  static_assert(offsetof(WalkAnswer, run) * 8 == offsetof(WalkAnswer, table_rights) * 8 + answer_run);
  // A path, one word a walk: the table that is looked at next, and in bits 0 and 1 the rights granted above it.
  static constexpr std::uint64_t both_rights = 3;

  static constexpr unsigned every_lane = (1U << lanes) - 1;

  static Word all(std::uint64_t value) noexcept { return Word(value); }  // braces would make a list of one lane
  static constexpr std::uint64_t word_of(WalkEnd end) noexcept { return static_cast<std::uint64_t>(end); }
  static Word page_of(const Word& address) noexcept { return address & all(~low_bits(page_shift)); }
  /// @return a level that none of the walks starts above
  unsigned begin(const WalkRequest* requests) noexcept {
    const std::size_t count = vectors_ * lanes;
    const unsigned top = std::min<unsigned>(requests[0].level, second_stage_levels - 1);
    Word some = all(0);
    Word every = all(~std::uint64_t{0});
    const Constants constants = spans_.constants();
    Mask missing = Op::none();
    for (std::size_t at = 0; at < count; at += lanes) {
      Word table;
      Word iova;
      Word rest;
      Lanes::load_requests(requests + at, table, iova, rest);
      some = some | rest;
      every = every & rest;
      table = page_of(table);
      const Word rights = (rest >> static_cast<int>(request_rights)) & all(both_rights);
      Lanes::store(&rest_[at], rest);
      Lanes::store(&iova_[at], iova);
      Lanes::store(&path_[at], table | rights);
      const Mask here = Op::equal(Op::every(), rest & all(byte), all(top));
      missing = Op::either(missing, enter(at, top, constants, iova, table, here));
    }
    elsewhere_ = Lanes::bits(missing) != 0;
    // All at one level, as a rule; then the steps need not look for walks that start further down.
    const std::uint64_t different = byte & (Lanes::any_lane(some) ^ Lanes::every_lane(every));
    mixed_ = different != 0;
    loads_ = std::uint64_t{top} + 1;
    if (!mixed_) return top;
    // The OR of all levels is not below the highest one: at worst a step or two find nothing to do.
    const auto highest = std::min<unsigned>(Lanes::any_lane(some) & 7, second_stage_levels - 1);
    for (std::size_t at = 0; at < count; at += lanes) here_[at / lanes] = Op::none();
    elsewhere_ = false;
    join(highest);
    return highest;
  }

  /// The walks of `here` come to `level`, each at its `table`.
  /// @return those that are in no span
  Mask enter(std::size_t at, unsigned level, const Constants& constants, const Word& iova, const Word& table,
             const Mask& here) noexcept {
    const Word slot = table | ((iova >> static_cast<int>(Format::slot_shift(level))) & all(0xFF8));
    Word address;
    const Mask mapped = Spans::find(constants, here, slot, address);
    Lanes::store(&address_[at], address);
    here_[at / lanes] = here;
    return Op::without(here, mapped);
  }

  /// The walks that start at `level`, where others are on their way down to it.
  [[gnu::noinline]] void join(unsigned level) noexcept {
    const std::size_t count = vectors_ * lanes;
    const Constants constants = spans_.constants();
    Mask missing = Op::none();
    for (std::size_t at = 0; at < count; at += lanes) {
      const Mask starts = Op::equal(Op::every(), Lanes::load(&rest_[at]) & all(byte), all(level));
      const Word table = page_of(Lanes::load(&path_[at]));
      missing = Op::either(
          missing, enter(at, level, constants, Lanes::load(&iova_[at]), table, Op::either(starts, here_[at / lanes])));
    }
    elsewhere_ = Lanes::bits(missing) != 0;
  }

  /// What is in no span: the asked word alone, or the line from a region that has no span.
  [[gnu::noinline]] void fetch_elsewhere(unsigned level, Fill fill) noexcept {
    for (std::size_t lane = 0; lane < vectors_ * lanes; ++lane) {
      const bool here = (Lanes::bits(here_[lane / lanes]) >> (lane % lanes) & 1) != 0;
      if (!here || address_[lane] != Spans::nothing()) continue;
      const std::uint64_t slot =
          (path_[lane] & ~low_bits(page_shift)) | ((iova_[lane] >> Format::slot_shift(level)) & 0xFF8);
      const std::size_t index = slot / sizeof(std::uint64_t) % words_per_line;
      Line& line = fetched_[lane];
      address_[lane] = reinterpret_cast<std::uint64_t>(&line.words[index]);
      if (fill == Fill::line && memory_.any_line(memory_.opaque, {slot & ~(line_bytes - 1)}, line)) continue;
      const std::optional<std::uint64_t> word = memory_.any_u64(memory_.opaque, {slot});
      if (!word) unreadable_ |= std::uint64_t{1} << lane;
      line = {};
      line.words[index] = word.value_or(0);
    }
    elsewhere_ = false;
  }

  template <unsigned level>
  void step() noexcept {
    const std::size_t count = vectors_ * lanes;
    if (elsewhere_) fetch_elsewhere(level, Fill::exact);
    const Constants constants = spans_.constants();
    Mask missing = Op::none();
    for (std::size_t at = 0; at < count; at += lanes) missing = Op::either(missing, decide<level>(at, constants));
    elsewhere_ = Lanes::bits(missing) != 0;
    for (; unreadable_ != 0; unreadable_ &= unreadable_ - 1) mark_unreadable(first_of(unreadable_), level);
    if (mixed_) join(level - 1);
  }

  template <unsigned level>
  Mask decide(std::size_t at, const Constants& constants) noexcept {
    const Word entry = Lanes::load_lanes(&address_[at]);
    const Word path = Lanes::load(&path_[at]);
    const Word next = entry & (path | all(Format::address)) & all(Format::address | both_rights);
    const Word table = entry & all(Format::address);
    const Mask here = here_[at / lanes];
    constexpr std::uint64_t leaf_bit = level < Format::leaf_levels ? Format::leaf : 0;
    const Mask moves =
        Op::none_of(Op::any_of(here, entry, all(Format::present)), entry, all(masks_.table[level] | leaf_bit));
    const Word iova = Lanes::load(&iova_[at]);
    // Almost no walk ends at the levels that have no pages or huge ones: there a branch costs less than the masks.
    if (level > 1 && Lanes::bits(moves) == every_lane) {
      Lanes::store(&path_[at], next);
      return enter(at, level - 1, constants, iova, table, moves);
    }
    Word must_be_zero = all(masks_.table[level]);
    if constexpr (level < Format::leaf_levels)
      must_be_zero =
          Op::choose(Op::any_of(Op::every(), entry, all(Format::leaf)), all(masks_.leaf[level]), must_be_zero);
    const Ending ending = end_at(at, level, here, entry, path, must_be_zero);
    Lanes::store(&first_[at], Op::choose(here, ending.first, Lanes::load(&first_[at])));
    Lanes::store(&frame_[at], Op::choose(here, ending.frame, Lanes::load(&frame_[at])));
    Lanes::store(&path_[at], Op::choose(moves, next, path));
    const Mask missing = enter(at, level - 1, constants, iova, table, moves);
    if constexpr (level == 1)
      for (std::size_t lane = at; lane < at + lanes; ++lane) __builtin_prefetch(host_at(address_[lane]));
    return missing;
  }

  /// Walks that end at an entry: an answer's first two words.
  struct Ending {
    Mask leaf;
    Word first;
    Word frame;
  };
  Ending end_at(std::size_t at, unsigned level, const Mask& here, const Word& entry, const Word& path,
                const Word& must_be_zero) const noexcept {
    const Mask present = Op::any_of(here, entry, all(Format::present));
    const Mask leaf = Op::none_of(present, entry, must_be_zero);
    const Word bad = Op::choose(present, all(word_of(WalkEnd::malformed)), all(word_of(WalkEnd::absent)));
    const Word rights = entry & path & all(both_rights);
    const Word loads = mixed_ ? ((Lanes::load(&rest_[at]) & all(byte)) << static_cast<int>(answer_loads)) +
                                    all((std::uint64_t{1} - level) << answer_loads)
                              : all((loads_ - level) << answer_loads);
    return {leaf,
            Op::choose(leaf, all(word_of(WalkEnd::leaf)), bad) | (rights << static_cast<int>(answer_rights)) |
                all(std::uint64_t{level} << answer_level) | loads,
            Op::choose(leaf, entry & all(Format::frame_bits(level)), all(0))};
  }

  [[nodiscard]] WalkEnd end_of_unreadable(std::size_t lane, unsigned level) const noexcept {
    const bool top = (rest_[lane] & byte) == level && (rest_[lane] >> request_is_root & 1) != 0;
    return top ? WalkEnd::top_unreadable : WalkEnd::unreadable;
  }
  /// It looks like a walk that found an absent entry.
  void mark_unreadable(std::size_t lane, unsigned level) noexcept {
    const std::uint64_t rights = path_[lane] & both_rights;
    first_[lane] = (first_[lane] & ~byte) | word_of(end_of_unreadable(lane, level)) | rights << answer_rights;
  }

  template <Fill fill>
  void decide_leaves(WalkAnswer* answers) noexcept {
    const std::size_t count = vectors_ * lanes;
    for (std::size_t at = 0; at < count; at += lanes) {
      const Word entry = fill == Fill::line ? Lanes::load(&entry_[at]) : Lanes::load_lanes(&address_[at]);
      const Word path = Lanes::load(&path_[at]);
      const Mask here = here_[at / lanes];
      const Ending ending = end_at(at, 0, here, entry, path, all(masks_.leaf[0]));
      const Word number = number_in_line(Lanes::load(&iova_[at]));
      const Word own = Lanes::shifted(all(std::uint64_t{1} << answer_run), number);
      Word run = own;
      if constexpr (fill == Fill::line) {
        run = Lanes::load(&run_[at]) << static_cast<int>(answer_run);
        run = Op::choose(Op::any_of(Op::every(), run, own), run,
                         own);  // else the asked page is in the window, or no leaf
      }
      const Word last = (path & all(both_rights)) | Op::choose(ending.leaf, run, all(0));
      Lanes::store_answers(answers + at, Op::choose(here, ending.first, Lanes::load(&first_[at])),
                           Op::choose(here, ending.frame, Lanes::load(&frame_[at])), page_of(path), last);
    }
  }

  void load_leaf_lines() noexcept {
    const std::size_t count = vectors_ * lanes;
    const LeafLineByLanes<Lanes, Format> leaves{masks_.leaf[0]};
    // What the next loop needs of each walk, at the places that it writes to.
    for (std::size_t at = 0; at < count; at += lanes) {
      const Word granted = Lanes::load(&path_[at]) & all(both_rights);
      Lanes::store(&entry_[at], granted | all(leaves.compared(0)));
      Lanes::store(&run_[at], number_in_line(Lanes::load(&iova_[at])));
    }
    for (std::size_t lane = 0; lane < count; ++lane) {
      Word entry;
      std::byte* const line = host_at(address_[lane] & ~(line_bytes - 1));
      run_[lane] = leaves.read(line, run_[lane], entry_[lane], entry);
      Lanes::store_first(&entry_[lane], entry);
    }
  }
  static Word number_in_line(const Word& iova) noexcept {
    return (iova >> static_cast<int>(page_shift)) & all(words_per_line - 1);
  }

  static std::size_t first_of(std::uint64_t bits) noexcept { return static_cast<std::size_t>(std::countr_zero(bits)); }

  alignas(line_bytes) Column address_;  ///< of the host: the word each walk loads next
  alignas(line_bytes) Column path_;
  alignas(line_bytes) Column iova_;
  alignas(line_bytes) Column rest_;   ///< third word of the request
  alignas(line_bytes) Column first_;  ///< of the answer, of walks that ended further up; so is the next
  alignas(line_bytes) Column frame_;
  alignas(line_bytes) Column entry_;     ///< of the leaf tables, where lines are loaded
  alignas(line_bytes) Column run_;       ///< of those lines
  std::array<Mask, size / lanes> here_;  ///< the walks that are at the level in hand
  std::uint64_t unreadable_ = 0;         ///< those of them that found no memory, a bit a walk
  bool elsewhere_ = false;               ///< some of them find their word in no span
  bool mixed_ = false;                   ///< not all walks start at one level
  std::uint64_t loads_ = 0;              ///< of all walks that end at level 0, where they all start at one level
  std::size_t vectors_ = 0;
  Spans spans_;
  MemoryView memory_;
  Masks masks_;
  Fill fill_;
  std::array<Line, size> fetched_;  ///< what came from elsewhere
};

/// Kernels::walk_one of one instruction set and format.
template <class Lanes, class Format>
[[gnu::flatten]] void walk_single(const MemoryView& memory, const typename Format::Masks& masks, Fill fill,
                                  const WalkRequest& request, WalkAnswer& answer) noexcept {
  walk_one(typename Format::Scalar{masks}, memory, fill, request, answer,
           LeafLineByLanes<Lanes, Format>{masks.leaf[0]});
}

/// What does not fill a vector.
template <class Lanes, class Format>
[[gnu::flatten]] void walk_few(const MemoryView& memory, const typename Format::Masks& masks, Fill fill,
                               const WalkRequest* requests, WalkAnswer* answers, std::size_t count) noexcept {
  walk_group(typename Format::Scalar{masks}, memory, fill, requests, answers, count,
             LeafLineByLanes<Lanes, Format>{masks.leaf[0]});
}

/// Kernels::walk of one instruction set and format.
template <class Lanes, class Format>
void walk_batch(const MemoryView& memory, const typename Format::Masks& masks, Fill fill, const WalkRequest* requests,
                WalkAnswer* answers, std::size_t count) noexcept {
  std::size_t done = 0;
  if (count >= Lanes::worthwhile) {
    done = count - count % Lanes::count;
    using Group = WalkGroup<Lanes, Format>;
    std::array groups{Group{memory, masks, fill}, Group{memory, masks, fill}};
    walk_by_turns(groups, requests, answers, done);
  }
  walk_few<Lanes, Format>(memory, masks, fill, requests + done, answers + done, count - done);
  // The caller looks at versions and clocks next, and must not have done so before the loads.
  std::atomic_thread_fence(std::memory_order_acquire);
}

}  // namespace viommu::walkers
