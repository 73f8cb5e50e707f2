// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/dirty_log.hpp"

#include <algorithm>
#include <bit>
#include <optional>

namespace viommu::core {

DirtyLog::~DirtyLog() {
  for (Chunk* chunk = first_; chunk != nullptr;) {
    Chunk* const next = chunk->next;
    chunk->~Chunk();
    allocator_.put(chunk, sizeof(Chunk), alignof(Chunk));
    chunk = next;
  }
  allocator_.put(heads_.load(std::memory_order_relaxed), sizeof(Heads), alignof(Heads));
}

DirtyLog::Chunk* DirtyLog::find(std::uint64_t number) const noexcept {
  Heads* const table = heads_.load(std::memory_order_acquire);
  if (table == nullptr) return nullptr;
  Chunk* chunk = (*table)[head_of(number)].load(std::memory_order_acquire);
  while (chunk != nullptr && chunk->number != number) chunk = chunk->chained;
  return chunk;
}

bool DirtyLog::add_heads(const HostAllocator& allocator) noexcept {
  if (heads_.load(std::memory_order_acquire) != nullptr) return true;
  void* const memory = allocator.get(sizeof(Heads), alignof(Heads));
  if (memory == nullptr) return false;
  auto* const made = new (memory) Heads{};
  bool taken = false;
  {
    const std::lock_guard guard{lock_};
    if (heads_.load(std::memory_order_relaxed) == nullptr) {
      allocator_ = allocator;
      heads_.store(made, std::memory_order_release);
      bytes_.fetch_add(sizeof(Heads), std::memory_order_relaxed);
      taken = true;
    }
  }
  if (!taken) allocator.put(made, sizeof(Heads), alignof(Heads));
  return true;
}

bool DirtyLog::add_chunk(const HostAllocator& allocator, std::uint64_t number) noexcept {
  if (find(number) != nullptr) return true;
  void* const memory = allocator.get(sizeof(Chunk), alignof(Chunk));
  if (memory == nullptr) return false;
  auto* const made = new (memory) Chunk{};
  made->number = number;
  bool taken = false;
  {
    const std::lock_guard guard{lock_};
    if (find(number) == nullptr) {
      insert(*made);
      taken = true;
    }
  }
  if (!taken) {
    made->~Chunk();
    allocator.put(made, sizeof(Chunk), alignof(Chunk));
  }
  return true;
}

void DirtyLog::insert(Chunk& chunk) noexcept {
  Chunk* before = last_inserted_ != nullptr && last_inserted_->number < chunk.number ? last_inserted_ : nullptr;
  Chunk*& follower = before == nullptr ? first_ : before->next;
  Chunk** place = &follower;
  while (*place != nullptr && (*place)->number < chunk.number) place = &(*place)->next;
  chunk.next = *place;
  *place = &chunk;
  last_inserted_ = &chunk;
  Atomic<Chunk*>& head = (*heads_.load(std::memory_order_relaxed))[head_of(chunk.number)];
  chunk.chained = head.load(std::memory_order_relaxed);
  head.store(&chunk, std::memory_order_release);
  bytes_.fetch_add(sizeof(Chunk), std::memory_order_relaxed);
}

bool DirtyLog::cover(const HostAllocator& allocator, GpaRange range) noexcept {
  if (!add_heads(allocator)) return false;
  const std::uint64_t last = number_of(range.last);
  for (std::uint64_t number = number_of(range.first);; ++number) {
    if (!add_chunk(allocator, number)) return false;
    if (number == last) return true;
  }
}

bool DirtyLog::covers(GpaRange range) const noexcept {
  const std::uint64_t last = number_of(range.last);
  for (std::uint64_t number = number_of(range.first); find(number) != nullptr; ++number)
    if (number == last) return true;
  return false;
}

void DirtyLog::start() noexcept {
  {
    const std::lock_guard guard{lock_};
    for (Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
      chunk->touched.store(false, std::memory_order_seq_cst);
      for (Atomic<std::uint64_t>& word : chunk->logged) word.store(0, std::memory_order_seq_cst);
      chunk->collected.fill(0);
      chunk->any_collected = false;
    }
    settled_ = true;
  }
  logging_.store(true, std::memory_order_release);
}

void DirtyLog::log_in(Chunk& chunk, GpaRange range) noexcept {
  constexpr std::uint64_t pages = words_per_chunk * word_bits;
  const std::uint64_t base = chunk.number * pages;
  const std::uint64_t first = std::max(range.first.value >> page_shift, base) - base;
  const std::uint64_t last = std::min(range.last.value >> page_shift, base + (pages - 1)) - base;
  for (std::uint64_t word = first / word_bits; word <= last / word_bits; ++word) {
    std::uint64_t bits = ~std::uint64_t{0};
    if (word == first / word_bits) bits &= ~low_bits(static_cast<unsigned>(first % word_bits));
    if (word == last / word_bits) bits &= low_bits(static_cast<unsigned>(last % word_bits) + 1);
    chunk.logged[word].fetch_or(bits, std::memory_order_seq_cst);  // L1
  }
  if (!chunk.touched.load(std::memory_order_seq_cst)) chunk.touched.store(true, std::memory_order_seq_cst);  // L2
}

void DirtyLog::log(GpaRange range) noexcept {
  if (number_of(range.first) == number_of(range.last)) [[likely]] {
    if (Chunk* const chunk = find(number_of(range.first))) log_in(*chunk, range);
    return;
  }
  // Bound: the chunks there are, however long the range.
  const std::lock_guard guard{lock_};
  for (Chunk* chunk = first_; chunk != nullptr && chunk->number <= number_of(range.last); chunk = chunk->next)
    if (chunk->number >= number_of(range.first)) log_in(*chunk, range);
}

void DirtyLog::collect() noexcept {
  const std::lock_guard guard{lock_};
  settled_ = false;
  for (Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
    if (!chunk->touched.exchange(false, std::memory_order_seq_cst)) continue;  // C1
    chunk->any_collected = true;
    for (std::size_t i = 0; i < words_per_chunk; ++i)
      chunk->collected[i] |= chunk->logged[i].exchange(0, std::memory_order_seq_cst);  // C2
  }
}

void DirtyLog::settle() noexcept {
  const std::lock_guard guard{lock_};
  settled_ = true;
}

std::size_t DirtyLog::fetch(std::size_t capacity, const Runs& runs) noexcept {
  const std::lock_guard guard{lock_};
  if (!settled_) return 0;
  std::size_t count = 0;
  std::optional<GpaRange> run;  // the last one, which may still grow
  for (Chunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
    if (!chunk->any_collected) continue;
    for (std::size_t i = 0; i < words_per_chunk; ++i) {
      std::uint64_t& word = chunk->collected[i];
      while (word != 0) {  // ends: each round clears bits
        const auto skip = static_cast<unsigned>(std::countr_zero(word));
        const auto length = static_cast<unsigned>(std::countr_one(word >> skip));
        const std::uint64_t page = (chunk->number * words_per_chunk + i) * word_bits + skip;
        const Gpa first{page << page_shift};
        const Gpa last{first.value + ((std::uint64_t{length} << page_shift) - 1)};
        if (run && run->last.value + 1 == first.value) {
          run->last = last;
        } else {
          if (run) runs.put(runs.opaque, count - 1, *run);
          if (count == capacity) return count;
          run = GpaRange{first, last};
          ++count;
        }
        word &= ~(low_bits(length) << skip);
      }
    }
    chunk->any_collected = false;
  }
  if (run) runs.put(runs.opaque, count - 1, *run);
  return count;
}

}  // namespace viommu::core
