// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Two groups by turns: while the leaves of one are on their way to the cache, the other walks down.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace viommu::walkers {

/// @tparam Group  descend(requests, vectors) starts up to Group::size walks, finish(answers) ends them
/// @param count   at least `lanes`
/// @return how many walks are done: the first ones, all that fill vectors
template <std::size_t lanes, class Group, class Request, class Answer>
[[nodiscard]] std::size_t walk_by_turns(std::array<Group, 2>& groups, const Request* requests, Answer* answers,
                                        std::size_t count) noexcept {
  const auto take = [&](Group& group, std::size_t first) {
    const std::size_t vectors = std::min(count - first, Group::size) / lanes;
    group.descend(requests + first, vectors);
    return first + vectors * lanes;
  };
  std::size_t turn = 0;
  std::size_t finished = 0;
  std::size_t taken = take(groups[turn], 0);
  while (count - taken >= lanes) {
    const std::size_t next = take(groups[turn ^ 1], taken);
    groups[turn].finish(answers + finished);
    finished = taken;
    taken = next;
    turn ^= 1;
  }
  groups[turn].finish(answers + finished);
  return taken;
}

}  // namespace viommu::walkers
