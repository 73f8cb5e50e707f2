// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs of a table as what a consumer is told of them: five words each,
//
//   iova | last address | gpa | host address | rights << 8 and the kind
//
// as long as they lie in memory that is all alike. The function here says what is right and is the scalar kernel;
// walkers/simd/ has the same in lanes.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "walkers/mapped_run.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// Memory that is all alike: a default one holds no page. No address in it is above 2^62.
struct RunWindow {
  Gpa first{};
  std::uint64_t last_offset = 0;  ///< of its last byte
  std::uint64_t host_bits = 0;    ///< all ones where it has a host address, else 0
  std::uint64_t host_offset = 0;  ///< from a gpa to there

  [[nodiscard]] constexpr bool contains(Gpa from, Gpa to) const noexcept {
    return from.value - first.value <= last_offset && to.value - first.value <= last_offset;
  }
  [[nodiscard]] constexpr std::uint64_t host(Gpa gpa) const noexcept { return (gpa.value & host_bits) + host_offset; }
};

struct SpreadRules {
  std::uint64_t iova = 0;  ///< of the table's first page
  std::uint64_t kind = 0;
  std::array<RunWindow, 2> windows{};
};

inline constexpr std::size_t event_words = 5;
inline constexpr unsigned event_rights_shift = 8;
/// Events that lanes may write behind the last one, and runs that they may read there.
inline constexpr std::size_t spread_slack = 8;

/// One of them. @param rights  as a run has them, MMIO too
inline void put_event(std::uint64_t* event, std::uint64_t kind, std::uint64_t iova, std::uint64_t last,
                      std::uint64_t gpa, std::uint64_t host, std::uint64_t rights) noexcept {
  using Word [[gnu::may_alias]] = std::uint64_t;  // they are read as a structure
  Word* const words = event;
  words[0] = iova;
  words[1] = last;
  words[2] = gpa;
  words[3] = host;
  words[4] = kind | rights << event_rights_shift;
}

/// @param runs   no left-out or MMIO ones; spread_slack may be read behind them
/// @param words  receives event_words each; has room for `count` and spread_slack
/// @return how many: up to the first run that is in neither window, or `count`
inline std::size_t spread_runs(const MappedRun* runs, std::size_t count, const SpreadRules& rules,
                               std::uint64_t* words) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const MappedRun run = runs[i];
    const Gpa gpa = run.frame();
    const std::uint64_t size_less_one = (std::uint64_t{run.pages()} << page_shift) - 1;
    const bool in_first = rules.windows[0].contains(gpa, gpa + size_less_one);
    if (!in_first && !rules.windows[1].contains(gpa, gpa + size_less_one)) return i;
    const RunWindow& window = rules.windows[in_first ? 0 : 1];
    const std::uint64_t iova = rules.iova + (std::uint64_t{run.first()} << page_shift);
    put_event(words + i * event_words, rules.kind, iova, iova + size_less_one, gpa.value, window.host(gpa),
              run.rights().bits());
  }
  return count;
}

}  // namespace viommu::walkers
