// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/address_spaces.hpp"

#include <algorithm>

namespace viommu::caches {

bool AddressSpaces::reset(const HostAllocator& allocator, std::size_t count, unsigned tag_bits, Readers readers,
                          Iotlb& iotlb) noexcept {
  readers_ = readers;
  iotlb_ = &iotlb;
  const std::size_t tags = std::size_t{1} << tag_bits;
  // Twice as many objects as can be in use: the other half may be waiting for its grace period.
  if (!spaces_.reset(allocator, count * 2) || !chains_.reset(allocator, std::max<std::size_t>(count, 16)) ||
      !used_.reset(allocator, count) || !free_tags_.reset(allocator, tags) || !retired_tags_.reset(allocator, tags))
    return false;
  for (AddressSpace& space : spaces_) {
    space.next = free_;
    free_ = &space;
  }
  for (std::size_t tag = 1; tag < tags; ++tag) free_tags_.push(static_cast<Tag>(tag));
  return true;
}

AddressSpace* AddressSpaces::acquire(const AddressSpaceKey& key) noexcept {
  AddressSpace** const chain = &chains_[chain_of(key.domain)];
  for (AddressSpace* space = *chain; space != nullptr; space = space->next) {
    if (space->key != key) continue;
    ++space->references;
    return space;
  }
  if (free_ == nullptr) reclaim_objects();
  if (free_ == nullptr || in_use_ == used_.size()) return nullptr;
  const Tag tag = take_tag();
  if (tag == 0) return nullptr;
  AddressSpace* const space = free_;
  free_ = space->next;
  space->key = key;
  space->sizes.store(0, std::memory_order_relaxed);
  space->tag.store(tag, std::memory_order_release);
  space->references = 1;
  space->next = *chain;
  *chain = space;
  space->place = static_cast<std::uint32_t>(in_use_);
  used_[in_use_++] = space;
  return space;
}

void AddressSpaces::release(AddressSpace& space) noexcept {
  if (--space.references != 0) return;
  AddressSpace** link = &chains_[chain_of(space.key.domain)];
  while (*link != &space) link = &(*link)->next;  // it is in this chain: acquire() put it there
  *link = space.next;
  used_[space.place] = used_[--in_use_];
  used_[space.place]->place = space.place;
  retire_tag(static_cast<Tag>(space.tag.load(std::memory_order_relaxed)));
  space.retired_at = readers_.epochs->advance();
  space.next = nullptr;
  (retired_last_ == nullptr ? retired_first_ : retired_last_->next) = &space;
  retired_last_ = &space;
}

void AddressSpaces::forget(AddressSpace& space) noexcept {
  const Tag old = static_cast<Tag>(space.tag.load(std::memory_order_relaxed));
  const Tag fresh = take_tag();
  if (fresh != 0) {
    space.tag.store(fresh, std::memory_order_release);
    retire_tag(old);
    return;
  }
  sweep_set_.reset();
  sweep_set_.set(old);
  sweep(sweep_set_);
}

void AddressSpaces::drop_pages(AddressSpace& space, IovaRange range) noexcept {
  const std::uint64_t pages = (range.last.value >> page_shift) - (range.first.value >> page_shift) + 1;
  // A probe touches a set; past this many a new tag is cheaper, and it bounds what one descriptor can cost.
  constexpr std::uint64_t most_probes = 512;
  if (pages == 0 || pages > most_probes) return forget(space);
  iotlb_->drop_pages(static_cast<Tag>(space.tag.load(std::memory_order_relaxed)), range);
}

Tag AddressSpaces::take_tag() noexcept {
  if (free_tags_.empty()) reclaim_tags();
  return free_tags_.empty() ? Tag{0} : free_tags_.pop();
}

void AddressSpaces::retire_tag(Tag tag) noexcept { retired_tags_.push({tag, readers_.epochs->advance()}); }

void AddressSpaces::reclaim_tags() noexcept {
  sweep_set_.reset();
  bool any = false;
  while (!retired_tags_.empty() && Epochs::passed(readers_.words, retired_tags_.front().at)) {
    const Tag tag = retired_tags_.pop().tag;
    sweep_set_.set(tag);
    free_tags_.push(tag);
    any = true;
  }
  if (any) sweep(sweep_set_);
}

void AddressSpaces::reclaim_objects() noexcept {
  while (retired_first_ != nullptr && Epochs::passed(readers_.words, retired_first_->retired_at)) {
    AddressSpace* const space = retired_first_;
    retired_first_ = space->next;
    if (retired_first_ == nullptr) retired_last_ = nullptr;
    space->next = free_;
    free_ = space;
  }
}

void AddressSpaces::sweep(const TagSet& tags) noexcept {
  iotlb_->sweep(tags);
  ++sweeps_;
}

}  // namespace viommu::caches
