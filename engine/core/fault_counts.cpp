// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/fault_counts.hpp"

#include <algorithm>
#include <bit>

#include "engine/base/bits.hpp"

namespace viommu::core {
namespace {
constexpr std::size_t most_probes = 16;
}  // namespace

bool FaultCounts::reset(const HostAllocator& allocator, std::size_t pairs) noexcept {
  constexpr std::size_t reasons_each = 4;
  const std::size_t entries = pairs == 0 ? 0 : std::max(std::bit_ceil(pairs * reasons_each), most_probes);
  return devices_.reset(allocator, entries) && domains_.reset(allocator, entries);
}

void FaultCounts::add(FaultReason reason, SourceId source, const std::optional<DomainUse>& domain) noexcept {
  totals_[static_cast<std::size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  if (devices_.size() == 0) return;
  add(devices_, key_of(source.value, reason), 0);
  if (domain) add(domains_, key_of(domain->domain.value, reason), domain->generation);
}

std::size_t FaultCounts::place_of(const Table& table, std::uint32_t key, std::size_t probe) noexcept {
  return ((key * 0x9E3779B1U >> 8) + probe) & (table.size() - 1);
}

void FaultCounts::add(Table& table, std::uint32_t key, std::uint32_t generation) noexcept {
  for (std::size_t probe = 0; probe < most_probes; ++probe) {
    Entry& entry = table[place_of(table, key, probe)];
    std::uint32_t found = entry.key.load(std::memory_order_relaxed);
    if (found == 0 && entry.key.compare_exchange_strong(found, key, std::memory_order_relaxed)) found = key;
    if (found != key) continue;
    const std::uint64_t first = std::uint64_t{generation} << generation_at;
    std::uint64_t count = entry.count.load(std::memory_order_relaxed);
    for (;;) {  // ends: somebody else has counted each time it goes on
      const std::uint64_t next = ((count ^ first) >> generation_at == 0 ? count : first) + 1;
      if (entry.count.compare_exchange_weak(count, next, std::memory_order_relaxed)) return;
    }
  }
}

std::uint64_t FaultCounts::get(const Table& table, std::uint32_t key, std::uint32_t generation) noexcept {
  if (table.size() == 0) return 0;
  for (std::size_t probe = 0; probe < most_probes; ++probe) {
    const Entry& entry = table[place_of(table, key, probe)];
    if (entry.key.load(std::memory_order_relaxed) != key) continue;
    const std::uint64_t count = entry.count.load(std::memory_order_relaxed);
    const bool same = (count ^ std::uint64_t{generation} << generation_at) >> generation_at == 0;
    return same ? count & low_bits(generation_at) : 0;
  }
  return 0;
}

}  // namespace viommu::core
