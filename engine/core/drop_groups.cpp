// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/drop_groups.hpp"

#include <algorithm>

namespace viommu::core {
namespace {

using caches::AddressSpaces;
using caches::PageScope;

/// Whether dropping `outer` drops all that `inner` names, cached tables among it.
[[nodiscard]] bool covers(const PageScope& outer, const PageScope& inner) noexcept {
  const bool of_the_same = outer.by_pasid == inner.by_pasid && outer.pasid == inner.pasid;
  return of_the_same && (outer.whole_pasid || !inner.whole_pasid) && outer.range.first <= inner.range.first &&
         inner.range.last <= outer.range.last && (!outer.keep_structures || inner.keep_structures);
}

/// One range in place of two that touch; no longer than what is dropped page by page, as each of them would be.
[[nodiscard]] bool join(PageScope& last, const PageScope& scope) noexcept {
  if (covers(last, scope)) return true;
  if (covers(scope, last)) {
    last = scope;
    return true;
  }
  const bool above = scope.range.first.value - 1 == last.range.last.value && scope.range.first.value != 0;
  const bool below = last.range.first.value - 1 == scope.range.last.value && last.range.first.value != 0;
  if ((!above && !below) || last.keep_structures != scope.keep_structures || last.by_pasid != scope.by_pasid ||
      last.pasid != scope.pasid)
    return false;
  const IovaRange both{std::min(last.range.first, scope.range.first), std::max(last.range.last, scope.range.last)};
  if (!AddressSpaces::by_page(both)) return false;
  last.range = both;
  return true;
}

}  // namespace

bool DropGroups::reset(const HostAllocator& allocator, unsigned shards, std::size_t address_spaces) noexcept {
  shard_mask_ = shards - 1;
  return run_.reset(allocator, most_in_run) && sorted_.reset(allocator, most_in_run) &&
         groups_.reset(allocator, most_in_run) && group_of_.reset(allocator, most_in_run) &&
         slots_.reset(allocator, std::size_t{1} << slot_bits) && members_.reset(allocator, address_spaces);
}

std::uint16_t DropGroups::find_or_add(DomainId domain) noexcept {
  constexpr std::uint32_t spread = 0x9E3779B1;
  for (std::uint32_t at = domain.value * spread >> (32 - slot_bits);; ++at) {  // ends: half of the slots are empty
    std::uint16_t& slot = slots_[at & low_bits(slot_bits)];
    if (slot != 0 && groups_[slot - 1U].domain == domain) return static_cast<std::uint16_t>(slot - 1);
    if (slot != 0) continue;
    groups_[group_count_] = {.domain = domain, .shard = static_cast<std::uint16_t>(domain.value & shard_mask_)};
    slot = static_cast<std::uint16_t>(++group_count_);
    return static_cast<std::uint16_t>(slot - 1);
  }
}

void DropGroups::put(Group& group, const PageScope& scope) noexcept {
  if (group.whole && group.count != 0) return;  // its one range is all there is
  PageScope* const ranges = &sorted_[group.first];
  if (group.whole) {
    ranges[group.count++] = {all_iovas, group.domain};
  } else if (group.count == 0 || !join(ranges[group.count - 1U], scope)) {
    ranges[group.count++] = scope;
  }
}

void DropGroups::sort(std::span<const PageScope> scopes) noexcept {
  std::ranges::fill(slots_, std::uint16_t{0});
  group_count_ = busy_count_ = 0;
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    Group& group = groups_[group_of_[i] = find_or_add(scopes[i].domain)];
    ++group.count;
    group.whole |= scopes[i].names_domain();
    group.forget |= !scopes[i].by_pasid && !AddressSpaces::by_page(scopes[i].range);
    group.by_domain |= !scopes[i].by_pasid;
    group.by_pasid |= scopes[i].by_pasid;
  }
  first_of_.fill(0);
  std::uint16_t first = 0;
  for (std::size_t i = 0; i < group_count_; ++i) {
    Group& group = groups_[i];
    group.first = first;
    first = static_cast<std::uint16_t>(first + group.count);
    group.count = 0;  // put() counts anew
    const auto number = static_cast<std::uint16_t>(i + 1);
    if (first_of_[group.shard] == 0) {
      busy_[busy_count_++] = group.shard;
      first_of_[group.shard] = number;
    } else {
      groups_[last_of_[group.shard] - 1U].next = number;
    }
    last_of_[group.shard] = number;
  }
  for (std::size_t i = 0; i < scopes.size(); ++i) put(groups_[group_of_[i]], scopes[i]);
}

bool DropGroups::means_all(const Group& group, const caches::AddressSpace& space) const noexcept {
  if (group.forget || (group.by_domain && space.key.has_first_stage())) return true;
  return group.by_pasid && std::ranges::any_of(ranges(group), [&](const PageScope& scope) {
           return scope.by_pasid && core::means_all(scope, space.key);
         });
}

void DropGroups::collect(AddressSpaces& spaces) noexcept {
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < group_count_; ++i) {
    Group& group = groups_[i];
    group.members = count;
    spaces.for_each_of(group.domain, [&](caches::AddressSpace& space) {
      if (means_all(group, space)) return spaces.forget(space);
      members_[count++] = AddressSpaces::member(space);  // bound: an address space has one domain
    });
    group.member_count = count - group.members;
  }
}

}  // namespace viommu::core
