// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/iotlb.hpp"

#include <algorithm>
#include <bit>
#include <thread>

namespace viommu::caches {

bool Iotlb::reset(const HostAllocator& allocator, std::size_t pages, std::uint64_t seed) noexcept {
  const std::size_t count = std::max<std::size_t>(2, std::bit_ceil(pages * 2 / ways));
  seed_ = seed;
  hash_shift_ = 64 - static_cast<unsigned>(std::bit_width(count - 1));
  return sets_.reset(allocator, count) && versions_.reset(allocator, count);
}

FillGuard Iotlb::sample(Tag tag, Iova iova) const noexcept {
  FillGuard guard;
  for (std::size_t i = 0; i < page_sizes.size(); ++i)
    guard.versions[i] = versions_[set_of(word_for(tag, iova, page_sizes[i]))].load(std::memory_order_acquire);
  return guard;
}

bool Iotlb::fill(const FillGuard& guard, Tag tag, Iova iova, const CachedPage& page) noexcept {
  const std::uint64_t word = word_for(tag, iova, page.size);
  const std::size_t index = set_of(word);
  const auto size_index = static_cast<std::size_t>(std::ranges::find(page_sizes, page.size) - page_sizes.begin());
  std::uint64_t version = guard.versions[size_index];
  if (version % 2 != 0) return false;
  if (!versions_[index].compare_exchange_strong(version, version + 1, std::memory_order_acquire,
                                                std::memory_order_relaxed))
    return false;  // W1
  auto& entries = sets_[index].entries;
  const auto holding = [&entries](std::uint64_t wanted) {
    return std::ranges::find_if(
        entries, [wanted](const Entry& entry) { return entry.tag.load(std::memory_order_relaxed) == wanted; });
  };
  auto victim = holding(word);
  if (victim == entries.end()) victim = holding(0);
  if (victim == entries.end()) victim = entries.begin() + static_cast<std::ptrdiff_t>((version / 2) % ways);
  const std::uint64_t rights = (page.rights.read ? 1U : 0U) | (page.rights.write ? 2U : 0U);
  victim->tag.store(word, std::memory_order_release);                        // W2
  victim->data.store(page.frame.value | rights, std::memory_order_release);  // W2
  unlock(index);                                                             // W3
  return true;
}

void Iotlb::drop_pages(Tag tag, IovaRange range) noexcept {
  for (const PageSize size : page_sizes) {
    const unsigned shift = shift_of(size);
    const std::uint64_t last = range.last.value >> shift;
    for (std::uint64_t number = range.first.value >> shift; number <= last; ++number) {  // bound: the caller's range
      const std::uint64_t word = word_for(tag, {number << shift}, size);
      const std::size_t index = set_of(word);
      lock(index);
      for (Entry& entry : sets_[index].entries)
        if (entry.tag.load(std::memory_order_relaxed) == word) entry.tag.store(0, std::memory_order_release);
      unlock(index);
    }
  }
}

void Iotlb::sweep(const TagSet& tags) noexcept {
  for (std::size_t index = 0; index < sets_.size(); ++index) {
    lock(index);
    for (Entry& entry : sets_[index].entries) {
      const std::uint64_t word = entry.tag.load(std::memory_order_relaxed);
      if (word != 0 && tags.test(tag_of(word))) entry.tag.store(0, std::memory_order_release);
    }
    unlock(index);
  }
}

void Iotlb::lock(std::size_t index) noexcept {
  // Held for a few stores and never across anything that waits, so the loop ends when the holder is next scheduled.
  for (unsigned spins = 1;; ++spins) {
    std::uint64_t version = versions_[index].load(std::memory_order_relaxed);
    if (version % 2 == 0 && versions_[index].compare_exchange_weak(version, version + 1, std::memory_order_acquire,
                                                                   std::memory_order_relaxed))
      return;
    if (spins % 64 == 0) std::this_thread::yield();
  }
}

void Iotlb::unlock(std::size_t index) noexcept {
  // Only the holder of the lock changes an odd version, so this need not be a read-modify-write.
  versions_[index].store(versions_[index].load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

}  // namespace viommu::caches
