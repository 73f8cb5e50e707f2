// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

void Registers::queue(const std::optional<EventMessage>& message) noexcept {
  if (!message) return;
  if (count_ == waiting_.size()) --count_;
  waiting_[(first_ + count_++) % waiting_.size()] = *message;
  any_waiting_.store(true, std::memory_order_seq_cst);
}

std::optional<EventMessage> Registers::take() noexcept {
  const std::lock_guard guard{lock_};
  if (count_ == 0) return {};
  const EventMessage message = waiting_[first_];
  first_ = (first_ + 1) % waiting_.size();
  --count_;
  any_waiting_.store(count_ != 0, std::memory_order_seq_cst);
  return message;
}

void Registers::deliver() noexcept {
  // Bound: one message, and as many as the ring holds that came during it. Others may leave theirs to this thread then.
  for (std::size_t sent = 0; sent <= waiting_.size();) {
    if (!any_waiting_.load(std::memory_order_seq_cst)) return;
    if (delivering_.exchange(true, std::memory_order_seq_cst)) return;
    const std::optional message = take();
    if (message) {
      host_.msi(message->address, message->data);
      messages_.fetch_add(1, std::memory_order_relaxed);
      ++sent;
    }
    delivering_.store(false, std::memory_order_seq_cst);
  }
  if (any_waiting_.load(std::memory_order_seq_cst)) host_.wake();
}

void Registers::drop_messages() noexcept {
  const std::lock_guard guard{lock_};
  count_ = 0;
  any_waiting_.store(false, std::memory_order_seq_cst);
}

}  // namespace viommu::vtd
