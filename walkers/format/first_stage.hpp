// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The VT-d first-stage format: what its entries mean. Source: VT-d, "First-Stage Translation".
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/format.hpp"

#include <cstdint>

namespace viommu::walkers {

/// What a request claims to be (PR; RID_PRIV for one without a PASID).
enum class Privilege : std::uint8_t { user, supervisor };

/// What a PASID table entry sets for its first stage.
struct FirstStageControls {
  unsigned levels = 4;             ///< FSPM: 4 or 5
  bool supervisor = false;         ///< SRE: supervisor requests are let in
  bool write_protect = false;      ///< WPE: R/W counts for supervisor requests too
  bool extended_accessed = false;  ///< EAFE: EA is set with A
  bool snooped = true;             ///< ECAP.SMPWCS and PWSNP: else flags may not be written
};

/// Tables of 512 entries; level 0 maps 4 KiB, 1 can map 2 MiB, 2 can map 1 GiB, 3 and 4 hold tables only.
class FirstStage {
 public:
  /// The bits that rights are made of: their AND along a path says what it grants.
  static constexpr std::uint64_t right_bits = mask_of(first_stage_table::write, first_stage_table::user);

  constexpr FirstStage(const FirstStageRules& rules, const FirstStageControls& controls) noexcept
      : masks_{first_stage_masks(rules)}, controls_{controls} {}

  /// The same under another PASID table entry. To make the masks again takes longer than a walk.
  [[nodiscard]] constexpr FirstStage under(const FirstStageControls& controls) const noexcept {
    FirstStage other = *this;
    other.controls_ = controls;
    return other;
  }
  /// The same where addresses in tables have `width` bits at most: an entry with a larger one is malformed too.
  [[nodiscard]] constexpr FirstStage within(unsigned width) const noexcept {
    FirstStage narrower = *this;
    const std::uint64_t beyond = mask_of(first_stage_table::address) & ~low_bits(width);
    for (std::uint64_t& table : narrower.masks_.table) table |= beyond;
    for (std::uint64_t& leaf : narrower.masks_.leaf) leaf |= beyond;
    return narrower;
  }

  [[nodiscard]] constexpr const FirstStageMasks& masks() const noexcept { return masks_; }
  [[nodiscard]] constexpr const FirstStageControls& controls() const noexcept { return controls_; }
  [[nodiscard]] constexpr unsigned top_level() const noexcept { return controls_.levels - 1; }

  /// Whether all bits above the ones that the tables translate equal the highest of these.
  [[nodiscard]] constexpr bool is_canonical(Iova iova) const noexcept {
    const std::uint64_t sign_bits = ~low_bits(page_shift(controls_.levels) - 1);
    return (iova.value & sign_bits) == 0 || (iova.value & sign_bits) == sign_bits;
  }

  [[nodiscard]] constexpr EntryKind classify(std::uint64_t entry, unsigned level) const noexcept {
    if (!get(FirstStageTable{entry}, first_stage_table::present)) return EntryKind::absent;  // no other bit counts
    const bool is_leaf =
        level == 0 || (level < first_stage_leaf_levels && get(FirstStageTable{entry}, first_stage_table::page_size));
    const std::uint64_t must_be_zero = is_leaf ? masks_.leaf[level] : masks_.table[level];
    if ((entry & must_be_zero) != 0) return EntryKind::malformed;
    return is_leaf ? EntryKind::leaf : EntryKind::table;
  }

  [[nodiscard]] static constexpr Gpa slot(Gpa table, Iova iova, unsigned level) noexcept {
    constexpr unsigned entry_bytes = 8;
    return table + ((iova.value >> page_shift(level)) & low_bits(index_bits)) * entry_bytes;
  }
  [[nodiscard]] static constexpr Gpa next_table(std::uint64_t entry) noexcept {
    return get(FirstStageTable{entry}, first_stage_table::address);
  }
  /// First byte of the page that a leaf maps. PAT of a large one is no part of it.
  [[nodiscard]] static constexpr Gpa frame(std::uint64_t entry, unsigned level) noexcept {
    return {next_table(entry).value & ~low_bits(page_shift(level))};
  }
  [[nodiscard]] static constexpr unsigned page_shift(unsigned level) noexcept {
    return viommu::page_shift + index_bits * level;
  }

  [[nodiscard]] static constexpr bool is_user(std::uint64_t entry) noexcept {
    return get(FirstStageTable{entry}, first_stage_table::user);
  }
  [[nodiscard]] static constexpr bool is_writable(std::uint64_t entry) noexcept {
    return get(FirstStageTable{entry}, first_stage_table::write);
  }
  /// What a user request may do. P implies the right to read.
  [[nodiscard]] static constexpr Rights rights(std::uint64_t entry) noexcept {
    return {is_user(entry), is_user(entry) && is_writable(entry)};
  }
  /// What such a request may do. A supervisor reads everything, and writes everything where WPE is clear.
  [[nodiscard]] constexpr Rights rights(std::uint64_t entry, Privilege privilege) const noexcept {
    if (privilege == Privilege::user) return rights(entry);
    return {true, !controls_.write_protect || is_writable(entry)};
  }

  /// The flags that are set in an entry before a request may use it: all in one step.
  [[nodiscard]] constexpr std::uint64_t flags(EntryKind kind, bool writes) const noexcept {
    std::uint64_t flags = mask_of(first_stage_table::accessed);
    if (controls_.extended_accessed) flags |= mask_of(first_stage_table::extended_accessed);
    if (kind == EntryKind::leaf && writes) flags |= dirty_bit;
    return flags;
  }
  /// Of a leaf.
  [[nodiscard]] static constexpr bool is_dirty(std::uint64_t entry) noexcept { return (entry & dirty_bit) != 0; }

 private:
  static constexpr unsigned index_bits = 9;
  static constexpr std::uint64_t dirty_bit = mask_of(first_stage_leaf::dirty);  // at one place in leaves of all sizes
  FirstStageMasks masks_;
  FirstStageControls controls_;
};

static_assert(PageTableFormat<FirstStage>);

}  // namespace viommu::walkers
