// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Epochs: who may still be using what was valid a moment ago.
//
//   reader   enter: E1 load epoch -> E2 store it into the own word -> E3 load epoch again     leave: L1 store 0
//   dropper  drop:  D1 unpublish  -> D2 advance the epoch (now n)  -> D3 load every word: passed(n)
//
// passed(n) is true when every word is 0 or >= n. Then no reader uses anything unpublished before advance() returned n:
// - A reader whose word D3 sees as 0 or >= n by its leave or a later enter has ended (L1 is a release, D3 acquires it).
// - A reader whose E2 store D3 misses: E2, E3, D2 and D3 are sequentially consistent, D3 precedes E2, so D2 precedes
// E3.
//   E3 then reads n or more, which acquires D2 and with it D1: whatever this reader looks up later is without D1's
//   things.
// A word that holds an older epoch although its reader entered late only delays, never the other way round.
// No stand-alone fence is used, because thread sanitizers do not understand them.
#pragma once

#include "engine/base/atomic.hpp"

#include <cstdint>
#include <span>

namespace viommu::caches {

/// One reader's announcement, alone in its lines: 0 outside a guard, else the epoch in which the guard began.
struct alignas(shared_line_bytes) EpochWord {
  Atomic<std::uint64_t> entered{0};
};

/// The clock of one engine. Threads: everything from any thread; a word belongs to one thread at a time.
class Epochs {
 public:
  void enter(EpochWord& word) const noexcept {
    word.entered.store(now_.load(std::memory_order_relaxed), std::memory_order_seq_cst);  // E1, E2
    static_cast<void>(now_.load(std::memory_order_seq_cst));                              // E3
  }
  /// Sequentially consistent, so that a leaver that misses a waiter's flag is seen by that waiter's next look.
  static void leave(EpochWord& word) noexcept { word.entered.store(0, std::memory_order_seq_cst); }  // L1

  [[nodiscard]] std::uint64_t now() const noexcept { return now_.load(std::memory_order_acquire); }
  /// Call after unpublishing. @return the epoch whose passing shows that older users have gone.
  [[nodiscard]] std::uint64_t advance() noexcept { return now_.fetch_add(1, std::memory_order_seq_cst) + 1; }  // D2

  [[nodiscard]] static bool passed(std::span<const EpochWord> words, std::uint64_t epoch) noexcept {
    for (const EpochWord& word : words) {
      const std::uint64_t entered = word.entered.load(std::memory_order_seq_cst);  // D3
      if (entered != 0 && entered < epoch) return false;
    }
    return true;
  }

 private:
  alignas(shared_line_bytes) Atomic<std::uint64_t> now_{1};
};

}  // namespace viommu::caches
