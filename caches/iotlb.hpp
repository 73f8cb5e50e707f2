// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The IOTLB: set-associative, 4 entries of 16 bytes to a cache line, one line a hit.
//
//   entry  first word: whose and which page; second word: where it is (iotlb_layout.hpp)
//   set    4 entries, one line
//   group  8 sets, and one version word in an array of its own: odd while a writer is inside, and another even number
//          after each invalidation that names the group, whether it found something or not
//   shard  groups; the address spaces of one domain use one shard
//
// A block stands for 8 pages whose leaves lie in one cache line of the guest's table, contiguous with equal rights. The
// 4 KiB pages of a block are spread over the 8 sets of one group and the block itself lies in the same group, so a page
// invalidation locks one word for both.
//
// Reader   R1 relaxed look at the first words of the set: a hint which way -> R2 one 16-byte load of that way: its
//          first word decides. No version is read, nothing is written.
//          Where 16-byte loads are not whole: P1 version -> P2 words -> P3 version again, equal and even.
// Fill     F0 sample the versions, before anything is loaded that the answer comes from (guest memory, a cached table)
//          -> the walk -> F1 is the tag still the address space's? -> F2 exchange exactly the sampled version for an
//          odd one -> F3 store the entry -> F4 the sampled version again (in the portable form the next even one)
// Drop     I1 lock the group of each page (compare-exchange even -> odd) -> I2 clear what is found -> I3 next even one
//
// No torn pair: R2 moves both words at once (AtomicPair). In the portable form a word of F3 or I2 seen by P2 carries
// the odd version (release, acquire), so P3 differs from P1. A reader that loses a race has a miss, never waits.
// No late fill: whatever a fill may go into was sampled by F0; an invalidation in between has changed that version
// (I1), and F2 fails. Versions are 64 bits wide and do not come round.
// An address space is forgotten at once by giving it another tag: the old entries match nobody (AddressSpaces).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>

#include "caches/iotlb_layout.hpp"
#include "caches/recent.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/atomic_pair.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::caches {

/// Tells address spaces apart inside the IOTLB; 0 is nobody's.
using Tag = std::uint16_t;
inline constexpr std::size_t max_tags = std::size_t{1} << 16;
using TagSet = std::bitset<max_tags>;

/// Sizes an entry can stand for. The value is the code in the entry. A block of 32 KiB is eight pages of 4 KiB.
enum class PageSize : std::uint8_t { kib4 = 0, kib32 = 1, mib2 = 2, gib1 = 3 };
inline constexpr std::array page_sizes{PageSize::kib4, PageSize::kib32, PageSize::mib2, PageSize::gib1};
using iotlb_layout::block_shift;
using iotlb_layout::pages_per_block;

[[nodiscard]] constexpr unsigned shift_of(PageSize size) noexcept {
  // A byte for each code, in one word: a table would be one more load on each hit.
  constexpr std::uint32_t shifts = page_shift | block_shift << 8 | 21U << 16 | 30U << 24;
  return shifts >> (static_cast<unsigned>(size) * 8) & 0xFF;
}
[[nodiscard]] constexpr std::uint64_t mask_of(PageSize size) noexcept { return low_bits(shift_of(size)); }
/// Sets of sizes.
using Sizes = std::uint8_t;
[[nodiscard]] constexpr Sizes bit_of(PageSize size) noexcept {
  return static_cast<Sizes>(1U << static_cast<unsigned>(size));
}
inline constexpr Sizes small_sizes = bit_of(PageSize::kib4) | bit_of(PageSize::kib32);
inline constexpr Sizes all_sizes = small_sizes | bit_of(PageSize::mib2) | bit_of(PageSize::gib1);

/// The page of a block that an address lies in, 0..7.
[[nodiscard]] constexpr unsigned page_in_block(Iova iova) noexcept {
  return static_cast<unsigned>(iotlb_layout::page_in_block(iova.value));
}

/// A page, or a block of pages, as it is put in.
struct CachedPage {
  Gpa frame;  ///< of the page that was asked for, whatever its place in a block
  PageSize size = PageSize::kib4;
  Rights rights;
  std::uint8_t pages = 0;  ///< of a block: bit i for page i, the asked one among them
  bool mmio = false;       ///< memory of a device; all of it, or none

  friend constexpr bool operator==(const CachedPage&, const CachedPage&) = default;
};

/// What a lookup found.
struct CachedTranslation {
  Gpa gpa;                 ///< of the address asked for
  std::uint64_t mask = 0;  ///< size - 1 of the aligned block around it in which every address translates alike
  Rights rights;

  friend constexpr bool operator==(const CachedTranslation&, const CachedTranslation&) = default;
};

/// An entry as it lies there, for who wants to see them all.
struct CachedEntry {
  Iova first;  ///< of the page or the block, as it is cached (AddressSpaceKey::folded)
  CachedPage page{};

  /// Pages that go on alike, from page `from` of a block on; of any other entry itself. None is a length of 0.
  struct Run {
    Iova first;
    Gpa gpa;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Run run_from(unsigned from) const noexcept {
    if (page.size != PageSize::kib32) return {first, page.frame, mask_of(page.size) + 1};
    Run run;
    for (unsigned i = from; i < pages_per_block; ++i) {
      const bool is_there = (page.pages >> i & 1) != 0;
      if (!is_there && run.bytes != 0) break;
      if (!is_there) continue;
      const std::uint64_t into = std::uint64_t{i} << page_shift;
      if (run.bytes == 0) run = {first + into, {(page.frame.value + into) & low_bits(52)}, 0};
      run.bytes += page_size_bytes;
    }
    return run;
  }
};

/// Where the entries of an address space are: what their first words begin with, and its shard's first set.
class Place {
 public:
  constexpr Place() = default;
  constexpr Place(Tag tag, std::uint32_t first_set) noexcept : prefix_{prefix_of(tag)}, first_set_{first_set} {}
  [[nodiscard]] static constexpr Place of_prefix(std::uint64_t prefix, std::uint32_t first_set) noexcept {
    Place place;
    place.prefix_ = prefix;
    place.first_set_ = first_set;
    return place;
  }
  /// The tag and the valid bit.
  [[nodiscard]] static constexpr std::uint64_t prefix_of(Tag tag) noexcept {
    return std::uint64_t{tag} << iotlb_layout::tag_at | iotlb_layout::valid;
  }
  [[nodiscard]] static constexpr Tag tag_of(std::uint64_t word) noexcept {
    return static_cast<Tag>(word >> iotlb_layout::tag_at);
  }
  [[nodiscard]] constexpr Tag tag() const noexcept { return tag_of(prefix_); }
  [[nodiscard]] constexpr std::uint64_t prefix() const noexcept { return prefix_; }
  [[nodiscard]] constexpr std::uint32_t first_set() const noexcept { return first_set_; }

 private:
  std::uint64_t prefix_ = iotlb_layout::valid;
  std::uint32_t first_set_ = 0;
};

/// Versions of the groups that an answer for one address may be put into, taken before the walk. An odd one is never
/// exchanged for, so what was not sampled is not filled.
struct FillGuard {
  std::uint64_t small = 1;  ///< of the group of the page and its block
  std::uint64_t mib2 = 1;
  std::uint64_t gib1 = 1;

  void refuse() noexcept { small = mib2 = gib1 = 1; }
};

/// Threads: everything from any thread. lookup() is wait-free and writes nothing.
class Iotlb {
 public:
  /// @param pages   translations to lay out for; the table has twice as many entries, rounded up to a power of two
  /// @param shards  a power of two, at most 64
  /// @param seed    of the hash, so that a guest cannot choose colliding pages
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t pages, unsigned shards,
                           std::uint64_t seed) noexcept;

  [[nodiscard]] Place place(Tag tag, std::uint16_t domain) const noexcept {
    return {tag, (domain & shard_mask_) << shard_bits_};
  }

  /// @param sizes  set of sizes worth probing
  [[nodiscard]] std::optional<CachedTranslation> lookup(Place place, Iova iova, Sizes sizes) const noexcept {
    const Pair entry = find_any(place, iova, sizes);
    if (entry.first == 0) return {};
    return CachedTranslation{gpa_in(entry, iova), mask_of(entry), Rights::in(entry.second)};
  }
  /// The entry for an address; zeroes when there is none.
  [[nodiscard]] Pair find_any(Place place, Iova iova, Sizes sizes) const noexcept;
  /// As find_any() for one large size, if `sizes` has it.
  [[nodiscard, gnu::always_inline]] Pair find_large(Place place, Iova iova, PageSize size, Sizes sizes) const noexcept {
    if ((sizes & bit_of(size)) == 0) return {};
    if (!whole_) return find_portable(place, iova, bit_of(size));
    const std::uint64_t word = word_for(place, iova, size);
    const Set& set = sets_[set_of(place, word)];
    const AtomicPair& found = which_begins_with(set.entries, word);  // R1
    const Pair entry = found.load();                                 // R2
    return entry.first == word ? entry : Pair{};
  }
  [[nodiscard]] static Gpa frame_in(Pair entry) noexcept { return {entry.second & frame_bits}; }
  /// How the small sizes of a set are looked up, in line, for the hot path. Large ones come after them.
  enum class Few : std::uint8_t {
    page,   ///< 4 KiB alone
    small,  ///< those and blocks
    any,    ///< by find_any(), with the large ones: there are none, or no whole pairs
  };
  [[nodiscard, gnu::always_inline]] Few few(Sizes sizes) const noexcept {
    if ((sizes & small_sizes) == plain_sizes_) return Few::page;
    return whole_ && (sizes & small_sizes) != 0 ? Few::small : Few::any;
  }
  /// Where the 4 KiB page and the block of an address are: the set of the block, whose group it is.
  [[nodiscard, gnu::always_inline]] std::size_t small_set(Place place, Iova iova) const noexcept {
    return place.first_set() +
           (iotlb_layout::hash(iotlb_layout::small_key(place.prefix(), iova.value), seed_) >> hash_shift_);
  }
  /// As find_any(), for Few::page and Few::small.
  template <Few which>
  [[nodiscard, gnu::always_inline]] Pair find_small(Place place, Iova iova, std::size_t small_set) const noexcept {
    const std::uint64_t page_word = word_for(place, iova, PageSize::kib4);
    const Set& of_page = sets_[small_set ^ page_in_block(iova)];
    const AtomicPair& page = which_begins_with(of_page.entries, page_word);  // R1
    if constexpr (which == Few::page) {
      const Pair entry = page.load();  // R2
      return entry.first == page_word ? entry : Pair{};
    } else {
      const std::uint64_t block_word = word_for(place, iova, PageSize::kib32);
      const Set& of_block = sets_[small_set];
      const AtomicPair& block = which_begins_with(of_block.entries, block_word);  // R1
      // A page may stand beside a block that lacks it, so it goes first.
      const bool is_page = page.first() == page_word;
      const Pair entry = (is_page ? page : block).load();  // R2
      const bool found = entry.first == (is_page ? page_word : block_word);
      return found && (is_page || has_page(iova, PageSize::kib32, entry.second)) ? entry : Pair{};
    }
  }
  /// The address in what find_small() found.
  template <Few which>
  [[nodiscard, gnu::always_inline]] static Gpa small_gpa(Pair entry, Iova iova) noexcept {
    const std::uint64_t frame = entry.second & frame_bits;
    if constexpr (which == Few::page) return {frame | (iova.value & low_bits(page_shift))};
    const std::uint64_t in_block =
        size_of(entry.first) == PageSize::kib32 ? low_bits(block_shift) : low_bits(page_shift);
    return {(frame + (iova.value & in_block)) & low_bits(52)};
  }

  /// What a vector kernel needs to look up small pages by itself; without whole pairs there are no sets.
  struct Lines {
    const std::byte* sets = nullptr;
    std::uint64_t seed = 0;
    std::uint64_t hash_shift = 0;
  };
  [[nodiscard]] Lines lines() const noexcept {
    return {whole_ ? reinterpret_cast<const std::byte*>(&sets_[0]) : nullptr, seed_, hash_shift_};
  }

  /// Before the walk's first guest load.
  void sample(Place place, Iova iova, Sizes sizes, FillGuard& guard) const noexcept {  // F0
    if ((sizes & small_sizes) != 0) guard.small = version_at(small_set(place, iova));
    if ((sizes & bit_of(PageSize::mib2)) != 0)
      guard.mib2 = version_at(set_of(place, word_for(place, iova, PageSize::mib2)));
    if ((sizes & bit_of(PageSize::gib1)) != 0)
      guard.gib1 = version_at(set_of(place, word_for(place, iova, PageSize::gib1)));
  }
  [[nodiscard]] FillGuard sample(Place place, Iova iova, Sizes sizes) const noexcept {
    FillGuard guard;
    sample(place, iova, sizes, guard);
    return guard;
  }
  /// After the walk. @param recent  what must rather stay (may be null)
  /// @return false when an invalidation or another writer came between: nothing is cached then.
  bool fill(const FillGuard& guard, Place place, Iova iova, const CachedPage& page, Recent* recent) noexcept;

  /// Drops every page that overlaps `range`; cost: one group each 8 pages, and one each large page in `sizes`.
  /// @param sizes  what may be there; small sizes count when they were put in before the fill (see AddressSpaces)
  void drop_pages(Place place, IovaRange range, const Atomic<Sizes>& sizes) noexcept;
  /// Of large pages only: for a table that holds no others.
  void drop_large_pages(Place place, IovaRange range, Sizes sizes) noexcept;
  void prefetch_for_drop(Place place, Iova iova) const noexcept {
    const std::size_t set = small_set(place, iova);
    __builtin_prefetch(&versions_[set / sets_per_group], 1);
    __builtin_prefetch(&sets_[set ^ page_in_block(iova)], 1);
  }

  [[nodiscard]] std::size_t groups() const noexcept { return versions_.size(); }
  /// The groups that an address space's entries can be in.
  struct Groups {
    std::size_t first = 0;
    std::size_t count = 0;
  };
  [[nodiscard]] Groups groups_of(Place place) const noexcept {
    return {place.first_set() / sets_per_group, (std::size_t{1} << shard_bits_) / sets_per_group};
  }
  static constexpr std::size_t entries_per_group = 32;
  /// The entries of a tag in one group, each whole; of several instants. @return how many
  [[nodiscard]] std::size_t copy_group(std::size_t group, Tag tag,
                                       std::span<CachedEntry, entries_per_group> entries) const noexcept;
  /// Drops every page of every tag in `tags` from groups [first, first + count).
  void sweep(const TagSet& tags, std::size_t first, std::size_t count) noexcept;
  /// Drops every page of `tag`; cost: the whole table.
  void sweep(Tag tag) noexcept;

  /// Entries of tags that are not live are the first to be replaced. Threads: one at a time.
  void set_live(Tag tag, bool live) noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept { return sets_.bytes() + versions_.bytes() + live_.bytes(); }
  /// What an entry says of an address that it was found for.
  [[nodiscard, gnu::always_inline]] static Gpa gpa_in(Pair entry, Iova iova) noexcept {
    return {((entry.second & frame_bits) + (iova.value & viommu::caches::mask_of(size_of(entry.first)))) &
            low_bits(52)};
  }
  [[nodiscard, gnu::always_inline]] static std::uint64_t mask_of(Pair entry) noexcept {
    const PageSize size = size_of(entry.first);
    const std::uint64_t mask = viommu::caches::mask_of(size);
    if (size != PageSize::kib32) return mask;
    const bool one_aligned_piece = entry.second >> pages_at == 0xFF && (entry.second & mask & frame_bits) == 0;
    return one_aligned_piece ? mask : low_bits(page_shift);
  }
  /// What recent.hpp remembers a hit by: the large page, or the block whether it is cached as one or not.
  /// @param mask  as lookup() answered it
  [[nodiscard]] static std::uint64_t trace_of(Place place, Iova iova, std::uint64_t mask) noexcept {
    const PageSize size = mask >= viommu::caches::mask_of(PageSize::gib1)   ? PageSize::gib1
                          : mask >= viommu::caches::mask_of(PageSize::mib2) ? PageSize::mib2
                                                                            : PageSize::kib32;
    return trace_of(word_for(place, iova, size));
  }

 private:
  static constexpr std::size_t ways = iotlb_layout::ways;
  static constexpr std::size_t sets_per_group = 8;
  struct alignas(64) Set {
    std::array<AtomicPair, ways> entries{};
  };
  static_assert(sizeof(Set) == iotlb_layout::set_bytes);
  static_assert(entries_per_group == ways * sets_per_group);

  static constexpr std::uint64_t frame_bits = iotlb_layout::frame_bits;
  static constexpr unsigned pages_at = iotlb_layout::pages_at;

  /// The first word of an entry, for an address of at most 57 bits.
  [[nodiscard, gnu::always_inline]] static constexpr std::uint64_t word_for(Place place, Iova iova,
                                                                            PageSize size) noexcept {
    if (size == PageSize::kib4) return iotlb_layout::page_word(place.prefix(), iova.value);
    if (size == PageSize::kib32) return iotlb_layout::block_word(place.prefix(), iova.value);
    return iotlb_layout::large_word(place.prefix(), iova.value, shift_of(size), static_cast<std::uint64_t>(size));
  }
  [[nodiscard]] static constexpr std::uint64_t trace_of(std::uint64_t word) noexcept { return word & ~low_bits(6); }
  [[nodiscard]] static constexpr Tag tag_of(std::uint64_t word) noexcept { return Place::tag_of(word); }
  [[nodiscard]] static constexpr PageSize size_of(std::uint64_t word) noexcept {
    return static_cast<PageSize>(word >> iotlb_layout::size_at & 3);
  }

  [[nodiscard, gnu::always_inline]] std::size_t set_of(Place place, std::uint64_t word) const noexcept {
    const std::size_t hashed = iotlb_layout::hash(iotlb_layout::large_key_of(word), seed_) >> hash_shift_;
    return place.first_set() + (hashed ^ iotlb_layout::place_in_group(word));
  }
  [[nodiscard]] static bool has_page(Iova iova, PageSize size, std::uint64_t second) noexcept {
    return size != PageSize::kib32 || (second >> (pages_at + page_in_block(iova)) & 1) != 0;
  }
  [[nodiscard]] std::uint64_t version_at(std::size_t set) const noexcept {
    return versions_[set / sets_per_group].load(std::memory_order_acquire);
  }
  [[nodiscard]] Pair find_small_of(Place place, Iova iova, Sizes sizes) const noexcept;
  [[nodiscard]] Pair find_portable(Place place, Iova iova, Sizes sizes) const noexcept;

  [[nodiscard]] std::size_t victim(const Set& set, std::uint64_t incoming, Recent* recent) const noexcept;
  [[nodiscard]] bool is_live(Tag tag) const noexcept {
    return (live_[tag / 64].load(std::memory_order_relaxed) >> (tag % 64) & 1) != 0;
  }
  void drop_small(Place place, std::uint64_t block, unsigned pages, const Atomic<Sizes>& sizes) noexcept;
  void drop_large(Place place, std::uint64_t word) noexcept;
  template <class Named>
  void sweep_groups(std::size_t first, std::size_t count, const Named& named) noexcept;
  /// @return the even version that was found
  std::uint64_t lock(std::size_t group) noexcept;
  void unlock(std::size_t group, std::uint64_t found) noexcept {
    versions_[group].store(found + 2, std::memory_order_release);
  }

  HostArray<Set> sets_;
  HostArray<Atomic<std::uint64_t>> versions_;
  HostArray<Atomic<std::uint64_t>> live_;  ///< a bit for each tag
  std::uint64_t seed_ = 0;
  std::uint32_t shard_mask_ = 0;
  unsigned shard_bits_ = 0;  ///< log2 of the sets of a shard
  unsigned hash_shift_ = 63;
  bool whole_ = false;     ///< 16-byte loads and stores are atomic here
  Sizes plain_sizes_ = 0;  ///< the small sizes that are Few::page; without whole pairs a set that is none
};

}  // namespace viommu::caches
