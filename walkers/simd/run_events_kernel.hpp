// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs of a table as events in lanes; does what spread_runs() does (walkers/run_events.hpp).
#pragma once

#include "engine/base/bits.hpp"
#include "walkers/mapped_run.hpp"
#include "walkers/run_events.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// A window in lanes. What is outside of it makes a difference negative, as no address reaches 2^62.
template <class Lanes>
struct WindowLanes {
  using Word = typename Lanes::Word;

  explicit WindowLanes(const RunWindow& window) noexcept
      : first(window.first.value),
        last_offset(window.last_offset),
        host_bits(window.host_bits),
        host_offset(window.host_offset) {}

  /// Lanes whose top bit is clear are inside.
  [[nodiscard]] Word outside(const Word& frame, const Word& size_less_one) const noexcept {
    const Word offset = frame - first;
    return offset | (last_offset - (offset + size_less_one));
  }
  [[nodiscard]] Word host(const Word& frame) const noexcept { return (frame & host_bits) + host_offset; }

  Word first;
  Word last_offset;
  Word host_bits;
  Word host_offset;
};

/// Lanes: the vector type.
template <class Lanes>
class RunSpread {
  using Word = typename Lanes::Word;
  using Op = typename Lanes::Predicates;

 public:
  RunSpread(const MappedRun* runs, std::size_t count, const SpreadRules& rules, std::uint64_t* words) noexcept
      : runs_{runs},
        count_{count},
        first_{rules.windows[0]},
        second_{rules.windows[1]},
        base_(rules.iova),
        kind_(rules.kind),
        words_{words} {}

  /// Most runs lie in one window: the other is looked at from the first that does not on.
  [[gnu::flatten]] std::size_t spread() noexcept {
    const std::size_t inside = go_on<false>(0);
    return inside >= count_ ? count_ : go_on<true>(inside);
  }

 private:
  /// From run `at` on, a multiple of the lanes. @return the first run that is in no window; without `both` at most the
  /// vector that it is in; else what is not less than their number
  template <bool both>
  std::size_t go_on(std::size_t at) const noexcept {
    const Word frames(MappedRun::frame_bits);
    const Word pages(std::uint64_t{table_pages - 1} << page_shift);
    const Word in_page(low_bits(page_shift));
    const Word rights(MappedRun::right_bits);
    for (; at < count_; at += Lanes::count) {
      const Word run = Word::load_unaligned(&runs_[at].word);
      const Word frame = run & frames;
      const Word size_less_one = ((run >> int{MappedRun::pages_shift - page_shift}) & pages) | in_page;
      const Word iova = base_ + ((run << int{page_shift - MappedRun::index_shift}) & pages);
      const Word out_of_first = first_.outside(frame, size_less_one);
      Word host = first_.host(frame);
      unsigned outside = Lanes::top_bits(out_of_first);
      if constexpr (both) {
        const Word out_of_second = second_.outside(frame, size_less_one);
        host = Op::choose(Op::any_of(Op::every(), out_of_first, Word(top_bit)), second_.host(frame), host);
        outside &= Lanes::top_bits(out_of_second);
      }
      Lanes::store_events(words_ + at * event_words, iova, iova + size_less_one, frame, host,
                          kind_ | ((run & rights) << int{event_rights_shift}));
      if (outside == 0) [[likely]]
        continue;
      if constexpr (!both) return at;
      const std::size_t left = count_ - at;
      if (left < Lanes::count) outside &= (1U << left) - 1;
      if (outside != 0) return at + static_cast<unsigned>(std::countr_zero(outside));
    }
    return count_;
  }

  static constexpr std::uint64_t top_bit = std::uint64_t{1} << 63;

  const MappedRun* const runs_;
  const std::size_t count_;
  const WindowLanes<Lanes> first_;
  const WindowLanes<Lanes> second_;
  const Word base_;
  const Word kind_;
  std::uint64_t* const words_;
};

/// Kernels::spread_runs.
// NOLINTBEGIN(readability-non-const-parameter): lanes store to `words`
template <class Lanes>
[[gnu::flatten]] std::size_t spread_runs_in_lanes(const MappedRun* runs, std::size_t count, const SpreadRules& rules,
                                                  std::uint64_t* words) noexcept {
  return RunSpread<Lanes>{runs, count, rules, words}.spread();
}
// NOLINTEND(readability-non-const-parameter)

}  // namespace viommu::walkers
