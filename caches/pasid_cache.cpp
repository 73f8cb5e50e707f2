// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/pasid_cache.hpp"

#include <algorithm>

namespace viommu::caches {

bool PasidCache::reset(const HostAllocator& allocator, const PasidCacheSize& size, AddressSpaces& spaces,
                       Accounts& accounts) noexcept {
  if (!sets_.reset(allocator, std::max<std::size_t>(size.entries / ways, 1)) ||
      !words_accounts_.reset(allocator, accounts.any() ? sets_.size() * ways : 0))
    return false;
  accounts_ = &accounts;
  first_space_ = spaces.objects();
  set_mask_ = sets_.size() - 1;
  seed_ = size.hash_seed;
  spaces_ = &spaces;
  entries_ = size.entries;
  return true;
}

ContextEntry PasidCache::insert(const PasidKey& given, const AddressSpaceKey& key, ContextFlags flags) noexcept {
  if (entries_ == 0 || given.pasid.value > max_pasid) return {};
  const PasidWord sought = key_of(given);
  const std::size_t set = set_of(sought);
  std::size_t place = ways;
  for (std::size_t way = 0; way < ways; ++way) {
    const PasidWord word = sets_[set].words[way].load(std::memory_order_relaxed);
    if (has_key(word, sought)) return entry_of(word);
    if (word.raw == 0 && place == ways) place = way;
  }
  if (place == ways) {  // full: somebody has to go, if that makes room at all
    if (!spaces_->has_room()) return {};
    place = next_victim_++ % ways;
    unlink(set, place, false);
  }
  AddressSpace* const space = spaces_->acquire(key);
  if (space == nullptr) return {};
  const auto number = static_cast<std::uint32_t>(space - first_space_);
  PasidWord word = with(sought, pasid_word::space, number);
  word = with(word, pasid_word::fault_disable, flags.fault_disable);
  word = with(word, pasid_word::device_tlb, flags.device_tlb);
  if (accounts_->any())
    words_accounts_[set * ways + place].store(accounts_->acquire(given.source, key.domain), std::memory_order_relaxed);
  sets_[set].words[place].store(word, std::memory_order_release);  // K3
  ++held_;
  return entry_of(word);
}

void PasidCache::drop(const Scope& scope) noexcept {
  std::size_t rest = held_;
  for (std::size_t set = 0; set < sets_.size(); ++set) {  // bound: the size fixed at creation
    if (rest == 0) return;
    for (std::size_t way = 0; way < ways; ++way) {
      const PasidWord word = sets_[set].words[way].load(std::memory_order_relaxed);
      if (word.raw == 0) continue;
      --rest;
      if (names(scope, word)) unlink(set, way, scope.ends_uses());
    }
  }
}

/// As Scope::concerns(), but the address space, a line of its own, is looked at last.
bool PasidCache::names(const Scope& scope, PasidWord word) const noexcept {
  using Kind = Scope::Kind;
  if (scope.kind == Kind::source_contexts) return scope.names(get(word, pasid_word::source));
  const Pasid pasid = get(word, pasid_word::pasid);
  if (scope.kind == Kind::pasid && pasid != scope.pasid) return false;
  const bool by_domain = scope.kind == Kind::pasid || scope.kind == Kind::domain_pasids;
  return !by_domain || entry_of(word).space().key.domain == scope.domain;
}

void PasidCache::unlink(std::size_t set, std::size_t way, bool ended) noexcept {
  Word& word = sets_[set].words[way];
  AddressSpace& space = entry_of(word.load(std::memory_order_relaxed)).space();
  word.store({}, std::memory_order_relaxed);  // K3; whoever retires the address space makes D2 behind it
  --held_;
  if (accounts_->any())
    accounts_->release(words_accounts_[set * ways + way].exchange(0, std::memory_order_relaxed), ended);
  spaces_->release(space);
}

}  // namespace viommu::caches
