// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/epoch.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "engine/base/process_barrier.hpp"

namespace viommu::caches {
namespace {

// A fence costs an entry about 5 ns, a barrier costs the completion and each running thread some microseconds: what is
// cheaper depends on how many guards there are to a completion.
constexpr std::uint64_t few_guards = 16;         // below: each entry makes a fence
constexpr std::uint64_t some_guards = 64;        // above: no longer each
constexpr std::uint64_t many_guards = 1U << 20;  // above: none, a completion is a rarity
constexpr std::uint64_t longest_period = 64;     // entries from one fence to the next
constexpr std::uint32_t most_fences = 1024;      // in a row, without being asked again
constexpr std::uint64_t every_entry = 1;         // fence masks: an entry whose turn has 1 under the mask makes one
constexpr std::uint64_t ending = every_entry | std::uint64_t{1} << 63;  // the same, and not to be relied upon
constexpr std::uint64_t no_entry = ~std::uint64_t{0};

[[nodiscard]] constexpr std::uint64_t mask_of_period(std::uint64_t entries) noexcept { return entries * 2 - 1; }

// Looks at a word before it is taken for one that does not move: a guard of a hit is over in some nanoseconds.
constexpr unsigned most_looks = 256;
constexpr unsigned looks_without_a_move = 4;

}  // namespace

bool Epochs::reset(const HostAllocator& allocator, const Words& words, Drain drain) noexcept {
  kinds_[0].words = words.kept;
  kinds_[1].words = words.transient;
  const bool can = enable_process_barrier();
  leavers_fence_ = !can;
  drain_ = can ? drain : Drain::fence;
  fenced_ = drain_ == Drain::fence;
  fence_mask_.store(fenced_                    ? every_entry
                    : drain_ == Drain::barrier ? no_entry
                                               : mask_of_period(longest_period),
                    std::memory_order_relaxed);
  return kinds_[0].seen.reset(allocator, words.kept.size()) && kinds_[1].seen.reset(allocator, words.transient.size());
}

void Epochs::use(const GuardWord& word) noexcept {
  Kind& kind = &word >= kinds_[1].words.data() && &word < kinds_[1].words.data() + kinds_[1].words.size() ? kinds_[1]
                                                                                                          : kinds_[0];
  const std::size_t needed = static_cast<std::size_t>(&word - kind.words.data()) + 1;
  std::size_t known = kind.used.load(std::memory_order_relaxed);
  while (known < needed && !kind.used.compare_exchange_weak(known, needed, std::memory_order_relaxed)) {
    // Ends: `known` only grows, and not past the number of words.
  }
  // A scan that misses the new number made its S1 before this fence, so the guards to come see its D1.
  full_fence();
}

void Epochs::finish_entry(GuardWord& word) noexcept {
  const std::uint64_t mask = fence_mask_.load(std::memory_order_acquire);
  word.in_a_row = mask == word.mask && mask == every_entry ? word.in_a_row + 1 : 0;
  word.mask = mask;
  word.fences.store(word.fences.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // E3
  full_fence();                                                                                   // E4
  if (word.in_a_row < most_fences || drain_ != Drain::automatic) return;
  word.in_a_row = 0;
  const std::uint64_t completed = completed_.load(std::memory_order_relaxed);
  if (std::exchange(word.completed, completed) != completed) return;  // they were of use
  std::uint64_t all = every_entry;
  // In two steps: entries go on making fences until it is visible to every scan that they will cease to.
  if (!fence_mask_.compare_exchange_strong(all, ending, std::memory_order_relaxed)) return;
  full_fence();
  all = ending;
  fence_mask_.compare_exchange_strong(all, mask_of_period(longest_period), std::memory_order_release,
                                      std::memory_order_relaxed);
}

bool Epochs::scan(std::uint64_t ticket) noexcept {
  // Two rounds: a scan that was under way when the ticket was made may end here, and the next one covers it.
  for (int round = 0; round < 2 && !passed(ticket); ++round) {
    if (!scanning_) begin_scan();
    if (!look() && !look_for_a_while()) return false;
    scanning_ = false;
    completed_.store(target_, std::memory_order_release);
    choose_mode();
  }
  return passed(ticket);
}

void Epochs::begin_scan() noexcept {
  target_ = issued();  // S0
  const bool confirming = !fenced_ && fence_mask_.load(std::memory_order_relaxed) == no_entry;
  if (confirming) {
    barrier();  // S1
  } else {
    full_fence();  // S1
    fenced_ = fenced_ && fence_mask_.load(std::memory_order_relaxed) == every_entry;
  }
  for (Kind& kind : kinds_) kind.scanned = kind.used.load(std::memory_order_acquire);
  snapshot(fenced_ || confirming);
  scanning_ = true;
}

void Epochs::snapshot(bool confirmed) noexcept {
  confirmed_ = confirmed;
  turns_before_ = turns_;
  turns_ = 0;
  for_each_scanned([&](const GuardWord& word, Seen& seen) {  // S2
    if (!confirmed) seen.fences = word.fences.load(std::memory_order_acquire);
    seen.turn = word.turn.load(std::memory_order_acquire);
    seen.pending = !confirmed || seen.turn % 2 != 0;
    turns_ += seen.turn;
  });
}

bool Epochs::look() noexcept {
  bool all = true;
  for_each_scanned([&](const GuardWord& word, Seen& seen) {  // S5
    if (!seen.pending) return;
    const bool moved = confirmed_ ? word.turn.load(std::memory_order_acquire) != seen.turn
                                  : word.fences.load(std::memory_order_acquire) != seen.fences;
    seen.pending = !moved;
    all = all && moved;
  });
  return all;
}

std::uint64_t Epochs::turns_of_pending() const noexcept {
  std::uint64_t turns = 0;
  for (const Kind& kind : kinds_)
    for (std::size_t i = 0; i < kind.scanned; ++i)
      if (kind.seen[i].pending) turns += kind.words[i].turn.load(std::memory_order_relaxed);
  return turns;
}

bool Epochs::look_for_a_while() noexcept {
  std::uint64_t turns = 0;
  unsigned still = 0;
  for (unsigned looks = 0; looks < most_looks && still < looks_without_a_move; ++looks) {
    spin_pause(looks);
    if (look()) return true;
    const std::uint64_t now = turns_of_pending();
    still = now == turns ? still + 1 : 0;
    turns = now;
  }
  if (confirmed_) return false;
  // Readers that do not move may be idle, with nothing to show, or inside a guard: the barrier tells.
  confirm();
  return look();
}

void Epochs::confirm() noexcept {
  barrier();                                                // S3
  for_each_scanned([](const GuardWord& word, Seen& seen) {  // S4
    if (!seen.pending) return;
    seen.turn = word.turn.load(std::memory_order_acquire);
    seen.pending = seen.turn % 2 != 0;
  });
  confirmed_ = true;
}

void Epochs::settle() noexcept {
  if (leavers_fence_) {
    full_fence();
  } else {
    barrier();
  }
}

void Epochs::barrier() noexcept {
  process_barrier();
  barriers_.store(barriers_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Epochs::choose_mode() noexcept {
  if (drain_ != Drain::automatic) return;
  guards_per_scan_ += (turns_ - turns_before_) / 2 - guards_per_scan_ / 8;
  const std::uint64_t average = guards_per_scan_ / 8;
  if (average < (fenced_ ? some_guards : few_guards)) {
    if (fenced_) return;  // unless a reader has ended it, which the next scan sees
    fence_mask_.store(every_entry, std::memory_order_relaxed);
    barrier();  // whoever entered under the old mask is visible from here on
    fenced_ = true;
    return;
  }
  fenced_ = false;
  const std::uint64_t period = std::clamp<std::uint64_t>(std::bit_floor(average / few_guards), 2, longest_period);
  fence_mask_.store(average > many_guards ? no_entry : mask_of_period(period), std::memory_order_relaxed);
}

}  // namespace viommu::caches
