// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the page tables say to one address, entry by entry: the walk of translating itself, on memory that keeps what it
// was asked for. Sets no flag, fills no cache, counts nothing.
//
// Each word of guest memory is read once: an entry that is on several paths (all second-stage walks of a nested one
// begin alike) is shown each time with the copy that was read first, and with the flags that the walk would have set
// there by then. So what is shown is what was decided on.
// Bound: the words of a walk that loses no exchange: 35 for five levels behind five.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "caches/address_spaces.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/core/waist.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/format.hpp"
#include "walkers/format/second_stage.hpp"

namespace viommu::core {

/// One page-table entry on the way.
struct EntrySeen {
  Stage stage = Stage::second;
  std::uint8_t level = 0;
  bool for_table = false;            ///< of a second stage: on the way to where a first-stage entry lies
  Gpa at;                            ///< where it lies
  std::optional<std::uint64_t> raw;  ///< nothing: it cannot be read
  walkers::EntryKind kind = walkers::EntryKind::absent;  ///< of an entry that was read
  std::uint64_t wrong = 0;                               ///< bits that must be zero and are not
  std::uint64_t sets = 0;                                ///< flags that a request would set in it
};
/// The cells of it, by its stage, level and kind.
[[nodiscard]] std::span<const Row> rows_of(const EntrySeen& entry) noexcept;
/// "PTE", "PDE" ...
[[nodiscard]] const char* name_of_level(unsigned level) noexcept;

struct PathSeen {
  static constexpr std::size_t most = 40;
  std::array<EntrySeen, most> entries{};
  std::size_t count = 0;
  Translation found{};

  [[nodiscard]] std::span<const EntrySeen> seen() const noexcept { return {entries.data(), count}; }
};

/// As Waist::translate_uncached().
/// @param first  of the unit, under any controls
void explain(const walkers::SecondStage& second, const walkers::FirstStage& first, const GuestMemory& memory,
             const caches::AddressSpaceKey& key, Iova iova, Rights asked, PathSeen& path) noexcept;

}  // namespace viommu::core
