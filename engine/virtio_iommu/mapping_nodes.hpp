// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The nodes that mappings are kept in, and their life: taken -> published -> unpublished -> grace -> given back.
//
//   inner    512 bytes    up to 31 children; a key is the last address of a child's interval
//   list     832 bytes    up to 31 mappings of any size, ordered
//   pages   1152 bytes    one word for each of 128 pages, for where mappings are dense
//   shortcuts             of a domain with leaves of pages: where they are, by their block; 64 bytes, and 8 for each of
//                         1 to 64 slots a leaf
//
// A reader that loaded the way to a node may use it until its guard ends. So a node that is out of the tree waits:
//   writer   retire(): out of the tree already -> seal(ticket) -> reclaim(completed): only what was sealed with a
//            ticket that has passed is used again
// One writer for all trees of one MappingNodes (the role that works the request queue); readers never come here.
// Bounded: nodes in use, waiting and kept together have at most Limits::bytes. When waiting nodes are what fills it, a
// MAP is told `busy`: it is tried again when a ticket has passed. Nothing is ever freed early.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

namespace viommu::virtio_iommu {

enum class NodeKind : std::uint8_t { none, inner, list, pages, shortcuts };

/// A node's address and kind in one word; 0 for none.
struct NodeWord {
  std::uint64_t raw = 0;

  static constexpr std::uint64_t kind_bits = low_bits(3);
  static constexpr std::uint64_t tree_bit = 8;  ///< retired with everything below it
  static constexpr std::uint64_t address_bits = ~low_bits(6);

  [[nodiscard]] constexpr NodeKind kind() const noexcept { return static_cast<NodeKind>(raw & kind_bits); }
  [[nodiscard]] constexpr bool none() const noexcept { return raw == 0; }
  template <class Node>
  [[nodiscard]] Node& as() const noexcept {
    return *reinterpret_cast<Node*>(raw & address_bits);  // NOLINT(performance-no-int-to-ptr)
  }
  template <class Node>
  [[nodiscard]] static NodeWord of(const Node& node) noexcept {
    return {reinterpret_cast<std::uintptr_t>(&node) | static_cast<std::uint64_t>(Node::kind)};
  }
  friend constexpr bool operator==(NodeWord, NodeWord) = default;
};

inline constexpr std::size_t node_keys = 31;
using Keys = std::array<Atomic<std::uint64_t>, node_keys>;
/// What stands behind the last key in use: no address is above it.
inline constexpr std::uint64_t no_key = ~std::uint64_t{0};

/// How many keys are below `address`; keys ascend. In two rounds of loads that do not wait for each other, and without
/// a branch, which nobody could predict: the first key of each cache line but the first one, then the others of a line
/// (a node begins with one word before its keys). Halving takes five rounds: 31 ns for a lookup that now takes 11.
[[nodiscard, gnu::always_inline]] inline std::size_t keys_below(const Keys& keys, std::uint64_t address) noexcept {
  constexpr std::size_t line = 8;
  const auto below = [&](std::size_t key) {
    return static_cast<std::size_t>(keys[key].load(std::memory_order_relaxed) < address);
  };
  const std::size_t from = line * (below(line - 1) + below(2 * line - 1) + below(3 * line - 1));
  return from + below(from) + below(from + 1) + below(from + 2) + below(from + 3) + below(from + 4) + below(from + 5) +
         below(from + 6);
}
static_assert(node_keys == 4 * 8 - 1);

/// Keys never change once published; a child is replaced by one store.
struct alignas(64) Inner {
  static constexpr NodeKind kind = NodeKind::inner;
  static constexpr std::size_t most_children = node_keys;
  NodeWord link;  ///< the writer's
  Keys keys;      ///< last address of each child's interval but the last one's
  std::array<Atomic<std::uint64_t>, most_children> children;
  std::uint64_t height = 0;  ///< the writer's: no way down from here has more inner nodes

  /// The lines that a search comes to last, on the way together with the others: see List::prefetch().
  [[gnu::always_inline]] void prefetch() const noexcept {
    __builtin_prefetch(this);
    for (std::size_t slot = 0; slot < most_children; slot += 8) __builtin_prefetch(&children[slot]);
  }
  /// The child whose interval has the address.
  [[nodiscard]] std::size_t slot_of(std::uint64_t address) const noexcept { return keys_below(keys, address); }
  [[nodiscard]] std::size_t count() const noexcept { return keys_below(keys, no_key) + 1; }
};

/// Ranges never change once published; a mapping goes, and comes back, by a store of its word.
struct alignas(64) List {
  static constexpr NodeKind kind = NodeKind::list;
  struct Entry {
    Atomic<std::uint64_t> first;
    Atomic<std::uint64_t> word;
  };
  /// The lines that a search comes to last. Nine more are asked for than are needed, and a lookup among 1 Mi sparse
  /// mappings takes 325 ns in place of 540, because it waits for memory once a node.
  [[gnu::always_inline]] void prefetch() const noexcept {
    __builtin_prefetch(this);
    for (std::size_t index = 0; index < entries.size(); index += 4) __builtin_prefetch(&entries[index]);
  }
  NodeWord link;
  Keys lasts;
  std::array<Entry, node_keys + 1> entries;                 ///< one more, never live, for an address behind all
  std::array<Atomic<std::uint16_t>, node_keys> low_bits{};  ///< of the gpa, below a page
  std::uint8_t used = 0;                                    ///< the writer's
  std::uint8_t live = 0;                                    ///< of the used ones, the writer's
};

/// Of one aligned block of pages. A mapping that begins and ends in it on page borders is a word for each of its pages.
struct alignas(64) Pages {
  static constexpr NodeKind kind = NodeKind::pages;
  static constexpr std::size_t count = 128;
  static constexpr std::uint64_t block_mask = count * page_size_bytes - 1;
  /// Of the address's page in its block. From the address alone, so that word and base are loaded at the same time.
  [[nodiscard]] static constexpr std::size_t index_of(std::uint64_t address) noexcept {
    return address / page_size_bytes % count;
  }
  NodeWord link;
  std::uint64_t base = 0;  ///< constant once published
  alignas(64) std::array<Atomic<std::uint64_t>, count> words;
  alignas(64) std::uint32_t mappings = 0;  ///< the writer's
};

/// Leaves of pages by their block, so that a lookup can save the way down. A leaf that is not here, because another one
/// has its slot, is found on that way.
struct alignas(64) Shortcuts {
  static constexpr NodeKind kind = NodeKind::shortcuts;
  static constexpr std::uint64_t first_slots = 8;
  static constexpr std::uint64_t growth = 8;
  static constexpr std::uint64_t most_slots = std::uint64_t{1} << 18;
  static constexpr std::uint64_t most_slots_a_leaf = 64;  ///< with fewer leaves there are fewer slots again
  NodeWord link;
  std::uint64_t mask = 0;  ///< slots - 1; constant once published

  [[nodiscard]] static constexpr std::size_t size_with(std::uint64_t slots) noexcept {
    return sizeof(Shortcuts) + slots * sizeof(Atomic<std::uint64_t>);
  }
  [[nodiscard]] Atomic<std::uint64_t>& operator[](std::uint64_t slot) noexcept { return slots()[slot]; }
  [[nodiscard]] const Atomic<std::uint64_t>& operator[](std::uint64_t slot) const noexcept { return slots()[slot]; }
  /// Blocks that follow each other have slots of their own, as many as there are.
  [[nodiscard]] std::uint64_t slot_of(std::uint64_t address) const noexcept {
    const std::uint64_t block = address / (Pages::block_mask + 1);
    return (block ^ block >> 13) & mask;
  }

 private:
  // They follow in the same memory: MappingNodes::take_shortcuts().
  [[nodiscard]] Atomic<std::uint64_t>* slots() noexcept { return reinterpret_cast<Atomic<std::uint64_t>*>(this + 1); }
  [[nodiscard]] const Atomic<std::uint64_t>* slots() const noexcept {
    return reinterpret_cast<const Atomic<std::uint64_t>*>(this + 1);
  }
};

class MappingNodes {
 public:
  struct Limits {
    std::uint64_t mappings = 0;  ///< of all domains together
    std::uint64_t bytes = 0;     ///< of nodes, those waiting included
    std::size_t kept = 256;      ///< nodes of each kind that are kept, so that a MAP seldom calls the host's allocator
  };
  enum class Lack : std::uint8_t { none, memory, reclaim /* what waits would be enough */ };

  MappingNodes(const HostAllocator& allocator, const Limits& limits) noexcept
      : allocator_{allocator}, limits_{limits} {}
  MappingNodes(const MappingNodes&) = delete;
  MappingNodes& operator=(const MappingNodes&) = delete;
  /// All trees have been cleared, and nobody reads.
  ~MappingNodes();

  /// Null when there is no room; lack() says why.
  template <class Node>
  [[nodiscard]] Node* take() noexcept;
  [[nodiscard]] Lack lack() const noexcept { return lack_; }
  /// With empty slots, a power of two. Null when there is no room beside all that is there: nothing is lacking then.
  [[nodiscard]] Shortcuts* take_shortcuts(std::uint64_t slots) noexcept;
  /// A node that was never published.
  void give_back(NodeWord node) noexcept;
  /// A node that no new reader finds.
  void retire(NodeWord node) noexcept;
  /// The same with everything below it, in constant time.
  void retire_tree(NodeWord node) noexcept;

  /// A ticket that was given out after all that has been retired so far was unpublished.
  void seal(std::uint64_t ticket) noexcept;
  /// Takes back up to `most` nodes whose ticket is at most `completed`. @return whether there are more of them
  bool reclaim(std::uint64_t completed, std::size_t most) noexcept;
  /// Takes back all that was retired since the last seal(): of trees that no reader has ever been shown.
  void take_back_unseen() noexcept {
    while (!fresh_.first.none()) take_back_first(fresh_);  // ends: a tree has so many nodes
  }
  /// Whether anything waits for a ticket, or for its seal.
  [[nodiscard]] bool waiting() const noexcept { return waiting_nodes_ != 0; }
  [[nodiscard]] bool unsealed() const noexcept { return !fresh_.first.none(); }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t mappings() const noexcept { return mappings_; }
  [[nodiscard]] bool may_add_mapping() const noexcept { return mappings_ < limits_.mappings; }
  void add_mappings(std::uint64_t count) noexcept { mappings_ += count; }
  void remove_mappings(std::uint64_t count) noexcept { mappings_ -= count; }

 private:
  /// In the order in which they were retired.
  struct Queue {
    NodeWord first;
    NodeWord last;
    std::uint64_t ticket = 0;
  };
  struct Kept {
    NodeWord first;
    std::size_t count = 0;
  };
  static constexpr std::size_t most_sealed = 8;

  [[nodiscard]] void* take_memory(NodeKind kind, std::size_t size) noexcept;
  void free_kept() noexcept;
  void append(Queue& queue, NodeWord node) noexcept;
  /// Takes the first one of the oldest queue back; what is below a tree's node takes its place.
  void take_back_first(Queue& queue) noexcept;
  [[nodiscard]] Kept& kept_of(NodeKind kind) noexcept { return kept_[static_cast<std::size_t>(kind) - 1]; }
  [[nodiscard]] static NodeWord& link_of(NodeWord node) noexcept;
  [[nodiscard]] static std::size_t size_of(NodeWord node) noexcept;

  HostAllocator allocator_;
  Limits limits_;
  std::uint64_t bytes_ = 0;
  std::uint64_t mappings_ = 0;
  std::uint64_t waiting_nodes_ = 0;  ///< a tree counts as one
  Lack lack_ = Lack::none;
  std::array<Kept, 3> kept_{};
  Queue fresh_;
  std::array<Queue, most_sealed> sealed_{};  ///< the oldest first
  std::size_t sealed_count_ = 0;
};

template <class Node>
Node* MappingNodes::take() noexcept {
  void* const memory = take_memory(Node::kind, sizeof(Node));
  return memory == nullptr ? nullptr : ::new (memory) Node;
}

}  // namespace viommu::virtio_iommu
