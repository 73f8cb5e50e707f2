// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue. Source: VT-d, "Queued Invalidation Interface".
//
// Order at a wait: caches dropped -> older guards and holds gone -> head visible -> status written -> interrupt.
// The head moves behind a descriptor only when it was valid and is done; on an error it stays on the bad one.
#include <optional>
#include <variant>

#include "engine/vtd/scopes.hpp"
#include "engine/vtd/worker.hpp"

namespace viommu::vtd {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

}  // namespace

WorkState Worker::run_queue(std::uint32_t& budget) noexcept {
  if (!finish_wait()) return WorkState::wait;
  while (true) {  // ends: each turn uses up budget, stops the queue or finds it empty
    const QueueView queue = look_at_queue();
    if (!queue.may_run) return WorkState::idle;
    if (const auto problem = queue_problem(queue.geometry, queue.tail, queue.mode, capabilities_)) {
      stop_queue(*problem, queue, {});
      return WorkState::idle;
    }
    const WorkState state = run_to_tail(queue, budget);
    if (state != WorkState::idle) return state;
  }
}

WorkState Worker::run_to_tail(QueueView queue, std::uint32_t& budget) noexcept {
  std::uint32_t shown = queue.head;
  const auto show = [&] {
    if (shown != queue.head) show_head(queue.head);
  };
  while (queue.head != queue.tail) {  // ends: the head moves on, and meets the tail within one ring
    if (budget == 0) {
      show();
      return WorkState::more;
    }
    --budget;
    const std::optional<RawDescriptor> raw = fetch(queue);
    const Descriptor descriptor = raw ? decode_descriptor(*raw, capabilities_) : QueueErrorCode::fetch_failed;
    if (const auto* const code = std::get_if<QueueErrorCode>(&descriptor)) {
      show();
      stop_queue(*code, queue, raw);
      return WorkState::idle;
    }
    add(WorkCount::descriptors);
    const bool is_wait = std::holds_alternative<Wait>(descriptor);
    if (is_wait) show();  // while it waits, the head stands on it
    const std::uint32_t next = queue.geometry.next(queue.head);
    if (!execute(descriptor, next)) return WorkState::wait;
    queue.head = next;
    if (is_wait) shown = next;  // its completion has shown the head behind it
  }
  show();
  return WorkState::idle;
}

Worker::QueueView Worker::look_at_queue() noexcept {
  return registers_.with([](RegisterFile& file) -> QueueView {
    if (!file.queue_may_run()) return {};
    return {file.queue_geometry(), file.queue_head(), file.queue_tail(), file.root_pointer().mode, true};
  });
}

std::optional<RawDescriptor> Worker::fetch(const QueueView& queue) const noexcept {
  // Without a guard: only the role frees region maps (Waist::reclaim_regions).
  const Gpa at = queue.geometry.entry_at(queue.head);
  const std::optional low = waist_.memory().load_u128(at);
  const std::optional high = queue.geometry.wide() ? waist_.memory().load_u128(at + 16) : Word128{};
  if (!low || !high) return std::nullopt;
  return RawDescriptor{{low->low, low->high, high->low, high->high}};
}

// NOLINTNEXTLINE(bugprone-exception-escape): a descriptor of trivial alternatives is never without a value
bool Worker::execute(const Descriptor& descriptor, std::uint32_t next_head) noexcept {
  return std::visit(Overloaded{
                        [](const QueueErrorCode&) { return true; },  // the caller has stopped the queue
                        [&](const ContextInvalidation& invalidation) {
                          add(WorkCount::context_invalidations);
                          invalidate(scope_of(invalidation));
                          return true;
                        },
                        [&](const IotlbInvalidation& invalidation) {
                          count_iotlb(invalidation.granularity);
                          invalidate(scope_of(invalidation));
                          return true;
                        },
                        [&](const DeviceTlbInvalidation&) {
                          // Translations that were given out are dropped by the IOTLB invalidation before it.
                          add(WorkCount::device_tlb);
                          return true;
                        },
                        [&](const InterruptEntryInvalidation& invalidation) {
                          add(WorkCount::interrupt_entries);
                          if (invalidation.global) {
                            tell_all_routes();
                          } else {
                            tell_routes(invalidation.first, invalidation.last - std::uint32_t{invalidation.first} + 1);
                          }
                          return true;
                        },
                        [&](const Wait& wait) {
                          wait_ = OpenWait{{}, wait, next_head};
                          if (!since_last_wait_.empty()) wait_->ticket = waist_.ticket(since_last_wait_);
                          since_last_wait_.clear();
                          return finish_wait();
                        },
                    },
                    descriptor);
}

bool Worker::finish_wait() noexcept {
  if (!wait_) return true;
  if (!drained(wait_->ticket, wait_->withheld, "an invalidation wait")) return false;
  const Wait wait = wait_->wait;
  show_head(wait_->next_head);
  wait_.reset();
  const bool dropped = wait.status_write && !waist_.memory().store_u32(wait.status_address, wait.status_data);
  if (dropped) add(WorkCount::status_writes_dropped);
  if (wait.interrupt) {
    registers_.with([this](RegisterFile& file) { registers_.queue(file.complete_wait_interrupt()); });
    registers_.deliver();
  }
  add(WorkCount::waits);
  if (dropped) log_dropped_write(wait);
  return true;
}

void Worker::show_head(std::uint32_t head) noexcept {
  registers_.with([head](RegisterFile& file) { file.set_queue_head(head); });
}

void Worker::stop_queue(QueueErrorCode code, const QueueView& queue, const std::optional<RawDescriptor>& raw) noexcept {
  registers_.with([this, code](RegisterFile& file) { registers_.queue(file.raise_queue_error(code)); });
  registers_.deliver();
  log_stop(code, queue, raw);
}

}  // namespace viommu::vtd
