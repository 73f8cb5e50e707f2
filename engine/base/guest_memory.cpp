// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/guest_memory.hpp"

#include <algorithm>
#include <bit>

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define VIOMMU_VECTOR_LOAD 1
#elif !__has_feature(thread_sanitizer)
#define VIOMMU_VECTOR_LOAD 1
#endif
#endif
#if defined(VIOMMU_VECTOR_LOAD)
#include <emmintrin.h>
#endif

namespace viommu {
namespace {

static_assert(std::endian::native == std::endian::little, "guest structures are little endian, and so must the host be");

[[nodiscard]] std::uint64_t load_word(std::byte* host) noexcept {
  return std::atomic_ref{*reinterpret_cast<std::uint64_t*>(host)}.load(std::memory_order_acquire);
}

/// Low, high, low again: the pair stood still if low did.
[[nodiscard]] Word128 load_pair(std::byte* host) noexcept {
  Word128 word{load_word(host), load_word(host + 8)};
  for (int attempt = 1; attempt < 4; ++attempt) {
    const std::uint64_t again = load_word(host);
    if (again == word.low) break;
    word = {again, load_word(host + 8)};
  }
  return word;
}

#if defined(VIOMMU_VECTOR_LOAD)
/// Aligned 16-byte vector loads are single-copy atomic on every CPU that has AVX (vendor statement).
const bool vector_load_is_atomic = __builtin_cpu_supports("avx") != 0;

[[nodiscard]] Word128 load_vector(const std::byte* host) noexcept {
  __m128i value;
  // As assembler, because the compiler may split or repeat a plain vector load.
  asm volatile("movdqa %1, %0" : "=x"(value) : "m"(*reinterpret_cast<const __m128i*>(host)) : "memory");
  return {static_cast<std::uint64_t>(_mm_cvtsi128_si64(value)),
          static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(value, value)))};
}
#endif

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
  auto* const owned = const_cast<RegionMap*>(map);
  owned->~RegionMap();
  allocator.put(owned, sizeof(RegionMap), alignof(RegionMap));
}

void RegionMap::assign_with(const RegionMap* base, const Region& region) noexcept {
  const std::span<const Region> old = base == nullptr ? std::span<const Region>{} : base->regions();
  const auto after = std::ranges::find_if(old, [&](const Region& r) { return r.range.first > region.range.first; });
  Region* out = std::copy(old.begin(), after, regions_.begin());
  *out++ = region;
  std::copy(after, old.end(), out);
  count_ = old.size() + 1;
}

void RegionMap::assign_without(const RegionMap& base, Gpa first) noexcept {
  const auto kept =
      std::ranges::copy_if(base.regions(), regions_.begin(), [&](const Region& r) { return r.range.first != first; });
  count_ = static_cast<std::size_t>(kept.out - regions_.begin());
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

std::byte* GuestMemory::find(Gpa gpa, bool to_write) const noexcept {
  const RegionMap* const map = this->map();
  const Region* const region = map == nullptr ? nullptr : map->find(gpa);
  if (region == nullptr || (to_write && region->read_only)) return nullptr;
  return region->host + (gpa.value - region->range.first.value);
}

std::optional<std::uint64_t> GuestMemory::load_u64(Gpa gpa) const noexcept {
  if (std::byte* const host = find(gpa, false); host != nullptr) return load_word(host);
  std::uint64_t value = 0;
  if (callbacks_.read == nullptr || callbacks_.read(callbacks_.opaque, gpa.value, &value, sizeof value) != 0) return {};
  return value;
}

std::optional<Word128> GuestMemory::load_u128(Gpa gpa) const noexcept {
  if (std::byte* const host = find(gpa, false); host != nullptr) {
#if defined(VIOMMU_VECTOR_LOAD)
    if (vector_load_is_atomic) return load_vector(host);
#endif
    return load_pair(host);
  }
  Word128 value;
  static_assert(sizeof value == 16);
  if (callbacks_.read == nullptr || callbacks_.read(callbacks_.opaque, gpa.value, &value, sizeof value) != 0) return {};
  return value;
}

bool GuestMemory::store_u32(Gpa gpa, std::uint32_t value) const noexcept {
  if (std::byte* const host = find(gpa, true); host != nullptr) {
    std::atomic_ref{*reinterpret_cast<std::uint32_t*>(host)}.store(value, std::memory_order_release);
    return true;
  }
  const RegionMap* const map = this->map();
  if (map != nullptr && map->find(gpa) != nullptr) return false;  // read-only
  return callbacks_.write != nullptr && callbacks_.write(callbacks_.opaque, gpa.value, &value, sizeof value) == 0;
}

Exchange GuestMemory::compare_exchange_u64(Gpa gpa, std::uint64_t& expected, std::uint64_t desired) const noexcept {
  if (std::byte* const host = find(gpa, true); host != nullptr) {
    const std::atomic_ref word{*reinterpret_cast<std::uint64_t*>(host)};
    return word.compare_exchange_strong(expected, desired, std::memory_order_acq_rel) ? Exchange::done : Exchange::lost;
  }
  const RegionMap* const map = this->map();
  if (map != nullptr && map->find(gpa) != nullptr) return Exchange::failed;  // read-only
  if (callbacks_.compare_exchange == nullptr) return Exchange::failed;
  const std::int32_t result = callbacks_.compare_exchange(callbacks_.opaque, gpa.value, &expected, desired);
  return result == 0 ? Exchange::done : result > 0 ? Exchange::lost : Exchange::failed;
}

}  // namespace viommu
