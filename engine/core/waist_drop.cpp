// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs of page invalidations: in order on one thread, or their domains side by side.
//
//   sort      the run by domain and shard (drop_groups.hpp)
//   collect   under the lock: who belongs to each domain, and with which tag; what is forgotten as a whole is so here
//   drop      no lock: a task for each shard drops the pages of its domains, then tells whoever listens
//
// Side by side without the lock. Others may insert contexts, forget and release address spaces meanwhile:
// - An object or tag that is retired meanwhile is not used again meanwhile: that takes a scan of the epochs which began
//   after it, and only the caller of this function makes scans. So a task drops under a tag that is either still its
//   address space's or nobody's.
// - What is filled under a newer tag or in a newer address space is not stale: both were published under the lock and
//   after collect(), so whoever walks for them sees guest memory as the guest had changed it.
// - Two tasks touch different sets of the IOTLB. Cached tables are in one shard: their groups have locks of their own.
// - B1 happens before every task's B2, and every I3 before the return: the executor starts tasks after it was called
//   and returns when all have ended.
// Tasks take no lock but those of groups, and wait for nothing else.
#include <algorithm>
#include <optional>

#include "engine/base/tracepoint.hpp"
#include "engine/core/waist.hpp"

namespace viommu::core {
namespace {

constexpr std::size_t ahead = 8;  // ranges whose lines are under way while one is worked on

/// What the caches' part of one range costs, about: a look at the group of each block.
[[nodiscard]] std::uint64_t drop_ns(const caches::PageScope& scope) noexcept {
  constexpr std::uint64_t one_block_ns = 5;
  constexpr std::uint64_t forget_ns = 20;
  if (!caches::AddressSpaces::by_page(scope.range)) return forget_ns;
  return ((scope.range.last.value - scope.range.first.value) >> caches::block_shift) * one_block_ns + one_block_ns;
}

}  // namespace

void Waist::drop(const caches::Scope& scope) noexcept {
  drop_from_caches(scope);
  const DropListener& listener = options_.listener;
  if (listener.pages == nullptr) return;
  const std::optional pages = caches::page_scope_of(scope);
  if (!pages) return listener.other(listener.opaque, scope);
  listener.pages(listener.opaque, {&*pages, 1});
}

void Waist::drop(std::span<const caches::PageScope> scopes) noexcept {
  for (const caches::PageScope& scope : scopes) {
    tracepoint::drop(static_cast<std::uint32_t>(caches::scope_of(scope).kind), scope.domain.value,
                     scope.range.first.value, scope.range.last.value);
  }
  full_fence();  // B1
  if (groups_.ready() && worth_handing_out(scopes)) return drop_side_by_side(scopes);
  drop_in_order(scopes);
  if (options_.listener.pages != nullptr) tell_in_order(scopes);
}

void Waist::forget_sources(SourceId source, std::uint8_t ignored_bits) noexcept {
  caches::Scope scope;
  scope.kind = caches::Scope::Kind::source_contexts;
  scope.source = source;
  scope.ignored_source_bits = ignored_bits;
  full_fence();  // B1
  const std::lock_guard lock{caches_lock_};
  const auto forget = [this](caches::ContextEntry context) {
    if (context)
      spaces_.for_each_of(context.space().key.domain, [this](caches::AddressSpace& space) { spaces_.forget(space); });
  };
  for (unsigned bits = 0; bits <= 0xFF; ++bits)
    if ((bits & ~ignored_bits) == 0) forget(contexts_.find(SourceId{static_cast<std::uint16_t>(source.value ^ bits)}));
  const caches::PasidCache& pasids = contexts_.pasids();
  for (std::size_t place = 0; place < pasids.places(); ++place)
    if (const std::optional held = pasids.held_at(place); held && scope.names(held->key.source)) forget(held->entry);
  contexts_.drop(scope);
}

bool Waist::worth_handing_out(std::span<const caches::PageScope> scopes) const noexcept {
  if (scopes.size() < 2 || scopes.size() > DropGroups::most_in_run) return false;
  const std::uint64_t least_ns = options_.hand_out_ns;
  const Atomic<std::uint32_t>* const range_ns = options_.listener.range_ns;
  std::uint64_t total_ns = range_ns == nullptr ? 0 : scopes.size() * range_ns->load(std::memory_order_relaxed);
  for (std::size_t i = 0; total_ns < least_ns && i < scopes.size(); ++i) total_ns += drop_ns(scopes[i]);
  return total_ns >= least_ns;
}

void Waist::drop_in_order(std::span<const caches::PageScope> scopes) noexcept {
  const std::lock_guard lock{caches_lock_};
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    if (i + ahead < scopes.size()) {
      const caches::PageScope& later = scopes[i + ahead];
      spaces_.for_each_of(later.domain, [&](const caches::AddressSpace& space) {
        iotlb_.prefetch_for_drop(space.place(), {space.key.folded(later.range.first.value)});
      });
    }
    const caches::PageScope& scope = scopes[i];
    spaces_.for_each_of(scope.domain, [&](caches::AddressSpace& space) { drop_from(space, scope); });
  }
}

void Waist::drop_from(caches::AddressSpace& space, const caches::PageScope& scope) noexcept {
  if (means_all(scope, space.key)) return spaces_.forget(space);
  if (names_pages(scope, space.key)) spaces_.drop_pages(space, scope.range, scope.keep_structures);
}

void Waist::tell_in_order(std::span<const caches::PageScope> scopes) const noexcept {
  while (!scopes.empty()) {
    const auto other = std::ranges::find_if(
        scopes, [&](const caches::PageScope& scope) { return scope.domain != scopes.front().domain; });
    const auto count = static_cast<std::size_t>(other - scopes.begin());
    options_.listener.pages(options_.listener.opaque, scopes.first(count));
    scopes = scopes.subspan(count);
  }
}

void Waist::drop_side_by_side(std::span<const caches::PageScope> scopes) noexcept {
  groups_.sort(scopes);
  {
    const std::lock_guard lock{caches_lock_};
    groups_.collect(spaces_);
  }
  const std::span<const std::uint16_t> shards = groups_.shards();
  if (shards.size() == 1) return drop_shard(shards.front());
  host_.execute(static_cast<std::uint32_t>(shards.size()), [&](std::uint32_t i) { drop_shard(shards[i]); });
}

void Waist::drop_shard(std::uint16_t shard) noexcept {
  const auto prefetch = [this](const DropGroups::Group& group, std::size_t range) {
    const Iova first = groups_.ranges(group)[range].range.first;
    for (const caches::AddressSpaces::Member& member : groups_.members(group))
      spaces_.prefetch_for_drop(member, {member.space->key.folded(first.value)});
  };
  groups_.for_each_of(shard, [&](const DropGroups::Group& group, const DropGroups::Group* next) {
    const std::span<const caches::PageScope> ranges = groups_.ranges(group);
    if (next != nullptr) prefetch(*next, 0);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      if (i + ahead < ranges.size()) prefetch(group, i + ahead);
      for (const caches::AddressSpaces::Member& member : groups_.members(group)) {
        const caches::AddressSpaceKey& key = member.space->key;
        if (!names_pages(ranges[i], key)) continue;
        const IovaRange range = ranges[i].range;
        spaces_.drop_pages(member, {{key.folded(range.first.value)}, {key.folded(range.last.value)}},
                           ranges[i].keep_structures);
      }
    }
    if (options_.listener.pages != nullptr) options_.listener.pages(options_.listener.opaque, ranges);
  });
}

}  // namespace viommu::core
