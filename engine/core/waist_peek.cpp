// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the caches hold, for who only wants to see it.
#include <array>
#include <mutex>
#include <tuple>

#include "engine/core/waist.hpp"

namespace viommu::core {

std::optional<caches::CachedTranslation> Waist::peek(const caches::AddressSpace& space, Iova iova) const noexcept {
  if (iova >= space.paged && !space.key.is_upper(iova)) return {};
  std::optional found =
      iotlb_.lookup(space.place(), {space.key.folded(iova.value)}, space.sizes.load(std::memory_order_relaxed));
  if (!found || found->rights.none() || interrupt_window.contains(iova.value)) return {};
  if (found->mask != low_bits(page_shift)) found->mask &= mask_clear_of_interrupts(iova.value);
  return found;
}

std::optional<CachedTable> Waist::peek_table(const caches::AddressSpace& space, Iova iova) const noexcept {
  const caches::Sizes known = space.tables.load(std::memory_order_relaxed);
  if (iova >= space.paged || known == 0) return {};
  for (const caches::PageSize size : {caches::PageSize::mib2, caches::PageSize::gib1}) {
    const Pair entry = structures_.find_large({space.place().tag(), 0}, iova, size, known);
    if (entry.first == 0) continue;
    const std::uint8_t level = size == caches::PageSize::mib2 ? 0 : 1;
    return CachedTable{caches::Iotlb::frame_in(entry), level, Rights::in(entry.second)};
  }
  return {};
}

Waist::ReaderSeen Waist::peek_reader(std::size_t slot) const noexcept {
  const std::uint64_t turn = words_[slot].turn.load(std::memory_order_relaxed);
  return {slot >= options_.readers, readers_[slot].in_use.load(std::memory_order_relaxed), turn % 2 != 0, turn / 2};
}

Waist::ScanSeen Waist::peek_scan() const noexcept {
  ScanSeen seen;
  seen.target = epochs_.scan_target();
  seen.under_way = seen.target != 0;
  for (std::size_t slot = 0; seen.under_way && slot < readers_.size(); ++slot) {
    const bool transient = slot >= options_.readers;
    if (!epochs_.scan_waits_for(transient ? 1 : 0, transient ? slot - options_.readers : slot)) continue;
    seen.truncated = seen.count == seen.slots.size();
    if (seen.truncated) break;
    seen.slots[seen.count++] = static_cast<std::uint16_t>(slot);
  }
  return seen;
}

void Waist::peek_removed_regions(RegionsSeen& seen) noexcept {
  static_assert(std::tuple_size_v<decltype(seen.removed)> == most_retired_maps);
  const std::lock_guard lock{regions_lock_};
  for (std::size_t i = 0; i < retired_map_count_; ++i) {
    const RetiredMap& retired = retired_maps_[i];
    if (retired.tell) seen.removed[seen.count++] = {retired.ticket.epoch, retired.cookie};
  }
}

}  // namespace viommu::core
