// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which pages of guest memory have been written since they were fetched last: one bit a page, by guest-physical
// address.
//
//   log()      any thread, inside a guard or before a hold ends: bit -> `logged`; no lock, no memory asked for
//   collect()  the unit's worker: `logged` -> `collected`, and a ticket for the guards open now
//   settle()   the same, when that ticket is drained
//   fetch()    any thread: hands `collected` out, and clears it
//
// A page is logged before the DMA that writes it: the answer comes first. So a bit that is handed out while the guard
// it was logged in is open would be lost: the page is copied, then written, and not logged again. Therefore a bit waits
// in `collected` until the guards that were open when it was taken have ended. A hold logs a second time when it ends.
//
// Bits are in chunks of 32 MiB, found by a hash of the chunk's number, chained; and in ascending order for fetch().
// A chunk is never taken away while the log lives, so whoever finds one needs no lock: it is complete before the store
// (release) that lets it be found (acquire). cover() makes the chunks of a range, before the range can be written.
//
// No bit is lost between log() and collect(): L1 sets the bit, L2 says so in `touched` unless that says so already; C1
// clears `touched`, C2 takes the words. All four are in one order (seq_cst). If L2 found `touched` set, it came before
// the C1 that clears that, and so did L1: C2 of that round has the bit. If L2 has set it, the next round looks again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::core {

class DirtyLog {
 public:
  static constexpr unsigned chunk_shift = 25;  ///< 32 MiB: 1 KiB of bits, twice

  DirtyLog() = default;
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;
  ~DirtyLog();

  // ---- Who switches it; one thread at a time ----
  /// Whether memory that is added is to be covered first. Comes before the look at the memory that is there.
  void want(bool wanted) noexcept { wanted_.store(wanted, std::memory_order_seq_cst); }
  [[nodiscard]] bool wanted() const noexcept { return wanted_.load(std::memory_order_seq_cst); }
  /// Forgets every bit, and logs from now on.
  void start() noexcept;
  void stop() noexcept { logging_.store(false, std::memory_order_release); }
  [[nodiscard]] bool logging() const noexcept { return logging_.load(std::memory_order_acquire); }
  void collect() noexcept;
  void settle() noexcept;

  // ---- Any thread ----
  /// Makes room for the bits of `range`. Takes memory; no lock is held meanwhile. @return false when there is none
  [[nodiscard]] bool cover(const HostAllocator& allocator, GpaRange range) noexcept;
  [[nodiscard]] bool covers(GpaRange range) const noexcept;
  /// Nothing where no chunk is. One inside a chunk takes no lock.
  void log(GpaRange range) noexcept;
  /// Where the runs go: put(opaque, i, run) for i = 0, 1, ... in ascending order. It is called under the lock.
  struct Runs {
    void* opaque = nullptr;
    void (*put)(void* opaque, std::size_t index, GpaRange run) noexcept = nullptr;
  };
  /// Hands out what was collected and settled, at most `capacity` runs of whole pages; the rest stays. @return how many
  [[nodiscard]] std::size_t fetch(std::size_t capacity, const Runs& runs) noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t word_bits = 64;
  static constexpr std::size_t words_per_chunk = (std::size_t{1} << (chunk_shift - page_shift)) / word_bits;
  static constexpr std::size_t heads = 4096;

  struct alignas(64) Chunk {
    std::uint64_t number = 0;
    Chunk* chained = nullptr;  ///< behind the same head; constant once it can be found
    Chunk* next = nullptr;     ///< in ascending order; under the lock
    Atomic<bool> touched{false};
    bool any_collected = false;  ///< under the lock
    std::array<Atomic<std::uint64_t>, words_per_chunk> logged{};
    std::array<std::uint64_t, words_per_chunk> collected{};  ///< under the lock
  };
  using Heads = std::array<Atomic<Chunk*>, heads>;

  [[nodiscard]] static constexpr std::uint64_t number_of(Gpa gpa) noexcept { return gpa.value >> chunk_shift; }
  [[nodiscard]] static constexpr std::size_t head_of(std::uint64_t number) noexcept {
    return (number ^ number / heads) % heads;
  }
  /// Null where there is none.
  [[nodiscard]] Chunk* find(std::uint64_t number) const noexcept;
  [[nodiscard]] bool add_heads(const HostAllocator& allocator) noexcept;
  [[nodiscard]] bool add_chunk(const HostAllocator& allocator, std::uint64_t number) noexcept;
  /// Under the lock.
  void insert(Chunk& chunk) noexcept;
  /// Those of its pages that are in the chunk.
  static void log_in(Chunk& chunk, GpaRange range) noexcept;

  Atomic<bool> wanted_{false};
  Atomic<bool> logging_{false};
  Atomic<Heads*> heads_{nullptr};  ///< set once
  Atomic<std::uint64_t> bytes_{0};
  Mutex lock_;
  // Under the lock:
  HostAllocator allocator_;
  Chunk* first_ = nullptr;
  Chunk* last_inserted_ = nullptr;  ///< where the next insertion looks first: they come in ascending order
  bool settled_ = true;
};

}  // namespace viommu::core
