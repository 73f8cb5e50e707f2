// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The window rule as a model: what an engine with caches may still answer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/guest_tables.hpp"
#include "tests/support/oracle.hpp"

namespace viommu::test {

/// An answer is right when an uncached walk gave it at some instant since the last completed invalidation that covers
/// it. The model asks the oracle for every watched page after every store of the guest and keeps what it said; an
/// invalidation forgets all but the present. Contexts and pages are kept apart, because a unit may go on with the
/// context it knows and read the tables as they are now: what was said is kept for each pair of context words. Devices
/// of one domain share translations: of those words what has no part in a translation does not count.
/// Without caching mode nothing that faulted may be kept. Root entries are taken as they are.
///
/// A unit may also go on from a table that it knows, with what is below it now. Where each table has one place, that is
/// what some walk gave; where a table is met in two places (it points to itself, or two trees lead to it), an entry can
/// change on the one way and stay on the other, and the model asks for those answers too: tables_are_shared().
class WindowModel {
 public:
  /// @param iovas  the watched addresses
  WindowModel(const oracle::Unit& unit, Words words, std::vector<std::uint16_t> sources,
              std::vector<std::uint64_t> iovas);

  /// To be called after each store to tables, before anything else happens. Context words are changed both at once.
  void memory_changed();

  /// To be called before a table gets its second place.
  void tables_are_shared() { shared_ = true; }

  void contexts_invalidated();
  void contexts_invalidated(std::uint16_t domain_id);
  /// Bits of `ignored` in the source id do not matter.
  void contexts_invalidated(std::uint16_t domain_id, std::uint16_t source_id, std::uint16_t ignored);
  void translations_invalidated();
  void translations_invalidated(std::uint16_t domain_id);
  void translations_invalidated(std::uint16_t domain_id, std::uint64_t first, std::uint64_t last);

  /// All that may be answered for a watched page now. `access` is 1 read, 2 write, 3 both.
  [[nodiscard]] std::vector<oracle::Answer> allowed(std::size_t source, std::size_t iova, unsigned access) const;
  /// What an engine without caches answers.
  [[nodiscard]] oracle::Answer present(std::size_t source, std::size_t iova, unsigned access) const;

 private:
  struct Context {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend auto operator<=>(const Context&, const Context&) = default;
    [[nodiscard]] std::uint16_t domain_id() const { return static_cast<std::uint16_t>(high >> 8); }
    [[nodiscard]] bool leads_to_tables() const { return (low & 1) != 0; }
    [[nodiscard]] bool fault_disable() const { return (low & 2) != 0; }
    /// Without FPD, and without the bits that are ignored.
    [[nodiscard]] Context for_translating() const { return {low & ~std::uint64_t{0x2}, high & ~std::uint64_t{0x78}}; }
  };
  using Answers = std::array<oracle::Answer, 4>;  // by access
  using Path = std::vector<std::uint64_t>;        // entries that lead on to a table, from the root table's on
  struct Page {
    std::vector<Answers> said;  // the last one is the present
    Path present;
    std::vector<Path> known;  // ways to tables since the last invalidation, without those of `present`
  };
  using History = std::vector<Page>;  // by watched page

  [[nodiscard]] oracle::Answer under(const Context& context, const Answers& answers, unsigned access) const;
  [[nodiscard]] Context context_of(std::size_t source) const;
  /// @param known  entries that are taken in place of those in memory
  [[nodiscard]] Answers ask(const Context& context, std::uint64_t iova, const Path& known, Path& read) const;
  static void remember_tables(Page& page, const Path& path, std::size_t from);
  void go_on_from_tables(const Context& context, std::uint64_t iova, Page& page) const;
  void forget_contexts(std::size_t source, const std::function<bool(const Context&)>& covered);
  void forget_pages(std::optional<std::uint16_t> domain_id, std::uint64_t first, std::uint64_t last);

  oracle::Unit unit_;
  Words words_;
  std::vector<std::uint16_t> sources_;
  std::vector<std::uint64_t> iovas_;
  std::vector<std::vector<Context>> contexts_;  // by source; the last one is the present
  std::map<Context, History> histories_;        // by what is left for_translating()
  bool keeps_faults_;
  bool shared_ = false;
};

}  // namespace viommu::test
