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

/// Kernels::spread_runs. Lanes: the vector type.
template <class Lanes>
[[gnu::flatten]] std::size_t spread_runs_in_lanes(const MappedRun* runs, std::size_t count, const SpreadRules& rules,
                                                  std::uint64_t* words) noexcept {
  using Word = typename Lanes::Word;
  using Op = typename Lanes::Predicates;
  constexpr unsigned every_lane = (1U << Lanes::count) - 1;
  const WindowLanes<Lanes> first{rules.windows[0]};
  const WindowLanes<Lanes> second{rules.windows[1]};
  const Word frames(MappedRun::frame_bits);
  const Word pages(std::uint64_t{table_pages - 1} << page_shift);
  const Word in_page(low_bits(page_shift));
  const Word rights(MappedRun::right_bits);
  const Word top_bit(std::uint64_t{1} << 63);
  const Word base(rules.iova);
  const Word kind(rules.kind);
  for (std::size_t at = 0; at < count; at += Lanes::count) {
    const Word run = Word::load_unaligned(&runs[at].word);
    const Word frame = run & frames;
    const Word size_less_one = ((run >> int{MappedRun::pages_shift - page_shift}) & pages) | in_page;
    const Word iova = base + ((run << int{page_shift - MappedRun::index_shift}) & pages);
    const auto in_first = Op::none_of(Op::every(), first.outside(frame, size_less_one), top_bit);
    const auto in_second = Op::none_of(Op::every(), second.outside(frame, size_less_one), top_bit);
    const Word host = Op::choose(in_first, first.host(frame), second.host(frame));
    Lanes::store_events(words + at * event_words, iova, iova + size_less_one, frame, host,
                        kind | ((run & rights) << int{event_rights_shift}));
    const std::size_t left = count - at;
    const unsigned own = left < Lanes::count ? (1U << left) - 1 : every_lane;
    const unsigned outside = ~Lanes::bits(Op::either(in_first, in_second)) & own;
    if (outside != 0) [[unlikely]]
      return at + static_cast<unsigned>(std::countr_zero(outside));
  }
  return count;
}

}  // namespace viommu::walkers
