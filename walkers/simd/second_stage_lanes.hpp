// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The second-stage format for walk_kernel.hpp: the facts of format/second_stage.hpp as constants for lanes.
#pragma once

#include "engine/base/address.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/format/second_stage_layout.hpp"

#include <cstdint>

namespace viommu::walkers {

struct SecondStageLanes {
  using Masks = SecondStageMasks;
  using Scalar = SecondStage;

  static constexpr std::uint64_t present = SecondStage::right_bits;
  static constexpr std::uint64_t leaf = SecondStage::leaf_bit;
  static constexpr std::uint64_t address = SecondStage::address_bits;
  static constexpr unsigned leaf_levels = SecondStage::leaf_levels;

  /// An address moved so that bits 11:3 are its slot in a table of this level.
  [[nodiscard]] static constexpr unsigned slot_shift(unsigned level) noexcept {
    return SecondStage::page_shift(level) - 3;
  }
  [[nodiscard]] static constexpr std::uint64_t frame_bits(unsigned level) noexcept {
    return address & ~low_bits(SecondStage::page_shift(level));
  }
};

}  // namespace viommu::walkers
