// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A table of 4 KiB leaves in lanes, written once for any lanes; says what scan_table() says (walkers/table_scan.hpp).
//
//   entries of a line  -> leaf | index: where the runs will be, each at its own place
//                      -> a bit for each that is mapped, and for each that is the one before + a page
//   bits of 64 entries -> where runs begin and end
//   in the end         -> those that begin one are moved up behind each other, and given their pages
//
// No branch depends on an entry, but one that is malformed. The second part costs as much as there are runs, and where
// each leaf is a run of its own and there is no gap, nothing: they are where they should be.
#pragma once

#include "engine/base/memory_view.hpp"
#include "walkers/mapped_run.hpp"
#include "walkers/table_scan.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// Lanes: the vector type.
template <class Lanes>
class TableScan {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  static constexpr unsigned lanes = Lanes::count;
  static constexpr unsigned line_words = words_per_line;
  static constexpr unsigned every_lane = (1U << lanes) - 1;
  static constexpr unsigned word_bits = 64;
  static constexpr unsigned word_lines = word_bits / line_words;
  static constexpr unsigned very_few = 4;  ///< runs in 64 leaves that are moved without asking how many they are
  static constexpr unsigned few = 12;      ///< that are moved one by one
  static constexpr std::uint64_t last_bit = std::uint64_t{1} << (word_bits - 1);
  static constexpr unsigned index_unit = 1U << MappedRun::index_shift;
  static constexpr std::uint64_t index_bits = std::uint64_t{table_pages - 1} * index_unit;

 public:
  TableScan(const ScanRules& rules, MappedRun* runs) noexcept : rules_{rules}, runs_{&runs->word} {}

  template <bool merge>
  [[gnu::flatten]] ScanResult scan(const std::byte* table, unsigned first, unsigned last) noexcept {
    table_ = table;
    ahead_ = rules_.ahead != nullptr ? rules_.ahead : table;
    first_ = first;
    last_ = last;
    if (merge && first == 0 && last == table_pages - 1 && is_one_run()) return {1, table_pages, 0};
    Place place{all(0), index_of(first / word_bits * word_bits)};
    bool goes_on = false;  // the 64 entries before are in one run
    for (unsigned i = first / word_bits; i <= last / word_bits; ++i) {
      const bool whole = i * word_bits >= first && i * word_bits + word_bits - 1 <= last;
      if (merge && whole && goes_on && all_follow(i, place.before)) {
        place.before = place.before + all(word_bits * next_frame);
        place.index = place.index + all(std::uint64_t{word_bits} * index_unit);
        bits_[i] = {~std::uint64_t{0}, ~std::uint64_t{0}};
        continue;
      }
      const Bits low = some<merge>(2 * i, whole, place);
      const Bits high = some<merge>(2 * i + 1, whole, place);
      bits_[i] = {low.mapped | high.mapped << some_bits, low.follows | high.follows << some_bits};
      goes_on = (bits_[i].mapped & bits_[i].follows) == ~std::uint64_t{0};
    }
    return put_together(first / word_bits, last / word_bits);
  }

 private:
  using Line = std::array<Word, line_words / lanes>;
  using LineMasks = std::array<Mask, line_words / lanes>;
  using Flags = typename Lanes::LineFlags;
  static constexpr unsigned some_lines = 4;
  static constexpr unsigned some_bits = some_lines * line_words;
  /// Of entries those that have a right, and those that are what the one before is and a page.
  struct Bits {
    std::uint64_t mapped;
    std::uint64_t follows;
  };
  struct Place {
    Word before;  ///< the vector before
    Word index;   ///< of the next one
  };

  /// The `number`-th 32 entries. Where one is malformed they are looked at anew, and nothing is made of what was read
  /// before; so they are where some of them are not asked for.
  template <bool merge>
  [[gnu::always_inline]] Bits some(unsigned number, bool whole, Place& place) noexcept {
    const Place here = place;
    if (whole) [[likely]] {
      Word any = all(0);
      const Bits bits = take<merge>(number, place, [&](unsigned line, Line& words) {
        Lanes::load_words(table_ + line * line_bytes, words);
        for (const Word& word : words) any = any | word;
      });
      if (Lanes::bits(Op::none_of(Op::every(), any, all(rules_.malformed))) == every_lane) [[likely]]
        return bits;
    }
    Place again = here;  // not `place`, which stays in registers
    const Bits bits = carefully<merge>(number, again);
    place = again;
    return bits;
  }
  template <bool merge>
  [[gnu::noinline]] Bits carefully(unsigned number, Place& place) noexcept {
    return take<merge>(number, place, [&](unsigned line, Line& words) {
      words.fill(all(0));
      if (line < first_ / line_words || line > last_ / line_words) return;
      Lanes::load_words(table_ + line * line_bytes, words);
      if (line == first_ / line_words) clip(words, line_words - first_ % line_words);
      if (line == last_ / line_words) clip(words, 2 * line_words - 1 - last_ % line_words);
      drop_malformed(words);
    });
  }
  template <bool merge, class Load>
  [[gnu::always_inline]] Bits take(unsigned number, Place& place, const Load& load) noexcept {
    const Word rights = all(rules_.rights & MappedRun::right_bits);
    const Word kept = all(MappedRun::frame_bits) | rights;
    const Word page = all(next_frame);
    const Word step = all(std::uint64_t{lanes} * index_unit);
    std::array<Flags, some_lines> absent;
    std::array<Flags, some_lines> follows;
#pragma GCC unroll 4
    for (unsigned k = 0; k < some_lines; ++k) {
      const unsigned line = number * some_lines + k;
      __builtin_prefetch(ahead_ + line * line_bytes);
      Line words;
      load(line, words);
      LineMasks is_absent;
      LineMasks does_follow;
      for (unsigned i = 0; i < words.size(); ++i) {
        const Word leaf = words[i] & kept;
        is_absent[i] = Op::none_of(Op::every(), leaf, rights);
        if constexpr (merge) {
          does_follow[i] = Op::equal(Op::every(), leaf, Lanes::behind(place.before, leaf) + page);
          place.before = leaf;
        }
        (leaf | place.index).store_unaligned(&runs_[line * line_words + i * lanes]);
        place.index = place.index + step;
      }
      absent[k] = Lanes::flags(is_absent);
      if constexpr (merge) follows[k] = Lanes::flags(does_follow);
    }
    const auto bits_of = [](const std::array<Flags, some_lines>& flags) {
      return Lanes::bits_of_lines(Lanes::join(flags[0], flags[1]), Lanes::join(flags[2], flags[3]));
    };
    const std::uint32_t mapped = ~bits_of(absent);
    if constexpr (!merge) return {mapped, 0};
    return {mapped, bits_of(follows)};
  }

  // Lanes of a line behind and before some place: ones between zeros, to be loaded from that place on.
  alignas(line_bytes) static constexpr std::array<std::uint64_t, 3 * words_per_line> window = [] {
    std::array<std::uint64_t, 3 * words_per_line> words{};
    for (std::size_t i = 0; i < words_per_line; ++i) words[words_per_line + i] = ~std::uint64_t{0};
    return words;
  }();
  alignas(line_bytes) static constexpr std::array<std::uint64_t, lanes> indices = [] {
    std::array<std::uint64_t, lanes> words{};
    for (std::size_t i = 0; i < lanes; ++i) words[i] = i * index_unit;
    return words;
  }();

  static Word all(std::uint64_t word) noexcept { return Word(word); }
  static unsigned count(std::uint64_t bits) noexcept { return static_cast<unsigned>(std::popcount(bits)); }
  static unsigned first_bit(std::uint64_t bits) noexcept { return static_cast<unsigned>(std::countr_zero(bits)); }
  static Word index_of(unsigned first) noexcept {
    return all(std::uint64_t{first} * index_unit) | Lanes::load(indices.data());
  }
  /// What is outside the window that begins at `from` is absent.
  static void clip(Line& words, unsigned from) noexcept {
    for (unsigned i = 0; i < words.size(); ++i) words[i] = words[i] & Word::load_unaligned(&window[from + i * lanes]);
  }

  /// Whether 64 entries go on with the run that `before` ends: then none of them is kept, but for its bit. Where not,
  /// they are looked at anew, and nothing is made of what was read here.
  [[nodiscard]] bool all_follow(unsigned number, const Word& before) const noexcept {
    const Word kept = all(MappedRun::frame_bits | (rules_.rights & MappedRun::right_bits));
    const Word step = all(std::uint64_t{lanes} * next_frame);
    Word expected = before + step;
    Word differs = all(0);
    Word any = all(0);
#pragma GCC unroll 8
    for (unsigned line = number * word_lines; line < (number + 1) * word_lines; ++line) {
      __builtin_prefetch(ahead_ + line * line_bytes);
      Line words;
      Lanes::load_words(table_ + line * line_bytes, words);
      for (const Word& word : words) {
        any = any | word;
        differs = differs | ((word & kept) ^ expected);
        expected = expected + step;
      }
    }
    differs = differs | (any & all(rules_.malformed));
    return Lanes::bits(Op::none_of(Op::every(), differs, all(~std::uint64_t{0}))) == every_lane;
  }

  /// Whether all of a table is one run, which is kept then. Where it is not, its last entry mostly says so at once, and
  /// it is looked at anew: nothing is made of what was read here.
  [[nodiscard]] bool is_one_run() const noexcept {
    const std::uint64_t leaf = kept_of(0);
    if ((leaf & MappedRun::right_bits) == 0 || kept_of(table_pages - 1) != leaf + (table_pages - 1) * next_frame)
      return false;
    const Word pages = Lanes::load(indices.data()) << int{page_shift - MappedRun::index_shift};
    Word before = all(leaf - std::uint64_t{lanes} * next_frame) + pages;
    for (unsigned i = 0; i < bits_.size(); ++i) {
      if (!all_follow(i, before)) return false;
      before = before + all(word_bits * next_frame);
    }
    runs_[0] = leaf | std::uint64_t{table_pages - 1} << MappedRun::pages_shift;
    return true;
  }
  [[nodiscard]] std::uint64_t kept_of(unsigned index) const noexcept {
    const auto* const word = reinterpret_cast<const std::uint64_t*>(table_) + index;
    return __atomic_load_n(word, __ATOMIC_RELAXED) & (MappedRun::frame_bits | (rules_.rights & MappedRun::right_bits));
  }

  /// Malformed entries as absent ones.
  void drop_malformed(Line& words) noexcept {
    for (Word& word : words) {
      const Mask well_formed = Op::none_of(Op::every(), word, all(rules_.malformed));
      const Mask says_leaf = Op::any_of(Op::every(), word, all(SecondStage::right_bits));
      malformed_ += count(Lanes::bits(Op::without(says_leaf, well_formed)));
      word = Op::choose(well_formed, word, all(0));
    }
  }

  /// Leaves at their own places -> runs behind each other. In place: what is written has been read, as no run is behind
  /// its first leaf, and a vector that is written ends where the one that was read does. There are no more runs than
  /// leaves before, so `very_few` moves end before the 64 entries that come next.
  ScanResult put_together(unsigned first, unsigned last) noexcept {
    unsigned begun = 0;  // runs
    unsigned ended = 0;
    unsigned leaves = 0;
    // Two absent ones may look alike.
    const auto goes_on = [&](unsigned i) { return bits_[i].follows & bits_[i].mapped; };
    std::uint64_t on = goes_on(first);
    for (unsigned i = first; i <= last; ++i) {
      const std::uint64_t mapped = bits_[i].mapped;
      const std::uint64_t next = i < last ? goes_on(i + 1) : 0;
      const std::uint64_t begins = mapped & ~on;
      const std::uint64_t ends = mapped & ~(on >> 1 | next << (word_bits - 1));
      on = next;
      leaves += count(mapped);
      if (begins == ends && count(begins) <= very_few) {  // leaves that are runs of their own, or none
        // As many moves whatever there is: what is behind the last one is written over, as in pack().
        std::uint64_t left = begins;
        for (unsigned k = 0; k < very_few; ++k, left &= left - 1)
          runs_[begun + k] = runs_[i * word_bits + first_bit(left | last_bit)];
        begun += count(begins);
        ended += count(begins);
      } else if (begins == ends && count(begins) > few) {
        if (begins != ~std::uint64_t{0} || begun != i * word_bits) pack(i * word_bits, begins, begun);
        begun += count(begins);
        ended = begun;
      } else if (begun == ended && count(begins) == count(ends)) {  // runs that end here
        for (std::uint64_t left = begins, end = ends; left != 0; left &= left - 1, end &= end - 1) {
          const unsigned at = first_bit(left);
          runs_[begun++] = runs_[i * word_bits + at] + (std::uint64_t{first_bit(end) - at} << MappedRun::pages_shift);
        }
        ended = begun;
      } else {
        for (std::uint64_t left = begins; left != 0; left &= left - 1)
          runs_[begun++] = runs_[i * word_bits + first_bit(left)];
        for (std::uint64_t left = ends; left != 0; left &= left - 1) {
          const std::uint64_t run = runs_[ended];
          const std::uint64_t more = std::uint64_t{i * word_bits + first_bit(left)} * index_unit - (run & index_bits);
          runs_[ended++] = run + (more << (MappedRun::pages_shift - MappedRun::index_shift));
        }
      }
    }
    return {begun, leaves, malformed_};
  }
  /// Of 64 leaves from `from` on those with a bit: to `to` on.
  void pack(unsigned from, std::uint64_t bits, unsigned to) noexcept {
    for (unsigned i = 0; i < word_bits; i += lanes) {
      const auto own = static_cast<unsigned>(bits >> i) & every_lane;
      Lanes::pack(&runs_[to], Word::load_unaligned(&runs_[from + i]), own);
      to += count(own);
    }
  }

  const ScanRules rules_;
  std::uint64_t* const runs_;
  const std::byte* table_ = nullptr;
  const std::byte* ahead_ = nullptr;
  unsigned first_ = 0;
  unsigned last_ = 0;
  unsigned malformed_ = 0;
  std::array<Bits, table_pages / word_bits> bits_;
};

/// Kernels::scan_table.
template <class Lanes>
[[gnu::flatten]] ScanResult scan_table_in_lanes(const std::byte* table, unsigned first, unsigned last,
                                                const ScanRules& rules, bool merge, MappedRun* runs) noexcept {
  TableScan<Lanes> scan{rules, runs};
  return merge ? scan.template scan<true>(table, first, last) : scan.template scan<false>(table, first, last);
}

}  // namespace viommu::walkers
