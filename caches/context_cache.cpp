// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/context_cache.hpp"

namespace viommu::caches {
namespace {
constexpr std::size_t source_ids = std::size_t{1} << 16;
}

bool ContextCache::reset(const HostAllocator& allocator, std::size_t count, AddressSpaces& spaces, Accounts& accounts,
                         const PasidCacheSize& pasids) noexcept {
  spaces_ = &spaces;
  accounts_ = &accounts;
  return table_.reset(allocator, source_ids) && linked_.reset(allocator, count) &&
         positions_.reset(allocator, source_ids) && pasids_.reset(allocator, pasids, spaces, accounts) &&
         table_accounts_.reset(allocator, accounts.any() ? source_ids : 0);
}

ContextEntry ContextCache::insert(std::uint64_t version, SourceId source, const AddressSpaceKey& key,
                                  ContextFlags flags) noexcept {
  if (version_.load(std::memory_order_relaxed) != version) return {};
  if (const ContextEntry old = table_[source.value].load(std::memory_order_relaxed); old) return old;
  if (linked_count_ == linked_.size()) {  // full: somebody has to go, if that makes room at all
    if (!spaces_->has_room()) return {};
    next_victim_ = (next_victim_ + 1) % linked_.size();
    unlink(linked_[next_victim_], false);
  }
  AddressSpace* const space = spaces_->acquire(key);
  if (space == nullptr) return {};
  const ContextEntry entry{*space, flags};
  if (accounts_->any())
    table_accounts_[source.value].store(accounts_->acquire(source, key.domain), std::memory_order_relaxed);
  positions_[source.value] = static_cast<std::uint32_t>(linked_count_);
  linked_[linked_count_++] = source;
  table_[source.value].store(entry, std::memory_order_release);
  return entry;
}

ContextEntry ContextCache::insert(std::uint64_t version, const PasidKey& pasid, const AddressSpaceKey& key,
                                  ContextFlags flags) noexcept {
  if (version_.load(std::memory_order_relaxed) != version) return {};
  return pasids_.insert(pasid, key, flags);
}

void ContextCache::drop(const Scope& scope) noexcept {
  using Kind = Scope::Kind;
  if (!scope.drops_contexts()) return;
  version_.fetch_add(1, std::memory_order_release);
  pasids_.drop(scope);
  if (scope.kind == Kind::source_contexts && scope.ignored_source_bits == 0) {
    if (table_[scope.source.value].load(std::memory_order_relaxed)) unlink(scope.source, true);
    return;
  }
  for (std::size_t i = linked_count_; i-- > 0;) {  // backwards: unlinking puts the last one into the gap
    const SourceId source = linked_[i];
    const AddressSpace& space = table_[source.value].load(std::memory_order_relaxed).space();
    if (scope.concerns({source, space.key.domain, all_iovas, space.key.pasid})) unlink(source, scope.ends_uses());
  }
}

void ContextCache::unlink(SourceId source, bool ended) noexcept {
  const ContextEntry entry = table_[source.value].load(std::memory_order_relaxed);
  table_[source.value].store(ContextEntry{}, std::memory_order_release);
  const std::uint32_t position = positions_[source.value];
  linked_[position] = linked_[--linked_count_];
  positions_[linked_[position].value] = position;
  if (accounts_->any()) accounts_->release(table_accounts_[source.value].exchange(0, std::memory_order_relaxed), ended);
  spaces_->release(entry.space());
}

}  // namespace viommu::caches
