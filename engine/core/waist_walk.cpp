// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Misses: sample what a fill will be checked against, walk, judge, fill.
#include <algorithm>

#include "engine/base/scratch.hpp"
#include "engine/base/tracepoint.hpp"
#include "engine/core/stage_walk.hpp"
#include "engine/core/waist.hpp"
#include "walkers/walk_one.hpp"

namespace viommu::core {
namespace {

using caches::PageSize;

/// Memory in which every address holds the one word that was loaded already, or nothing.
[[nodiscard]] MemoryView only(const std::optional<std::uint64_t>& word) noexcept {
  MemoryView view;
  view.opaque = &word;
  view.any_u64 = [](const void* given, Gpa) noexcept {
    return *static_cast<const std::optional<std::uint64_t>*>(given);
  };
  view.any_line = [](const void*, Gpa, Line&) noexcept { return false; };
  return view;
}

[[nodiscard]] bool more_than_one(unsigned pages) noexcept { return (pages & (pages - 1)) != 0; }

}  // namespace

Waist::Hit Waist::look_up_more(Reader& reader, const caches::AddressSpace& space, Iova iova, RightBits asked) noexcept {
  // Pages in the window are never filled, but a large one may lie around it.
  if (interrupt_window.contains(iova.value)) return {};
  const caches::Place place = space.place();
  const Pair entry = iotlb_.find_any(place, iova, space.sizes.load(std::memory_order_relaxed));
  if ((asked & ~entry.second) != 0 || (entry.second & all_right_bits) == 0) return {};
  const std::uint64_t mask = caches::Iotlb::mask_of(entry);
  if (count_charged_hit(reader)) remember(reader, place, iova, mask);
  const std::uint64_t clear = mask == low_bits(page_shift) ? mask : mask & mask_clear_of_interrupts(iova.value);
  return {caches::Iotlb::gpa_in(entry, iova), clear, entry.second & answer_bits};
}

void Waist::begin_at_root(const caches::AddressSpace& space, Iova iova, walkers::WalkRequest& request) noexcept {
  // Field by field, here and below: a struct that is written in parts and copied as a whole stalls.
  request.table = space.key.root;
  request.iova = iova;
  request.level = space.key.top_level;
  request.rights = read_write;
  request.is_root = true;
}

void Waist::start_walk(const caches::AddressSpace& space, Iova iova, WalkFrom from, Start& start) const noexcept {
  // All samples are taken here, before the first guest load.
  start.place = space.place();
  start.fillable = space.fillable.load(std::memory_order_acquire);
  start.reachable = space.reachable.load(std::memory_order_acquire);
  iotlb_.sample(start.place, iova, start.fillable, start.pages);
  begin_at_root(space, iova, start.request);
  const caches::Place tables{start.place.tag(), 0};
  structures_.sample(tables, iova, start.reachable, start.tables);  // also before a cached table is looked up
  const caches::Sizes known = space.tables.load(std::memory_order_relaxed);
  if (from == WalkFrom::cached_table && known != 0) {
    // The table that maps least, and so is nearest to the leaf, comes first.
    for (const PageSize size : {PageSize::mib2, PageSize::gib1}) {
      const Pair entry = structures_.find_large(tables, iova, size, known);
      if (entry.first == 0) continue;
      start.request.table = caches::Iotlb::frame_in(entry);
      start.request.level = size == PageSize::mib2 ? 0 : 1;
      start.request.rights = Rights::in(entry.second);
      start.request.is_root = false;
      if (size == PageSize::mib2) {
        start.tables.refuse();  // nothing nearer to the leaf is cached
        return;
      }
      break;
    }
  }
}

void Waist::fill_page(Reader& reader, caches::AddressSpace& space, const Start& start, Iova iova,
                      caches::CachedPage page) noexcept {
  const RegionMap* const map = memory_.map();
  if (map != nullptr && map->has_devices()) [[unlikely]]
    if (!mark_device(*map, iova, page)) return;
  if (!announce(space.sizes, space.fillable, start.fillable, page.size)) return;
  const bool filled = iotlb_.fill(start.pages, start.place, iova, page, &reader.recent);
  reader.counters.add(filled ? Count::fills : Count::fills_refused);
}

void Waist::fill_table(caches::AddressSpace& space, const Start& start, Iova iova,
                       const walkers::WalkAnswer& walk) noexcept {
  // A walk that began there has nothing new to say, and no table is cached that maps more than 1 GiB.
  if (walk.level > 1 || (walk.level == start.request.level && !start.request.is_root)) return;
  const PageSize size = walk.level == 0 ? PageSize::mib2 : PageSize::gib1;
  if (!announce(space.tables, space.reachable, start.reachable, size)) return;
  structures_.fill(start.tables, {start.place.tag(), 0}, iova, {walk.table, size, walk.table_rights}, nullptr);
}

walkers::WalkAnswer Waist::check_path(const caches::AddressSpace& space, Start& start,
                                      const walkers::WalkAnswer& walk) const noexcept {
  using Format = walkers::SecondStage;
  const walkers::WalkRequest cached = start.request;
  start.request = {space.key.root, cached.iova, space.key.top_level, read_write, true};
  walkers::WalkRequest at = start.request;
  unsigned loads = walk.loads;
  std::optional<walkers::WalkAnswer> other;
  for (; at.level > cached.level && !other; --at.level) {  // at most second_stage_levels - 1
    const std::optional<std::uint64_t> entry = memory_.view().load_u64(Format::slot(at.table, at.iova, at.level));
    if (entry && format_.classify(*entry, at.level) == walkers::EntryKind::table) {
      at.table = Format::next_table(*entry);
      at.rights = at.rights & Format::rights(*entry);
      at.is_root = false;
      ++loads;
    } else {
      other = walkers::walk_one(format_, only(entry), walkers::Fill::exact, at);
    }
  }
  const bool same = !other && at.table == cached.table && at.rights == cached.rights;
  if (same) {
    loads -= walk.loads;
    other = walk;
  }
  if (!other) other = walkers::walk_one(format_, memory_.view(), walk_fill(), at);
  other->loads = static_cast<std::uint8_t>(other->loads + loads);
  return *other;
}

void Waist::finish_walk(Reader& reader, caches::AddressSpace& space, Start& start, Rights asked,
                        const walkers::WalkAnswer& walk, Translation& found) noexcept {
  const bool answered = walk.end == walkers::WalkEnd::leaf && grants(walk.rights, asked);
  if (!answered && !start.request.is_root) [[unlikely]]
    return conclude(reader, space, start, asked, check_path(space, start, walk), found);
  conclude(reader, space, start, asked, walk, found);
}

inline bool Waist::answer_walk(Iova iova, Rights asked, const walkers::WalkAnswer& walk,
                               Translation& found) const noexcept {
  bool cacheable = false;
  if (walk.end != walkers::WalkEnd::leaf) [[unlikely]] {
    found.set(outcome_of(walk.end), walk.rights);
  } else if (!grants(walk.rights, asked)) [[unlikely]] {
    found.set(Outcome::denied, walk.rights);
  } else {
    cacheable = judge(iova, walk.frame, size_at(walk.level), walk.rights, found);
    mark_device(found);
  }
  tracepoint::walk_end(iova.value, static_cast<std::uint32_t>(found.outcome), found.gpa.value, walk.loads);
  return cacheable;
}

void Waist::conclude(Reader& reader, caches::AddressSpace& space, const Start& start, Rights asked,
                     const walkers::WalkAnswer& walk, Translation& found) noexcept {
  const Iova iova = start.request.iova;
  const bool cacheable = answer_walk(iova, asked, walk, found);
  count_walk(reader, walk, found);
  if (!cacheable) return;
  // A tag that is no longer the address space's is nobody's; filling under it would only waste the place.
  if (options_.uncached || space.tag() != start.place.tag()) return;
  // Only a request with a PASID asks there. What it is answered must not be a hit for one without.
  if (interrupt_window.contains(iova.value)) [[unlikely]]
    return;
  caches::CachedPage page;
  const PageSize size = size_at(walk.level);
  page.frame = walk.frame;
  page.size = size == PageSize::kib4 && more_than_one(walk.run) ? PageSize::kib32 : size;
  page.pages = page.size == PageSize::kib32 ? walk.run : std::uint8_t{0};
  page.rights = walk.rights;
  fill_page(reader, space, start, iova, page);
  fill_table(space, start, iova, walk);
}

void Waist::walk_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked, WalkFrom from,
                          Translation& found) noexcept {
  if (!space.key.plain_tables()) [[unlikely]]
    return walk_stages_and_fill(reader, space, iova, asked, found);
  tracepoint::translate_miss(space.key.domain.value, iova.value, asked.bits());
  const MemoryView view = memory_.view();
  walkers::WalkAnswer walk;
  if (options_.uncached) {
    walkers::WalkRequest request;
    begin_at_root(space, iova, request);
    kernels_->walk_one(view, masks_, walkers::Fill::exact, request, walk);
    static_cast<void>(answer_walk(iova, asked, walk, found));
    return count_walk(reader, walk, found);
  }
  Start start;
  start_walk(space, iova, from, start);
  const std::uint64_t block = iova.value >> caches::block_shift;
  const bool sequential = options_.fill == FillMode::all && reader.last_place.tag() == start.place.tag() &&
                          reader.next_block == block && from == WalkFrom::cached_table;
  reader.last_place = start.place;
  reader.next_block = block + 1;
  if (sequential) [[unlikely]]
    return walk_with_next(reader, space, start, asked, view, found);
  kernels_->walk_one(view, masks_, walk_fill(), start.request, walk);
  finish_walk(reader, space, start, asked, walk, found);
}

/// A miss of a sequential stream: the next line of the same leaf table comes along.
void Waist::walk_with_next(Reader& reader, caches::AddressSpace& space, Start& start, Rights asked,
                           const MemoryView& view, Translation& found) noexcept {
  const Iova next{(reader.next_block) << caches::block_shift};
  const bool ahead = next < space.paged && !interrupt_window.contains(next.value);
  Start after;
  if (ahead) start_walk(space, next, WalkFrom::cached_table, after);  // its samples, before the first load
  walkers::WalkAnswer walk;
  kernels_->walk_one(view, masks_, walk_fill(), start.request, walk);
  const bool by_this_walk = walk.end == walkers::WalkEnd::leaf && grants(walk.rights, asked);  // not check_path()'s
  // The samples for the next block came after the first table was looked up, which may be older than they are.
  const bool current = start.request.is_root || (after.request.level == 0 && after.request.table == walk.table);
  finish_walk(reader, space, start, asked, walk, found);
  if (ahead && current && found.outcome == Outcome::translated && by_this_walk && walk.level == 0)
    walk_ahead(reader, space, after, next, walk);
}

/// The next line of the same leaf table, for a stream that will ask for it.
void Waist::walk_ahead(Reader& reader, caches::AddressSpace& space, const Start& start, Iova next,
                       const walkers::WalkAnswer& walk) noexcept {
  constexpr std::uint64_t table_mask = caches::mask_of(PageSize::mib2);
  if ((next.value & table_mask) == 0) return;  // another table maps it
  const walkers::WalkAnswer line =
      walkers::walk_one(format_, memory_.view(), walkers::Fill::line, {walk.table, next, 0, walk.table_rights, false});
  reader.counters.add(Count::walk_loads, line.loads);
  reader.next_block = (next.value >> caches::block_shift) + 1;
  if (line.end != walkers::WalkEnd::leaf || line.rights.none() || overlaps_window(line.frame, low_bits(page_shift)))
    return;
  const caches::CachedPage page = more_than_one(line.run)
                                      ? caches::CachedPage{line.frame, PageSize::kib32, line.rights, line.run}
                                      : caches::CachedPage{line.frame, PageSize::kib4, line.rights};
  fill_page(reader, space, start, next, page);
}

void Waist::walk_and_fill(Reader& reader, std::span<Miss> misses) noexcept {
  if (options_.uncached) return walk_all(reader, misses);
  Scratch<Start, batch_width> starts;
  Scratch<walkers::WalkRequest, batch_width> requests;
  Scratch<walkers::WalkAnswer, batch_width> walks;
  MissNumbers numbers;  // of the misses that walk together
  MissNumbers staged;   // of those whose walks set flags, or are none
  std::size_t count = 0;
  std::size_t staged_count = 0;
  for (std::size_t i = 0; i < misses.size(); ++i) {
    if (!misses[i].space().key.plain_tables()) [[unlikely]] {
      staged.put(staged_count++, static_cast<std::uint8_t>(i));
      continue;
    }
    tracepoint::translate_miss(misses[i].space().key.domain.value, misses[i].iova.value, misses[i].asked.bits());
    numbers.put(count, static_cast<std::uint8_t>(i));
    Start& start = starts.emplace(count);
    start_walk(misses[i].space(), misses[i].iova, WalkFrom::cached_table, start);
    walkers::WalkRequest& request = requests.emplace(count++);
    request.table = start.request.table;
    request.iova = start.request.iova;
    request.level = start.request.level;
    request.rights = start.request.rights;
    request.is_root = start.request.is_root;
  }
  if (staged_count != 0) [[unlikely]]
    walk_stages_and_fill(reader, misses, staged, staged_count);
  if (count == 0) return;
  kernels_->walk(memory_.view(), masks_, walk_fill(), requests.data(), walks.data(), count);
  for (std::size_t i = 0; i < count; ++i) {
    Miss& miss = misses[numbers[i]];
    reader.account = miss.account;
    finish_walk(reader, miss.space(), starts[i], miss.asked, walks[i], miss.found);
  }
}

/// The same where nothing is cached.
void Waist::walk_all(Reader& reader, std::span<Miss> misses) noexcept {
  Scratch<walkers::WalkRequest, batch_width> requests;
  Scratch<walkers::WalkAnswer, batch_width> walks;
  MissNumbers numbers;
  MissNumbers staged;
  std::size_t count = 0;
  std::size_t staged_count = 0;
  for (std::size_t i = 0; i < misses.size(); ++i) {
    if (!misses[i].space().key.plain_tables()) [[unlikely]] {
      staged.put(staged_count++, static_cast<std::uint8_t>(i));
      continue;
    }
    tracepoint::translate_miss(misses[i].space().key.domain.value, misses[i].iova.value, misses[i].asked.bits());
    numbers.put(count, static_cast<std::uint8_t>(i));
    begin_at_root(misses[i].space(), misses[i].iova, requests.emplace(count++));
  }
  if (staged_count != 0) [[unlikely]]
    walk_stages_and_fill(reader, misses, staged, staged_count);
  if (count == 0) return;
  kernels_->walk(memory_.view(), masks_, walkers::Fill::exact, requests.data(), walks.data(), count);
  for (std::size_t i = 0; i < count; ++i) {
    Miss& miss = misses[numbers[i]];
    reader.account = miss.account;
    static_cast<void>(answer_walk(miss.iova, miss.asked, walks[i], miss.found));
    count_walk(reader, walks[i], miss.found);
  }
}

Translation Waist::translate_uncached(Reader& reader, const caches::AddressSpaceKey& key, Iova iova,
                                      Rights asked) noexcept {
  Translation found;
  tracepoint::translate_miss(key.domain.value, iova.value, asked.bits());
  if (iova > key.last && !key.is_upper(iova)) {
    beyond_width(reader, key, found);
  } else if (key.interpretation == caches::Interpretation::pass_through) {
    identity(reader, iova, found);
  } else if (!key.plain_tables()) {
    caches::CachedPage page;
    static_cast<void>(walk_stages(reader, key, iova, asked, found, page));
  } else {
    const walkers::WalkAnswer walk = walkers::walk_one(format_, memory_.view(), walkers::Fill::exact,
                                                       {key.root, iova, key.top_level, read_write, true});
    static_cast<void>(answer_walk(iova, asked, walk, found));
    count_walk(reader, walk, found);
  }
  return found;
}

}  // namespace viommu::core
