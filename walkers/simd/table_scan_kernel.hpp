// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A table of 4 KiB leaves in lanes, written once for any lanes; says what scan_table() says (walkers/table_scan.hpp).
//
//   entries of a line    -> leaf: frame and granted rights, 0 where nothing is mapped
//   leaf, the one before -> goes on: leaf = the one before + a page
//                           else a run starts here; a gap does where nothing is mapped and something was
//   leaf | index         -> packed behind each other, where one of both starts
//   in the end           -> pages of each: from its index to the next; gaps are left out
//
// No branch depends on where runs start, but that a line in the middle of a run is left at once. Leaving one in the
// middle of a gap too takes 1.4 times as long where one page of 64 is mapped: such branches are not foreseen.
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
  static constexpr unsigned every_word = (1U << line_words) - 1;
  static constexpr unsigned every_lane = (1U << lanes) - 1;
  static constexpr unsigned index_unit = 1U << MappedRun::index_shift;
  static constexpr std::uint64_t index_bits = std::uint64_t{table_pages - 1} * index_unit;

 public:
  TableScan(const ScanRules& rules, MappedRun* runs) noexcept : rules_{rules}, runs_{&runs->word} {}

  template <bool merge>
  [[gnu::flatten]] ScanResult scan(const std::byte* table, unsigned first, unsigned last) noexcept {
    const Word malformed = all(rules_.malformed);
    const Word rights = all(rules_.rights & MappedRun::right_bits);
    const Word kept = all(MappedRun::frame_bits) | rights;
    const Word page = all(next_frame);
    const Word zero = all(0);
    const std::byte* const ahead = rules_.ahead != nullptr ? rules_.ahead : table;

    unsigned starts = 0;  // of runs and gaps
    unsigned leaves = 0;
    unsigned broken = 0;
    unsigned mapped_before = 0;  // 1: the word before this line
    Word before = zero;          // the vector before
    const unsigned first_line = first / line_words;
    const unsigned last_line = last / line_words;
    for (unsigned line = first_line; line <= last_line; ++line) {
      __builtin_prefetch(ahead + line * line_bytes);
      std::array<Word, line_words / lanes> words;
      Lanes::load_words(table + line * line_bytes, words);
      if (line == first_line) clip(words, line_words - first % line_words);
      if (line == last_line) clip(words, 2 * line_words - 1 - last % line_words);
      unsigned mapped = 0;
      unsigned goes_on = 0;
      for (unsigned i = 0; i < words.size(); ++i) {
        const Mask well_formed = Op::none_of(Op::every(), words[i], malformed);
        const Mask maps = Op::any_of(well_formed, words[i], rights);
        mapped |= Lanes::bits(maps) << i * lanes;
        if (Lanes::bits(well_formed) != every_lane) [[unlikely]]
          broken += count(
              Lanes::bits(Op::without(Op::any_of(Op::every(), words[i], all(SecondStage::right_bits)), well_formed)));
        words[i] = Op::choose(maps, words[i] & kept, zero);
        if constexpr (merge) {
          // Of two leaves: in what is no leaf the sum has no right.
          goes_on |= Lanes::bits(Op::equal(Op::every(), words[i], Lanes::behind(before, words[i]) + page)) << i * lanes;
          before = words[i];
        }
      }
      if (goes_on == every_word) {
        leaves += line_words;
        mapped_before = 1;
        continue;
      }
      leaves += count(mapped);
      const unsigned here = merge ? (mapped | mapped << 1 | mapped_before) & ~goes_on & every_word : mapped;
      mapped_before = mapped >> (line_words - 1);
      for (unsigned i = 0; i < words.size(); ++i) {
        const unsigned own = here >> i * lanes & every_lane;
        Lanes::pack(&runs_[starts], words[i] | index_of(line * line_words + i * lanes), own);
        starts += count(own);
      }
    }
    if constexpr (!merge) return {starts, leaves, broken};
    if (leaves == table_pages && starts == leaves) return {starts, leaves, broken};  // no gap, and each of a page
    runs_[starts] = std::uint64_t{last + 1} * index_unit & index_bits;
    return {count_pages(starts), leaves, broken};
  }

 private:
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
  static unsigned count(unsigned bits) noexcept { return static_cast<unsigned>(std::popcount(bits)); }
  static Word index_of(unsigned first) noexcept {
    return all(std::uint64_t{first} * index_unit) | Lanes::load(indices.data());
  }
  /// What is outside the window that begins at `from` is absent.
  static void clip(std::array<Word, line_words / lanes>& words, unsigned from) noexcept {
    for (unsigned i = 0; i < words.size(); ++i) words[i] = words[i] & Word::load_unaligned(&window[from + i * lanes]);
  }

  /// Runs and gaps, an end behind them -> runs with their pages. In place: what is written has been read. @return runs
  unsigned count_pages(unsigned starts) noexcept {
    const Word index = all(index_bits);
    const Word rights = all(MappedRun::right_bits);
    unsigned runs = 0;
    for (unsigned at = 0; at < starts; at += lanes) {
      const Word run = Word::load_unaligned(&runs_[at]);
      const Word next = Word::load_unaligned(&runs_[at + 1]);
      const Word more = ((next & index) - (run & index) - all(index_unit)) & index;
      const unsigned some = starts - at < lanes ? starts - at : lanes;
      const unsigned own = Lanes::bits(Op::any_of(Op::every(), run, rights)) & ((1U << some) - 1);
      Lanes::pack(&runs_[runs], run | more << int{MappedRun::pages_shift - MappedRun::index_shift}, own);
      runs += count(own);
    }
    return runs;
  }

  const ScanRules rules_;
  std::uint64_t* const runs_;
};

/// Kernels::scan_table.
template <class Lanes>
[[gnu::flatten]] ScanResult scan_table_in_lanes(const std::byte* table, unsigned first, unsigned last,
                                                const ScanRules& rules, bool merge, MappedRun* runs) noexcept {
  TableScan<Lanes> scan{rules, runs};
  return merge ? scan.template scan<true>(table, first, last) : scan.template scan<false>(table, first, last);
}

}  // namespace viommu::walkers
