// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a consumer holds, as it was delivered: units, in a tree of the shape of page tables.
//
//   level 4 3 2    512 slots each: the node below, or (level 2, 1 GiB) one unit
//   level 1        512 slots of 2 MiB each: nothing, one run, or a list of runs
//
// A run is a unit: it was one MAP and is withdrawn by one UNMAP. It is one word (walkers/mapped_run.hpp), with three
// bits more. So a contiguous table costs 10 bytes, a scattered one those and 8 bytes a leaf, and comparing a table with
// it is comparing two arrays of words. A list is whole lines without a head, and 512 runs are one page: for a little
// more an allocator takes a quarter more, and the host has as many more pages to clear.
//
// Where longer units are wanted, one may go on over whole slots of a level-1 node, up to 1 GiB: each but the first is
// marked so.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/consumer/event.hpp"
#include "walkers/mapped_run.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace viommu::consumer {

using walkers::MappedRun;
using walkers::table_pages;

/// Of a unit that is one leaf of 2 MiB or more: a change of part of it is a change of all of it.
inline constexpr std::uint64_t large_leaf_bit = std::uint64_t{1} << 61;
/// Of a run that is mapped and was not delivered, so that it is reported once only.
inline constexpr std::uint64_t left_out_bit = std::uint64_t{1} << 62;
/// Of a slot of 2 MiB that is in one unit with the slot before.
inline constexpr std::uint64_t joined_bit = std::uint64_t{1} << 63;
/// Those that a slot with one run has beside it.
inline constexpr std::uint64_t unit_marks = large_leaf_bit | joined_bit;

[[nodiscard]] constexpr bool is_left_out(MappedRun run) noexcept { return (run.word & left_out_bit) != 0; }
[[nodiscard]] constexpr bool is_joined(MappedRun run) noexcept { return (run.word & joined_bit) != 0; }
/// As an event has them.
[[nodiscard]] constexpr std::uint8_t run_rights(MappedRun run) noexcept {
  static_assert(MappedRun::mmio_bit == mmio_right);
  return static_cast<std::uint8_t>(run.word & (MappedRun::right_bits | MappedRun::mmio_bit));
}

inline constexpr unsigned slot_shift = 21;  ///< of level 1
inline constexpr unsigned top_level = 4;
[[nodiscard]] constexpr unsigned shift_of(unsigned level) noexcept { return page_shift + 9 * level; }

class Shadow {
 public:
  /// A slot of any level: nothing (0), one unit (has rights, so its low bits are not 0), or a pointer.
  struct Slot {
    std::uint64_t word = 0;
    [[nodiscard]] bool empty() const noexcept { return word == 0; }
    [[nodiscard]] bool is_unit() const noexcept { return (word & MappedRun::right_bits) != 0; }
    [[nodiscard]] bool is_pointer() const noexcept { return !empty() && !is_unit(); }
    /// Of level 1: whether it is in one unit with the slot before.
    [[nodiscard]] bool is_joined() const noexcept { return is_unit() && consumer::is_joined({word}); }
  };
  struct Node {
    std::array<Slot, table_pages> slots{};
    std::array<std::uint16_t, table_pages> lengths{};  ///< of lists
    std::uint32_t used = 0;
  };

  explicit Shadow(const HostAllocator& allocator) noexcept : allocator_{allocator} {}
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;
  ~Shadow() { clear(); }

  [[nodiscard]] static Node* node_in(const Slot& slot) noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): made of a pointer
    return slot.is_pointer() ? reinterpret_cast<Node*>(slot.word) : nullptr;
  }
  /// Runs of a slot of level 1.
  [[nodiscard]] static std::span<const MappedRun> runs(const Node& node, std::size_t index) noexcept {
    const Slot& slot = node.slots[index];
    if (slot.is_unit()) return {reinterpret_cast<const MappedRun*>(&slot.word), 1};
    return list_in(node, index);
  }

  [[nodiscard]] Node*& root() noexcept { return root_; }
  /// Null when the host has no memory.
  [[nodiscard]] Node* make_node() noexcept;
  /// The node in a slot of `parent`, made if need be.
  [[nodiscard]] Node* node_at(Node& parent, std::size_t index) noexcept;
  static void put_word(Node& node, std::size_t index, std::uint64_t word) noexcept {
    node.used += static_cast<std::uint32_t>(word != 0) - static_cast<std::uint32_t>(!node.slots[index].empty());
    node.slots[index].word = word;
  }
  /// Frees what is in a slot that holds a node without anything in it.
  void drop_if_unused(Node& parent, std::size_t index) noexcept;
  void drop_root_if_unused() noexcept;
  /// Makes these the runs of a slot of level 1. @return false when the host has no memory: the slot is as it was
  [[nodiscard]] bool put_runs(Node& node, std::size_t index, std::span<const MappedRun> runs) noexcept;
  /// How put_runs() copies where there is more than caches hold; without, as usual.
  using Stream = void (*)(std::uint64_t* to, const std::uint64_t* from, std::size_t count) noexcept;
  void stream_with(Stream stream) noexcept { stream_ = stream; }
  /// Before another thread looks, as what is streamed is not ordered by what comes after it.
  void settle() noexcept;
  void clear() noexcept;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  [[nodiscard]] static std::span<MappedRun> list_in(const Node& node, std::size_t index) noexcept {
    const Slot& slot = node.slots[index];
    if (!slot.is_pointer()) return {};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): made of a pointer
    return {reinterpret_cast<MappedRun*>(slot.word), node.lengths[index]};
  }
  void copy(std::span<const MappedRun> runs, MappedRun* to) noexcept;
  void free_list(std::span<MappedRun> list) noexcept;
  void free_node(Node* node, unsigned level) noexcept;

  HostAllocator allocator_;
  Node* root_ = nullptr;
  std::uint64_t bytes_ = 0;
  Stream stream_ = nullptr;
  bool streamed_ = false;  ///< something has been, and is not settled
};

}  // namespace viommu::consumer
