// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How many requests were blocked, by reason: of all, of a device, of a domain.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

namespace viommu::core {

/// A domain id in one of its uses (caches::Accounts::generation).
struct DomainUse {
  DomainId domain;
  std::uint32_t generation = 0;
};

/// The counts by device and domain lie in tables of a size fixed at creation; what finds no place there is counted for
/// all only. Threads: any, without a lock.
class FaultCounts {
 public:
  /// @param pairs  of device and domain that are counted apart; 0: none, and no table
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t pairs) noexcept;

  void add(FaultReason reason, SourceId source, const std::optional<DomainUse>& domain) noexcept;

  [[nodiscard]] std::uint64_t of(FaultReason reason) const noexcept {
    return totals_[static_cast<std::size_t>(reason)].load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t of(SourceId source, FaultReason reason) const noexcept {
    return get(devices_, key_of(source.value, reason), 0);
  }
  [[nodiscard]] std::uint64_t of(const DomainUse& domain, FaultReason reason) const noexcept {
    return get(domains_, key_of(domain.domain.value, reason), domain.generation);
  }

 private:
  /// The count is of one generation, whose low bits stand above it.
  struct Entry {
    Atomic<std::uint32_t> key{0};  ///< 0: free
    Atomic<std::uint64_t> count{0};
  };
  using Table = HostArray<Entry>;
  static constexpr unsigned generation_at = 48;

  [[nodiscard]] static constexpr std::uint32_t key_of(std::uint16_t id, FaultReason reason) noexcept {
    return std::uint32_t{1} << 31 | std::uint32_t{id} << 8 | static_cast<std::uint32_t>(reason);
  }
  static void add(Table& table, std::uint32_t key, std::uint32_t generation) noexcept;
  [[nodiscard]] static std::uint64_t get(const Table& table, std::uint32_t key, std::uint32_t generation) noexcept;
  [[nodiscard]] static std::size_t place_of(const Table& table, std::uint32_t key, std::size_t probe) noexcept;

  std::array<Atomic<std::uint64_t>, 256> totals_{};
  Table devices_;
  Table domains_;
};

}  // namespace viommu::core
