// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/pasid_cache.hpp"

#include <algorithm>

namespace viommu::caches {

bool PasidCache::reset(const HostAllocator& allocator, const PasidCacheSize& size, AddressSpaces& spaces) noexcept {
  if (!sets_.reset(allocator, std::max<std::size_t>(size.entries / ways, 1))) return false;
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
  Set& set = sets_[set_of(sought)];
  Word* place = nullptr;
  for (Word& each : set.words) {
    const PasidWord word = each.load(std::memory_order_relaxed);
    if (has_key(word, sought)) return entry_of(word);
    if (word.raw == 0 && place == nullptr) place = &each;
  }
  if (place == nullptr) {  // full: somebody has to go, if that makes room at all
    if (!spaces_->has_room()) return {};
    place = &set.words[next_victim_++ % ways];
    unlink(*place);
  }
  AddressSpace* const space = spaces_->acquire(key);
  if (space == nullptr) return {};
  const auto number = static_cast<std::uint32_t>(space - first_space_);
  PasidWord word = with(sought, pasid_word::space, number);
  word = with(word, pasid_word::fault_disable, flags.fault_disable);
  word = with(word, pasid_word::device_tlb, flags.device_tlb);
  place->store(word, std::memory_order_release);  // K3
  ++held_;
  return entry_of(word);
}

void PasidCache::drop(const Scope& scope) noexcept {
  std::size_t rest = held_;
  for (Set& set : sets_) {  // bound: the size fixed at creation
    if (rest == 0) return;
    for (Word& each : set.words) {
      const PasidWord word = each.load(std::memory_order_relaxed);
      if (word.raw == 0) continue;
      --rest;
      if (names(scope, word)) unlink(each);
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

void PasidCache::unlink(Word& word) noexcept {
  AddressSpace& space = entry_of(word.load(std::memory_order_relaxed)).space();
  word.store({}, std::memory_order_relaxed);  // K3; whoever retires the address space makes D2 behind it
  --held_;
  spaces_->release(space);
}

}  // namespace viommu::caches
