// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Two groups by turns: while the leaves of one are on their way to the cache, the other walks down.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace viommu::walkers {

/// @tparam Group  descend(requests, count) starts up to Group::size walks, finish(answers) ends them
/// @param count   not 0. Each time but the last a group is asked for Group::size walks
template <class Group, class Request, class Answer>
void walk_by_turns(std::array<Group, 2>& groups, const Request* requests, Answer* answers, std::size_t count) noexcept {
  const auto take = [&](Group& group, std::size_t first) {
    const std::size_t some = std::min(count - first, Group::size);
    group.descend(requests + first, some);
    return first + some;
  };
  std::size_t turn = 0;
  std::size_t finished = 0;
  std::size_t taken = take(groups[turn], 0);
  while (taken != count) {
    const std::size_t next = take(groups[turn ^ 1], taken);
    groups[turn].finish(answers + finished);
    finished = taken;
    taken = next;
    turn ^= 1;
  }
  groups[turn].finish(answers + finished);
}

}  // namespace viommu::walkers
