// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory in pieces: mapped regions with nothing accessible behind them, and words behind callbacks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>

#include "engine/base/guest_memory.hpp"
#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {

class Patchwork {
 public:
  Patchwork() : memory_{callbacks()} {}
  Patchwork(const Patchwork&) = delete;
  Patchwork& operator=(const Patchwork&) = delete;
  ~Patchwork() { RegionMap::destroy({}, memory_.publish(nullptr)); }

  [[nodiscard]] const GuestMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] std::optional<std::uint64_t> word(std::uint64_t gpa) const { return memory_.load_u64({gpa}); }
  /// Whether a whole line is read there.
  [[nodiscard]] bool is_mapped(std::uint64_t gpa) const {
    return std::ranges::any_of(regions_, [&](const GuardedRegion& region) { return region.load_u64(gpa).has_value(); });
  }

  void add_region(std::uint64_t gpa, std::size_t length, bool read_only) {
    GuardedRegion& ram = regions_.emplace_back(gpa, length);
    const RegionMap* const old = memory_.map();
    RegionMap* const next = RegionMap::create({}, (old == nullptr ? 0 : old->regions().size()) + 1);
    next->assign_with(old, {{{gpa}, {gpa + length - 1}}, ram.data(), read_only});
    RegionMap::destroy({}, memory_.publish(next));
  }
  void add_behind_callbacks(std::uint64_t gpa, std::uint64_t length) { behind_.add_ram(gpa, length); }

  void store(std::uint64_t gpa, std::uint64_t value) {
    for (GuardedRegion& region : regions_)
      if (region.store_u64(gpa, value)) return;
    static_cast<void>(behind_.store_u64(gpa, value));
  }

 private:
  MemoryCallbacks callbacks() {
    MemoryCallbacks functions;
    functions.opaque = &behind_;
    functions.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      if (size != 8 || gpa % 8 != 0) return -1;
      const std::optional<std::uint64_t> word = static_cast<SparseMemory*>(self)->load_u64(gpa);
      if (!word) return -1;
      std::memcpy(data, &*word, size);
      return 0;
    };
    functions.compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected, std::uint64_t desired) {
      auto& words = *static_cast<SparseMemory*>(self);
      const std::optional<std::uint64_t> found = words.load_u64(gpa);
      if (!found) return -1;
      if (*found == *expected) return words.store_u64(gpa, desired) ? 0 : -1;
      *expected = *found;
      return 1;
    };
    return functions;
  }

  SparseMemory behind_;
  std::deque<GuardedRegion> regions_;
  GuestMemory memory_;
};

/// What an oracle reads and writes through.
inline oracle::ReadWord reader_of(const Patchwork& patchwork) {
  return [&patchwork](std::uint64_t gpa) { return patchwork.word(gpa); };
}
inline oracle::CompareExchange exchanger_of(const Patchwork& patchwork) {
  return [&patchwork](std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
    const Exchange outcome = patchwork.memory().compare_exchange_u64({gpa}, expected, desired);
    return outcome == Exchange::done ? 0 : outcome == Exchange::lost ? 1 : -1;
  };
}

}  // namespace viommu::test
