// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The VT-d second-stage format: what its entries mean. Source: VT-d, "Second-Stage Translation". No SSIRWE.
// Accessed and dirty flags count where a PASID table entry enables them (SSADE): never in legacy mode.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "walkers/format/format.hpp"
#include "walkers/format/second_stage_layout.hpp"

#include <cstdint>

namespace viommu::walkers {

/// Tables of 512 entries; level 0 maps 4 KiB, 1 can map 2 MiB, 2 can map 1 GiB, 3 and 4 hold tables only.
class SecondStage {
 public:
  static constexpr std::uint64_t right_bits = mask_of(second_stage_table::read, second_stage_table::write);
  static constexpr std::uint64_t address_bits = mask_of(second_stage_table::address);
  static constexpr std::uint64_t leaf_bit =
      mask_of(second_stage_table::page_size);  ///< where leaves of that size can be
  static constexpr unsigned leaf_levels = second_stage_leaf_levels;

  constexpr explicit SecondStage(const SecondStageRules& rules) noexcept : masks_{second_stage_masks(rules)} {}
  constexpr explicit SecondStage(const SecondStageMasks& masks) noexcept : masks_{masks} {}

  [[nodiscard]] constexpr const SecondStageMasks& masks() const noexcept { return masks_; }

  [[nodiscard]] constexpr EntryKind classify(std::uint64_t entry, unsigned level) const noexcept {
    if ((entry & right_bits) == 0) return EntryKind::absent;  // then no other bit counts
    const bool is_leaf =
        level == 0 || (level < second_stage_leaf_levels && get(SecondStageTable{entry}, second_stage_table::page_size));
    const std::uint64_t must_be_zero = is_leaf ? masks_.leaf[level] : masks_.table[level];
    if ((entry & must_be_zero) != 0) return EntryKind::malformed;
    return is_leaf ? EntryKind::leaf : EntryKind::table;
  }

  [[nodiscard]] static constexpr Gpa slot(Gpa table, Iova iova, unsigned level) noexcept {
    constexpr unsigned entry_bytes = 8;
    return table + ((iova.value >> page_shift(level)) & low_bits(index_bits)) * entry_bytes;
  }
  [[nodiscard]] static constexpr Gpa next_table(std::uint64_t entry) noexcept {
    return get(SecondStageTable{entry}, second_stage_table::address);
  }
  /// First byte of the page that a leaf maps.
  [[nodiscard]] static constexpr Gpa frame(std::uint64_t entry, unsigned level) noexcept {
    return {next_table(entry).value & ~low_bits(page_shift(level))};
  }
  /// The bits of an entry that these rights are made of: their AND along a path is what the path grants.
  [[nodiscard]] static constexpr std::uint64_t bits_of(Rights rights) noexcept {
    return with(with(SecondStageTable{}, second_stage_table::read, rights.read()), second_stage_table::write,
                rights.write())
        .raw;
  }
  [[nodiscard]] static constexpr Rights rights(std::uint64_t entry) noexcept {
    return {get(SecondStageTable{entry}, second_stage_table::read),
            get(SecondStageTable{entry}, second_stage_table::write)};
  }
  [[nodiscard]] static constexpr unsigned page_shift(unsigned level) noexcept {
    return viommu::page_shift + index_bits * level;
  }

  /// The flags that are set in an entry before a request may use it: all in one step.
  [[nodiscard]] static constexpr std::uint64_t flags(EntryKind kind, bool writes) noexcept {
    std::uint64_t flags = mask_of(second_stage_table::accessed);
    if (kind == EntryKind::leaf && writes) flags |= dirty_bit;
    return flags;
  }
  /// Of a leaf.
  [[nodiscard]] static constexpr bool is_dirty(std::uint64_t entry) noexcept { return (entry & dirty_bit) != 0; }

 private:
  static constexpr std::uint64_t dirty_bit = mask_of(second_stage_leaf::dirty);  // at one place in leaves of all sizes
  static constexpr unsigned index_bits = 9;
  SecondStageMasks masks_;
};

static_assert(PageTableFormat<SecondStage>);

}  // namespace viommu::walkers
