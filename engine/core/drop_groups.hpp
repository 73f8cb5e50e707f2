// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A run of page invalidations sorted so that its domains can be dropped side by side.
//
//   run, in queue order   A1 B1 A2 C1 B2 B*            (B*: the whole domain)
//   groups                A {1 2}  B {*}  C {1}        adjacent and covered ranges of a domain become one
//   shards                0: A C   1: B                one task each: no two touch the same set of the IOTLB
//
// Cost: two passes over the run, which dropping in this order wins back (design.md). Bound: most_in_run ranges,
// whatever the guest writes; nothing is allocated after reset().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "caches/address_spaces.hpp"
#include "caches/scope.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::core {

/// Threads: run(), sort() and collect() by one thread at a time; what they leave behind may then be read by many.
class DropGroups {
 public:
  static constexpr std::size_t most_in_run = 512;
  static constexpr std::size_t most_shards = 64;

  struct Group {
    DomainId domain{};
    bool forget = false;     ///< a range is so long that its address spaces are forgotten as a whole
    bool whole = false;      ///< the domain itself was named
    bool by_domain = false;  ///< pages of it were: those of a second stage
    bool by_pasid = false;   ///< or something of a PASID
    std::uint16_t shard = 0;
    std::uint16_t next = 0;     ///< group of the same shard, plus one; 0: the last
    std::uint16_t first = 0;    ///< of its ranges
    std::uint16_t count = 0;    ///< of ranges, once sorted
    std::uint32_t members = 0;  ///< first of its address spaces
    std::uint32_t member_count = 0;
  };

  /// @param shards          of the IOTLB: a power of two
  /// @param address_spaces  that can be in use at a time
  [[nodiscard]] bool reset(const HostAllocator& allocator, unsigned shards, std::size_t address_spaces) noexcept;
  [[nodiscard]] bool ready() const noexcept { return run_.size() != 0; }
  /// Room for a run that is to be sorted; empty before reset().
  [[nodiscard]] std::span<caches::PageScope> run() noexcept { return {run_.begin(), run_.size()}; }

  /// @param scopes  at most most_in_run
  void sort(std::span<const caches::PageScope> scopes) noexcept;
  /// Forgets address spaces where a group says so, and those whose pages cannot be told apart by what was named; notes
  /// the others with the tags they have now. To be called under the lock of `spaces`.
  void collect(caches::AddressSpaces& spaces) noexcept;

  [[nodiscard]] std::size_t groups() const noexcept { return group_count_; }
  /// Shards in which there is something to do, in the order of their first range.
  [[nodiscard]] std::span<const std::uint16_t> shards() const noexcept { return {busy_.data(), busy_count_}; }
  /// Calls use(group, the one after it in this shard or null).
  template <class Use>
  void for_each_of(std::uint16_t shard, Use&& use) const noexcept {
    const Group* group = group_at(first_of_[shard]);
    while (group != nullptr) {  // ends: each group is in one chain, once
      const Group* const next = group_at(group->next);
      use(*group, next);
      group = next;
    }
  }
  [[nodiscard]] std::span<const caches::PageScope> ranges(const Group& group) const noexcept {
    return {&sorted_[group.first], group.count};
  }
  [[nodiscard]] std::span<const caches::AddressSpaces::Member> members(const Group& group) const noexcept {
    return {members_.begin() + group.members, group.member_count};
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return run_.bytes() + sorted_.bytes() + groups_.bytes() + group_of_.bytes() + slots_.bytes() + members_.bytes();
  }

 private:
  static constexpr unsigned slot_bits = 10;  // twice as many as there are ranges, so a search ends soon
  static_assert(std::size_t{1} << slot_bits == 2 * most_in_run);

  [[nodiscard]] const Group* group_at(std::uint16_t number) const noexcept {
    return number == 0 ? nullptr : &groups_[number - 1U];
  }
  [[nodiscard]] std::uint16_t find_or_add(DomainId domain) noexcept;
  void put(Group& group, const caches::PageScope& scope) noexcept;
  /// Whether something that a group names means all of an address space.
  [[nodiscard]] bool means_all(const Group& group, const caches::AddressSpace& space) const noexcept;

  HostArray<caches::PageScope> run_;
  HostArray<caches::PageScope> sorted_;
  HostArray<Group> groups_;
  HostArray<std::uint16_t> group_of_;  ///< of each range of the run
  HostArray<std::uint16_t> slots_;     ///< by domain: the group plus one
  HostArray<caches::AddressSpaces::Member> members_;
  std::size_t group_count_ = 0;
  std::uint32_t shard_mask_ = 0;
  std::size_t busy_count_ = 0;
  std::array<std::uint16_t, most_shards> busy_{};
  std::array<std::uint16_t, most_shards> first_of_{};
  std::array<std::uint16_t, most_shards> last_of_{};
};

/// Whether a range's pages are pages of this address space, to be dropped one by one. Those of a domain are addresses
/// of a second stage: behind a first one nobody knows which they are. Those of a PASID are addresses of its first
/// stage.
[[nodiscard]] inline bool names_pages(const caches::PageScope& scope, const caches::AddressSpaceKey& key) noexcept {
  return scope.by_pasid ? key.has_first_stage() && key.pasid == scope.pasid : !key.has_first_stage();
}
/// Whether it means all of this address space.
[[nodiscard]] inline bool means_all(const caches::PageScope& scope, const caches::AddressSpaceKey& key) noexcept {
  const bool long_range = !caches::AddressSpaces::by_page(scope.range);
  if (!scope.by_pasid) return key.has_first_stage() || long_range;
  return key.pasid == scope.pasid && (scope.whole_pasid || (key.has_first_stage() && long_range));
}

}  // namespace viommu::core
