// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One thread's or queue's handle: its guard word and its counters, which nobody else writes.
#pragma once

#include "caches/accounts.hpp"
#include "caches/epoch.hpp"
#include "caches/iotlb.hpp"
#include "caches/recent.hpp"
#include "engine/base/atomic.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::core {

/// What a reader counts.
enum class Count : std::uint8_t {
  iotlb_hits,
  identities,     ///< translation is off
  pass_throughs,  ///< translation is on, and the context passes requests through
  interrupts,
  walks,
  answers_with_walk,  ///< walks that ended in a translation
  walk_loads,
  fills,
  fills_refused,
  faults,
  beyond_width,
  context_walks,
  context_faults,        ///< context walks that led to no address space
  protected_identities,  ///< counted as identities or pass-throughs, and blocked after that: faults
  protected_pages,       ///< counted as hits or walked answers, and blocked after that: faults
  messages,              ///< interrupt requests, whatever became of them
  messages_posted,
  messages_blocked,
};
inline constexpr std::size_t counts = 18;

/// Counters with one writer, readable by anybody while it counts.
class Counters {
 public:
  Counters() = default;
  Counters(const Counters& other) noexcept {
    for (std::size_t i = 0; i < counts; ++i)
      counters_[i].store(other.counters_[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  Counters& operator=(const Counters&) = delete;

  /// @return the new value
  std::uint64_t add(Count which, std::uint64_t amount = 1) noexcept {
    Atomic<std::uint64_t>& counter = counters_[static_cast<std::size_t>(which)];
    const std::uint64_t value = counter.load(std::memory_order_relaxed) + amount;
    counter.store(value, std::memory_order_relaxed);
    return value;
  }
  [[nodiscard]] std::uint64_t get(Count which) const noexcept {
    return counters_[static_cast<std::size_t>(which)].load(std::memory_order_relaxed);
  }

 private:
  std::array<Atomic<std::uint64_t>, counts> counters_{};
};

/// Used by one thread at a time. The counters outlive the reader that used the slot, so that totals never shrink.
struct alignas(shared_line_bytes) Reader {
  caches::GuardWord* word = nullptr;
  void* owner = nullptr;    ///< of whoever hands readers out
  std::uint32_t depth = 0;  ///< of nested guards
  Counters counters;
  caches::AccountRow row;        ///< where there are accounts
  caches::Account account = 0;   ///< of the request under way (Waist::charge)
  caches::Recent recent;         ///< for replacement
  caches::Place last_place;      ///< of the last miss, and
  std::uint64_t next_block = 0;  ///< the block that would go on from it: a miss there is a sequential stream's
  Atomic<bool> in_use{false};

  /// In the totals, and for the request under way.
  std::uint64_t count(Count which, caches::Use use, std::uint64_t amount = 1) noexcept {
    if (row) [[unlikely]]
      row.add(use, account, amount);
    return counters.add(which, amount);
  }
};

}  // namespace viommu::core
