// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs as events, by every kernel that this machine can run, against one run at a time.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/random.hpp"
#include "walkers/batch.hpp"
#include "walkers/run_events.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {
namespace {

using test::Random;

constexpr std::uint64_t mark = 0x5AFE;  // nothing wrote here
constexpr std::uint64_t page_bytes = 4096;
constexpr std::uint64_t gib = std::uint64_t{1} << 30;

struct Told {
  std::size_t count = 0;
  std::vector<std::uint64_t> words;
};
Told tell(const Kernels& kernels, std::vector<MappedRun> runs, const SpreadRules& rules) {
  const std::size_t count = runs.size();
  runs.resize(count + spread_slack, {~std::uint64_t{0}});
  Told told;
  told.words.assign((count + spread_slack) * event_words + 1, mark);
  told.count = kernels.spread_runs(runs.data(), count, rules, told.words.data());
  CHECK(told.words.back() == mark);
  told.words.resize(told.count * event_words);
  return told;
}

/// What one run comes to, in the words of who is told.
std::vector<std::uint64_t> expected(MappedRun run, const SpreadRules& rules, const RunWindow& window) {
  const std::uint64_t iova = rules.iova + run.first() * page_bytes;
  const std::uint64_t host = window.host_bits == 0 ? 0 : run.frame().value + window.host_offset;
  return {iova, iova + run.pages() * page_bytes - 1, run.frame().value, host,
          rules.kind | run.rights().bits() << event_rights_shift};
}
bool holds(const RunWindow& window, MappedRun run) {
  const std::uint64_t end = window.first.value + window.last_offset;
  return window.last_offset != 0 && run.frame().value >= window.first.value &&
         run.frame().value + (run.pages() * page_bytes - 1) <= end;
}

/// Ascending runs in and around the windows.
std::vector<MappedRun> some_runs(Random& random, const std::array<RunWindow, 2>& windows, std::uint64_t strays) {
  std::vector<MappedRun> runs;
  for (unsigned first = 0; first < table_pages;) {
    const auto pages = static_cast<unsigned>(1 + random.below(std::min(table_pages - first, 20U)));
    const RunWindow& window = windows.at(random.below(2));
    std::uint64_t frame = window.first.value + random.below(window.last_offset + 1) / page_bytes * page_bytes;
    frame = std::min(frame, window.first.value + window.last_offset + 1 - pages * page_bytes);
    if (strays != 0 && random.chance(1, strays)) frame = random.below(std::uint64_t{1} << 40) * page_bytes;
    if (strays != 0 && random.chance(1, strays)) frame = window.first.value + window.last_offset + 1 - page_bytes;
    runs.push_back(MappedRun::of(first, pages, {frame}, Rights::in(1 + random.below(3))));
    first += pages + static_cast<unsigned>(random.below(3));
  }
  return runs;
}

constexpr std::array<RunWindow, 2> usual_windows{
    {{{0}, 3 * gib - 1, ~std::uint64_t{0}, 0x7F00'0000'0000}, {{4 * gib}, (std::uint64_t{1} << 52) - 4 * gib - 1}}};

}  // namespace

TEST_CASE("runs become events of their addresses, as far as they lie in the windows",
          "[walkers][kernels][scan][consumer]") {
  Random random{3};
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    std::string wrong;
    std::size_t stopped = 0;
    for (unsigned round = 0; round < 2000 && wrong.empty(); ++round) {
      const SpreadRules rules{random.below(std::uint64_t{1} << 27) << 21, 1, usual_windows};
      std::vector<MappedRun> runs = some_runs(random, rules.windows, round % 3 == 0 ? 0 : 1 + random.below(300));
      runs.resize(random.below(runs.size() + 1));
      const Told told = tell(*kernels, runs, rules);
      std::size_t count = 0;
      std::vector<std::uint64_t> words;
      for (; count < runs.size(); ++count) {
        const bool first = holds(rules.windows[0], runs[count]);
        if (!first && !holds(rules.windows[1], runs[count])) break;
        const auto event = expected(runs[count], rules, rules.windows.at(first ? 0 : 1));
        words.insert(words.end(), event.begin(), event.end());
      }
      if (count < runs.size()) ++stopped;
      if (told.count != count) wrong = "told " + std::to_string(told.count) + " of " + std::to_string(count);
      if (told.words != words) wrong = "another event";
    }
    CHECK(wrong == "");
    CHECK(stopped > 100);
  }
}

TEST_CASE("where no memory is, no run becomes an event", "[walkers][kernels][scan][consumer]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    CHECK(tell(*kernels, {MappedRun::of(0, 1, {0}, read_write)}, {}).count == 0);
    CHECK(tell(*kernels, {}, {}).count == 0);
  }
}

}  // namespace viommu::walkers
