// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who may still be using what was valid a moment ago.
//
//   reader   enter: E1 own turn + 1 -> E2 store it (odd) -> now and then: E3 fences + 1, E4 full fence     (lookups)
//            leave: L1 store the next turn (even, release)
//   dropper  D1 unpublish -> D2 advance() = n, a ticket
//   scan     S0 target -> S1 fence or process barrier -> S2 snapshot of all words -> S5 each word in it has moved on:
//            tickets up to the target have passed
//
// A reader's word is written by that reader alone, and nothing that a dropper writes is read by a reader: entering and
// leaving are two plain stores into its own line, and a completion costs a reader nothing but the look at that line.
// The mask that says which entries fence is the exception, and is seldom written.
//
// The argument, for a reader whose guard may use what D1 unpublished:
// - Fenced scan (each entry makes E4). If S2 does not see the guard's E2, then S1 precedes E4 in the order of fences,
//   so the guard's lookups see D1. If S2 sees it, the turn is odd and the scan waits for another turn (S5, acquire of
//   L1).
// - Barrier scan (no entry needs E4). The process barrier is a full fence in every thread. A guard whose E2 was not
//   executed before it looks up after it and sees D1; one whose E2 was is visible to S2.
// - Amortised scan (each k-th entry makes E4). S2 notes the count of fences. When that count changes, the entry that
//   raised it made its E4 after S1 (else S2 had seen E3), so its guard and all later ones see D1; and the release in E3
//   says that all earlier guards of this reader have ended. No system call, and the reader pays for a fence each k-th
//   time. Readers that do not move within a bounded number of looks get a barrier scan.
// - Fenced scans begin with a process barrier that comes after fence_mask_ = 1: then every entry that read an older
//   mask has been seen, because it looks at the mask behind E2. They end when a reader, tired of fences that no
//   completion asks for, or the scanning thread stores another mask. An entry that reads a mask it did not know makes a
//   fence in any case (E4): if the scan's look at the mask, after S1, still finds 1, then S1 precedes that E4, and the
//   guard sees D1.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::caches {

/// One reader's announcement, alone in its lines.
struct alignas(shared_line_bytes) GuardWord {
  Atomic<std::uint64_t> turn{0};    ///< odd inside a guard; counts both ends
  Atomic<std::uint64_t> fences{0};  ///< entries that made a full fence
  // The reader's alone:
  std::uint64_t mask = 0;       ///< fence_mask_ as it saw it last
  std::uint32_t in_a_row = 0;   ///< entries with a fence since one without
  std::uint64_t completed = 0;  ///< completed_ when it last looked
};

/// How a guard announces itself, and who pays.
enum class Drain : std::uint8_t {
  fence,      ///< each entry makes a full fence; no completion makes a system call, unless a guard is in its way
  barrier,    ///< known entries make none; each completion makes a process barrier
  automatic,  ///< by the measured number of guards between completions
};

/// The clock of one engine. Threads: enter() and leave() with the word's own thread; advance() and passed() from any;
/// scan() by one thread at a time (the worker's role), never under a lock.
class Epochs {
 public:
  /// Words of two kinds of readers, each kind used from its first word on; they stay where they are.
  struct Words {
    std::span<GuardWord> kept;
    std::span<GuardWord> transient;
  };
  [[nodiscard]] bool reset(const HostAllocator& allocator, const Words& words, Drain drain) noexcept;

  /// Before the first guard of a reader: scans look at its word, and at those before it, from now on.
  void use(const GuardWord& word) noexcept;

  void enter(GuardWord& word) noexcept {
    if (!enter_cheaply(word)) finish_entry(word);
  }
  /// The same without a fence. @return false when the entry has to make one: finish_entry() comes next, before any
  /// lookup
  [[nodiscard, gnu::always_inline]] bool enter_cheaply(GuardWord& word) noexcept {
    const std::uint64_t turn = word.turn.load(std::memory_order_relaxed) + 1;  // E1
    word.turn.store(turn, std::memory_order_release);                          // E2
    compiler_fence();  // a mask from before E2 would be one that a scan need not know of
    const std::uint64_t mask = fence_mask_.load(std::memory_order_acquire);  // and lookups stay behind it
    return (turn & mask) != 1 && mask == word.mask;
  }
  void finish_entry(GuardWord& word) noexcept;
  void leave(GuardWord& word) const noexcept {
    word.turn.store(word.turn.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // L1
    // So that a leaver that misses a waiter's flag is seen by that waiter's next look; see settle().
    if (leavers_fence_) [[unlikely]]
      full_fence();
    compiler_fence();
  }
  [[nodiscard]] static bool inside(const GuardWord& word) noexcept {
    return word.turn.load(std::memory_order_relaxed) % 2 != 0;
  }

  /// A ticket for what has just been unpublished.
  [[nodiscard]] std::uint64_t advance() noexcept { return issued_.fetch_add(1, std::memory_order_acq_rel) + 1; }  // D2
  /// The latest ticket given out.
  [[nodiscard]] std::uint64_t issued() const noexcept { return issued_.load(std::memory_order_acquire); }
  /// The latest that has passed.
  [[nodiscard]] std::uint64_t completed() const noexcept { return completed_.load(std::memory_order_relaxed); }
  /// Whether nobody uses any more what was unpublished before `ticket`. Only scan() makes it true.
  [[nodiscard]] bool passed(std::uint64_t ticket) const noexcept {
    return completed_.load(std::memory_order_acquire) >= ticket;
  }
  /// Looks at the words until `ticket` has passed or a guard is in the way; a bounded number of looks.
  [[nodiscard]] bool scan(std::uint64_t ticket) noexcept;
  /// After raising a flag for leavers, before another scan: each leaver is then either seen or sees the flag.
  void settle() noexcept;

  /// What the scan under way is for, 0 without one. As the next, of the scanning thread.
  [[nodiscard]] std::uint64_t scan_target() const noexcept { return scanning_ ? target_ : 0; }
  /// Whether it waits for a word. @param kind  0 for readers that are kept, 1 for those of one call
  [[nodiscard]] bool scan_waits_for(std::size_t kind, std::size_t word) const noexcept {
    return scanning_ && word < kinds_[kind].scanned && kinds_[kind].seen[word].pending;
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return kinds_[0].seen.bytes() + kinds_[1].seen.bytes(); }
  /// Process barriers made so far.
  [[nodiscard]] std::uint64_t barriers() const noexcept { return barriers_.load(std::memory_order_relaxed); }

 private:
  /// The words of one kind, and what S2 saw of those that the scan under way waits for.
  struct Seen {
    std::uint64_t turn = 0;
    std::uint64_t fences = 0;
    bool pending = false;
  };
  struct Kind {
    std::span<GuardWord> words;
    HostArray<Seen> seen;
    Atomic<std::size_t> used{0};  ///< words that had a reader
    std::size_t scanned = 0;      ///< of them, in the scan under way
  };

  void begin_scan() noexcept;
  /// S2. @param confirmed  all older guards are visible: only the odd words are pending
  void snapshot(bool confirmed) noexcept;
  /// S5, once. @return whether nobody is pending
  [[nodiscard]] bool look() noexcept;
  [[nodiscard]] bool look_for_a_while() noexcept;
  void confirm() noexcept;
  [[nodiscard]] std::uint64_t turns_of_pending() const noexcept;
  void barrier() noexcept;
  void choose_mode() noexcept;
  template <class Action>
  void for_each_scanned(Action&& action) noexcept {
    for (Kind& kind : kinds_)
      for (std::size_t i = 0; i < kind.scanned; ++i) action(kind.words[i], kind.seen[i]);
  }

  alignas(shared_line_bytes) Atomic<std::uint64_t> fence_mask_{1};  ///< read by every entry, seldom written
  bool leavers_fence_ = false;                                      ///< constant after reset()
  alignas(shared_line_bytes) Atomic<std::uint64_t> issued_{0};
  Atomic<std::uint64_t> completed_{0};
  Atomic<std::uint64_t> barriers_{0};
  // The scanning thread's:
  std::array<Kind, 2> kinds_{};
  Drain drain_ = Drain::fence;
  bool fenced_ = true;  ///< every entry since some process barrier makes a fence
  bool scanning_ = false;
  bool confirmed_ = true;
  std::uint64_t target_ = 0;
  std::uint64_t turns_ = 0;            ///< of all readers in the snapshot
  std::uint64_t turns_before_ = 0;     ///< in the snapshot before
  std::uint64_t guards_per_scan_ = 0;  ///< moving average, in 1/8
};

}  // namespace viommu::caches
