// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/shadow.hpp"

#include "engine/base/streaming.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace viommu::consumer {
namespace {

constexpr std::size_t line = 64;  ///< bytes

/// Whole lines: not much more than there are, so a scattered table is full, and a sparse one costs what it holds.
[[nodiscard]] constexpr std::size_t list_bytes(std::size_t count) noexcept {
  return (count * sizeof(MappedRun) + (line - 1)) / line * line;
}

}  // namespace

Shadow::Node* Shadow::make_node() noexcept {
  void* const memory = allocator_.get(sizeof(Node), alignof(Node));
  if (memory == nullptr) return nullptr;
  bytes_ += sizeof(Node);
  return new (memory) Node;
}

Shadow::Node* Shadow::node_at(Node& parent, std::size_t index) noexcept {
  if (Node* const there = node_in(parent.slots[index]); there != nullptr) return there;
  Node* const made = make_node();
  if (made != nullptr) put_word(parent, index, reinterpret_cast<std::uint64_t>(made));
  return made;
}

void Shadow::drop_if_unused(Node& parent, std::size_t index) noexcept {
  Node* const node = node_in(parent.slots[index]);
  if (node == nullptr || node->used != 0) return;
  put_word(parent, index, 0);
  free_node(node, 0);
}

void Shadow::drop_root_if_unused() noexcept {
  if (root_ != nullptr && root_->used == 0) free_node(std::exchange(root_, nullptr), 0);
}

bool Shadow::put_runs(Node& node, std::size_t index, std::span<const MappedRun> runs) noexcept {
  const std::span<MappedRun> old = list_in(node, index);
  if (runs.size() <= 1) {
    put_word(node, index, runs.empty() ? 0 : runs.front().word);
    free_list(old);
    return true;
  }
  const std::size_t size = list_bytes(runs.size());
  MappedRun* list = old.data();
  if (old.empty() || list_bytes(old.size()) != size) {
    list = static_cast<MappedRun*>(allocator_.get(size, line));
    if (list == nullptr) return false;
    bytes_ += size;
    put_word(node, index, reinterpret_cast<std::uint64_t>(list));
    free_list(old);
  }
  node.lengths[index] = static_cast<std::uint16_t>(runs.size());
  copy(runs, list);
  return true;
}

void Shadow::copy(std::span<const MappedRun> runs, MappedRun* to) noexcept {
  constexpr std::uint64_t more_than_caches = std::uint64_t{8} << 20;
  constexpr std::size_t worthwhile = 128;
  if (stream_ != nullptr && bytes_ > more_than_caches && runs.size() >= worthwhile) {
    stream_(&to->word, &runs.data()->word, runs.size());
    streamed_ = true;
  } else {
    std::copy_n(runs.data(), runs.size(), to);  // one copy of memory, which std::ranges::copy does not make of it
  }
}

void Shadow::free_list(std::span<MappedRun> list) noexcept {
  if (list.empty()) return;
  const std::size_t size = list_bytes(list.size());
  bytes_ -= size;
  allocator_.put(list.data(), size, line);
}

void Shadow::free_node(Node* node, unsigned level) noexcept {
  if (node == nullptr) return;
  for (std::size_t i = 0; i < table_pages && level != 0; ++i) {  // level 0: nothing is in it
    if (level == 1)
      free_list(list_in(*node, i));
    else
      free_node(node_in(node->slots[i]), level - 1);  // ends: level goes down
  }
  bytes_ -= sizeof(Node);
  node->~Node();
  allocator_.put(node, sizeof(Node), alignof(Node));
}

void Shadow::settle() noexcept {
  if (std::exchange(streamed_, false)) finish_streaming();
}

void Shadow::clear() noexcept { free_node(std::exchange(root_, nullptr), top_level); }

}  // namespace viommu::consumer
