// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/context_cache.hpp"

namespace viommu::caches {
namespace {
constexpr std::size_t source_ids = std::size_t{1} << 16;
}

bool ContextCache::reset(const HostAllocator& allocator, std::size_t count, AddressSpaces::Readers readers,
                         AddressSpaces& spaces) noexcept {
  readers_ = readers;
  spaces_ = &spaces;
  // Twice as many as can be linked: the other half may be waiting for its grace period.
  if (!table_.reset(allocator, source_ids) || !entries_.reset(allocator, count * 2) || !linked_.reset(allocator, count))
    return false;
  for (ContextEntry& entry : entries_) {
    entry.next = free_;
    free_ = &entry;
  }
  return true;
}

const ContextEntry* ContextCache::insert(std::uint64_t version, SourceId source, const AddressSpaceKey& key,
                                         bool fault_disable) noexcept {
  if (version_.load(std::memory_order_relaxed) != version) return nullptr;
  if (ContextEntry* const old = table_[source.value].load(std::memory_order_relaxed); old != nullptr) return old;
  if (linked_count_ == linked_.size()) {  // full: somebody has to go
    next_victim_ = (next_victim_ + 1) % linked_.size();
    unlink(*linked_[next_victim_]);
  }
  if (free_ == nullptr) reclaim();
  if (free_ == nullptr) return nullptr;
  AddressSpace* const space = spaces_->acquire(key);
  if (space == nullptr) return nullptr;
  ContextEntry* const entry = free_;
  free_ = entry->next;
  entry->source = source;
  entry->fault_disable = fault_disable;
  entry->space = space;
  entry->place = static_cast<std::uint32_t>(linked_count_);
  linked_[linked_count_++] = entry;
  table_[source.value].store(entry, std::memory_order_release);
  return entry;
}

void ContextCache::drop(const Scope& scope) noexcept {
  using Kind = Scope::Kind;
  const bool all = scope.kind == Kind::everything || scope.kind == Kind::contexts;
  if (!all && scope.kind != Kind::domain_contexts && scope.kind != Kind::source_contexts) return;
  version_.fetch_add(1, std::memory_order_release);
  if (scope.kind == Kind::source_contexts && scope.ignored_source_bits == 0) {
    ContextEntry* const entry = table_[scope.source.value].load(std::memory_order_relaxed);
    if (entry != nullptr) unlink(*entry);
    return;
  }
  for (std::size_t i = linked_count_; i-- > 0;) {  // backwards: unlinking puts the last one into the gap
    ContextEntry& entry = *linked_[i];
    if (all || scope.concerns({entry.source, entry.space->key.domain, all_iovas})) unlink(entry);
  }
}

void ContextCache::unlink(ContextEntry& entry) noexcept {
  table_[entry.source.value].store(nullptr, std::memory_order_release);
  linked_[entry.place] = linked_[--linked_count_];
  linked_[entry.place]->place = entry.place;
  spaces_->release(*entry.space);
  entry.retired_at = readers_.epochs->advance();
  entry.next = nullptr;
  (retired_last_ == nullptr ? retired_first_ : retired_last_->next) = &entry;
  retired_last_ = &entry;
}

void ContextCache::reclaim() noexcept {
  while (retired_first_ != nullptr && Epochs::passed(readers_.words, retired_first_->retired_at)) {
    ContextEntry* const entry = retired_first_;
    retired_first_ = entry->next;
    if (retired_first_ == nullptr) retired_last_ = nullptr;
    entry->next = free_;
    free_ = entry;
  }
}

}  // namespace viommu::caches
