// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The waist: where every front end and every consumer meets the caches and the walkers.
//
//   translate(reader, address space, iova, rights)  ->  Translation            IOTLB -> walk -> fill
//   drop(scope), ticket(scopes)                     ->  Ticket                 no new lookup serves anything older
//   drained(ticket)                                 ->  bool                   older users have gone
//
// Threads: everything from any thread; a reader belongs to one thread at a time. translate() takes no lock.
#pragma once

#include "caches/address_spaces.hpp"
#include "caches/context_cache.hpp"
#include "caches/epoch.hpp"
#include "caches/iotlb.hpp"
#include "caches/scope.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/core/holds.hpp"
#include "engine/core/host.hpp"
#include "engine/core/reader.hpp"
#include "walkers/format/second_stage.hpp"

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>

namespace viommu::core {

/// Why an address space answers as it does; front ends give these their own codes.
enum class Outcome : std::uint8_t {
  translated,
  beyond_width,
  absent,  ///< no page there; front ends without a code for it report the missing right
  denied,
  malformed,
  top_table_unreadable,
  table_unreadable,
  output_in_interrupt_window,
};

struct Translation {
  Outcome outcome = Outcome::absent;
  Rights rights;
  Gpa gpa;                 ///< of the address asked for
  std::uint64_t mask = 0;  ///< size - 1 of the aligned block in which every address translates alike
};

/// An invalidation whose older users may not have gone yet.
struct Ticket {
  std::uint64_t epoch = 0;
  caches::ScopeSet scopes;
};

/// Sizes, fixed at creation. All within the ranges that viommu.h gives.
struct WaistOptions {
  walkers::SecondStageRules rules;
  std::uint64_t hash_seed = 0;
  std::uint64_t hold_report_ns = 0;
  std::uint32_t iotlb_pages = 0;
  std::uint32_t context_entries = 0;
  std::uint32_t address_spaces = 0;
  std::uint32_t tag_bits = 0;
  std::uint32_t readers = 0;
  std::uint32_t holds = 0;
  std::uint32_t regions = 0;
};

enum class RegionResult : std::uint8_t { ok, exists, not_found, limit, no_memory };

class Waist {
 public:
  Waist(const WaistOptions& options, const Host& host) noexcept;
  ~Waist();
  Waist(const Waist&) = delete;
  Waist& operator=(const Waist&) = delete;
  /// @return false when the host has no memory.
  [[nodiscard]] bool reset() noexcept;

  // ---- Readers and guards ----
  /// Null when all are in use.
  [[nodiscard]] Reader* take_reader() noexcept { return take(0, options_.readers, readers_ever_); }
  /// A reader for one call; null when `transient_readers` such calls are running.
  [[nodiscard]] Reader* take_transient_reader() noexcept {
    return take(options_.readers, transient_readers, transients_ever_);
  }
  void put_reader(Reader& reader) noexcept { reader.in_use.store(false, std::memory_order_release); }
  [[nodiscard]] std::uint64_t readers_in_use() const noexcept;

  void enter(Reader& reader) noexcept {
    if (reader.depth++ == 0) epochs_.enter(*reader.word);
  }
  void leave(Reader& reader) noexcept {
    if (reader.depth == 0 || --reader.depth != 0) return;
    caches::Epochs::leave(*reader.word);
    wake_waiter();
  }

  // ---- Lookups, inside a guard ----
  /// @param asked  nothing asked (a zero-length read) is granted by any right
  [[nodiscard]] Translation translate(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked) noexcept {
    if (iova > space.key.last) return beyond_width(reader);
    if (space.key.interpretation == caches::Interpretation::pass_through) return identity(reader, iova);
    const auto tag = static_cast<caches::Tag>(space.tag.load(std::memory_order_acquire));
    const std::uint8_t sizes = space.sizes.load(std::memory_order_relaxed);
    const auto page = iotlb_.lookup(tag, iova, sizes);
    if (page && grants(page->rights, asked)) {
      reader.counters.add(Count::iotlb_hits);
      return answer(iova, *page);
    }
    // Also when the cached rights do not suffice: a fault is always decided on what the tables say now.
    return walk_and_fill(reader, space, tag, iova, asked);
  }
  /// As translate(), for an address space that no cache holds.
  [[nodiscard]] Translation translate_uncached(Reader& reader, const caches::AddressSpaceKey& key, Iova iova,
                                               Rights asked) noexcept;

  [[nodiscard]] const caches::ContextEntry* find_context(SourceId source) const noexcept {
    return contexts_.find(source);
  }
  [[nodiscard]] std::uint64_t context_version() const noexcept { return contexts_.version(); }
  /// Null when it cannot be cached now: use translate_uncached() then.
  [[nodiscard]] const caches::ContextEntry* insert_context(std::uint64_t version, SourceId source,
                                                           const caches::AddressSpaceKey& key,
                                                           bool fault_disable) noexcept;

  // ---- Invalidation ----
  /// Drops what the scope names. When it returns no new lookup serves any of it, and no walk begun before fills it in.
  void drop(const caches::Scope& scope) noexcept;
  /// Everything dropped so far; drained when the guards open now, and the holds in `scopes` open now, have ended.
  [[nodiscard]] Ticket ticket(const caches::ScopeSet& scopes) noexcept { return {epochs_.advance(), scopes}; }
  /// Reports holds that are overdue. When it says false, host.wake is called once something has ended since.
  [[nodiscard]] bool drained(const Ticket& ticket) noexcept;

  // ---- Holds ----
  /// Inside the guard of `reader`. 0 when all holds are open.
  [[nodiscard]] std::uint64_t hold(Reader& reader, const caches::Usage& usage, std::uint64_t cookie) noexcept;
  /// @return false when the handle is not open.
  [[nodiscard]] bool release(std::uint64_t handle, bool revoked) noexcept;
  [[nodiscard]] const Holds& holds() const noexcept { return holds_; }

  // ---- Guest memory ----
  [[nodiscard]] const GuestMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] RegionResult add_region(const Region& region) noexcept;
  [[nodiscard]] RegionResult remove_region(Gpa first, std::uint64_t cookie) noexcept;
  /// Frees what no reader can reach any more and tells the host. @return false while something is still waiting.
  /// Called by one thread at a time; that thread may load guest memory without a guard, because nobody else frees maps.
  bool reclaim_regions() noexcept;

  // ---- Statistics ----
  [[nodiscard]] std::uint64_t count(Count which) const noexcept;
  struct CacheFigures {
    std::uint64_t address_spaces;
    std::uint64_t tag_sweeps;
    std::uint64_t bytes;
  };
  [[nodiscard]] CacheFigures cache_figures() noexcept;

  static constexpr std::uint32_t transient_readers = 64;

 private:
  /// A map that was in force; and, when a region was removed by it, whom to tell.
  struct RetiredMap {
    const RegionMap* map = nullptr;
    Ticket ticket;
    std::uint64_t cookie = 0;
    bool tell = false;
  };

  [[nodiscard]] static constexpr bool grants(Rights granted, Rights asked) noexcept {
    return asked.none() ? !granted.none() : granted.covers(asked);
  }
  [[nodiscard]] static Translation answer(Iova iova, const caches::CachedPage& page) noexcept {
    std::uint64_t mask = caches::mask_of(page.size);
    // A large page may lie around the interrupt window, where the same block does not translate alike.
    if (page.size != caches::PageSize::kib4) mask &= mask_clear_of_interrupts(iova.value);
    return {Outcome::translated, page.rights, page.frame + (iova.value & caches::mask_of(page.size)), mask};
  }
  [[nodiscard]] static Translation identity(Reader& reader, Iova iova) noexcept {
    reader.counters.add(Count::pass_throughs);
    return {Outcome::translated, read_write, {iova.value}, mask_clear_of_interrupts(iova.value)};
  }
  [[nodiscard]] static Translation beyond_width(Reader& reader) noexcept {
    reader.counters.add(Count::beyond_width);
    return {Outcome::beyond_width, {}, {}, 0};
  }
  /// What the tables say now; `page` only when it may be cached.
  struct Walked {
    Translation translation;
    std::optional<caches::CachedPage> page;
  };
  [[nodiscard]] Walked walk(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked) const noexcept;
  [[nodiscard]] Translation walk_and_fill(Reader& reader, caches::AddressSpace& space, caches::Tag tag, Iova iova,
                                          Rights asked) noexcept;

  [[nodiscard]] Reader* take(std::size_t first, std::size_t count, Atomic<std::size_t>& ever) noexcept;
  /// Whether every guard that was open before `epoch` has ended. Looks only at readers that were ever taken: one that
  /// is taken for the first time raises `ever` before its first guard, so who misses that is older than the guard.
  [[nodiscard]] bool guards_passed(std::uint64_t epoch) const noexcept;
  void wake_waiter() noexcept {
    if (waiter_.load(std::memory_order_seq_cst) && waiter_.exchange(false, std::memory_order_seq_cst)) host_.wake();
  }
  [[nodiscard]] bool still_in_use(const Ticket& ticket) noexcept;
  /// A map with room for `extra` regions more than there are; taken before the lock, because the host's allocator is
  /// never called under one.
  [[nodiscard]] RegionMap* spare_map(std::size_t extra) noexcept;
  void put_in_force(const RegionMap* next, std::optional<std::uint64_t> cookie) noexcept;

  const WaistOptions options_;
  const Host& host_;
  const walkers::SecondStage format_;
  GuestMemory memory_;
  caches::Iotlb iotlb_;
  caches::AddressSpaces spaces_;
  caches::ContextCache contexts_;
  caches::Epochs epochs_;
  HostArray<caches::EpochWord> words_;
  HostArray<Reader> readers_;
  Atomic<std::size_t> readers_ever_{0};
  Atomic<std::size_t> transients_ever_{0};
  Holds holds_;
  /// Guards address spaces and context entries. Held for memory accesses of the engine's own only; the translating
  /// threads only ever try it.
  std::mutex caches_lock_;
  /// Guards the list of retired maps and who publishes the next.
  std::mutex regions_lock_;
  static constexpr std::size_t most_retired_maps = 64;
  std::array<RetiredMap, most_retired_maps> retired_maps_{};
  std::size_t retired_map_count_ = 0;
  Atomic<bool> maps_retired_{false};  ///< retired_map_count_ is not 0
  Atomic<std::size_t> region_count_{0};
  /// Somebody waits for guards or holds to end, and wants host.wake.
  alignas(shared_line_bytes) Atomic<bool> waiter_{false};
};

}  // namespace viommu::core
