// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/guest_memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace viommu {
namespace {

static_assert(std::endian::native == std::endian::little,
              "guest structures are little endian, and so must the host be");

}  // namespace

RegionMap* RegionMap::create(const HostAllocator& allocator, std::size_t count) noexcept {
  void* const memory = allocator.get(sizeof(RegionMap), alignof(RegionMap));
  if (memory == nullptr) return nullptr;
  auto* const map = new (memory) RegionMap;
  if (!map->regions_.reset(allocator, count)) {
    destroy(allocator, map);
    return nullptr;
  }
  return map;
}

void RegionMap::destroy(const HostAllocator& allocator, const RegionMap* map) noexcept {
  if (map == nullptr) return;
  // create() made it not const; it is const to those who look things up in it.
  auto* const owned = const_cast<RegionMap*>(map);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  owned->~RegionMap();
  allocator.put(owned, sizeof(RegionMap), alignof(RegionMap));
}

void RegionMap::assign_with(const RegionMap* base, const Region& region) noexcept {
  const std::span<const Region> old = base == nullptr ? std::span<const Region>{} : base->regions();
  const auto after = std::ranges::find_if(old, [&](const Region& r) { return r.range.first > region.range.first; });
  Region* out = std::copy(old.begin(), after, regions_.begin());
  *out = region;
  out++->origin = region.range.first;
  std::copy(after, old.end(), out);
  count_ = old.size() + 1;
  choose_spans();
}

void RegionMap::assign_without(const RegionMap& base, Gpa origin) noexcept {
  const auto kept =
      std::ranges::copy_if(base.regions(), regions_.begin(), [&](const Region& r) { return r.origin != origin; });
  count_ = static_cast<std::size_t>(kept.out - regions_.begin());
  choose_spans();
}

void RegionMap::assign_part(const RegionMap& base, GpaRange range, Part part) noexcept {
  count_ = 0;
  // A piece goes on the one before where nothing tells them apart.
  const auto put = [this](const Region& whole, Gpa first, Gpa last, Part as) {
    if (last < first) return;
    if (count_ != 0) {
      Region& before = regions_[count_ - 1];
      if (before.origin == whole.origin && before.part == as) {
        before.range.last = last;
        return;
      }
    }
    Region piece = whole;
    piece.range = {first, last};
    piece.host = whole.host_at(first);
    piece.part = as;
    regions_[count_++] = piece;
  };
  for (const Region& old : base.regions()) {
    const Gpa first = old.range.first;
    const Gpa last = old.range.last;
    if (!old.range.overlaps(range)) {
      put(old, first, last, old.part);
      continue;
    }
    const Gpa from = std::max(first, range.first);
    const Gpa to = std::min(last, range.last);
    if (first < from) put(old, first, {from.value - 1}, old.part);
    put(old, from, to, part);
    if (to < last) put(old, to + 1, last, old.part);
  }
  choose_spans();
}

void RegionMap::choose_spans() noexcept {
  constexpr MemorySpan nowhere{{~std::uint64_t{0}}, 0, nullptr};  // no page lies there
  plain_ = {nowhere, nowhere};
  for (const Region& region : regions()) {
    if (!region.accessible() || region.read_only) continue;
    const MemorySpan span{region.range.first, region.range.last.value - region.range.first.value, region.host};
    if (span.last_offset > plain_[0].last_offset)
      plain_ = {span, plain_[0]};
    else if (span.last_offset > plain_[1].last_offset)
      plain_[1] = span;
  }
  has_devices_ = std::ranges::any_of(regions(), &Region::mmio);
  span_count_ = 0;
  for (const Region& region : regions()) {
    if (!region.accessible() || region.host == nullptr) continue;
    const MemorySpan span{region.range.first, region.range.last.value - region.range.first.value, region.host};
    std::size_t place = std::min(span_count_, view_spans);  // insertion sort, the largest first; the smallest falls out
    for (; place > 0 && spans_[place - 1].last_offset < span.last_offset; --place)
      if (place < view_spans) spans_[place] = spans_[place - 1];
    if (place == view_spans) continue;
    spans_[place] = span;
    span_count_ = std::min(span_count_ + 1, view_spans);
  }
}

std::uint64_t RegionMap::Alike::mask_around(Gpa gpa) const noexcept {
  std::uint64_t mask = ~std::uint64_t{0};
  // A block with both in it begins at the highest bit that they differ in.
  const auto leave_out = [&](std::uint64_t other) {
    mask &= low_bits(static_cast<unsigned>(std::bit_width(gpa.value ^ other)) - 1);
  };
  if (range.first.value != 0) leave_out(range.first.value - 1);
  if (range.last.value != ~std::uint64_t{0}) leave_out(range.last.value + 1);
  return mask;
}

RegionMap::Alike RegionMap::alike(Gpa gpa) const noexcept {
  constexpr std::ptrdiff_t most_steps = 64;
  const std::span<const Region> all = regions();
  const auto after = std::ranges::upper_bound(all, gpa, {}, [](const Region& r) { return r.range.first; });
  const bool inside = after != all.begin() && std::prev(after)->range.contains(gpa);
  if (inside && std::prev(after)->mmio) return {std::prev(after)->range, true};
  Alike around{{{0}, {~std::uint64_t{0}}}, false};
  const auto first = all.begin() + std::max<std::ptrdiff_t>(0, after - all.begin() - most_steps);
  const auto last = all.end() - std::max<std::ptrdiff_t>(0, all.end() - after - most_steps);
  if (first != all.begin()) around.range.first = first->range.first;
  if (last != all.end()) around.range.last = {last->range.first.value - 1};
  for (auto region = after; region != first;) {
    if (!(--region)->mmio) continue;
    around.range.first = region->range.last + 1;
    break;
  }
  const auto next = std::find_if(after, last, [](const Region& region) { return region.mmio; });
  if (next != last) around.range.last = {next->range.first.value - 1};
  return around;
}

const Region* RegionMap::find(Gpa gpa) const noexcept {
  const std::span<const Region> all = regions();
  constexpr std::size_t few = 4;  // the usual machine: RAM below and above 4 GiB, a ROM or two
  if (all.size() <= few) {
    for (const Region& region : all)
      if (region.range.contains(gpa)) return &region;
    return nullptr;
  }
  const auto after = std::ranges::upper_bound(all, gpa, {}, [](const Region& r) { return r.range.first; });
  if (after == all.begin()) return nullptr;
  const Region& candidate = *(after - 1);
  return candidate.range.contains(gpa) ? &candidate : nullptr;
}

bool RegionMap::overlaps(GpaRange range) const noexcept {
  return std::ranges::any_of(regions(), [&](const Region& r) { return r.range.overlaps(range); });
}

bool RegionMap::inside_one(GpaRange range) const noexcept {
  const Region* const first = find(range.first);
  const Region* const last = find(range.last);
  // Parts of a region leave no hole between them.
  return first != nullptr && last != nullptr && first->origin == last->origin;
}

GuestMemory::Place GuestMemory::find(Gpa gpa) const noexcept {
  const RegionMap* const map = this->map();
  const Region* const region = map == nullptr ? nullptr : map->find(gpa);
  if (region == nullptr) return {};
  if (!region->accessible()) return {nullptr, true, true};
  return {region->host_at(gpa), region->read_only, false};
}

bool GuestMemory::read(const Place& place, Gpa gpa, void* data, std::size_t size_bytes) const noexcept {
  return !place.closed && callbacks_.read != nullptr &&
         callbacks_.read(callbacks_.opaque, gpa.value, data, size_bytes) == 0;
}

template <class Word>
void GuestMemory::tell_loaded(Gpa gpa, const std::optional<Word>& word) const noexcept {
  if (word && tap_.loaded != nullptr) {
    constexpr std::size_t word_bytes = 8;
    std::array<std::uint64_t, sizeof(Word) / word_bytes> words;
    std::memcpy(words.data(), &*word, sizeof(Word));
    tap_.loaded(tap_.opaque, gpa.value, words.data(), words.size());
  }
  if (!word && tap_.load_failed != nullptr) tap_.load_failed(tap_.opaque, gpa.value, sizeof(Word));
}

void GuestMemory::tell_stored(Gpa gpa, bool done, std::uint64_t value, std::size_t size_bytes) const noexcept {
  // After the store: a page that is logged before it may be copied before it.
  if (const WriteLog* const log = write_log_.load(std::memory_order_acquire); done && log != nullptr)
    log->written(log->opaque, gpa.value, size_bytes);
  if (done && tap_.stored != nullptr) tap_.stored(tap_.opaque, gpa.value, value, size_bytes);
  if (!done && tap_.store_failed != nullptr) tap_.store_failed(tap_.opaque, gpa.value, size_bytes);
}

std::optional<std::uint64_t> GuestMemory::load_u64(Gpa gpa) const noexcept {
  std::optional<std::uint64_t> word{0};
  if (const Place place = find(gpa); place.host != nullptr) {
    word = load_mapped_u64(place.host, std::memory_order_acquire);
  } else if (!read(place, gpa, &*word, sizeof *word)) {
    word.reset();
  }
  tell_loaded(gpa, word);
  return word;
}

std::byte* GuestMemory::page(Gpa gpa) const noexcept {
  const MemorySpan around = pages_around(gpa);
  return around.host == nullptr ? nullptr : around.at(gpa);
}

MemorySpan GuestMemory::pages_around(Gpa gpa) const noexcept {
  const bool tapped = tap_.loaded != nullptr || tap_.load_failed != nullptr;
  const RegionMap* const map = tapped ? nullptr : this->map();
  const Region* const region = map == nullptr ? nullptr : map->find(gpa);
  if (region == nullptr || !region->accessible() || region->host == nullptr) return {};
  return {region->range.first, region->range.last.value - region->range.first.value, region->host};
}

std::optional<Word128> GuestMemory::load_u128(Gpa gpa) const noexcept {
  static_assert(sizeof(Word128) == 16);
  std::optional<Word128> word{Word128{}};
  if (const Place place = find(gpa); place.host != nullptr) {
    word = load_mapped_u128(place.host);
  } else if (!read(place, gpa, &*word, sizeof *word)) {
    word.reset();
  }
  tell_loaded(gpa, word);
  return word;
}

bool GuestMemory::load_line(Gpa gpa, Line& line) const noexcept {
  std::byte* const host = find(gpa).host;
  if (host == nullptr) return false;
  load_mapped_line(host, line, std::memory_order_acquire);
  if (tap_.loaded != nullptr) tap_.loaded(tap_.opaque, gpa.value, line.words.data(), line.words.size());
  return true;
}

MemoryView GuestMemory::view() const noexcept {
  MemoryView view;
  view.opaque = this;
  view.any_u64 = [](const void* memory, Gpa gpa) noexcept {
    return static_cast<const GuestMemory*>(memory)->load_u64(gpa);
  };
  view.any_line = [](const void* memory, Gpa gpa, Line& line) noexcept {
    return static_cast<const GuestMemory*>(memory)->load_line(gpa, line);
  };
  view.any_exchange = [](const void* memory, Gpa gpa, std::uint64_t& expected, std::uint64_t desired) noexcept {
    return static_cast<const GuestMemory*>(memory)->compare_exchange_u64(gpa, expected, desired);
  };
  const bool tapped = tap_.loaded != nullptr || tap_.load_failed != nullptr;
  const RegionMap* const map = this->map();
  if (!tapped && map != nullptr) view.spans = map->spans();
  return view;
}

template <class Word>
bool GuestMemory::store(Gpa gpa, Word value) const noexcept {
  bool done = false;
  if (const Place place = find(gpa); place.host != nullptr) {
    if (!place.read_only) {
      std::atomic_ref{*reinterpret_cast<Word*>(place.host)}.store(value, std::memory_order_release);
      done = true;
    }
  } else if (!place.read_only) {
    done = callbacks_.write != nullptr && callbacks_.write(callbacks_.opaque, gpa.value, &value, sizeof value) == 0;
  }
  tell_stored(gpa, done, value, sizeof value);
  return done;
}

bool GuestMemory::store_u8(Gpa gpa, std::uint8_t value) const noexcept { return store(gpa, value); }
bool GuestMemory::store_u16(Gpa gpa, std::uint16_t value) const noexcept { return store(gpa, value); }
bool GuestMemory::store_u32(Gpa gpa, std::uint32_t value) const noexcept { return store(gpa, value); }
bool GuestMemory::store_u64(Gpa gpa, std::uint64_t value) const noexcept { return store(gpa, value); }

bool GuestMemory::backed(GpaRange range, bool written) const noexcept {
  const bool behind_callbacks = written ? callbacks_.write != nullptr : callbacks_.read != nullptr;
  const RegionMap* const map = this->map();
  if (map == nullptr) return behind_callbacks;
  for (const MemorySpan& plain : map->plain())
    if (plain.contains(range.first) && plain.contains(range.last) && plain.host != nullptr) return true;
  Gpa next = range.first;  // all before it is backed
  for (const Region& region : map->regions()) {
    if (!region.range.overlaps({next, range.last})) continue;
    if (!region.accessible() || (written && region.read_only)) return false;
    const bool hole = next < region.range.first;
    if ((hole || region.host == nullptr) && !behind_callbacks) return false;
    if (range.last <= region.range.last) return true;
    next = region.range.last + 1;
  }
  return behind_callbacks;
}

std::optional<std::uint64_t> GuestMemory::fetch_or_u64(Gpa gpa, std::uint64_t bits) const noexcept {
  std::optional<std::uint64_t> before;
  if (const Place place = find(gpa); place.host != nullptr) {
    if (!place.read_only) {
      before = std::atomic_ref{*reinterpret_cast<std::uint64_t*>(place.host)}.fetch_or(bits, std::memory_order_acq_rel);
      tell_loaded(gpa, before);
    }
    tell_stored(gpa, before.has_value(), before.value_or(0) | bits, sizeof bits);
    return before;
  }
  if (find(gpa).read_only) return std::nullopt;
  before = load_u64(gpa);
  constexpr unsigned most_losses = 64;
  for (unsigned losses = 0; before && losses < most_losses; ++losses) {
    switch (compare_exchange_u64(gpa, *before, *before | bits)) {
      case Exchange::done:   return before;
      case Exchange::lost:   break;
      case Exchange::failed: return std::nullopt;
    }
  }
  return std::nullopt;
}

Exchange GuestMemory::compare_exchange_u64(Gpa gpa, std::uint64_t& expected, std::uint64_t desired) const noexcept {
  Exchange outcome = Exchange::failed;
  if (const Place place = find(gpa); place.host != nullptr) {
    if (!place.read_only) {
      const std::atomic_ref word{*reinterpret_cast<std::uint64_t*>(place.host)};
      outcome =
          word.compare_exchange_strong(expected, desired, std::memory_order_acq_rel) ? Exchange::done : Exchange::lost;
    }
  } else if (!place.read_only && callbacks_.compare_exchange != nullptr) {
    const std::int32_t result = callbacks_.compare_exchange(callbacks_.opaque, gpa.value, &expected, desired);
    outcome = result == 0 ? Exchange::done : result > 0 ? Exchange::lost : Exchange::failed;
  }
  if (outcome == Exchange::lost) {
    tell_loaded(gpa, std::optional{expected});
  } else {
    tell_stored(gpa, outcome == Exchange::done, desired, sizeof desired);
  }
  return outcome;
}

}  // namespace viommu
