// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// DMA that outlives its call: open holds, and which of them a ticket has to wait for.
#pragma once

#include "caches/scope.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

namespace viommu::core {

/// A hold that has kept a completion back for too long.
struct OverdueHold {
  std::uint64_t handle = 0;
  std::uint64_t cookie = 0;
  std::uint64_t age_ns = 0;
};

/// An open hold, for who wants to see them all.
struct OpenHold {
  std::uint64_t handle = 0;
  std::uint64_t cookie = 0;
  std::uint64_t since_ns = 0;
  std::uint64_t epoch = 0;  ///< later tickets wait for it, where it concerns them
  caches::Usage usage{};
  bool reported = false;
};

/// A bounded pool; the open ones form a list, so that a ticket looks only at those. Threads: any; the lock is held for
/// a walk along that list and across no callback.
class Holds {
 public:
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count) noexcept;

  /// @param epoch    the latest ticket given out before the translation was made; later ones wait for this hold
  /// @param written  what the DMA may write
  /// @return the handle, 0 when all are open
  [[nodiscard]] std::uint64_t open(const caches::Usage& usage, std::uint64_t epoch, std::uint64_t cookie,
                                   std::uint64_t now_ns,
                                   const std::optional<GpaRange>& written = std::nullopt) noexcept;
  /// What an open one may write; nothing when it is for reading, or is not open.
  [[nodiscard]] std::optional<GpaRange> written_by(std::uint64_t handle) const noexcept;
  /// The cookie of an open one for writing, and of an open one that delays() a ticket.
  [[nodiscard]] std::optional<std::uint64_t> writer() const noexcept;
  [[nodiscard]] std::optional<std::uint64_t> delayer(const caches::ScopeSet& scopes,
                                                     std::uint64_t epoch) const noexcept;
  /// @return false when the handle is not open.
  [[nodiscard]] bool close(std::uint64_t handle, bool revoked) noexcept;

  /// Whether a hold older than `epoch` concerns one of the scopes. Those that do and are older than `limit_ns` and were
  /// not yet told about are put into `overdue`, as many as fit; `*told` says how many.
  [[nodiscard]] bool delays(const caches::ScopeSet& scopes, std::uint64_t epoch, std::uint64_t now_ns,
                            std::uint64_t limit_ns, std::span<OverdueHold> overdue, std::size_t* told) noexcept;

  /// The open ones in the order of their slots, some at a time. @param slot  0 at first; where to go on, then
  /// @return how many; fewer than fit when there are no more
  [[nodiscard]] std::size_t copy_open(std::size_t& slot, std::span<OpenHold> holds) const noexcept;

  /// A hold made inside a guard counts before that guard ends, so after the guards have passed this misses none of
  /// them.
  [[nodiscard]] bool none_open() const noexcept { return open_count_.load(std::memory_order_seq_cst) == 0; }
  [[nodiscard]] std::uint64_t open_count() const noexcept { return open_count_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t overdue_count() const noexcept;
  [[nodiscard]] std::uint64_t revoked_count() const noexcept;

 private:
  static constexpr std::uint32_t nobody = ~std::uint32_t{0};
  struct Slot {
    caches::Usage usage{};
    std::uint64_t epoch = 0;
    std::uint64_t cookie = 0;
    std::uint64_t since_ns = 0;
    std::optional<GpaRange> written = std::nullopt;
    std::uint32_t generation = 1;  ///< part of the handle, so that an old handle finds nothing
    std::uint32_t next = nobody;
    std::uint32_t previous = nobody;
    bool is_open = false;
    bool reported = false;
  };
  [[nodiscard]] static constexpr std::uint64_t handle_of(std::uint32_t index, std::uint32_t generation) noexcept {
    return std::uint64_t{generation} << 32 | index;
  }

  /// Null when the handle is not open. Under the lock.
  [[nodiscard]] const Slot* find(std::uint64_t handle) const noexcept;
  /// The first open one of which that is so. Under the lock.
  template <class Condition>
  [[nodiscard]] std::optional<std::uint64_t> cookie_where(const Condition& condition) const noexcept {
    for (std::uint32_t index = open_; index != nobody; index = slots_[index].next)
      if (condition(slots_[index])) return slots_[index].cookie;
    return std::nullopt;
  }

  mutable Mutex lock_;
  HostArray<Slot> slots_;
  std::uint32_t free_ = nobody;
  std::uint32_t open_ = nobody;
  Atomic<std::uint64_t> open_count_{0};
  std::uint64_t overdue_count_ = 0;
  std::uint64_t revoked_count_ = 0;
};

}  // namespace viommu::core
