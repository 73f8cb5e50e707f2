// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/waist.hpp"

#include "walkers/walk.hpp"

#include <algorithm>

namespace viommu::core {
namespace {

[[nodiscard]] Outcome outcome_of(walkers::WalkEnd end) noexcept {
  switch (end) {
    case walkers::WalkEnd::leaf:           return Outcome::translated;
    case walkers::WalkEnd::absent:         return Outcome::absent;
    case walkers::WalkEnd::malformed:      return Outcome::malformed;
    case walkers::WalkEnd::top_unreadable: return Outcome::top_table_unreadable;
    case walkers::WalkEnd::unreadable:     return Outcome::table_unreadable;
  }
  return Outcome::absent;
}

[[nodiscard]] caches::PageSize size_at(unsigned level) noexcept {
  return level == 0 ? caches::PageSize::kib4 : level == 1 ? caches::PageSize::mib2 : caches::PageSize::gib1;
}

[[nodiscard]] bool output_overlaps_window(const caches::CachedPage& page) noexcept {
  const Range<std::uint64_t> output{page.frame.value, page.frame.value + caches::mask_of(page.size)};
  return output.overlaps(interrupt_window);
}

}  // namespace

Waist::Waist(const WaistOptions& options, const Host& host) noexcept
    : options_{options}, host_{host}, format_{options.rules}, memory_{host.memory(), host.memory_tap()} {}

Waist::~Waist() {
  RegionMap::destroy(host_.allocator(), memory_.publish(nullptr));
  for (std::size_t i = 0; i < retired_map_count_; ++i) RegionMap::destroy(host_.allocator(), retired_maps_[i].map);
}

bool Waist::reset() noexcept {
  const HostAllocator allocator = host_.allocator();
  const std::size_t readers = options_.readers + transient_readers;
  if (!words_.reset(allocator, readers) || !readers_.reset(allocator, readers) ||
      !holds_.reset(allocator, options_.holds))
    return false;
  for (std::size_t i = 0; i < readers; ++i) {
    readers_[i].word = &words_[i];
    readers_[i].owner = this;
  }
  const caches::AddressSpaces::Readers all{&epochs_, {words_.begin(), words_.size()}};
  return iotlb_.reset(allocator, options_.iotlb_pages, options_.hash_seed) &&
         spaces_.reset(allocator, options_.address_spaces, options_.tag_bits, all, iotlb_) &&
         contexts_.reset(allocator, options_.context_entries, all, spaces_);
}

Reader* Waist::take(std::size_t first, std::size_t count, Atomic<std::size_t>& ever) noexcept {
  for (std::size_t i = first; i < first + count; ++i) {
    Reader& reader = readers_[i];
    if (reader.in_use.load(std::memory_order_relaxed) || reader.in_use.exchange(true, std::memory_order_acquire))
      continue;
    std::size_t known = ever.load(std::memory_order_seq_cst);
    while (known < i - first + 1 && !ever.compare_exchange_weak(known, i - first + 1, std::memory_order_seq_cst)) {
      // Ends: `known` only grows, and not past `count`.
    }
    return &reader;
  }
  return nullptr;
}

bool Waist::guards_passed(std::uint64_t epoch) const noexcept {
  const caches::EpochWord* const words = words_.begin();
  return caches::Epochs::passed({words, readers_ever_.load(std::memory_order_seq_cst)}, epoch) &&
         caches::Epochs::passed({words + options_.readers, transients_ever_.load(std::memory_order_seq_cst)}, epoch);
}

std::uint64_t Waist::readers_in_use() const noexcept {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      readers_, [](const Reader& reader) { return reader.in_use.load(std::memory_order_acquire); }));
}

Waist::Walked Waist::walk(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked) const noexcept {
  const walkers::Walk walk = walkers::walk(format_, memory_, key.root, key.top_level, iova);
  reader.counters.add(Count::walks);
  reader.counters.add(Count::walk_loads, walk.loads);
  if (walk.end != walkers::WalkEnd::leaf) return {{outcome_of(walk.end), walk.rights, {}, 0}, {}};
  if (!grants(walk.rights, asked)) return {{Outcome::denied, walk.rights, {}, 0}, {}};
  const caches::CachedPage page{walk.frame, size_at(walk.level), walk.rights};
  Translation found = answer(iova, page);
  if (!output_overlaps_window(page) || !interrupt_window.contains(found.gpa.value))
    reader.counters.add(Count::answers_with_walk);
  if (!output_overlaps_window(page)) return {found, page};
  // Blocked for the addresses that come out in the window, and for those only: such a page is walked each time.
  if (interrupt_window.contains(found.gpa.value))
    return {{Outcome::output_in_interrupt_window, walk.rights, {}, 0}, {}};
  found.mask &= mask_clear_of_interrupts(found.gpa.value);
  return {found, {}};
}

Translation Waist::walk_and_fill(Reader& reader, caches::AddressSpace& space, caches::Tag tag, Iova iova,
                                 Rights asked) noexcept {
  const caches::FillGuard guard = iotlb_.sample(tag, iova);  // before the first guest load
  const Walked walked = walk(reader, space.key, iova, asked);
  // A tag that is no longer the address space's is nobody's; filling under it would only waste the place.
  if (walked.page && space.tag.load(std::memory_order_relaxed) == tag) {
    const std::uint8_t size = bit_of(walked.page->size);
    if ((space.sizes.load(std::memory_order_relaxed) & size) == 0)
      space.sizes.fetch_or(size, std::memory_order_relaxed);
    reader.counters.add(iotlb_.fill(guard, tag, iova, *walked.page) ? Count::fills : Count::fills_refused);
  }
  return walked.translation;
}

Translation Waist::translate_uncached(Reader& reader, const caches::AddressSpaceKey& key, Iova iova,
                                      Rights asked) noexcept {
  if (iova > key.last) return beyond_width(reader);
  if (key.interpretation == caches::Interpretation::pass_through) return identity(reader, iova);
  return walk(reader, key, iova, asked).translation;
}

const caches::ContextEntry* Waist::insert_context(std::uint64_t version, SourceId source,
                                                  const caches::AddressSpaceKey& key, bool fault_disable) noexcept {
  const std::unique_lock lock{caches_lock_, std::try_to_lock};
  return lock.owns_lock() ? contexts_.insert(version, source, key, fault_disable) : nullptr;
}

void Waist::drop(const caches::Scope& scope) noexcept {
  using Kind = caches::Scope::Kind;
  const std::lock_guard lock{caches_lock_};
  contexts_.drop(scope);
  const auto forget = [this](caches::AddressSpace& space) { spaces_.forget(space); };
  switch (scope.kind) {
    case Kind::everything:
    case Kind::translations: return spaces_.for_each(forget);
    case Kind::domain:       return spaces_.for_each_of(scope.domain, forget);
    case Kind::pages:
      return spaces_.for_each_of(scope.domain,
                                 [&](caches::AddressSpace& space) { spaces_.drop_pages(space, scope.range); });
    case Kind::contexts:
    case Kind::domain_contexts:
    case Kind::source_contexts: return;
  }
}

bool Waist::still_in_use(const Ticket& ticket) noexcept {
  if (!guards_passed(ticket.epoch)) return true;
  if (ticket.scopes.empty() || holds_.none_open()) return false;
  // After the guards: a hold made inside a guard is in the list before that guard ends.
  std::array<OverdueHold, 16> overdue;
  std::size_t told = 0;
  const bool delayed = holds_.delays(ticket.scopes, ticket.epoch, host_.now_ns(),
                                     host_.has_clock() ? options_.hold_report_ns : ~0ULL, overdue, &told);
  for (std::size_t i = 0; i < told; ++i) host_.hold_overdue(overdue[i].handle, overdue[i].cookie, overdue[i].age_ns);
  return delayed;
}

bool Waist::drained(const Ticket& ticket) noexcept {
  if (!still_in_use(ticket)) return true;
  // Say that somebody waits, then look once more: whoever ends in between is either seen here or sees the flag.
  waiter_.store(true, std::memory_order_seq_cst);
  return !still_in_use(ticket);
}

std::uint64_t Waist::hold(Reader& reader, const caches::Usage& usage, std::uint64_t cookie) noexcept {
  return holds_.open(usage, reader.word->entered.load(std::memory_order_relaxed), cookie, host_.now_ns());
}

bool Waist::release(std::uint64_t handle, bool revoked) noexcept {
  if (!holds_.close(handle, revoked)) return false;
  wake_waiter();
  return true;
}

RegionResult Waist::add_region(const Region& region) noexcept {
  RegionMap* next = nullptr;
  for (;
       ;) {  // ends: another round only when another thread has added a region meanwhile, at most options.regions times
    next = spare_map(1);
    if (next == nullptr) return RegionResult::no_memory;
    RegionResult result = RegionResult::ok;
    bool too_small = false;
    {
      const std::lock_guard lock{regions_lock_};
      const RegionMap* const map = memory_.map();
      const std::size_t count = map == nullptr ? 0 : map->regions().size();
      too_small = next->capacity() < count + 1;
      if (map != nullptr && map->overlaps(region.range)) {
        result = RegionResult::exists;
      } else if (count >= options_.regions || retired_map_count_ == most_retired_maps) {
        result = RegionResult::limit;
      } else if (!too_small) {
        next->assign_with(map, region);
        put_in_force(next, {});
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
      if (region == nullptr || region->range.first != first) {
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

void Waist::put_in_force(const RegionMap* next, std::optional<std::uint64_t> cookie) noexcept {
  region_count_.store(next->regions().size(), std::memory_order_relaxed);
  RetiredMap& retired = retired_maps_[retired_map_count_++];
  retired.map = memory_.publish(next);
  caches::ScopeSet scopes;
  if (cookie) {
    drop({});
    scopes.add({});
  }
  retired.ticket = ticket(scopes);
  retired.cookie = cookie.value_or(0);
  retired.tell = cookie.has_value();
  maps_retired_.store(true, std::memory_order_seq_cst);
}

bool Waist::reclaim_regions() noexcept {
  if (!maps_retired_.load(std::memory_order_seq_cst)) return true;
  for (std::size_t round = 0; round < most_retired_maps; ++round) {
    RetiredMap oldest;
    {
      const std::lock_guard lock{regions_lock_};
      if (retired_map_count_ == 0) return true;
      oldest = retired_maps_[0];
    }
    if (!drained(oldest.ticket)) return false;
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

std::uint64_t Waist::count(Count which) const noexcept {
  std::uint64_t total = 0;
  for (const Reader& reader : readers_) total += reader.counters.get(which);
  return total;
}

Waist::CacheFigures Waist::cache_figures() noexcept {
  const std::lock_guard lock{caches_lock_};
  return {spaces_.in_use(), spaces_.sweeps(), iotlb_.bytes() + spaces_.bytes() + contexts_.bytes()};
}

}  // namespace viommu::core
