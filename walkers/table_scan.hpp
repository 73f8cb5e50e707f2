// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A whole table of 4 KiB leaves at once: what replay reads in place of 512 walks.
//
//   entries  ->  runs of neighbours that map neighbours with the same rights, a word each (walkers/mapped_run.hpp)
//
// At most 512 runs, and each word is loaded five times at most (lanes that go on with a run in vain); the guest may
// rewrite the table meanwhile, and each run is made of the copies of one load. The function here says what is right and
// is the scalar kernel; walkers/simd/ has it in lanes.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/mapped_run.hpp"

#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// What an entry of a table of 4 KiB leaves means here, and what is read next.
struct ScanRules {
  std::uint64_t malformed = 0;  ///< bits that must be zero in a leaf (SecondStageMasks::leaf[0])
  std::uint64_t rights = 0;     ///< which of R (bit 0) and W (bit 1) the path above grants
  /// Null, or another table: its lines are brought on their way to the cache, each beside a line that is read. Worth it
  /// two or three tables ahead, as hardware's own prefetching starts anew at each page; all of them at once takes three
  /// times as long, as a core waits for more misses than it can keep open.
  const std::byte* ahead = nullptr;
};

struct ScanResult {
  std::uint32_t runs = 0;
  std::uint32_t leaves = 0;     ///< pages in these runs
  std::uint32_t malformed = 0;  ///< entries with R or W, and a bit that must be zero

  friend constexpr bool operator==(const ScanResult&, const ScanResult&) = default;
};

/// Words that the runs of a table need room for: lanes write behind the last one.
inline constexpr std::size_t scan_room = table_pages + 16;

/// A leaf has its rights where a run has them, and its frame too.
static_assert(SecondStage::right_bits == MappedRun::right_bits && SecondStage::address_bits == MappedRun::frame_bits);
/// The next page's frame. A run ends before frames would start again at 0: what is carried out is in no leaf.
inline constexpr std::uint64_t next_frame = std::uint64_t{1} << page_shift;

/// Entries [first, last] of the 512 at `table`, which is aligned as words are. All that is said of one is of one load
/// of its word. A leaf has R or W and no malformed bit; where the path leaves it no right it maps nothing.
/// @param merge  false: a run for each leaf
/// @param runs   receives them, ascending; has scan_room words
inline ScanResult scan_table(const std::byte* table, unsigned first, unsigned last, const ScanRules& rules, bool merge,
                             MappedRun* runs) noexcept {
  ScanResult result;
  const std::uint64_t kept = MappedRun::frame_bits | (rules.rights & MappedRun::right_bits);
  const std::uint64_t malformed = rules.malformed;
  const std::byte* const ahead = rules.ahead != nullptr ? rules.ahead : table;
  std::uint64_t expected = 0;  // the leaf that would go on with the last run; no leaf is 0
  for (unsigned index = first; index <= last; ++index) {
    if (index % words_per_line == 0) __builtin_prefetch(ahead + std::size_t{index} * sizeof(std::uint64_t));
    const auto* const word = reinterpret_cast<const std::uint64_t*>(table) + index;
    const std::uint64_t entry = __atomic_load_n(word, __ATOMIC_RELAXED);
    const bool says_leaf = (entry & SecondStage::right_bits) != 0;
    const bool is_malformed = says_leaf && (entry & malformed) != 0;
    const std::uint64_t leaf = entry & kept;
    if (is_malformed) ++result.malformed;
    if (is_malformed || (leaf & MappedRun::right_bits) == 0) {
      expected = 0;
      continue;
    }
    ++result.leaves;
    if (merge && leaf == expected)
      runs[result.runs - 1].word += std::uint64_t{1} << MappedRun::pages_shift;
    else
      runs[result.runs++].word = leaf | std::uint64_t{index} << MappedRun::index_shift;
    expected = leaf + next_frame;
  }
  return result;
}

}  // namespace viommu::walkers
