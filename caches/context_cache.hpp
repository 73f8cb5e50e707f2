// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which address space a source id uses. Entries are immutable: they are replaced, retired, and reused only after the
// grace period of the readers that may still look at them.
//
// No late insert: a walker samples version() before it loads a root entry; each invalidation changes the version under
// the owner's lock before it unlinks anything, and insert() compares it under that lock.
#pragma once

#include "caches/address_spaces.hpp"
#include "caches/scope.hpp"

#include <cstdint>

namespace viommu::caches {

/// What the context tables say about one source.
struct ContextEntry {
  SourceId source;
  bool fault_disable = false;     ///< faults of this source are not recorded
  AddressSpace* space = nullptr;  ///< alive as long as this entry is

 private:
  friend class ContextCache;
  ContextEntry* next = nullptr;  ///< in the free or retired list
  std::uint32_t place = 0;       ///< in the list of the linked ones
  std::uint64_t retired_at = 0;
};

/// Threads: find() and version() from any thread, find()'s result inside a guard; the rest under one lock of the owner.
class ContextCache {
 public:
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count, AddressSpaces::Readers readers,
                           AddressSpaces& spaces) noexcept;

  [[nodiscard]] const ContextEntry* find(SourceId source) const noexcept {
    return table_[source.value].load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }

  /// @return null when an invalidation came after `version` was sampled, or pools are used up: then nothing is cached.
  const ContextEntry* insert(std::uint64_t version, SourceId source, const AddressSpaceKey& key,
                             bool fault_disable) noexcept;
  /// Drops the entries a context scope names; other scopes drop none.
  void drop(const Scope& scope) noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept { return table_.bytes() + entries_.bytes() + linked_.bytes(); }

 private:
  void unlink(ContextEntry& entry) noexcept;
  void reclaim() noexcept;

  AddressSpaces::Readers readers_;
  AddressSpaces* spaces_ = nullptr;
  HostArray<Atomic<ContextEntry*>> table_;  ///< by source id
  HostArray<ContextEntry> entries_;
  ContextEntry* free_ = nullptr;
  ContextEntry* retired_first_ = nullptr;
  ContextEntry* retired_last_ = nullptr;
  HostArray<ContextEntry*> linked_;  ///< the first linked_count_ of them, in no order
  std::size_t linked_count_ = 0;
  std::size_t next_victim_ = 0;
  alignas(shared_line_bytes) Atomic<std::uint64_t> version_{0};
};

}  // namespace viommu::caches
