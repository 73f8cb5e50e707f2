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

WorkState Worker::run_queue(Budget& budget) noexcept {
  if (!finish_wait()) return WorkState::wait;
  // One look is enough: a tail that is written later comes with a note, and so with another turn.
  const QueueView queue = look_at_queue();
  if (!queue.may_run) return WorkState::idle;
  if (const auto problem = queue_problem(queue.geometry, queue.tail, queue.mode, capabilities_)) {
    stop_queue(*problem, queue, {});
    return WorkState::idle;
  }
  if (queue.head == queue.tail) return WorkState::idle;
  budget.begin(queue.geometry.entries());
  return run_to_tail(queue, budget);
}

WorkState Worker::run_to_tail(QueueView queue, Budget& budget) noexcept {
  std::uint32_t shown = queue.head;
  PageRun pages;
  // What is done is dropped from the caches, and the guest sees how far the queue has come.
  const auto settle = [&] {
    flush(pages);
    if (shown != queue.head) show_head(queue.head);
  };
  while (queue.head != queue.tail) {  // ends: the head moves on, and meets the tail within one ring
    if (!budget.take()) {
      settle();
      return WorkState::more;
    }
    const std::optional<RawDescriptor> raw = fetch(queue);
    const Descriptor descriptor = raw ? decode_descriptor(*raw, capabilities_) : QueueErrorCode::fetch_failed;
    if (const auto* const code = std::get_if<QueueErrorCode>(&descriptor)) {
      settle();
      stop_queue(*code, queue, raw);
      return WorkState::idle;
    }
    add(WorkCount::descriptors);
    const std::uint32_t next = queue.geometry.next(queue.head);
    if (const auto* const iotlb = std::get_if<IotlbInvalidation>(&descriptor)) {
      count_iotlb(iotlb->granularity);
      if (pages.full()) flush(pages);
      pages.add(scope_of(*iotlb));
    } else if (const auto* const wait = std::get_if<Wait>(&descriptor)) {
      flush(pages);
      if (!begin_wait(*wait, queue.head, next)) return WorkState::wait;
      shown = next;  // its completion has shown the head behind it
    } else {
      flush(pages);
      execute(descriptor);
    }
    queue.head = next;
  }
  settle();
  return WorkState::idle;
}

void Worker::flush(PageRun& run) noexcept {
  if (run.empty()) return;
  waist_.drop(run.scopes());
  for (const caches::Scope& scope : run.scopes()) since_last_wait_.add(scope);
  run.clear();
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
void Worker::execute(const Descriptor& descriptor) noexcept {
  std::visit(Overloaded{
                 [](const QueueErrorCode&) {},     // the caller has stopped the queue
                 [](const IotlbInvalidation&) {},  // and taken care of these two
                 [](const Wait&) {},
                 [&](const ContextInvalidation& invalidation) {
                   add(WorkCount::context_invalidations);
                   const caches::Scope scope = scope_of(invalidation);
                   waist_.drop(scope);
                   since_last_wait_.add(scope);
                 },
                 [&](const DeviceTlbInvalidation&) {
                   // Translations that were given out are dropped by the IOTLB invalidation before it.
                   add(WorkCount::device_tlb);
                 },
                 [&](const InterruptEntryInvalidation& invalidation) {
                   add(WorkCount::interrupt_entries);
                   if (invalidation.global) return tell_all_routes();
                   tell_routes(invalidation.first, invalidation.last - std::uint32_t{invalidation.first} + 1);
                 },
             },
             descriptor);
}

bool Worker::begin_wait(const Wait& wait, std::uint32_t head, std::uint32_t next_head) noexcept {
  wait_.emplace();
  wait_->wait = wait;
  wait_->next_head = next_head;
  if (!since_last_wait_.empty()) wait_->ticket = waist_.ticket(since_last_wait_);
  since_last_wait_.clear();
  if (finish_wait()) return true;
  show_head(head);  // while it waits, the head stands on it
  return false;
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
