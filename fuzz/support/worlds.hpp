// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a target keeps from one input to the next: one world a profile, made when an input first asks for it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

namespace viommu::fuzz {

/// @param number  of the profile, below `count`
/// @param made_of  what a World is made of; looked at when there is none yet
template <class World, std::size_t count, class Profile>
[[nodiscard]] World& world_of(std::size_t number, const Profile& made_of) {
  static std::array<std::unique_ptr<World>, count> worlds;
  std::unique_ptr<World>& world = worlds.at(number);
  if (!world) world = std::make_unique<World>(made_of);
  return *world;
}

}  // namespace viommu::fuzz
