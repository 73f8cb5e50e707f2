// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The difference between what a consumer holds of 2 MiB and what it is to hold, in its units.
//
//   held    |---A---|  |--B--|        units as they were delivered
//   wanted  |--A'-|     |--B--|       runs as the tables have them now
//   after   |--A'-|     |--B--|       UNMAP A, MAP A'; B is not touched
//
// Where parts can be unmapped, only those pages that changed are. Else a unit stays when all of it is wanted as it is,
// and is withdrawn as a whole when not; what is left of it is delivered again. An UNMAP comes right before the MAP that
// needs its place.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/scratch.hpp"
#include "engine/consumer/event.hpp"
#include "engine/consumer/shadow.hpp"
#include "walkers/mapped_run.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace viommu::consumer {

/// Room for the runs of a slot; vector stores may write behind the last one.
class Runs {
 public:
  static constexpr std::size_t room = table_pages + 16;
  void clear() noexcept { count_ = 0; }
  void push(MappedRun run) noexcept { runs_.put(count_++, run); }
  void assign(std::span<const MappedRun> runs) noexcept {
    clear();
    append(runs);
  }
  void append(std::span<const MappedRun> runs) noexcept {
    std::copy_n(runs.data(), runs.size(), runs_.data() + count_);
    count_ += runs.size();
  }
  [[nodiscard]] MappedRun* data() noexcept { return runs_.data(); }
  void set_count(std::size_t count) noexcept { count_ = count; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] MappedRun& operator[](std::size_t i) noexcept { return runs_[i]; }
  [[nodiscard]] std::span<const MappedRun> span() const noexcept { return {runs_.data(), count_}; }

 private:
  Scratch<MappedRun, room> runs_;
  std::size_t count_ = 0;
};

/// [first, last] of a run.
[[nodiscard]] constexpr MappedRun part_of(MappedRun run, unsigned first, unsigned last) noexcept {
  MappedRun part =
      MappedRun::of(first, last - first + 1, run.frame() + (std::uint64_t{first - run.first()} << page_shift),
                    run.rights(), run.mmio());
  part.word |= run.word & left_out_bit;
  return part;
}
/// Whether both map a page that is in both alike.
[[nodiscard]] constexpr bool alike(MappedRun a, MappedRun b) noexcept {
  constexpr std::uint64_t kind = MappedRun::right_bits | MappedRun::mmio_bit | left_out_bit;
  return ((a.word ^ b.word) & kind) == 0 && a.frame().value - (std::uint64_t{a.first()} << page_shift) ==
                                                b.frame().value - (std::uint64_t{b.first()} << page_shift);
}

/// Whether all of `unit` is in `wanted` as it is. @param wanted  from the first run on that does not end before it
[[nodiscard]] bool covered(MappedRun unit, std::span<const MappedRun> wanted) noexcept;

/// Whether both map the same pages alike, in whatever units.
[[nodiscard]] bool same_pages(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept;

/// Whether each of the one has the same pages as its neighbour of the other, wherever they lead.
[[nodiscard]] bool same_places(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept;

/// Units that stay, and what is new, ascending: into `after`. Calls withdraw(run) and deliver(run) in order.
/// @param held, wanted  ascending, none overlaps another of its own
template <class Withdraw, class Deliver>
void diff_units(std::span<const MappedRun> held, std::span<const MappedRun> wanted, Runs& after,
                const Withdraw& withdraw, const Deliver& deliver) noexcept {
  after.clear();
  std::array<std::uint64_t, table_pages / 64> kept{};
  for (std::size_t i = 0, from = 0; i < held.size(); ++i) {
    while (from < wanted.size() && wanted[from].last() < held[i].first()) ++from;
    if (covered(held[i], wanted.subspan(from))) kept[i / 64] |= std::uint64_t{1} << i % 64;
  }
  const auto stays = [&](std::size_t i) { return (kept[i / 64] >> i % 64 & 1) != 0; };
  std::size_t next = 0;  // unit of `held` that is to be withdrawn or passed by next
  std::size_t keep = 0;  // that stays, and comes next
  const auto pass_kept = [&](unsigned before) {
    for (; keep < held.size() && (!stays(keep) || held[keep].first() < before); ++keep)
      if (stays(keep)) after.push(held[keep]);
  };
  const auto withdraw_up_to = [&](unsigned last) {
    for (; next < held.size() && held[next].first() <= last; ++next)
      if (!stays(next)) withdraw(held[next]);
  };
  for (const MappedRun run : wanted) {
    unsigned at = run.first();
    const auto give = [&](unsigned last) {
      const MappedRun piece = part_of(run, at, last);
      withdraw_up_to(last);
      deliver(piece);
      after.push(piece);
    };
    pass_kept(at);
    // Behind the pass, `after` may end with a unit that reaches into this run.
    while (at <= run.last()) {  // ends: `at` grows
      const bool behind = after.size() != 0 && after[after.size() - 1].last() >= at;
      if (behind) {
        at = after[after.size() - 1].last() + 1;
        continue;
      }
      if (keep < held.size() && stays(keep) && held[keep].first() <= run.last()) {
        if (held[keep].first() > at) give(held[keep].first() - 1);
        after.push(held[keep]);
        at = held[keep].last() + 1;
        ++keep;
        pass_kept(at);
        continue;
      }
      give(run.last());
      break;
    }
  }
  pass_kept(table_pages);
  withdraw_up_to(table_pages);
}

/// The same where any part may be withdrawn; what is held afterwards is `wanted`.
template <class Withdraw, class Deliver>
void diff_pages(std::span<const MappedRun> held, std::span<const MappedRun> wanted, const Withdraw& withdraw,
                const Deliver& deliver) noexcept {
  std::size_t h = 0;
  std::size_t w = 0;
  for (unsigned at = 0; at < table_pages;) {  // ends: `at` grows
    while (h < held.size() && held[h].last() < at) ++h;
    while (w < wanted.size() && wanted[w].last() < at) ++w;
    const bool in_held = h < held.size() && held[h].first() <= at;
    const bool in_wanted = w < wanted.size() && wanted[w].first() <= at;
    unsigned end = table_pages - 1;
    if (h < held.size()) end = std::min(end, in_held ? held[h].last() : held[h].first() - 1);
    if (w < wanted.size()) end = std::min(end, in_wanted ? wanted[w].last() : wanted[w].first() - 1);
    if (!(in_held && in_wanted && alike(held[h], wanted[w]))) {
      if (in_held) withdraw(part_of(held[h], at, end));
      if (in_wanted) deliver(part_of(wanted[w], at, end));
    }
    at = end + 1;
  }
}

}  // namespace viommu::consumer
