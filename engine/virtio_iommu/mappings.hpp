// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The mappings of one domain: disjoint ranges of addresses, each with where it leads.
//
//   root -> inner (32 children) -> ... -> list   up to 31 mappings of any size
//                                      -> pages  512 KiB, a word a page, where mappings are dense
//
// A search tree whose leaves take the form that the guest's use asks for. A lookup goes down three or four inner nodes,
// which stay in the CPU's caches, and then misses them once (pages) or twice (list). No mapping lies in two leaves:
// each lies in the interval of one, so no lookup looks at a neighbour.
// Leaves of pages have shortcuts beside the tree, by the address of their block: a lookup that finds its page there is
// two loads and the miss, short enough for the CPU to begin the next one meanwhile. Where there is none, because two
// blocks want one slot or memory is short, it goes down the tree.
// Memory of a mapping: 9 to 10 bytes where they are dense, about 40 where they are sparse and came in any order. A
// guest that wants to waste it gets to some hundreds (a leaf of pages with seven mappings, between lists too full to
// merge); MappingNodes::Limits::bytes is the bound.
//
// Writers change it in three ways:
//   word       a mapping, or a page of one, goes, or comes back, by a store of its word: a removal needs no memory
//   copy       a new range makes a new leaf, an old one takes its ranges from the tree; published by a store of its
//              parent's child
//   structure  splits, merges and moved borders make new inner nodes, up to one whose parent stays as it is, and are
//              published by a store there. The mappings are the same before and after
// A leaf of pages gets its shortcut after it has come into the tree, and loses it after it has left, in the same change
// and before it is retired.
// Readers take no lock, write nothing and never wait. The argument, for a lookup inside a guard:
//   M1  root and children are loaded with acquire, M2 nodes are published with release: what is seen of a node is what
//       was written before it was published, or later
//   M3  a word is loaded with acquire, M4 stored with release. Nothing of the tree is read through it; but whoever sees
//       what a request did, an empty place where a leaf was included, sees what came before the request as well
//   M5  shortcuts and their slots are loaded with acquire, M6 stored with release: as M1 and M2
// - No torn answer. A node's keys, ranges and base never change once it is published, so which child, entry or word
//   belongs to the address is decided on constants. What is loaded in the end is one word, and with it live or not,
//   target and rights belong together. The range of an answer of several pages is put together from words that agree,
//   each the truth about its page at some instant of the lookup.
// - No old answer. The way down was in the tree when each step was loaded, or was taken out after the lookup began; a
//   node that is out of the tree is not written any more, so it says what was true when it was taken out. A lookup that
//   begins after a request has been completed to the guest sees that request's stores by happens-before.
//   The same of a shortcut: it is there only while its leaf is, and for a moment of the request that takes that out.
//   Only a live page is an answer there; of all else the tree has the last word. Shortcuts that were replaced by more
//   of them, or by fewer, are not written any more; what they lead to was in the tree then.
// - No node that is gone. Nodes are used again when a ticket has passed that was given out after they were taken out
//   (MappingNodes): every guard that could have loaded the way to them has ended.
// Threads: find() and first_from() from any thread inside a guard; everything else by the writer's role, which needs no
// guard for these two.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/virtio_iommu/mapping.hpp"
#include "engine/virtio_iommu/mapping_nodes.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu::virtio_iommu {

enum class Inserted : std::uint8_t {
  ok,
  overlap,    ///< with a mapping that is there
  limit,      ///< as many mappings as there may be
  no_memory,  ///< of the host, or of Limits::bytes
  later,      ///< memory that waits for a ticket would do: again when that has passed
};

/// What became of a removal. It needs no memory and cannot fail but for `split`, and then nothing was removed.
enum class Removed : std::uint8_t { all, more /* call again */, split /* a mapping is only partly covered */ };

class Mappings {
 public:
  explicit Mappings(MappingNodes& nodes) noexcept : nodes_{nodes} {}
  Mappings(const Mappings&) = delete;
  Mappings& operator=(const Mappings&) = delete;
  ~Mappings() { clear(); }

  /// The mapping that has the address, with its range: of a mapping in dense pages a part of it, if pages of it are
  /// removed meanwhile. Bound: one way down the tree, and at most 128 words of one leaf.
  [[nodiscard]] std::optional<Mapping> find(Iova iova) const noexcept;

  /// Adds a mapping, or changes nothing. A rollback is remove() of its range, which cannot fail.
  [[nodiscard]] Inserted insert(const Mapping& mapping) noexcept;

  /// Whether a mapping is only partly covered: then nothing of the range may be removed.
  [[nodiscard]] bool splits(IovaRange range) const noexcept;
  /// Removes the mappings in the range, at most about `most` in one call, in ascending order; `gone(mapping)` before
  /// each of them vanishes. Nobody who has to agree is asked in between: visit() them first, then this cannot fail.
  template <class Gone>
  [[nodiscard]] Removed remove(IovaRange range, std::size_t most, Gone&& gone) noexcept;

  /// The first mapping that ends at or behind the address: the one that has it, or the next.
  [[nodiscard]] std::optional<Mapping> first_from(Iova iova) const noexcept;
  /// Calls `see(mapping)` for the mappings that have an address of the range, ascending, until it returns false.
  /// @return whether it saw them all
  template <class See>
  bool visit(IovaRange range, See&& see) const noexcept;

  /// Removes all in constant time. Taking the nodes back is MappingNodes::reclaim()'s, a slice at a time.
  void clear() noexcept;

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Of shortcuts, that a leaf of pages may have; 0 where there is no such leaf. By the writer's role.
  [[nodiscard]] std::uint64_t shortcut_slots() const noexcept;

 private:
  /// A leaf, with the last address of its interval.
  struct Leaf {
    NodeWord node;
    std::uint64_t high = no_key;
  };
  struct Child {
    NodeWord node;
    std::uint64_t high = 0;
  };
  /// The way down to a leaf: inner nodes, the slot taken in each, and where the interval of each ends.
  struct Path {
    struct Step {
      Inner* inner;
      std::size_t slot;
      std::uint64_t high;
    };
    // Each level but the root has at least half of 32 children when it is made; a tree that would be deeper is refused.
    static constexpr std::size_t most_steps = 16;
    std::array<Step, most_steps> steps;
    std::size_t depth = 0;
    Leaf leaf;
  };
  class Change;
  class Children;
  class Items;

  [[nodiscard]] Leaf leaf_of(std::uint64_t address) const noexcept;
  void descend(std::uint64_t address, Path& path) const noexcept;
  [[nodiscard]] Atomic<std::uint64_t>& place_of(const Path& path, std::size_t level) noexcept;
  [[nodiscard]] bool overlaps(IovaRange range) const noexcept;

  /// The mapping of which a page has this word.
  [[nodiscard]] static Mapping pages_around(const Pages& pages, std::size_t index, MappingWord word) noexcept;
  /// The first live mapping of the leaf that ends at or behind `address`.
  [[nodiscard]] static std::optional<Mapping> first_in(NodeWord leaf, std::uint64_t address) noexcept;

  /// What a page of a leaf says of an address of its block, which may be another one than the leaf's.
  [[nodiscard, gnu::always_inline]] static std::optional<Mapping> find_in(const Pages& pages, Iova iova) noexcept;

  /// Of a dense page; what is not found may be there all the same.
  [[nodiscard, gnu::always_inline]] std::optional<Mapping> find_by_shortcut(Iova iova) const noexcept;

  /// A leaf of pages that has come into the tree.
  void add_pages(NodeWord leaf) noexcept;
  /// A leaf that is out of the tree.
  void retire_leaf(NodeWord leaf) noexcept;
  /// Gives a leaf of pages its slot, if it has not got it.
  void remember(NodeWord leaf) noexcept;
  void forget(NodeWord leaf) noexcept;
  /// Another number of slots, with the leaves that have one now; without memory for them all stays as it is.
  void resize_shortcuts(std::uint64_t slots) noexcept;
  void drop_shortcuts() noexcept;

  [[nodiscard]] Inserted lacking() const noexcept;
  [[nodiscard]] Inserted added() noexcept;
  [[nodiscard]] Inserted insert_into_none(const Path& path, const Mapping& mapping) noexcept;
  [[nodiscard]] Inserted insert_into_list(const Path& path, const Mapping& mapping) noexcept;
  [[nodiscard]] Inserted insert_into_full_list(const Path& path, const Items& items, std::size_t position) noexcept;
  [[nodiscard]] Inserted insert_into_pages(const Path& path, const Mapping& mapping) noexcept;
  [[nodiscard]] Inserted insert_beside_pages(const Path& path, const Mapping& mapping) noexcept;

  /// Makes the interval of the leaf end at `high` or later, anew on the way to it. No address behind the leaf up to
  /// there has a mapping.
  [[nodiscard]] bool move_border(Path& path, std::uint64_t first, std::uint64_t high) noexcept;
  /// In place of the slots [from, to] of the last inner node come other children; all at once, or nothing.
  [[nodiscard]] bool replace(const Path& path, std::size_t from, std::size_t to, std::span<const Child> with,
                             Change& change) noexcept;

  /// Takes the mapping out of its leaf, whose path it is, by its words.
  void take_out(const Path& path, const Mapping& mapping) noexcept;
  /// After mappings of the leaf have gone: it goes too if it is empty, and may take another form or be merged.
  void tidy(Path& path) noexcept;
  void prune(Path& path) noexcept;
  void merge(const Path& path) noexcept;

  Atomic<std::uint64_t> root_{0};
  Atomic<std::uint64_t> shortcuts_{0};
  MappingNodes& nodes_;
  std::uint64_t size_ = 0;
  std::uint64_t pages_leaves_ = 0;
  std::uint64_t growth_at_ = 1;  ///< so many leaves of pages want more shortcuts
};

inline std::optional<Mapping> Mappings::find_in(const Pages& pages, Iova iova) noexcept {
  const std::size_t index = Pages::index_of(iova.value);
  const MappingWord word{pages.words[index].load(std::memory_order_acquire)};  // M3
  if (!get(word, mapping_word::live) || pages.base != (iova.value & ~Pages::block_mask)) return std::nullopt;
  if (get(word, mapping_word::begins) && get(word, mapping_word::ends)) [[likely]] {
    const std::uint64_t first = pages.base + index * page_size_bytes;
    return mapping_of({{first}, {first + (page_size_bytes - 1)}}, get(word, mapping_word::page), word);
  }
  return pages_around(pages, index, word);
}

inline std::optional<Mapping> Mappings::find_by_shortcut(Iova iova) const noexcept {
  const NodeWord table{shortcuts_.load(std::memory_order_acquire)};  // M5
  if (table.none()) return std::nullopt;
  const Shortcuts& shortcuts = table.as<Shortcuts>();
  const NodeWord leaf{shortcuts[shortcuts.slot_of(iova.value)].load(std::memory_order_acquire)};  // M5
  return leaf.none() ? std::nullopt : find_in(leaf.as<Pages>(), iova);
}

inline std::optional<Mapping> Mappings::find(Iova iova) const noexcept {
  if (const std::optional<Mapping> found = find_by_shortcut(iova)) return found;
  NodeWord node{root_.load(std::memory_order_acquire)};  // M1
  while (node.kind() == NodeKind::inner) {               // ends: a tree's depth is bounded
    const Inner& inner = node.as<Inner>();
    inner.prefetch();
    node.raw = inner.children[inner.slot_of(iova.value)].load(std::memory_order_acquire);  // M1
  }
  if (node.kind() == NodeKind::list) {
    const List& list = node.as<List>();
    list.prefetch();
    const std::size_t index = keys_below(list.lasts, iova.value);
    const List::Entry& entry = list.entries[index];
    const std::uint64_t first = entry.first.load(std::memory_order_relaxed);
    const MappingWord word{entry.word.load(std::memory_order_acquire)};  // M3
    if (!get(word, mapping_word::live) || first > iova.value) return std::nullopt;
    Gpa gpa = get(word, mapping_word::page);
    if (get(word, mapping_word::more_bits)) gpa = gpa + list.low_bits[index].load(std::memory_order_relaxed);
    return mapping_of({{first}, {list.lasts[index].load(std::memory_order_relaxed)}}, gpa, word);
  }
  if (node.kind() != NodeKind::pages) return std::nullopt;
  return find_in(node.as<Pages>(), iova);
}

template <class See>
bool Mappings::visit(IovaRange range, See&& see) const noexcept {
  std::uint64_t at = range.first.value;
  if (const std::optional<Mapping> found = find_by_shortcut(range.first)) {
    if (!see(*found)) return false;
    if (found->range.last >= range.last) return true;
    at = found->range.last.value + 1;
  }
  for (;;) {  // ends: `at` grows by a leaf each time
    const Leaf leaf = leaf_of(at);
    for (;;) {
      const std::optional<Mapping> found = first_in(leaf.node, at);
      if (!found) break;
      if (found->range.first > range.last) return true;
      if (!see(*found)) return false;
      if (found->range.last >= range.last) return true;
      at = found->range.last.value + 1;
    }
    if (leaf.high >= range.last.value) return true;
    at = leaf.high + 1;
  }
}

template <class Gone>
Removed Mappings::remove(IovaRange range, std::size_t most, Gone&& gone) noexcept {
  if (splits(range)) return Removed::split;
  Path path;
  for (std::uint64_t at = range.first.value;;) {  // ends: as in visit()
    descend(at, path);
    const std::uint64_t high = path.leaf.high;
    bool taken = false;
    bool all = false;
    for (;;) {
      const std::optional<Mapping> found = first_in(path.leaf.node, at);
      all = high >= range.last.value;
      if (!found || found->range.first > range.last) break;
      if (most == 0) {
        if (taken) tidy(path);
        return Removed::more;
      }
      --most;
      gone(*found);
      take_out(path, *found);
      taken = true;
      if (all = found->range.last >= range.last; all) break;
      at = found->range.last.value + 1;
    }
    if (taken) tidy(path);
    if (all) return Removed::all;
    at = high + 1;
  }
}

}  // namespace viommu::virtio_iommu
