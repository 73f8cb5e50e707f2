// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which address space a source id uses: one word a source, so that an entry is immutable and replaced as a whole.
//
//   word   63:6 address space (it is 64-byte aligned) | 0 faults of this source are not recorded;  0: not cached
//
// A replaced word refers to an address space that lives on until the readers that may have loaded it are gone.
// No late insert: a walker samples version() before it loads a root entry; each invalidation changes the version under
// the owner's lock before it unlinks anything, and insert() compares it under that lock.
#pragma once

#include <cstdint>

#include "caches/address_spaces.hpp"
#include "caches/scope.hpp"

namespace viommu::caches {

/// What the context tables say about one source; null when that is not cached.
class ContextEntry {
 public:
  constexpr ContextEntry() = default;
  ContextEntry(AddressSpace& space, bool fault_disable) noexcept
      : word_{reinterpret_cast<std::uintptr_t>(&space) | (fault_disable ? fault_disable_bit : 0)} {}

  [[nodiscard]] explicit operator bool() const noexcept { return word_ != 0; }
  [[nodiscard]] AddressSpace& space() const noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): made of a pointer; the bit below its alignment is ours
    return *reinterpret_cast<AddressSpace*>(word_ & ~std::uintptr_t{alignof(AddressSpace) - 1});
  }
  [[nodiscard]] bool fault_disable() const noexcept { return (word_ & fault_disable_bit) != 0; }
  friend bool operator==(ContextEntry, ContextEntry) = default;

 private:
  static constexpr std::uintptr_t fault_disable_bit = 1;
  std::uintptr_t word_ = 0;
};

/// Threads: find(), prefetch() and version() from any thread, what find() returns inside a guard; the rest under one
/// lock of the owner.
class ContextCache {
 public:
  /// @param count  entries at a time
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count, AddressSpaces& spaces) noexcept;

  [[nodiscard]] ContextEntry find(SourceId source) const noexcept {
    return table_[source.value].load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }

  /// @return null when an invalidation came after `version` was sampled, or pools are used up: then nothing is cached.
  ContextEntry insert(std::uint64_t version, SourceId source, const AddressSpaceKey& key, bool fault_disable) noexcept;
  /// Drops the entries a context scope names; other scopes drop none.
  void drop(const Scope& scope) noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept { return table_.bytes() + linked_.bytes() + positions_.bytes(); }

 private:
  void unlink(SourceId source) noexcept;

  AddressSpaces* spaces_ = nullptr;
  HostArray<Atomic<ContextEntry>> table_;  ///< by source id
  HostArray<SourceId> linked_;             ///< the first linked_count_ of them, in no order
  HostArray<std::uint32_t> positions_;     ///< of a linked source in that list
  std::size_t linked_count_ = 0;
  std::size_t next_victim_ = 0;
  alignas(shared_line_bytes) Atomic<std::uint64_t> version_{0};
};

}  // namespace viommu::caches
