// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Root, context, PASID and page tables of scalable mode such as no driver writes them: right, wrong in one bit, or
// wrong altogether.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/support/oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {

/// What a random unit may offer beside what every engine of scalable mode has.
struct ScalableFeatures {
  bool nested = false;
  bool second_stage_flags = false;
};

/// A legal set of capability registers in which every feature of scalable mode is there or not, and an address width.
/// Translation is on, the root table is not set.
[[nodiscard]] oracle::Unit random_scalable_unit(Random& random, const ScalableFeatures& features);

/// A small pool of pages for structures (root, contexts, PASID directories, PASID tables) and one for page tables. In
/// the latter each page may be named at every level of every stage: by itself, by its own child, by two parents. Pages
/// lie at the end of one piece of memory, at the top of the address width and in one that ends in the middle of an
/// entry; pointers also lead out of memory and above the width.
class RandomScalableTables {
 public:
  /// @param mixed  now and then a pointer leads to a page of another kind. Flags that are set there change what other
  ///               requests find
  RandomScalableTables(Random& random, const oracle::Unit& unit, SparseMemory& memory, bool mixed);

  [[nodiscard]] std::uint64_t root_table() const noexcept { return root_; }
  /// Writes every word that a request() can reach.
  void fill(Random& random);
  /// Writes one of those words anew.
  void change(Random& random);
  /// A random word as it may stand at that place.
  [[nodiscard]] std::uint64_t word(Random& random, std::uint64_t gpa) const;
  /// Whether a word is one of a page table, where flags may be set and change no other request's way.
  [[nodiscard]] bool is_of_table(std::uint64_t gpa) const;
  /// A request whose way leads through the filled words, now and then one that misses them.
  [[nodiscard]] oracle::Request request(Random& random) const;

 private:
  using Pages = std::vector<std::uint64_t>;

  [[nodiscard]] std::uint64_t root_word(Random& random) const;
  [[nodiscard]] std::uint64_t context_word(Random& random, unsigned at) const;
  [[nodiscard]] std::uint64_t directory_word(Random& random) const;
  [[nodiscard]] std::uint64_t pasid_word(Random& random, unsigned at) const;
  [[nodiscard]] std::uint64_t table_word(Random& random, bool upper) const;
  [[nodiscard]] std::uint64_t pointer(Random& random, const Pages& pages) const;
  [[nodiscard]] std::uint64_t page_of_guest(Random& random, unsigned alignment) const;
  [[nodiscard]] bool has_cap(unsigned at) const { return (unit_.cap >> at & 1) != 0; }
  [[nodiscard]] bool has(unsigned at) const { return (unit_.ecap >> at & 1) != 0; }
  /// Whether something is to be wrong that mostly is right.
  [[nodiscard]] bool spoilt(Random& random) const { return random.chance(1, rarity_); }

  oracle::Unit unit_;
  SparseMemory* memory_;
  std::uint64_t root_;
  std::uint64_t rarity_;        // of what is wrong
  std::uint64_t clear_rarity_;  // of entries whose accessed flag is clear
  bool mixed_;
  Pages contexts_;
  Pages directories_;
  Pages pasid_tables_;
  Pages upper_tables_;  // mostly of pointers
  Pages lower_tables_;  // mostly of pages
  Pages all_tables_;
  std::vector<std::uint64_t> words_;  // those that requests come by, of the structures and of the tables
};

}  // namespace viommu::test
