// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which address space a source id uses: one word a source, so that an entry is immutable and replaced as a whole.
//
//   word   63:6 address space (it is 64-byte aligned) | 1 device-TLB | 0 faults are not recorded;  0: not cached
//
// Beside it, the same for requests that go by a PASID: pasid_cache.hpp. One version is for both.
// A replaced word refers to an address space that lives on until the readers that may have loaded it are gone.
// No late insert: a walker samples version() before it loads a root entry; each invalidation changes the version under
// the owner's lock before it unlinks anything, and insert() compares it under that lock.
#pragma once

#include <cstdint>

#include "caches/accounts.hpp"
#include "caches/address_spaces.hpp"
#include "caches/context_entry.hpp"
#include "caches/pasid_cache.hpp"
#include "caches/scope.hpp"

namespace viommu::caches {

/// Threads: find(), prefetch() and version() from any thread, what find() returns inside a guard; the rest under one
/// lock of the owner.
class ContextCache {
 public:
  /// @param count  entries by source at a time
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count, AddressSpaces& spaces, Accounts& accounts,
                           const PasidCacheSize& pasids = {}) noexcept;

  [[nodiscard]] ContextEntry find(SourceId source) const noexcept {
    return table_[source.value].load(std::memory_order_acquire);
  }
  [[nodiscard]] ContextEntry find(const PasidKey& key) const noexcept { return pasids_.find(key); }
  /// Where the use of what find() has just returned is counted; only where there are accounts. Of an entry that was
  /// replaced since then it is the next one's: a request more or less, at that moment.
  [[nodiscard]] Account account(SourceId source) const noexcept {
    return table_accounts_[source.value].load(std::memory_order_relaxed);
  }
  [[nodiscard]] Account account(const PasidKey& key) const noexcept { return pasids_.account(key); }
  [[nodiscard]] std::uint64_t version() const noexcept { return version_.load(std::memory_order_acquire); }

  /// @return null when an invalidation came after `version` was sampled, or pools are used up: then nothing is cached.
  ContextEntry insert(std::uint64_t version, SourceId source, const AddressSpaceKey& key, ContextFlags flags) noexcept;
  ContextEntry insert(std::uint64_t version, const PasidKey& pasid, const AddressSpaceKey& key,
                      ContextFlags flags) noexcept;
  /// Drops the entries that a scope of contexts or of PASIDs names; other scopes drop none.
  void drop(const Scope& scope) noexcept;

  [[nodiscard]] const PasidCache& pasids() const noexcept { return pasids_; }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return table_.bytes() + table_accounts_.bytes() + linked_.bytes() + positions_.bytes() + pasids_.bytes();
  }

 private:
  void unlink(SourceId source, bool ended) noexcept;

  AddressSpaces* spaces_ = nullptr;
  Accounts* accounts_ = nullptr;
  HostArray<Atomic<ContextEntry>> table_;      ///< by source id
  HostArray<Atomic<Account>> table_accounts_;  ///< the same; empty without accounts
  HostArray<SourceId> linked_;                 ///< the first linked_count_ of them, in no order
  HostArray<std::uint32_t> positions_;         ///< of a linked source in that list
  PasidCache pasids_;
  std::size_t linked_count_ = 0;
  std::size_t next_victim_ = 0;
  alignas(shared_line_bytes) Atomic<std::uint64_t> version_{0};
};

}  // namespace viommu::caches
