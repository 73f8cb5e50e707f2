// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory that comes and goes: an immutable map is replaced by another, and freed when nobody can be reading it.
#include "engine/core/waist.hpp"

#include <algorithm>

namespace viommu::core {

RegionResult Waist::add_region(const Region& region) noexcept {
  RegionMap* next = nullptr;
  for (;
       ;) {  // ends: another round only when another thread has added a region meanwhile, at most options.regions times
    next = spare_map(1);
    if (next == nullptr) return RegionResult::no_memory;
    RegionResult result = RegionResult::ok;
    bool too_small = false;
    bool untracked = false;
    {
      const std::lock_guard lock{regions_lock_};
      const RegionMap* const map = memory_.map();
      const std::size_t count = map == nullptr ? 0 : map->regions().size();
      too_small = next->capacity() < count + 1;
      if (map != nullptr && map->overlaps(region.range)) {
        result = RegionResult::exists;
      } else if (count >= options_.regions || retired_map_count_ == most_retired_maps) {
        result = RegionResult::limit;
      } else if (dirty_.wanted() && !dirty_.covers(region.range)) {
        untracked = true;  // there is to be room for its bits before it can be written to
      } else if (!too_small) {
        next->assign_with(map, region);
        put_in_force(next, {});
        return RegionResult::ok;
      }
    }
    RegionMap::destroy(host_.allocator(), next);
    if (result != RegionResult::ok) return result;
    if (untracked && !dirty_.cover(host_.allocator(), region.range)) return RegionResult::no_memory;
  }
}

RegionResult Waist::set_part(GpaRange range, Part part, std::uint64_t cookie) noexcept {
  for (;;) {  // ends: as in add_region()
    RegionMap* const next = spare_map(2);
    if (next == nullptr) return RegionResult::no_memory;
    RegionResult result = RegionResult::ok;
    {
      const std::lock_guard lock{regions_lock_};
      const RegionMap* const map = memory_.map();
      if (map == nullptr || !map->inside_one(range)) {
        result = RegionResult::not_found;
      } else if (map->regions().size() + 2 > options_.regions || retired_map_count_ == most_retired_maps) {
        result = RegionResult::limit;
      } else if (next->capacity() >= map->regions().size() + 2) {
        next->assign_part(*map, range, part);
        put_in_force(next, cookie);
        return RegionResult::ok;
      }
    }
    RegionMap::destroy(host_.allocator(), next);
    if (result != RegionResult::ok) return result;
  }
}

RegionResult Waist::remove_region(Gpa first, std::uint64_t cookie) noexcept {
  for (;;) {  // ends: as in add_region()
    RegionMap* const next = spare_map(0);
    if (next == nullptr) return RegionResult::no_memory;
    RegionResult result = RegionResult::ok;
    {
      const std::lock_guard lock{regions_lock_};
      const RegionMap* const map = memory_.map();
      const Region* const region = map == nullptr ? nullptr : map->find(first);
      if (region == nullptr || region->range.first != first || region->origin != first) {
        result = RegionResult::not_found;
      } else if (retired_map_count_ == most_retired_maps) {
        result = RegionResult::limit;
      } else if (next->capacity() + 1 >= map->regions().size()) {
        next->assign_without(*map, first);
        put_in_force(next, cookie);
        return RegionResult::ok;
      }
    }
    RegionMap::destroy(host_.allocator(), next);
    if (result != RegionResult::ok) return result;
  }
}

RegionMap* Waist::spare_map(std::size_t extra) noexcept {
  return RegionMap::create(host_.allocator(), region_count_.load(std::memory_order_relaxed) + extra);
}

void Waist::want_dirty(bool wanted) noexcept {
  const std::lock_guard lock{regions_lock_};
  dirty_.want(wanted);
}

bool Waist::cover_regions() noexcept {
  const RegionMap* const map = memory_.map();
  return map == nullptr || std::ranges::all_of(map->regions(), [this](const Region& region) {
           return dirty_.cover(host_.allocator(), region.range);
         });
}

void Waist::put_in_force(const RegionMap* next, std::optional<std::uint64_t> cookie) noexcept {
  region_count_.store(next->regions().size(), std::memory_order_relaxed);
  RetiredMap& retired = retired_maps_[retired_map_count_++];
  retired.version = regions_version_.load(std::memory_order_relaxed) + 1;
  retired.map = memory_.publish(next);
  caches::ScopeSet scopes;
  // A device's memory that comes is not marked in what is cached of its addresses.
  if (cookie || next->has_devices()) drop_from_caches(caches::Scope{});  // a listener is not told: a lock is held
  if (cookie) scopes.add({});
  retired.ticket = ticket(scopes);
  retired.cookie = cookie.value_or(0);
  retired.tell = cookie.has_value();
  maps_retired_.store(true, std::memory_order_seq_cst);
  regions_version_.store(retired.version, std::memory_order_release);
}

void Waist::mark_device(const RegionMap& map, Translation& found) noexcept {
  const RegionMap::Alike around = map.alike(found.gpa);
  found.mmio = around.of_device;
  found.mask &= around.mask_around(found.gpa);
}

bool Waist::mark_device(const RegionMap& map, Iova iova, caches::CachedPage& page) noexcept {
  const std::uint64_t mask = caches::mask_of(page.size);
  const bool is_block = page.size == caches::PageSize::kib32;
  const Gpa first{page.frame.value - (is_block ? iova.value & mask & ~low_bits(page_shift) : 0)};
  const RegionMap::Alike around = map.alike(page.frame);
  page.mmio = around.of_device;
  if (around.range.contains(first) && around.range.contains(first + mask)) return true;
  if (!is_block) return page.size == caches::PageSize::kib4;
  page.size = caches::PageSize::kib4;
  page.pages = 0;
  return true;
}

bool Waist::reclaim_regions(std::uint64_t told_version) noexcept {
  if (!maps_retired_.load(std::memory_order_seq_cst)) return true;
  for (std::size_t round = 0; round < most_retired_maps; ++round) {
    RetiredMap oldest;
    {
      const std::lock_guard lock{regions_lock_};
      if (retired_map_count_ == 0) return true;
      oldest = retired_maps_[0];
    }
    if (oldest.version > told_version || !drained(oldest.ticket)) return false;
    {
      const std::lock_guard lock{regions_lock_};
      std::move(retired_maps_.begin() + 1, retired_maps_.begin() + static_cast<std::ptrdiff_t>(retired_map_count_),
                retired_maps_.begin());
      --retired_map_count_;
      maps_retired_.store(retired_map_count_ != 0, std::memory_order_seq_cst);
    }
    RegionMap::destroy(host_.allocator(), oldest.map);
    if (oldest.tell) host_.region_gone(oldest.cookie);
  }
  return true;
}

}  // namespace viommu::core
