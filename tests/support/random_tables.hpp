// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Root, context and second-stage tables such as no driver writes them: right, wrong in one bit, or wrong altogether.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {

/// A legal pair of capability registers with random toggles, and an address width. Translation is on, the root table
/// is not set. Queued and register invalidation are always there.
[[nodiscard]] oracle::Unit random_unit(Random& random);

/// A small pool of pages in which every table page may be named at every level: by itself, by its own child, by two
/// parents. Pages lie at the end of one piece of memory, at the top of the address width and in one that ends in the
/// middle of an entry; pointers also lead out of memory and above the width.
class RandomTables {
 public:
  RandomTables(const oracle::Unit& unit, SparseMemory& memory);

  [[nodiscard]] std::uint64_t root_table() const noexcept { return root_; }
  /// Those pieces of its memory that consist of whole pages: address and length.
  [[nodiscard]] std::vector<std::pair<std::uint64_t, std::size_t>> whole_pages() const;
  /// Writes every word that a request() can reach.
  void fill(Random& random);
  /// Writes one of those words anew.
  void change(Random& random);
  /// A random word as it may stand at that place: a root, context or page-table entry, or half of one.
  [[nodiscard]] std::uint64_t word(Random& random, std::uint64_t gpa) const;
  /// A request whose way leads through the filled words, now and then one that misses them.
  [[nodiscard]] oracle::Request request(Random& random) const;

 private:
  [[nodiscard]] std::uint64_t root_word(Random& random, bool high) const;
  [[nodiscard]] std::uint64_t context_word(Random& random, bool high) const;
  [[nodiscard]] std::uint64_t entry_word(Random& random) const;
  [[nodiscard]] std::uint64_t pointer(Random& random, const std::vector<std::uint64_t>& pages) const;

  oracle::Unit unit_;
  SparseMemory* memory_;
  std::uint64_t root_;
  std::vector<std::uint64_t> context_pages_;
  std::vector<std::uint64_t> table_pages_;
  std::vector<std::uint64_t> words_;  // addresses of all filled words
};

}  // namespace viommu::test
