// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Page tables out of records: a few pages, each of which may be a table of every level, of itself too.
//
// Entries go to three lines of a page, at both ends and in the middle, and addresses are made of those slots, so that
// most ways lead through words that an input has written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/address.hpp"
#include "tests/walkers/simd/patchwork.hpp"

namespace viommu::fuzz {

inline constexpr std::uint64_t pool_begin = 0x40000;
inline constexpr std::uint64_t pool_pages = 8;
inline constexpr std::uint64_t pool_bytes = pool_pages * 0x1000;

/// One of 24 slots of a page, or any for the upper half of the numbers.
[[nodiscard]] constexpr std::uint64_t pool_slot(std::uint64_t number) noexcept {
  constexpr std::array<std::uint64_t, 3> lines{0, 0xF8, 0x1F8};
  return (number & 0x80) != 0 ? number % 512 : lines[number / 8 % 3] + number % 8;
}
/// One of the pages, or a place behind them.
[[nodiscard]] constexpr std::uint64_t pool_page(std::uint64_t number) noexcept {
  return pool_begin + (number % (pool_pages + 1)) * 0x1000;
}

/// What an entry is to be. `raw`: all of its bits; else flags out of its low twelve and upper twelve, and the address
/// of a page of the pool, or one below the address width, aligned for some size.
enum class EntryStyle : std::uint8_t { raw, table, page, large_page };

[[nodiscard]] constexpr std::uint64_t pool_entry(EntryStyle style, std::uint64_t bits, unsigned haw) noexcept {
  const std::uint64_t flags = bits & 0xFFF0'0000'0000'0FFF;
  const std::uint64_t address = bits & low_bits(haw) & ~low_bits(12);
  switch (style) {
    case EntryStyle::raw:        return bits;
    case EntryStyle::table:      return (flags & ~std::uint64_t{0x80}) | pool_page(bits >> 12);
    case EntryStyle::page:       return (flags & ~std::uint64_t{0x80}) | address;
    case EntryStyle::large_page: return flags | 0x80 | (address & ~low_bits((bits & 0x1000) != 0 ? 30 : 21));
  }
  return bits;
}

/// The pool's memory: behind callbacks, in one region, or in three of which lanes know some, with a page behind
/// callbacks between them. Zero but for what was written since clear().
class TablePool {
 public:
  enum class Layout : std::uint8_t { callbacks, one_region, regions };

  explicit TablePool(Layout layout) {
    if (layout == Layout::callbacks) memory_.add_behind_callbacks(pool_begin, pool_bytes);
    if (layout == Layout::one_region) memory_.add_region(pool_begin, pool_bytes, false);
    if (layout != Layout::regions) return;
    memory_.add_region(pool_begin, 0x3000, false);
    memory_.add_region(pool_begin + 0x3000, 0x2000, false);
    memory_.add_behind_callbacks(pool_begin + 0x5000, 0x1000);
    memory_.add_region(pool_begin + 0x6000, 0x2000, false);
  }
  [[nodiscard]] test::Patchwork& memory() noexcept { return memory_; }
  [[nodiscard]] MemoryView view() const noexcept { return memory_.memory().view(); }

  void put(std::uint64_t gpa, std::uint64_t entry) {
    memory_.store(gpa, entry);
    written_.push_back(gpa);
  }
  /// Where an input has put something: all that a walk may have changed.
  [[nodiscard]] const std::vector<std::uint64_t>& written() const noexcept { return written_; }
  void clear() {
    for (const std::uint64_t gpa : written_) memory_.store(gpa, 0);
    written_.clear();
  }

 private:
  test::Patchwork memory_;
  std::vector<std::uint64_t> written_;
};

}  // namespace viommu::fuzz
