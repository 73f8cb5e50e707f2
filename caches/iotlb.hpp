// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The IOTLB: set-associative, 4 entries of 16 bytes to a cache line, one line a hit.
//
//   entry  tag   63:48 address-space tag | 47:3 page number | 2:1 size code | 0 valid
//          data  51:12 frame | 1:0 rights
//   set    4 entries, and in an array of its own a version word: odd while a writer is inside, and changed by each
//          writer and each invalidation that names the set, whether it found something or not.
//
// Reader   R1 load version (acquire) -> R2 load tag, then data (acquire) -> R3 load version again
// Writer   W1 version even -> odd (acquire; the lock) -> W2 store tag and data (release) -> W3 next even version
//
// No torn pair: if R2 saw a word of W2, that release carries W1, so R3 differs from R1. If R1 saw W3, R2 sees that
// writer's words or newer ones, and newer is the case above. A reader that loses a race has a miss, never waits.
// No late fill: a walker samples the versions of every set its answer may go to before its first guest load; fill()
// takes the lock only by exchanging the sampled version. An invalidation in between has changed it. Versions are 64
// bits wide, so they do not come round.
// An address space is forgotten at once by giving it another tag: the old entries match nobody (AddressSpaces).
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>

namespace viommu::caches {

/// Tells address spaces apart inside the IOTLB; 0 is nobody's.
using Tag = std::uint16_t;
inline constexpr std::size_t max_tags = std::size_t{1} << 16;
using TagSet = std::bitset<max_tags>;

/// Sizes an entry can stand for. The value is the code in the entry.
enum class PageSize : std::uint8_t { kib4 = 0, mib2 = 2, gib1 = 3 };
inline constexpr std::array page_sizes{PageSize::kib4, PageSize::mib2, PageSize::gib1};

[[nodiscard]] constexpr unsigned shift_of(PageSize size) noexcept {
  return size == PageSize::kib4 ? 12 : size == PageSize::mib2 ? 21 : 30;
}
[[nodiscard]] constexpr std::uint64_t mask_of(PageSize size) noexcept { return low_bits(shift_of(size)); }
/// Bit of a size in a set of sizes.
[[nodiscard]] constexpr std::uint8_t bit_of(PageSize size) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(size));
}

/// A page and what may be done with it.
struct CachedPage {
  Gpa frame;  ///< of the page's first byte
  PageSize size = PageSize::kib4;
  Rights rights;
};

/// Versions of the sets that an answer for one address may be put into, taken before the walk.
struct FillGuard {
  std::array<std::uint64_t, page_sizes.size()> versions{};
};

/// Threads: everything from any thread. lookup() is wait-free and writes nothing.
class Iotlb {
 public:
  /// @param pages  translations to lay out for; the table has twice as many entries, rounded up to a power of two
  /// @param seed   of the hash, so that a guest cannot choose colliding pages
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t pages, std::uint64_t seed) noexcept;

  /// @param sizes  set of sizes worth probing (bit_of)
  [[nodiscard]] std::optional<CachedPage> lookup(Tag tag, Iova iova, std::uint8_t sizes) const noexcept {
    for (const PageSize size : page_sizes) {
      if ((sizes & bit_of(size)) == 0) continue;
      if (const auto found = probe(word_for(tag, iova, size), size)) return found;
    }
    return {};
  }

  /// Before the walk's first guest load.
  [[nodiscard]] FillGuard sample(Tag tag, Iova iova) const noexcept;
  /// After the walk. @return false when an invalidation or another writer came between: nothing is cached then.
  bool fill(const FillGuard& guard, Tag tag, Iova iova, const CachedPage& page) noexcept;

  /// Drops every page of `tag` that overlaps `range`; cost: one set a page and size.
  void drop_pages(Tag tag, IovaRange range) noexcept;
  /// Drops every page of every tag in `tags`; cost: the whole table.
  void sweep(const TagSet& tags) noexcept;

  [[nodiscard]] std::size_t sets() const noexcept { return sets_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return sets_.bytes() + versions_.bytes(); }

 private:
  static constexpr std::size_t ways = 4;
  struct Entry {
    Atomic<std::uint64_t> tag{0};
    Atomic<std::uint64_t> data{0};
  };
  struct alignas(64) Set {
    std::array<Entry, ways> entries{};
  };

  [[nodiscard]] static constexpr std::uint64_t word_for(Tag tag, Iova iova, PageSize size) noexcept {
    const std::uint64_t number = (iova.value >> shift_of(size)) & low_bits(45);
    return std::uint64_t{tag} << 48 | number << 3 | static_cast<std::uint64_t>(size) << 1 | 1;
  }
  [[nodiscard]] static constexpr Tag tag_of(std::uint64_t word) noexcept { return static_cast<Tag>(word >> 48); }
  /// Multiplicative hashing spreads the contiguous pages that guests allocate better than random ones.
  [[nodiscard]] std::size_t set_of(std::uint64_t word) const noexcept {
    return ((word ^ (word >> 32) ^ seed_) * 0x9E3779B97F4A7C15) >> hash_shift_;
  }

  [[nodiscard]] std::optional<CachedPage> probe(std::uint64_t word, PageSize size) const noexcept {
    const std::size_t index = set_of(word);
    const std::uint64_t before = versions_[index].load(std::memory_order_acquire);  // R1
    for (const Entry& entry : sets_[index].entries) {
      if (entry.tag.load(std::memory_order_acquire) != word) continue;                                    // R2
      const std::uint64_t data = entry.data.load(std::memory_order_acquire);                              // R2
      const bool stable = versions_[index].load(std::memory_order_relaxed) == before && before % 2 == 0;  // R3
      if (!stable) return {};
      return CachedPage{{data & ~low_bits(12)}, size, {(data & 1) != 0, (data & 2) != 0}};
    }
    return {};
  }

  void lock(std::size_t index) noexcept;
  void unlock(std::size_t index) noexcept;

  HostArray<Set> sets_;
  HostArray<Atomic<std::uint64_t>> versions_;
  std::uint64_t seed_ = 0;
  unsigned hash_shift_ = 63;
};

}  // namespace viommu::caches
