// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The second-stage format for lanes: the facts of format/second_stage.hpp as constants, and what a request needs.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "walkers/format/format.hpp"
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
  static constexpr std::uint64_t dirty = mask_of(second_stage_leaf::dirty);
  static constexpr std::uint64_t right_bits = SecondStage::right_bits;
  static constexpr bool needs_some_right = true;  ///< else a path is absent, whatever is asked
  static constexpr unsigned leaf_levels = SecondStage::leaf_levels;

  /// An address moved so that bits 11:3 are its slot in a table of this level.
  [[nodiscard]] static constexpr unsigned slot_shift(unsigned level) noexcept {
    return SecondStage::page_shift(level) - 3;
  }
  [[nodiscard]] static constexpr std::uint64_t frame_bits(unsigned level) noexcept {
    return address & ~low_bits(SecondStage::page_shift(level));
  }
};

/// What the requests of one PASID table entry need of each entry on their way, D of the leaf alone.
template <class Lanes>
class SecondStageNeeds {
  using Word = typename Lanes::Word;
  using Op = typename Lanes::Predicates;

 public:
  /// @param flags  A and D are maintained
  explicit SecondStageNeeds(bool flags) noexcept
      : always_{flags ? SecondStage::flags(EntryKind::table, false) : 0},
        of_writes_{flags ? SecondStageLanes::dirty : 0} {}

  [[nodiscard]] std::uint64_t of(Rights asked) const noexcept {
    return asked.bits() | always_ | (asked.write() ? of_writes_ : 0);
  }
  /// @param asked  the rights in bits 0 and 1, which are where an entry has them
  [[nodiscard]] Word of(const Word& asked) const noexcept {
    const auto writes = Op::any_of(Op::every(), asked, all(write_only.bits()));
    return (asked & all(all_right_bits)) | all(always_) | Op::choose(writes, all(of_writes_), all(0));
  }

 private:
  static_assert(SecondStage::bits_of(read_only) == read_only.bits() &&
                SecondStage::bits_of(write_only) == write_only.bits());

  static Word all(std::uint64_t value) noexcept { return Word(value); }  // braces would make a list of one lane

  std::uint64_t always_;
  std::uint64_t of_writes_;
};

}  // namespace viommu::walkers
