// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/slot_diff.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/random.hpp"

namespace viommu::consumer {
namespace {

/// A page: frame and kind, or nothing.
using Pages = std::array<std::uint64_t, table_pages>;

[[nodiscard]] Pages pages_of(std::span<const MappedRun> runs) {
  Pages pages{};
  for (const MappedRun run : runs)
    for (unsigned page = run.first(); page <= run.last(); ++page) {
      CHECK(pages[page] == 0);
      pages[page] = part_of(run, page, page).word & ~(low_bits(9) << 3);
    }
  return pages;
}

/// Runs of random lengths over a few frames, so that neighbours often go on.
[[nodiscard]] std::vector<MappedRun> random_runs(test::Random& random, unsigned most_pages) {
  std::vector<MappedRun> runs;
  for (unsigned at = 0; at < table_pages;) {
    const auto pages = static_cast<unsigned>(std::min<std::uint64_t>(1 + random.below(most_pages), table_pages - at));
    if (random.below(4) != 0) {
      const std::uint64_t frame = (0x1000 + (random.below(2) << 12) + at) << page_shift;
      runs.push_back(MappedRun::of(at, pages, {frame}, Rights::in(1 + random.below(3))));
    }
    at += pages;
  }
  return runs;
}

[[nodiscard]] std::vector<MappedRun> changed(test::Random& random, std::vector<MappedRun> runs) {
  for (MappedRun& run : runs)
    if (random.below(8) == 0) run = MappedRun::of(run.first(), run.pages(), run.frame() + 0x100'0000, run.rights());
  if (!runs.empty() && random.below(2) == 0)
    runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(random.below(runs.size())));
  return runs;
}

[[nodiscard]] bool ascends(std::span<const MappedRun> runs) {
  return std::ranges::adjacent_find(runs, [](MappedRun a, MappedRun b) { return a.last() >= b.first(); }) == runs.end();
}

}  // namespace

TEST_CASE("after a difference in units the pages are those that are wanted, and no unit was cut",
          "[consumer][S1.7][S1.8][S1.9]") {
  test::Random random{20};
  for (unsigned round = 0; round < 3000; ++round) {
    const std::vector<MappedRun> held = random_runs(random, 1 + round % 64);
    const std::vector<MappedRun> wanted = round % 3 == 0 ? random_runs(random, 1 + round % 128) : changed(random, held);
    std::vector<MappedRun> left = held;
    Runs after;
    bool order = true;
    unsigned reached = 0;
    diff_units(
        held, wanted, after,
        [&](MappedRun run) {
          const auto unit = std::ranges::find(left, run);
          REQUIRE(unit != left.end());  // only what was delivered as one is withdrawn
          left.erase(unit);
        },
        [&](MappedRun run) {
          // Its place is free by now.
          for (const MappedRun other : left) REQUIRE((other.last() < run.first() || other.first() > run.last()));
          order = order && run.first() >= reached;
          reached = run.first();
          left.push_back(run);
        });
    std::ranges::sort(left, {}, [](MappedRun run) { return run.first(); });
    REQUIRE(order);
    REQUIRE(std::ranges::equal(left, after.span()));
    REQUIRE(ascends(after.span()));
    REQUIRE(pages_of(after.span()) == pages_of(wanted));
    // What stays as a whole is not touched.
    const Pages now = pages_of(wanted);
    for (const MappedRun unit : held) {
      bool same = true;
      for (unsigned page = unit.first(); page <= unit.last(); ++page)
        same = same && now[page] == (part_of(unit, page, page).word & ~(low_bits(9) << 3));
      if (same) REQUIRE(std::ranges::find(after.span(), unit) != after.span().end());
    }
  }
}

TEST_CASE("a difference in pages names exactly those that changed", "[consumer][S1.7][S1.8]") {
  test::Random random{21};
  for (unsigned round = 0; round < 3000; ++round) {
    const std::vector<MappedRun> held = random_runs(random, 1 + round % 64);
    const std::vector<MappedRun> wanted = round % 3 == 0 ? random_runs(random, 1 + round % 128) : changed(random, held);
    const Pages before = pages_of(held);
    const Pages now = pages_of(wanted);
    Pages gone{};
    Pages come{};
    diff_pages(
        held, wanted,
        [&](MappedRun run) {
          for (unsigned page = run.first(); page <= run.last(); ++page)
            gone[page] = part_of(run, page, page).word & ~(low_bits(9) << 3);
        },
        [&](MappedRun run) {
          for (unsigned page = run.first(); page <= run.last(); ++page)
            come[page] = part_of(run, page, page).word & ~(low_bits(9) << 3);
        });
    for (unsigned page = 0; page < table_pages; ++page) {
      const bool same = before[page] == now[page];
      REQUIRE(gone[page] == (same ? 0 : before[page]));
      REQUIRE(come[page] == (same ? 0 : now[page]));
    }
  }
}

TEST_CASE("runs that map the same pages are told from others, however they are cut", "[consumer][S1.8]") {
  test::Random random{22};
  std::uint64_t equal = 0;
  for (unsigned round = 0; round < 3000; ++round) {
    const std::vector<MappedRun> held = random_runs(random, 1 + round % 64);
    std::vector<MappedRun> wanted;
    for (const MappedRun run : round % 2 == 0 ? held : changed(random, held)) {
      const auto cut = static_cast<unsigned>(run.first() + random.below(run.pages()));
      wanted.push_back(part_of(run, run.first(), cut));
      if (cut < run.last()) wanted.push_back(part_of(run, cut + 1, run.last()));
    }
    const bool same = pages_of(held) == pages_of(wanted);
    REQUIRE(same_pages(held, wanted) == same);
    REQUIRE(same_pages(wanted, held) == same);
    equal += same ? 1U : 0U;
  }
  CHECK(equal >= 1500);
  CHECK(equal < 2500);
}

}  // namespace viommu::consumer
