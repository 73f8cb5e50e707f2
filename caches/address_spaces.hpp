// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Address spaces and their tags.
//
//   context entry (immutable) -> address space {tag, sizes} -> IOTLB entries that carry the tag
//
// Forgetting an address space is one store: a new tag. An old tag takes the way  retired -> grace -> sweep -> free:
// it is given out again only when no guard that could still look up or fill under it is open, and after every entry
// that carries it is gone. When no tag is free, the table is swept of the address space's entries instead; a tag in use
// by a stalled reader is never taken early. Devices share an address space only when domain, table, width and
// interpretation are all equal. One domain id may have several address spaces; an invalidation of the domain means all
// of them.
#pragma once

#include "caches/epoch.hpp"
#include "caches/iotlb.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

#include <cstdint>
#include <span>

namespace viommu::caches {

/// How the input addresses of an address space become guest-physical ones.
enum class Interpretation : std::uint8_t { second_stage, pass_through };

/// Two devices with equal keys see the same memory.
struct AddressSpaceKey {
  DomainId domain;
  Interpretation interpretation = Interpretation::second_stage;
  std::uint8_t top_level = 0;  ///< of the table at `root`; level 0 holds only leaves
  Gpa root;                    ///< 0 for pass-through
  Iova last;                   ///< highest input address

  friend constexpr bool operator==(const AddressSpaceKey&, const AddressSpaceKey&) = default;
};

/// Alone in its line: readers load it on each lookup, and only its own invalidations write it.
struct alignas(64) AddressSpace {
  Atomic<std::uint32_t> tag{0};
  Atomic<std::uint8_t> sizes{0};  ///< page sizes ever filled; only grows while the object lives
  AddressSpaceKey key{};          ///< constant while anybody can reach the object

 private:
  friend class AddressSpaces;
  std::uint32_t references = 0;
  std::uint32_t place = 0;       ///< in the list of those in use
  AddressSpace* next = nullptr;  ///< in its hash chain, or in the free or retired list
  std::uint64_t retired_at = 0;
};

/// Threads: readers use AddressSpace::tag and ::sizes at any time inside a guard; every member function is called under
/// one lock of the owner, which is held across no callback and no guest access.
class AddressSpaces {
 public:
  /// Where grace periods are looked up.
  struct Readers {
    Epochs* epochs = nullptr;
    std::span<const EpochWord> words;
  };

  /// @param count     address spaces at a time
  /// @param tag_bits  4..16
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count, unsigned tag_bits, Readers readers,
                           Iotlb& iotlb) noexcept;

  /// The address space with this key, made if need be, with one reference more. Null when objects or tags are used up.
  [[nodiscard]] AddressSpace* acquire(const AddressSpaceKey& key) noexcept;
  /// Gives a reference back; with the last one the tag is retired and the object follows after its grace period.
  void release(AddressSpace& space) noexcept;

  /// Forgets all translations of one address space.
  void forget(AddressSpace& space) noexcept;
  /// Drops the pages of one address space that overlap `range`; forgets it when that costs less.
  void drop_pages(AddressSpace& space, IovaRange range) noexcept;

  template <class Action>
  void for_each_of(DomainId domain, Action&& action) noexcept {
    AddressSpace* space = chains_[chain_of(domain)];
    while (space != nullptr) {
      AddressSpace* const next = space->next;
      if (space->key.domain == domain) action(*space);
      space = next;
    }
  }
  template <class Action>
  void for_each(Action&& action) noexcept {
    for (std::size_t i = 0; i < in_use_; ++i) action(*used_[i]);
  }

  [[nodiscard]] std::uint64_t in_use() const noexcept { return in_use_; }
  [[nodiscard]] std::uint64_t sweeps() const noexcept { return sweeps_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return spaces_.bytes() + chains_.bytes() + used_.bytes() + free_tags_.bytes() + retired_tags_.bytes();
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
  void reclaim_tags() noexcept;
  void reclaim_objects() noexcept;
  void sweep(const TagSet& tags) noexcept;

  Readers readers_;
  Iotlb* iotlb_ = nullptr;
  HostArray<AddressSpace> spaces_;
  HostArray<AddressSpace*> chains_;
  HostArray<AddressSpace*> used_;  ///< the first in_use_ of them, in no order
  AddressSpace* free_ = nullptr;
  AddressSpace* retired_first_ = nullptr;  ///< oldest
  AddressSpace* retired_last_ = nullptr;
  Fifo<Tag> free_tags_;
  Fifo<RetiredTag> retired_tags_;
  std::uint64_t in_use_ = 0;
  std::uint64_t sweeps_ = 0;
  TagSet sweep_set_;
};

}  // namespace viommu::caches
