// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Address spaces and their tags.
//
//   context table -> address space {tag, sizes} -> IOTLB entries that carry the tag
//
// Forgetting an address space is one store: a new tag. An old tag takes the way  retired -> grace -> sweep -> free:
// it is given out again only when no guard that could still look up or fill under it is open, and after every entry
// that carries it is gone. Sweeps go in slices, begun before tags are short. When no tag is free all the same, the
// table is swept of the address space's entries instead; a tag in use by a stalled reader is never taken early.
//
// Which page sizes may be cached is announced per address space, so that an invalidation need not look for the others:
//   walker   finds a leaf of a size that was not fillable at F0: A1 sizes |= it -> A2 full fence -> A3 fillable |= it,
//            and does not fill this time
//   dropper  B1 full fence -> B2 sizes: groups of other sizes are not locked
// If B2 misses the bit, B1 precedes A2; whoever fills that size sampled `fillable` after A3, so its walk began after A2
// and reads guest memory as it was before B1: changed already.
// Small sizes are fillable from the start, because every page invalidation locks their group anyway. A filler says the
// size before it locks (A0), a dropper looks after it has locked: if it misses the bit, the fill's F2 comes later and
// finds another version.
//
// Devices share an address space only when domain, table, width and interpretation are all equal. One domain id may
// have several address spaces; an invalidation of the domain means all of them.
#pragma once

#include "caches/epoch.hpp"
#include "caches/iotlb.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

#include <cstdint>
#include <optional>

namespace viommu::caches {

/// How the input addresses of an address space become guest-physical ones.
enum class Interpretation : std::uint8_t {
  second_stage,
  pass_through,
  first_stage,
  nested,    ///< a first stage whose tables and pages lie behind a second stage
  mappings,  ///< the front end keeps them (engine/core/mapping_store.hpp)
};

/// What a PASID entry, or the kind of request, adds to the tables.
struct StageFlags {
  bool privileged = false;         ///< of the requests; these two of a first stage
  bool write_protect = false;      ///< WPE
  bool extended_accessed = false;  ///< EAFE, of a first stage
  bool second_flags = false;       ///< SSADE: accessed and dirty flags in the second stage too
  bool snooped = true;             ///< flags may be written

  friend constexpr bool operator==(const StageFlags&, const StageFlags&) = default;
};

/// Two devices with equal keys see the same memory.
struct AddressSpaceKey {
  DomainId domain;
  Interpretation interpretation = Interpretation::second_stage;
  std::uint8_t top_level = 0;  ///< of the table at `root`; level 0 holds only leaves
  Gpa root;                    ///< 0 for pass-through
  Iova last;                   ///< highest input address; where they are canonical, of the lower half
  // Of scalable mode:
  std::optional<Pasid> pasid = std::nullopt;  ///< of the PASID entry
  StageFlags flags{};
  // Nested, of the second stage:
  std::uint8_t second_top_level = 0;
  std::uint8_t second_width = 0;  ///< bits of its input addresses
  Gpa second_root{};

  friend constexpr bool operator==(const AddressSpaceKey&, const AddressSpaceKey&) = default;

  /// Whether a first stage maps it: its input addresses are canonical, and it sets accessed and dirty flags.
  [[nodiscard]] constexpr bool has_first_stage() const noexcept {
    return interpretation == Interpretation::first_stage || interpretation == Interpretation::nested;
  }
  /// Whether a walk writes flags, so that reading the tables is not enough.
  [[nodiscard]] constexpr bool sets_flags() const noexcept { return has_first_stage() || flags.second_flags; }
  /// Whether a walk only reads tables of one stage.
  [[nodiscard]] constexpr bool plain_tables() const noexcept {
    return interpretation == Interpretation::second_stage && !flags.second_flags;
  }
  /// The address that those looked up in the IOTLB are below: of canonical ones, of the lower half.
  [[nodiscard]] constexpr Iova end_of_paged() const noexcept {
    constexpr Iova end_of_page_numbers{std::uint64_t{1} << 57};
    if (interpretation == Interpretation::pass_through) return {0};
    return last < end_of_page_numbers ? last + 1 : end_of_page_numbers;
  }
  /// A canonical address without the copies of its highest bit, as it is cached: they would not fit a page number.
  [[nodiscard]] constexpr std::uint64_t folded(std::uint64_t address) const noexcept {
    return has_first_stage() ? address & (last.value << 1 | 1) : address;
  }
  /// Whether an address beyond `last` is in the upper half.
  [[nodiscard]] constexpr bool is_upper(Iova iova) const noexcept {
    return has_first_stage() && (iova.value | last.value) == ~std::uint64_t{0};
  }
};

/// Alone in its lines: readers load the first one on each lookup, and only its own invalidations write it.
struct alignas(64) AddressSpace {
  Atomic<std::uint64_t> prefix{Place::prefix_of(0)};  ///< its tag, as its entries begin
  Atomic<Sizes> sizes{0};                             ///< page sizes announced; only grows while the object lives
  Atomic<Sizes> fillable{0};                          ///< those that may be filled; small ones always
  Atomic<Sizes> tables{0};      ///< as `sizes`, for the paging-structure cache: how much a cached table maps
  Atomic<Sizes> reachable{0};   ///< as `fillable`, for it
  std::uint32_t first_set = 0;  ///< of its shard; this and the rest are constant while anybody can reach the object
  Iova paged;                   ///< key.end_of_paged()
  AddressSpaceKey key{};

  [[nodiscard]] Place place() const noexcept {
    return Place::of_prefix(prefix.load(std::memory_order_acquire), first_set);
  }
  [[nodiscard]] Tag tag() const noexcept { return Place::tag_of(prefix.load(std::memory_order_relaxed)); }

 private:
  friend class AddressSpaces;
  std::uint32_t references_ = 0;
  std::uint32_t position_ = 0;    ///< in the list of those in use
  AddressSpace* next_ = nullptr;  ///< in its hash chain, or in the free or retired list
  std::uint64_t retired_at_ = 0;
};

/// To be called before a fill of `size` (see above). @return whether it was fillable when `sampled` was loaded
[[nodiscard]] bool announce(Atomic<Sizes>& sizes, Atomic<Sizes>& fillable, Sizes sampled, PageSize size) noexcept;

/// Threads: readers use AddressSpace's public members at any time inside a guard; sweep_slice() by one thread at a
/// time; dropping pages of a Member from many; every other member function is called under one lock of the owner, which
/// is held across no callback and no guest access.
class AddressSpaces {
 public:
  /// What carries tags: translations, and cached tables.
  struct Tagged {
    Iotlb* iotlb = nullptr;
    Iotlb* structures = nullptr;
  };

  /// @param count     address spaces at a time
  /// @param tag_bits  4..16
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count, unsigned tag_bits, Epochs& epochs,
                           Tagged tagged) noexcept;

  /// The address space with this key, made if need be, with one reference more. Null when objects or tags are used up.
  [[nodiscard]] AddressSpace* acquire(const AddressSpaceKey& key) noexcept;
  /// Whether an object and a tag are there, or to be had soon, for an address space that takes the place of another.
  [[nodiscard]] bool has_room() noexcept;
  /// Gives a reference back; with the last one the tag is retired and the object follows after its grace period.
  void release(AddressSpace& space) noexcept;

  /// All objects in their order, so that a cache may name one by its number. Threads: any.
  [[nodiscard]] AddressSpace* objects() noexcept { return spaces_.begin(); }

  /// An address space with the tag it has now, to be dropped from without the lock.
  struct Member {
    AddressSpace* space = nullptr;
    Place place;
  };
  [[nodiscard]] static Member member(AddressSpace& space) noexcept {
    return {&space, Place{space.tag(), space.first_set}};
  }
  /// Whether a range is dropped page by page: a probe touches a set, and past this many a new tag is cheaper. It bounds
  /// what one command can cost.
  [[nodiscard]] static constexpr bool by_page(IovaRange range) noexcept {
    constexpr std::uint64_t most_probes = 512;
    const std::uint64_t pages = (range.last.value >> page_shift) - (range.first.value >> page_shift) + 1;
    return pages != 0 && pages <= most_probes;
  }

  /// Forgets all translations of one address space.
  void forget(AddressSpace& space) noexcept;
  /// Drops the pages of one address space that overlap `range`; forgets it when that costs less. The caller has made a
  /// full fence (B1) since the guest asked for it.
  /// @param keep_structures  cached tables may stay
  void drop_pages(AddressSpace& space, IovaRange range, bool keep_structures) noexcept;
  /// The same for a range that is dropped page by page. Not under the lock, from several threads: what is retired in
  /// the meantime, the object or its tag, must not be used again before this has returned, so the caller sees to it
  /// that no scan of the epochs begins behind member() and ends before.
  void drop_pages(const Member& member, IovaRange range, bool keep_structures) const noexcept;
  void prefetch_for_drop(const Member& member, Iova iova) const noexcept {
    tagged_.iotlb->prefetch_for_drop(member.place, iova);
  }

  template <class Action>
  void for_each_of(DomainId domain, Action&& action) noexcept {
    AddressSpace* space = chains_[chain_of(domain)];
    while (space != nullptr) {
      AddressSpace* const next = space->next_;
      if (space->key.domain == domain) action(*space);
      space = next;
    }
  }
  template <class Action>
  void for_each(Action&& action) noexcept {
    for (std::size_t i = 0; i < in_use_; ++i) action(*used_[i]);
  }

  /// Whether objects or tags that wait for their grace period will soon be needed. Threads: any.
  [[nodiscard]] bool short_of_something() const noexcept { return short_.load(std::memory_order_relaxed); }
  /// After a scan of the epochs: frees objects, and takes the tags whose grace period has passed into a sweep.
  /// @return whether there is something to sweep: then sweep_slice() over [0, sweep_groups()), then end_sweep()
  [[nodiscard]] bool begin_sweep() noexcept;
  [[nodiscard]] std::size_t sweep_groups() const noexcept;
  /// Not under the lock. Any slices in any order, from several threads.
  void sweep_slice(std::size_t first, std::size_t count) noexcept;
  void end_sweep() noexcept;

  [[nodiscard]] std::uint64_t in_use() const noexcept { return in_use_; }
  [[nodiscard]] std::uint64_t sweeps() const noexcept { return sweeps_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return spaces_.bytes() + chains_.bytes() + used_.bytes() + free_tags_.bytes() + retired_tags_.bytes() +
           swept_tags_.bytes();
  }

 private:
  struct RetiredTag {
    Tag tag = 0;
    std::uint64_t at = 0;
  };
  /// A first-in-first-out queue in an array that can hold every tag.
  template <class T>
  class Fifo {
   public:
    [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t size) noexcept {
      first_ = count_ = 0;
      return items_.reset(allocator, size);
    }
    void push(const T& item) noexcept { items_[(first_ + count_++) % items_.size()] = item; }
    [[nodiscard]] const T& front() const noexcept { return items_[first_]; }
    T pop() noexcept {
      const T item = items_[first_];
      first_ = (first_ + 1) % items_.size();
      --count_;
      return item;
    }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return items_.bytes(); }

   private:
    HostArray<T> items_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
  };

  [[nodiscard]] std::size_t chain_of(DomainId domain) const noexcept { return domain.value % chains_.size(); }
  /// 0 when none can be had now.
  [[nodiscard]] Tag take_tag() noexcept;
  void retire_tag(Tag tag) noexcept;
  void reclaim_objects() noexcept;

  Epochs* epochs_ = nullptr;
  Tagged tagged_;
  HostArray<AddressSpace> spaces_;
  HostArray<AddressSpace*> chains_;
  HostArray<AddressSpace*> used_;  ///< the first in_use_ of them, in no order
  AddressSpace* free_ = nullptr;
  AddressSpace* retired_first_ = nullptr;  ///< oldest
  AddressSpace* retired_last_ = nullptr;
  std::size_t tags_ = 0;
  Fifo<Tag> free_tags_;
  Fifo<RetiredTag> retired_tags_;
  Fifo<Tag> swept_tags_;  ///< free when the sweep under way has ended
  bool sweeping_ = false;
  Atomic<bool> short_{false};
  std::uint64_t in_use_ = 0;
  std::uint64_t sweeps_ = 0;
  TagSet sweep_set_;  ///< constant while a sweep is under way
};

}  // namespace viommu::caches
