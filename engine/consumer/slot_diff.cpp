// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/slot_diff.hpp"

namespace viommu::consumer {

bool covered(MappedRun unit, std::span<const MappedRun> wanted) noexcept {
  auto run = wanted.begin();
  for (unsigned at = unit.first(); at <= unit.last(); ++run) {  // ends: `at` grows, or a run is missing
    if (run == wanted.end() || run->first() > at || !alike(*run, unit)) return false;
    at = run->last() + 1;
  }
  return true;
}

bool same_pages(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept {
  unsigned more = 0;
  for (const MappedRun run : wanted) more += run.pages();
  for (const MappedRun run : held) {
    while (!wanted.empty() && wanted.front().last() < run.first()) wanted = wanted.subspan(1);
    if (!covered(run, wanted)) return false;
    more -= run.pages();
  }
  return more == 0;
}

bool same_places(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept {
  if (held.size() != wanted.size()) return false;
  constexpr std::uint64_t pages = low_bits(9);
  constexpr std::uint64_t place = pages << MappedRun::index_shift | pages << MappedRun::pages_shift;
  std::uint64_t differs = 0;
  for (std::size_t i = 0; i < held.size(); ++i) differs |= held[i].word ^ wanted[i].word;
  return (differs & place) == 0;
}

}  // namespace viommu::consumer
