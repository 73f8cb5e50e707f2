// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/holds.hpp"

#include <algorithm>

namespace viommu::core {

bool Holds::reset(const HostAllocator& allocator, std::size_t count) noexcept {
  if (!slots_.reset(allocator, count)) return false;
  for (std::uint32_t index = 0; index < slots_.size(); ++index) {
    slots_[index].next = free_;
    free_ = index;
  }
  return true;
}

std::uint64_t Holds::open(const caches::Usage& usage, std::uint64_t epoch, std::uint64_t cookie, std::uint64_t now_ns,
                          const std::optional<GpaRange>& written) noexcept {
  const std::lock_guard guard{lock_};
  if (free_ == nobody) return 0;
  const std::uint32_t index = free_;
  Slot& slot = slots_[index];
  free_ = slot.next;
  slot.usage = usage;
  slot.epoch = epoch;
  slot.cookie = cookie;
  slot.since_ns = now_ns;
  slot.written = written;
  slot.is_open = true;
  slot.reported = false;
  slot.previous = nobody;
  slot.next = open_;
  if (open_ != nobody) slots_[open_].previous = index;
  open_ = index;
  open_count_.fetch_add(1, std::memory_order_seq_cst);
  return handle_of(index, slot.generation);
}

const Holds::Slot* Holds::find(std::uint64_t handle) const noexcept {
  const auto index = static_cast<std::uint32_t>(handle);
  if (index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[index];
  return slot.is_open && handle == handle_of(index, slot.generation) ? &slot : nullptr;
}

std::optional<GpaRange> Holds::written_by(std::uint64_t handle) const noexcept {
  const std::lock_guard guard{lock_};
  const Slot* const slot = find(handle);
  return slot == nullptr ? std::nullopt : slot->written;
}

std::optional<std::uint64_t> Holds::writer() const noexcept {
  const std::lock_guard guard{lock_};
  return cookie_where([](const Slot& slot) { return slot.written.has_value(); });
}

std::optional<std::uint64_t> Holds::delayer(const caches::ScopeSet& scopes, std::uint64_t epoch) const noexcept {
  const std::lock_guard guard{lock_};
  return cookie_where([&](const Slot& slot) { return slot.epoch < epoch && scopes.concerns(slot.usage); });
}

bool Holds::close(std::uint64_t handle, bool revoked) noexcept {
  const std::lock_guard guard{lock_};
  if (find(handle) == nullptr) return false;
  const auto index = static_cast<std::uint32_t>(handle);
  Slot& slot = slots_[index];
  if (slot.previous != nobody) slots_[slot.previous].next = slot.next;
  if (slot.next != nobody) slots_[slot.next].previous = slot.previous;
  if (open_ == index) open_ = slot.next;
  slot.is_open = false;
  slot.generation = slot.generation == ~std::uint32_t{0} ? 1 : slot.generation + 1;
  slot.next = free_;
  free_ = index;
  open_count_.fetch_sub(1, std::memory_order_seq_cst);
  if (revoked) ++revoked_count_;
  return true;
}

bool Holds::delays(const caches::ScopeSet& scopes, std::uint64_t epoch, std::uint64_t now_ns, std::uint64_t limit_ns,
                   std::span<OverdueHold> overdue, std::size_t* told) noexcept {
  const std::lock_guard guard{lock_};
  *told = 0;
  bool any = false;
  for (std::uint32_t index = open_; index != nobody; index = slots_[index].next) {
    Slot& slot = slots_[index];
    if (slot.epoch >= epoch || !scopes.concerns(slot.usage)) continue;
    any = true;
    const std::uint64_t age_ns = now_ns - slot.since_ns;
    if (now_ns < slot.since_ns || age_ns < limit_ns || slot.reported || *told == overdue.size()) continue;
    slot.reported = true;
    ++overdue_count_;
    overdue[(*told)++] = {handle_of(index, slot.generation), slot.cookie, age_ns};
  }
  return any;
}

std::size_t Holds::copy_open(std::size_t& slot, std::span<OpenHold> holds) const noexcept {
  constexpr std::size_t most_looks = 1024;  // under the lock
  std::size_t count = 0;
  while (slot < slots_.size() && count < holds.size()) {
    const std::lock_guard guard{lock_};
    const std::size_t end = std::min(slots_.size(), slot + most_looks);
    for (; slot < end && count < holds.size(); ++slot) {
      const Slot& each = slots_[slot];
      if (!each.is_open) continue;
      holds[count++] = {handle_of(static_cast<std::uint32_t>(slot), each.generation),
                        each.cookie,
                        each.since_ns,
                        each.epoch,
                        each.usage,
                        each.reported};
    }
  }
  return count;
}

std::uint64_t Holds::overdue_count() const noexcept {
  const std::lock_guard guard{lock_};
  return overdue_count_;
}
std::uint64_t Holds::revoked_count() const noexcept {
  const std::lock_guard guard{lock_};
  return revoked_count_;
}

}  // namespace viommu::core
