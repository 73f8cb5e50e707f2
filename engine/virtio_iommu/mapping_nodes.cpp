// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/mapping_nodes.hpp"

namespace viommu::virtio_iommu {

NodeWord& MappingNodes::link_of(NodeWord node) noexcept {
  switch (node.kind()) {
    case NodeKind::inner:     return node.as<Inner>().link;
    case NodeKind::list:      return node.as<List>().link;
    case NodeKind::shortcuts: return node.as<Shortcuts>().link;
    case NodeKind::none:
    case NodeKind::pages:     break;
  }
  return node.as<Pages>().link;
}

std::size_t MappingNodes::size_of(NodeWord node) noexcept {
  switch (node.kind()) {
    case NodeKind::inner:     return sizeof(Inner);
    case NodeKind::list:      return sizeof(List);
    case NodeKind::shortcuts: return Shortcuts::size_with(node.as<Shortcuts>().mask + 1);
    case NodeKind::none:
    case NodeKind::pages:     break;
  }
  return sizeof(Pages);
}

MappingNodes::~MappingNodes() {
  seal(0);
  while (reclaim(~std::uint64_t{0}, ~std::size_t{0})) {
  }
  free_kept();
}

void MappingNodes::free_kept() noexcept {
  for (Kept& kept : kept_) {
    while (!kept.first.none()) {
      const NodeWord node = kept.first;
      kept.first = link_of(node);
      const std::size_t size = size_of(node);
      bytes_ -= size;
      allocator_.put(&node.as<std::byte>(), size, alignof(Pages));
    }
    kept.count = 0;
  }
}

void* MappingNodes::take_memory(NodeKind kind, std::size_t size) noexcept {
  Kept& kept = kept_of(kind);
  if (!kept.first.none()) {
    const NodeWord node = kept.first;
    kept.first = link_of(node);
    --kept.count;
    return &node.as<std::byte>();
  }
  lack_ = waiting() ? Lack::reclaim : Lack::memory;
  if (limits_.bytes - bytes_ < size) free_kept();  // of the other kinds
  if (limits_.bytes - bytes_ < size) return nullptr;
  void* const memory = allocator_.get(size, alignof(Pages));
  if (memory != nullptr) bytes_ += size;
  return memory;
}

Shortcuts* MappingNodes::take_shortcuts(std::uint64_t slots) noexcept {
  const std::size_t size = Shortcuts::size_with(slots);
  if (limits_.bytes - bytes_ < size) return nullptr;
  void* const memory = allocator_.get(size, alignof(Shortcuts));
  if (memory == nullptr) return nullptr;
  bytes_ += size;
  auto* const made = ::new (memory) Shortcuts;
  made->mask = slots - 1;
  for (std::uint64_t slot = 0; slot < slots; ++slot) ::new (&(*made)[slot]) Atomic<std::uint64_t>{0};
  return made;
}

void MappingNodes::give_back(NodeWord node) noexcept {
  if (node.kind() != NodeKind::shortcuts && kept_of(node.kind()).count < limits_.kept) {
    Kept& kept = kept_of(node.kind());
    link_of(node) = kept.first;
    kept.first = node;
    ++kept.count;
    return;
  }
  const std::size_t size = size_of(node);
  allocator_.put(&node.as<std::byte>(), size, alignof(Pages));
  bytes_ -= size;
}

void MappingNodes::append(Queue& queue, NodeWord node) noexcept {
  link_of(node) = {};
  (queue.last.none() ? queue.first : link_of(queue.last)) = node;
  queue.last = node;
  ++waiting_nodes_;
}

void MappingNodes::retire(NodeWord node) noexcept { append(fresh_, node); }

void MappingNodes::retire_tree(NodeWord node) noexcept { append(fresh_, {node.raw | NodeWord::tree_bit}); }

void MappingNodes::seal(std::uint64_t ticket) noexcept {
  if (fresh_.first.none()) return;
  if (sealed_count_ == most_sealed) {
    // As one with the youngest: that one waits for a later ticket than it need.
    Queue& youngest = sealed_[most_sealed - 1];
    link_of(youngest.last) = fresh_.first;
    youngest.last = fresh_.last;
    youngest.ticket = ticket;
  } else {
    sealed_[sealed_count_] = fresh_;
    sealed_[sealed_count_++].ticket = ticket;
  }
  fresh_ = {};
}

void MappingNodes::take_back_first(Queue& queue) noexcept {
  const NodeWord node = queue.first;
  queue.first = link_of(node);
  if (queue.first.none()) queue.last = {};
  --waiting_nodes_;
  if ((node.raw & NodeWord::tree_bit) != 0 && node.kind() == NodeKind::inner) {
    const Inner& inner = node.as<Inner>();
    const std::size_t children = inner.count();
    for (std::size_t slot = 0; slot < children; ++slot) {
      const NodeWord child{inner.children[slot].load(std::memory_order_relaxed)};
      if (!child.none()) append(queue, {child.raw | NodeWord::tree_bit});
    }
  }
  give_back({node.raw & ~NodeWord::tree_bit});
}

bool MappingNodes::reclaim(std::uint64_t completed, std::size_t most) noexcept {
  while (sealed_count_ != 0 && sealed_[0].ticket <= completed) {
    while (!sealed_[0].first.none()) {
      if (most-- == 0) return true;
      take_back_first(sealed_[0]);
    }
    for (std::size_t i = 1; i < sealed_count_; ++i) sealed_[i - 1] = sealed_[i];
    sealed_[--sealed_count_] = {};
  }
  return false;
}

}  // namespace viommu::virtio_iommu
