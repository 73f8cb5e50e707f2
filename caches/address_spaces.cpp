// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/address_spaces.hpp"

#include <algorithm>

namespace viommu::caches {

bool announce(Atomic<Sizes>& sizes, Atomic<Sizes>& fillable, Sizes sampled, PageSize size) noexcept {
  const Sizes bit = bit_of(size);
  if ((sampled & bit) != 0) {
    // Of a small size the first fill says so, of a large one A1 has.
    if ((sizes.load(std::memory_order_relaxed) & bit) == 0) sizes.fetch_or(bit, std::memory_order_relaxed);  // A0
    return true;
  }
  sizes.fetch_or(bit, std::memory_order_relaxed);     // A1
  full_fence();                                       // A2
  fillable.fetch_or(bit, std::memory_order_release);  // A3
  return false;
}

bool AddressSpaces::reset(const HostAllocator& allocator, std::size_t count, unsigned tag_bits, Epochs& epochs,
                          Tagged tagged) noexcept {
  epochs_ = &epochs;
  tagged_ = tagged;
  tags_ = std::size_t{1} << tag_bits;
  // Twice as many objects as can be in use: the other half may be waiting for its grace period.
  if (!spaces_.reset(allocator, count * 2) || !chains_.reset(allocator, std::max<std::size_t>(count, 16)) ||
      !used_.reset(allocator, count) || !free_tags_.reset(allocator, tags_) || !retired_tags_.reset(allocator, tags_) ||
      !swept_tags_.reset(allocator, tags_))
    return false;
  for (AddressSpace& space : spaces_) {
    space.next_ = free_;
    free_ = &space;
  }
  for (std::size_t tag = 1; tag < tags_; ++tag) free_tags_.push(static_cast<Tag>(tag));
  return true;
}

AddressSpace* AddressSpaces::acquire(const AddressSpaceKey& key) noexcept {
  AddressSpace** const chain = &chains_[chain_of(key.domain)];
  for (AddressSpace* space = *chain; space != nullptr; space = space->next_) {
    if (space->key != key) continue;
    ++space->references_;
    return space;
  }
  if (free_ == nullptr) reclaim_objects();
  if (free_ == nullptr) short_.store(true, std::memory_order_relaxed);
  if (free_ == nullptr || in_use_ == used_.size()) return nullptr;
  const Tag tag = take_tag();
  if (tag == 0) return nullptr;
  AddressSpace* const space = free_;
  free_ = space->next_;
  space->key = key;
  space->first_set = tagged_.iotlb->place(tag, key.domain.value).first_set();
  space->paged = key.end_of_paged();
  for (Atomic<Sizes>* sizes : {&space->sizes, &space->tables, &space->reachable})
    sizes->store(0, std::memory_order_relaxed);
  space->fillable.store(small_sizes, std::memory_order_relaxed);
  space->prefix.store(Place::prefix_of(tag), std::memory_order_release);
  space->references_ = 1;
  space->next_ = *chain;
  *chain = space;
  space->position_ = static_cast<std::uint32_t>(in_use_);
  used_[in_use_++] = space;
  return space;
}

void AddressSpaces::release(AddressSpace& space) noexcept {
  if (--space.references_ != 0) return;
  AddressSpace** link = &chains_[chain_of(space.key.domain)];
  while (*link != &space) link = &(*link)->next_;  // it is in this chain: acquire() put it there
  *link = space.next_;
  used_[space.position_] = used_[--in_use_];
  used_[space.position_]->position_ = space.position_;
  retire_tag(space.tag());
  space.retired_at_ = epochs_->advance();
  space.next_ = nullptr;
  (retired_last_ == nullptr ? retired_first_ : retired_last_->next_) = &space;
  retired_last_ = &space;
}

void AddressSpaces::forget(AddressSpace& space) noexcept {
  const Tag old = space.tag();
  const Tag fresh = take_tag();
  if (fresh != 0) {
    space.prefix.store(Place::prefix_of(fresh), std::memory_order_release);
    return retire_tag(old);
  }
  // The tag stays. Tables first, so that no walk begins at a stale one with a sample taken after the pages were
  // dropped; and twice, because a table that maps more may have put one that maps less into a group that was swept
  // already.
  tagged_.structures->sweep(old);
  tagged_.structures->sweep(old);
  tagged_.iotlb->sweep(old);
  ++sweeps_;
}

void AddressSpaces::drop_pages(AddressSpace& space, IovaRange range, bool keep_structures) noexcept {
  if (!by_page(range)) return forget(space);
  drop_pages(member(space), {{space.key.folded(range.first.value)}, {space.key.folded(range.last.value)}},
             keep_structures);
}

void AddressSpaces::drop_pages(const Member& member, IovaRange range, bool keep_structures) const noexcept {
  const AddressSpace& space = *member.space;
  // Tables first, those that map most before the others: a walk that samples behind a drop finds no stale table to
  // begin at, and what it filled from one before is dropped after.
  const Sizes tables = keep_structures ? Sizes{0} : space.tables.load(std::memory_order_relaxed);  // B2
  if (tables != 0) tagged_.structures->drop_large_pages({member.place.tag(), 0}, range, tables);
  tagged_.iotlb->drop_pages(member.place, range, space.sizes);
}

bool AddressSpaces::has_room() noexcept {
  if (free_ == nullptr) reclaim_objects();
  const bool room = free_ != nullptr && (!free_tags_.empty() || !retired_tags_.empty());
  if (!room) short_.store(true, std::memory_order_relaxed);
  return room;
}

Tag AddressSpaces::take_tag() noexcept {
  if (free_tags_.count() <= tags_ / 4 && !retired_tags_.empty()) short_.store(true, std::memory_order_relaxed);
  if (free_tags_.empty() && !sweeping_ && begin_sweep()) {  // nobody has swept in time
    sweep_slice(0, sweep_groups());
    end_sweep();
  }
  if (free_tags_.empty()) {
    short_.store(true, std::memory_order_relaxed);  // begin_sweep() took it back
    return 0;
  }
  const Tag tag = free_tags_.pop();
  tagged_.iotlb->set_live(tag, true);
  tagged_.structures->set_live(tag, true);
  return tag;
}

void AddressSpaces::retire_tag(Tag tag) noexcept {
  tagged_.iotlb->set_live(tag, false);
  tagged_.structures->set_live(tag, false);
  retired_tags_.push({tag, epochs_->advance()});
}

bool AddressSpaces::begin_sweep() noexcept {
  short_.store(false, std::memory_order_relaxed);
  reclaim_objects();
  if (sweeping_) return false;
  sweep_set_.reset();
  while (!retired_tags_.empty() && epochs_->passed(retired_tags_.front().at)) {
    const Tag tag = retired_tags_.pop().tag;
    sweep_set_.set(tag);
    swept_tags_.push(tag);
  }
  sweeping_ = !swept_tags_.empty();
  return sweeping_;
}

std::size_t AddressSpaces::sweep_groups() const noexcept {
  return std::max(tagged_.iotlb->groups(), tagged_.structures->groups());
}

void AddressSpaces::sweep_slice(std::size_t first, std::size_t count) noexcept {
  tagged_.iotlb->sweep(sweep_set_, first, count);
  tagged_.structures->sweep(sweep_set_, first, count);
}

void AddressSpaces::end_sweep() noexcept {
  while (!swept_tags_.empty()) free_tags_.push(swept_tags_.pop());
  sweeping_ = false;
  ++sweeps_;
}

void AddressSpaces::reclaim_objects() noexcept {
  while (retired_first_ != nullptr && epochs_->passed(retired_first_->retired_at_)) {
    AddressSpace* const space = retired_first_;
    retired_first_ = space->next_;
    if (retired_first_ == nullptr) retired_last_ = nullptr;
    space->next_ = free_;
    free_ = space;
  }
}

}  // namespace viommu::caches
