// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a walk needs to know of a page-table format.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"

#include <concepts>
#include <cstdint>

namespace viommu::walkers {

/// What an entry is at its level.
enum class EntryKind : std::uint8_t {
  absent,     ///< neither a table nor a page
  malformed,  ///< present, and a bit is set that must be zero
  table,      ///< points to the table of the level below
  leaf,       ///< maps a page
};

/// Facts only: no format loads anything or keeps state that changes.
template <class F>
concept PageTableFormat = requires(const F format, std::uint64_t entry, unsigned level, Gpa table, Iova iova) {
  { format.classify(entry, level) } noexcept -> std::same_as<EntryKind>;
  { F::slot(table, iova, level) } noexcept -> std::same_as<Gpa>;
  { F::next_table(entry) } noexcept -> std::same_as<Gpa>;
  { F::frame(entry, level) } noexcept -> std::same_as<Gpa>;
  { F::rights(entry) } noexcept -> std::same_as<Rights>;
  { F::page_shift(level) } noexcept -> std::same_as<unsigned>;
};

}  // namespace viommu::walkers
