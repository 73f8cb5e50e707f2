// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The only way to guest memory. Each load is one atomic access of at most 16 bytes, so that a decision is taken on one
// copy of a word that the guest may rewrite at any time. Regions are mapped memory and the fast path; what lies outside
// all regions goes to the host's callbacks; what neither has is unreadable, which the caller answers with the
// specification's access fault.
//
// The region map is immutable. A change builds a new one and publishes it; the old one is freed by its owner once no
// guard can still read it (engine/core retires it through the epochs of caches/epoch.hpp).
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/memory_view.hpp"
#include "engine/base/word128.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu {

/// Guest memory outside the regions; same contract as the functions of `viommu_host` in viommu.h.
struct MemoryCallbacks {
  void* opaque = nullptr;
  std::int32_t (*read)(void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) = nullptr;
  std::int32_t (*write)(void* opaque, std::uint64_t gpa, const void* data, std::uint64_t size) = nullptr;
  std::int32_t (*compare_exchange)(void* opaque, std::uint64_t gpa, std::uint64_t* expected,
                                   std::uint64_t desired) = nullptr;
};

/// Told about every access after it was made; for a recorder. Null functions are not called.
struct MemoryTap {
  void* opaque = nullptr;
  void (*loaded)(void* opaque, std::uint64_t gpa, const std::uint64_t* words, std::size_t count) = nullptr;
  void (*load_failed)(void* opaque, std::uint64_t gpa, std::uint64_t size_bytes) = nullptr;
  void (*stored)(void* opaque, std::uint64_t gpa, std::uint64_t value, std::uint64_t size_bytes) = nullptr;
  void (*store_failed)(void* opaque, std::uint64_t gpa, std::uint64_t size_bytes) = nullptr;
};

/// Who keeps a log of what is written: told about every store after it was made.
struct WriteLog {
  void* opaque = nullptr;
  void (*written)(void* opaque, std::uint64_t gpa, std::uint64_t size_bytes) noexcept = nullptr;
};

/// What a part of a region is.
enum class Part : std::uint8_t {
  shared,      ///< as it was added
  discarded,   ///< no memory behind it
  private_to,  ///< the guest alone
};

/// Guest memory, or a device's, page aligned on all sides; or a part of such a region.
struct Region {
  GpaRange range{};
  std::byte* host = nullptr;  ///< null: read through the callbacks, or not mapped at all
  bool read_only = false;
  bool mmio = false;  ///< of a device: never read or written here
  Part part = Part::shared;
  Gpa origin{};  ///< where the region begins that this is a part of

  [[nodiscard]] constexpr bool accessible() const noexcept { return !mmio && part == Part::shared; }
  [[nodiscard]] std::byte* host_at(Gpa gpa) const noexcept {
    return host == nullptr ? nullptr : host + (gpa.value - range.first.value);
  }
};

/// Regions in ascending order, never overlapping. Filled once, then constant.
class RegionMap {
 public:
  /// An empty map with room for `capacity` regions; null when the host has no memory.
  [[nodiscard]] static RegionMap* create(const HostAllocator& allocator, std::size_t capacity) noexcept;
  static void destroy(const HostAllocator& allocator, const RegionMap* map) noexcept;

  /// Becomes the regions of `base` (may be null) and one more. There is room for them.
  void assign_with(const RegionMap* base, const Region& region) noexcept;
  /// Becomes the regions of `base` without the parts of the one that begins at `origin`. There is room for them.
  void assign_without(const RegionMap& base, Gpa origin) noexcept;
  /// Becomes the regions of `base`, `range` of one of them being such a part. There is room for two more.
  void assign_part(const RegionMap& base, GpaRange range, Part part) noexcept;

  [[nodiscard]] const Region* find(Gpa gpa) const noexcept;
  [[nodiscard]] bool overlaps(GpaRange range) const noexcept;
  /// Whether all of it is in parts of one region.
  [[nodiscard]] bool inside_one(GpaRange range) const noexcept;
  [[nodiscard]] std::span<const Region> regions() const noexcept { return {regions_.begin(), count_}; }
  [[nodiscard]] std::size_t capacity() const noexcept { return regions_.size(); }
  /// The largest regions, for MemoryView.
  [[nodiscard]] std::span<const MemorySpan> spans() const noexcept { return {spans_.data(), span_count_}; }
  /// The two largest of plain memory, that is nothing but RAM; one that is not there has no address.
  [[nodiscard]] const std::array<MemorySpan, 2>& plain() const noexcept { return plain_; }

  /// Whether there is memory of devices.
  [[nodiscard]] bool has_devices() const noexcept { return has_devices_; }
  /// What lies around an address and is a device's memory as it is, or none of it. Ends at the latest after some
  /// regions, so that it costs no more than a few steps.
  struct Alike {
    GpaRange range{};
    bool of_device = false;

    /// size - 1 of the largest aligned block around an address in it that does not leave it.
    [[nodiscard]] std::uint64_t mask_around(Gpa gpa) const noexcept;
  };
  [[nodiscard]] Alike alike(Gpa gpa) const noexcept;

 private:
  void choose_spans() noexcept;

  HostArray<Region> regions_;
  std::size_t count_ = 0;
  std::array<MemorySpan, view_spans> spans_{};
  std::size_t span_count_ = 0;
  std::array<MemorySpan, 2> plain_{};
  bool has_devices_ = false;
};

/// Threads: loads and stores from any thread inside a guard; publish() by one thread at a time.
class GuestMemory {
 public:
  explicit GuestMemory(const MemoryCallbacks& callbacks, const MemoryTap& tap = {}) noexcept
      : callbacks_{callbacks}, tap_{tap} {}

  /// One 8-byte word at an aligned address; nothing when there is no memory.
  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa gpa) const noexcept;
  /// 16 bytes at a 16-byte aligned address, as one value (see load_mapped_u128).
  [[nodiscard]] std::optional<Word128> load_u128(Gpa gpa) const noexcept;
  /// The aligned 64-byte line at `gpa`, where it lies in a region. Outside of them false, and `line` is as it was: the
  /// host's callback is asked for the words that a decision needs, never for their neighbours.
  [[nodiscard]] bool load_line(Gpa gpa, Line& line) const noexcept;
  /// For code that loads many words. Inside a guard; valid until it ends. A tap sees every access all the same: then
  /// the view has no spans.
  [[nodiscard]] MemoryView view() const noexcept;
  /// The 4 KiB page at `gpa`, mapped, for who reads many words of it; null where no region is or a tap wants to see
  /// each access: then load them one by one. Good as long as the guard, or the role, that it was asked under.
  [[nodiscard]] std::byte* page(Gpa gpa) const noexcept;
  /// The mapped piece that this page is in, for who reads many pages; without a host address where page() says null.
  [[nodiscard]] MemorySpan pages_around(Gpa gpa) const noexcept;
  /// Release store of 1, 2, 4 or 8 bytes at an aligned address. False when nothing writable is there: nothing is
  /// written then.
  [[nodiscard]] bool store_u8(Gpa gpa, std::uint8_t value) const noexcept;
  [[nodiscard]] bool store_u16(Gpa gpa, std::uint16_t value) const noexcept;
  [[nodiscard]] bool store_u32(Gpa gpa, std::uint32_t value) const noexcept;
  [[nodiscard]] bool store_u64(Gpa gpa, std::uint64_t value) const noexcept;
  /// Compare-exchange of an aligned word; `expected` receives what was found when it is lost.
  [[nodiscard]] Exchange compare_exchange_u64(Gpa gpa, std::uint64_t& expected, std::uint64_t desired) const noexcept;

  /// Whether compare_exchange_u64() would not fail for want of memory that can be written; behind the callbacks, as far
  /// as can be told without asking.
  [[nodiscard]] bool may_exchange(Gpa gpa) const noexcept {
    const Place place = find(gpa);
    return place.host != nullptr ? !place.read_only : !place.read_only && callbacks_.compare_exchange != nullptr;
  }

  /// Whether all of `range` is memory of the kind that loads, or `written` stores, reach; behind the callbacks, as far
  /// as can be told without asking. At most one look at each region.
  [[nodiscard]] bool backed(GpaRange range, bool written) const noexcept;

  /// Sets bits of an aligned word, in one step whatever others do to it. @return the word before; nothing where nothing
  /// writable is, or where a host function's exchange is lost too often (64 times).
  [[nodiscard]] std::optional<std::uint64_t> fetch_or_u64(Gpa gpa, std::uint64_t bits) const noexcept;

  /// From now on `log` is told, or with null nobody. It lives as long as this does.
  void log_writes(const WriteLog* log) noexcept { write_log_.store(log, std::memory_order_release); }

  [[nodiscard]] const RegionMap* map() const noexcept { return map_.load(std::memory_order_acquire); }
  /// Puts `next` in force and returns the map it replaces, which readers may still be using.
  const RegionMap* publish(const RegionMap* next) noexcept { return map_.exchange(next, std::memory_order_acq_rel); }

 private:
  /// Where an address leads. One look at one map tells both: with two looks a region that is added between them turns
  /// memory behind the callbacks into memory that looks read-only, and a write to it would be dropped.
  struct Place {
    std::byte* host = nullptr;  ///< null outside all mapped regions: the callbacks' memory, or none
    bool read_only = false;
    bool closed = false;  ///< not to be asked for through the callbacks either
  };
  [[nodiscard]] Place find(Gpa gpa) const noexcept;
  [[nodiscard]] bool read(const Place& place, Gpa gpa, void* data, std::size_t size_bytes) const noexcept;
  template <class Word>
  void tell_loaded(Gpa gpa, const std::optional<Word>& word) const noexcept;
  void tell_stored(Gpa gpa, bool done, std::uint64_t value, std::size_t size_bytes) const noexcept;
  template <class Word>
  [[nodiscard]] bool store(Gpa gpa, Word value) const noexcept;

  Atomic<const RegionMap*> map_{nullptr};
  Atomic<const WriteLog*> write_log_{nullptr};
  MemoryCallbacks callbacks_;
  MemoryTap tap_;
};

}  // namespace viommu
