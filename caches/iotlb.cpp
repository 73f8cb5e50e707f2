// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/iotlb.hpp"

#include <algorithm>
#include <bit>

namespace viommu::caches {

bool Iotlb::reset(const HostAllocator& allocator, std::size_t pages, unsigned shards, std::uint64_t seed) noexcept {
  const std::size_t sets = std::max(std::bit_ceil(pages * 2 / ways / shards), sets_per_group);
  seed_ = seed;
  shard_mask_ = shards - 1;
  shard_bits_ = static_cast<unsigned>(std::bit_width(sets - 1));
  hash_shift_ = 64 - shard_bits_;
  whole_ = AtomicPair::whole();
  plain_sizes_ = whole_ ? bit_of(PageSize::kib4) : Sizes{0xFF};
  return sets_.reset(allocator, sets * shards) && versions_.reset(allocator, sets * shards / sets_per_group) &&
         live_.reset(allocator, max_tags / 64);
}

Pair Iotlb::find_any(Place place, Iova iova, Sizes sizes) const noexcept {
  if (!whole_) return find_portable(place, iova, sizes);
  // Small ones first, because most are: with 80 % of 4 KiB pages that costs less than asking for all sizes before any
  // decision, whose every look has to be paid.
  if (const Pair entry = find_small_of(place, iova, sizes); entry.first != 0) return entry;
  if (const Pair entry = find_large(place, iova, PageSize::mib2, sizes); entry.first != 0) return entry;
  return find_large(place, iova, PageSize::gib1, sizes);
}

Pair Iotlb::find_small_of(Place place, Iova iova, Sizes sizes) const noexcept {
  const std::size_t set = small_set(place, iova);
  if ((sizes & small_sizes) == small_sizes) return find_small<Few::small>(place, iova, set);
  if ((sizes & bit_of(PageSize::kib4)) != 0) return find_small<Few::page>(place, iova, set);
  const Pair block = find_large(place, iova, PageSize::kib32, sizes);
  return has_page(iova, PageSize::kib32, block.second) ? block : Pair{};
}

Pair Iotlb::find_portable(Place place, Iova iova, Sizes sizes) const noexcept {
  for (const PageSize size : page_sizes) {
    if ((sizes & bit_of(size)) == 0) continue;
    const std::uint64_t word = word_for(place, iova, size);
    const std::size_t index = set_of(place, word);
    const Atomic<std::uint64_t>& version = versions_[index / sets_per_group];
    const std::uint64_t before = version.load(std::memory_order_acquire);  // P1
    for (const AtomicPair& entry : sets_[index].entries) {
      const Pair copy = entry.load();  // P2
      if (copy.first != word) continue;
      if (before % 2 != 0 || version.load(std::memory_order_relaxed) != before) return {};  // P3
      if (has_page(iova, size, copy.second)) return copy;
    }
  }
  return {};
}

bool Iotlb::fill(const FillGuard& guard, Place place, Iova iova, const CachedPage& page, Recent* recent) noexcept {
  const std::uint64_t word = word_for(place, iova, page.size);
  const std::size_t index = set_of(place, word);
  const std::size_t group = index / sets_per_group;
  const std::uint64_t sampled = page.size == PageSize::mib2   ? guard.mib2
                                : page.size == PageSize::gib1 ? guard.gib1
                                                              : guard.small;
  std::uint64_t version = sampled;
  if (sampled % 2 != 0) return false;
  if (!versions_[group].compare_exchange_strong(version, sampled + 1, std::memory_order_acquire,
                                                std::memory_order_relaxed))
    return false;  // F2
  const std::uint64_t into_block = iova.value & viommu::caches::mask_of(page.size) & frame_bits;
  std::uint64_t second = ((page.frame.value - (page.size == PageSize::kib32 ? into_block : 0)) & frame_bits) |
                         std::uint64_t{page.pages} << pages_at | page.rights.bits() | (page.mmio ? mmio_bit : 0);
  auto& entries = sets_[index].entries;
  const auto same = std::ranges::find_if(entries, [&](const AtomicPair& entry) { return entry.first() == word; });
  auto way = static_cast<std::size_t>(same - entries.begin());
  if (way == ways) {
    way = victim(sets_[index], word, recent);
  } else if (const Pair old = same->load(); ((old.second ^ second) & low_bits(pages_at)) == 0) {
    second |= old.second;  // more pages of the same block
  }
  entries[way].store({word, second});  // F3
  // F4. A fill takes nothing back from other walkers, so it leaves their samples good; only who reads without whole
  // pairs has to see that something was written.
  versions_[group].store(whole_ ? sampled : sampled + 2, std::memory_order_release);
  return true;
}

std::size_t Iotlb::victim(const Set& set, std::uint64_t incoming, Recent* recent) const noexcept {
  // Elsewhere each time, so that none is favoured. Without a reader by the page, and not by the hash of set_of(), which
  // is one for all that meet here.
  const std::size_t begin = recent != nullptr ? recent->next_turn() % ways : (incoming * 0xD6E8FEB86659FD93) >> 62;
  std::size_t cold = ways;
  for (std::size_t i = 0; i < ways; ++i) {
    const std::size_t way = (i + begin) % ways;
    const std::uint64_t word = set.entries[way].first();
    if (word == 0 || !is_live(tag_of(word))) return way;
    if (cold == ways && (recent == nullptr || !recent->contains(trace_of(word)))) cold = way;
  }
  return cold != ways ? cold : begin;
}

void Iotlb::drop_pages(Place place, IovaRange range, const Atomic<Sizes>& sizes) noexcept {
  const std::uint64_t first_page = range.first.value >> page_shift;
  const std::uint64_t last_page = range.last.value >> page_shift;
  constexpr std::uint64_t last_in_block = pages_per_block - 1;
  const std::uint64_t last_block = last_page / pages_per_block;
  for (std::uint64_t block = first_page / pages_per_block; block <= last_block; ++block) {  // bound: the caller's range
    const auto from = static_cast<unsigned>(std::max(first_page, block * pages_per_block) & last_in_block);
    const auto to = static_cast<unsigned>(std::min(last_page, block * pages_per_block + last_in_block) & last_in_block);
    drop_small(place, block, (2U << to) - (1U << from), sizes);
  }
  const Sizes known = sizes.load(std::memory_order_relaxed);  // B2
  if ((known & ~small_sizes) != 0) drop_large_pages(place, range, known);
}

void Iotlb::drop_large_pages(Place place, IovaRange range, Sizes sizes) noexcept {
  for (const PageSize size : {PageSize::gib1, PageSize::mib2}) {
    if ((sizes & bit_of(size)) == 0) continue;
    const std::uint64_t last = range.last.value >> shift_of(size);
    for (std::uint64_t number = range.first.value >> shift_of(size); number <= last; ++number)  // bound: as above
      drop_large(place, word_for(place, {number << shift_of(size)}, size));
  }
}

void Iotlb::drop_small(Place place, std::uint64_t block, unsigned pages, const Atomic<Sizes>& sizes) noexcept {
  const Iova first{block << block_shift};
  const std::uint64_t block_word = word_for(place, first, PageSize::kib32);
  const std::size_t block_set = set_of(place, block_word);
  const std::size_t group = block_set / sets_per_group;
  const std::uint64_t found = lock(group);                    // I1
  const Sizes known = sizes.load(std::memory_order_relaxed);  // after I1: what was filled here before had said its size
  if ((known & bit_of(PageSize::kib4)) != 0) {
    for (unsigned rest = pages; rest != 0; rest &= rest - 1) {  // at most 8
      const Iova page = first + (static_cast<std::uint64_t>(std::countr_zero(rest)) << page_shift);
      const std::uint64_t word = word_for(place, page, PageSize::kib4);
      for (AtomicPair& entry : sets_[set_of(place, word)].entries)
        if (entry.first() == word) entry.store({});  // I2
    }
  }
  if ((known & bit_of(PageSize::kib32)) != 0) {
    for (AtomicPair& entry : sets_[block_set].entries) {
      if (entry.first() != block_word) continue;
      const std::uint64_t second = entry.load().second & ~(std::uint64_t{pages} << pages_at);
      entry.store(second >> pages_at == 0 ? Pair{} : Pair{block_word, second});  // I2
    }
  }
  unlock(group, found);  // I3
}

void Iotlb::drop_large(Place place, std::uint64_t word) noexcept {
  const std::size_t index = set_of(place, word);
  const std::uint64_t found = lock(index / sets_per_group);  // I1
  for (AtomicPair& entry : sets_[index].entries)
    if (entry.first() == word) entry.store({});  // I2
  unlock(index / sets_per_group, found);         // I3
}

template <class Named>
void Iotlb::sweep_groups(std::size_t first, std::size_t count, const Named& named) noexcept {
  const std::size_t end = std::min(groups(), first + count);
  for (std::size_t group = first; group < end; ++group) {
    const std::uint64_t found = lock(group);
    for (std::size_t set = group * sets_per_group; set < (group + 1) * sets_per_group; ++set)
      for (AtomicPair& entry : sets_[set].entries)
        if (const std::uint64_t word = entry.first(); word != 0 && named(tag_of(word))) entry.store({});
    unlock(group, found);
  }
}

void Iotlb::sweep(const TagSet& tags, std::size_t first, std::size_t count) noexcept {
  sweep_groups(first, count, [&](Tag tag) { return tags.test(tag); });
}

void Iotlb::sweep(Tag tag) noexcept {
  sweep_groups(0, groups(), [=](Tag other) { return other == tag; });
}

std::size_t Iotlb::copy_group(std::size_t group, Tag tag,
                              std::span<CachedEntry, entries_per_group> entries) const noexcept {
  std::size_t count = 0;
  for (std::size_t set = group * sets_per_group; set < (group + 1) * sets_per_group; ++set) {
    for (const AtomicPair& each : sets_[set].entries) {
      const std::uint64_t before = versions_[group].load(std::memory_order_acquire);  // P1
      const Pair entry = each.load();                                                 // P2, or R2
      const bool is_torn =
          !whole_ && (before % 2 != 0 || versions_[group].load(std::memory_order_relaxed) != before);  // P3
      if (is_torn || entry.first == 0 || tag_of(entry.first) != tag) continue;
      const PageSize size = size_of(entry.first);
      // The number of a block is that of its first page.
      const unsigned shift = size == PageSize::kib32 ? page_shift : shift_of(size);
      const std::uint64_t number = entry.first >> iotlb_layout::number_at & low_bits(iotlb_layout::tag_at - 3);
      entries[count++] = {{number << shift},
                          {{entry.second & frame_bits},
                           size,
                           Rights::in(entry.second),
                           static_cast<std::uint8_t>(entry.second >> pages_at),
                           (entry.second & mmio_bit) != 0}};
    }
  }
  return count;
}

void Iotlb::set_live(Tag tag, bool live) noexcept {
  Atomic<std::uint64_t>& word = live_[tag / 64];  // written under the lock of whoever gives tags out
  const std::uint64_t bit = std::uint64_t{1} << (tag % 64);
  const std::uint64_t others = word.load(std::memory_order_relaxed) & ~bit;
  word.store(live ? others | bit : others, std::memory_order_relaxed);
}

std::uint64_t Iotlb::lock(std::size_t group) noexcept {
  // Held for a few stores and never across anything that waits, so the loop ends when the holder is next scheduled.
  for (unsigned round = 0;; ++round) {
    std::uint64_t version = versions_[group].load(std::memory_order_relaxed);
    if (version % 2 == 0 && versions_[group].compare_exchange_weak(version, version + 1, std::memory_order_acquire,
                                                                   std::memory_order_relaxed))
      return version;
    spin_pause(round);
  }
}

}  // namespace viommu::caches
