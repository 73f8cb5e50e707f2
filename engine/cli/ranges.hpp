// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Sets of addresses, as ascending ranges that are apart. Ends are inclusive, so that all of 2^64 is a set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace viommu::cli {

struct Range {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend constexpr bool operator==(const Range&, const Range&) = default;
};
using Ranges = std::vector<Range>;

/// Puts ranges in any order, that may overlap, into the form of a set.
[[nodiscard]] inline Ranges set_of(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  Ranges set;
  for (const Range& range : ranges) {
    if (!set.empty() && (range.first <= set.back().last || range.first == set.back().last + 1))
      set.back().last = std::max(set.back().last, range.last);
    else
      set.push_back(range);
  }
  return set;
}

[[nodiscard]] inline Ranges common(const Ranges& left, const Ranges& right) {
  Ranges set;
  for (auto l = left.begin(), r = right.begin(); l != left.end() && r != right.end();) {
    const Range both{std::max(l->first, r->first), std::min(l->last, r->last)};
    if (both.first <= both.last) set.push_back(both);
    if (l->last < r->last)
      ++l;
    else
      ++r;
  }
  return set;
}

[[nodiscard]] inline Ranges without(const Ranges& all, const Ranges& taken) {
  Ranges set;
  auto hole = taken.begin();
  for (Range rest : all) {
    while (hole != taken.end() && hole->last < rest.first) ++hole;
    auto at = hole;
    bool left = true;
    for (; at != taken.end() && at->first <= rest.last; ++at) {
      if (rest.first < at->first) set.push_back({rest.first, at->first - 1});
      if (at->last >= rest.last) {
        left = false;
        break;
      }
      rest.first = at->last + 1;
    }
    if (left) set.push_back(rest);
  }
  return set;
}

}  // namespace viommu::cli
