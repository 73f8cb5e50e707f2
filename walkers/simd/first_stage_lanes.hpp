// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The first-stage format for lanes: the facts of format/first_stage.hpp as constants, and what a request needs.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "walkers/first_stage_walk.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/format.hpp"

#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

struct FirstStageLanes {
  using Masks = FirstStageMasks;

  static constexpr std::uint64_t present = mask_of(first_stage_table::present);
  static constexpr std::uint64_t leaf = mask_of(first_stage_table::page_size);
  static constexpr std::uint64_t address = mask_of(first_stage_table::address);
  static constexpr std::uint64_t dirty = mask_of(first_stage_leaf::dirty);
  static constexpr std::uint64_t write = mask_of(first_stage_table::write);
  static constexpr std::uint64_t user = mask_of(first_stage_table::user);
  static constexpr std::uint64_t right_bits = FirstStage::right_bits;
  static constexpr bool needs_some_right = false;  ///< P implies the right to read
  static constexpr unsigned leaf_levels = first_stage_leaf_levels;

  /// An address moved so that bits 11:3 are its slot in a table of this level.
  [[nodiscard]] static constexpr unsigned slot_shift(unsigned level) noexcept {
    return FirstStage::page_shift(level) - 3;
  }
  [[nodiscard]] static constexpr std::uint64_t frame_bits(unsigned level) noexcept {
    return address & ~low_bits(FirstStage::page_shift(level));
  }
};

/// What the requests of one PASID table entry need of each entry on their way.
template <class Lanes>
class FirstStageNeeds {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;
  using Facts = FirstStageLanes;

 public:
  explicit FirstStageNeeds(const FirstStage& format) noexcept
      : always_{Facts::present | format.flags(EntryKind::table, false)},
        sign_bits_{~low_bits(FirstStage::page_shift(format.controls().levels) - 1)},
        excluded_{format.controls().supervisor ? is_execute : is_execute | is_supervisor},
        write_protect_{format.controls().write_protect} {}

  struct Needs {
    Mask here;   ///< walks that begin at all
    Word needs;  ///< bits that all entries must have, D the leaf alone
    Word free;   ///< the right to write, where no bit of an entry is needed for it
  };
  /// @param rest  third word of a request
  [[nodiscard]] Needs of(const Word& iova, const Word& rest) const noexcept {
    const Word sign = iova & all(sign_bits_);
    const Mask canonical =
        Op::either(Op::none_of(Op::every(), sign, all(sign_bits_)), Op::equal(Op::every(), sign, all(sign_bits_)));
    const Mask supervisors = Op::any_of(Op::every(), rest, all(is_supervisor));
    const Mask writes = Op::any_of(Op::every(), rest, all(asks_write));
    // Supervisors write all pages where WPE is clear.
    const Mask writes_on_right = write_protect_ ? writes : Op::without(writes, supervisors);
    const Mask free = write_protect_ ? Op::none() : supervisors;
    return {Op::none_of(canonical, rest, all(excluded_)),
            Op::choose(supervisors, all(always_), all(always_ | Facts::user)) |
                Op::choose(writes, all(Facts::dirty), all(0)) | Op::choose(writes_on_right, all(Facts::write), all(0)),
            Op::choose(free, all(Facts::write), all(0))};
  }

  static constexpr std::uint64_t asks_write = 2;  ///< in that word

 private:
  static constexpr unsigned byte_bits = 8;
  static constexpr std::size_t rest_at = offsetof(FirstStageRequest, asked);
  static constexpr std::uint64_t is_supervisor = std::uint64_t{1}
                                                 << (offsetof(FirstStageRequest, privilege) - rest_at) * byte_bits;
  static constexpr std::uint64_t is_execute = std::uint64_t{1}
                                              << (offsetof(FirstStageRequest, execute) - rest_at) * byte_bits;
  static_assert(offsetof(FirstStageRequest, root) == 0 && offsetof(FirstStageRequest, iova) == 8 && rest_at == 16 &&
                sizeof(FirstStageRequest) == 24);
  static_assert(static_cast<std::uint64_t>(Privilege::supervisor) == 1 && write_only.bits() == asks_write);

  static Word all(std::uint64_t value) noexcept { return Word(value); }  // braces would make a list of one lane

  std::uint64_t always_;
  std::uint64_t sign_bits_;
  std::uint64_t excluded_;
  bool write_protect_;
};

}  // namespace viommu::walkers
