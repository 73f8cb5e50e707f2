// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Following one table tree, one address at a time.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "walkers/format/format.hpp"

#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// Where a walk ended.
enum class WalkEnd : std::uint8_t {
  leaf,
  absent,          ///< an entry that is neither a table nor a page
  malformed,       ///< an entry with a bit set that must be zero
  top_unreadable,  ///< no memory where the top table should be
  unreadable,      ///< no memory where a lower table should be
};

/// The whole outcome. `rights` is the AND over every entry of the path, down to the one named here.
struct Walk {
  WalkEnd end = WalkEnd::absent;
  std::uint8_t level = 0;  ///< of the entry the walk ended at
  std::uint8_t loads = 0;  ///< guest words loaded
  Rights rights;
  Gpa frame;  ///< of a leaf: first byte of its page
};

/// A step for those who want to see the path: the entry at `slot` and what it was taken for.
struct WalkStep {
  unsigned level = 0;
  Gpa slot;
  std::optional<std::uint64_t> entry;
  EntryKind kind = EntryKind::absent;
};
/// For those who do not.
struct Unobserved {
  constexpr void operator()(const WalkStep&) const noexcept {}
};

/// Follows one table tree from `root`. At most top_level + 1 guest loads; no allocation, no lock. Rights are collected,
/// not judged: an absent or malformed entry wins over a missing right further up.
/// @param observe  called for each entry, with the copy that the decision was taken on
template <PageTableFormat Format, class Memory, class Observe = Unobserved>
[[nodiscard]] constexpr Walk walk(const Format& format, const Memory& memory, Gpa root, unsigned top_level, Iova iova,
                                  const Observe& observe = {}) noexcept(noexcept(observe(WalkStep{}))) {
  Rights rights = read_write;
  Gpa table = root;
  std::uint8_t loads = 0;
  for (unsigned level = top_level;; --level) {  // ends: no format has a table entry at level 0
    const Gpa slot = Format::slot(table, iova, level);
    const std::optional<std::uint64_t> entry = memory.load_u64(slot);
    ++loads;
    const auto at = static_cast<std::uint8_t>(level);
    if (!entry) {
      observe(WalkStep{level, slot, entry, EntryKind::absent});
      return {level == top_level ? WalkEnd::top_unreadable : WalkEnd::unreadable, at, loads, rights, {}};
    }
    // The guest may rewrite the entry at any time: every decision below uses this one copy.
    const EntryKind kind = format.classify(*entry, level);
    observe(WalkStep{level, slot, entry, kind});
    rights = rights & Format::rights(*entry);
    switch (kind) {
      case EntryKind::absent:    return {WalkEnd::absent, at, loads, rights, {}};
      case EntryKind::malformed: return {WalkEnd::malformed, at, loads, rights, {}};
      case EntryKind::leaf:      return {WalkEnd::leaf, at, loads, rights, Format::frame(*entry, level)};
      case EntryKind::table:     table = Format::next_table(*entry);
    }
  }
}

}  // namespace viommu::walkers
