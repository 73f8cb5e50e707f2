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
  if (wait_ && !finish_wait()) return WorkState::wait;
  while (true) {  // ends: each turn uses up budget, stops the queue or finds it empty
    const QueueView queue = look_at_queue();
    if (!queue.may_run) return WorkState::idle;
    if (budget == 0) return WorkState::more;
    --budget;
    if (const auto problem = queue_problem(queue.geometry, queue.tail, queue.mode, capabilities_)) {
      stop_queue(*problem);
      return WorkState::idle;
    }
    const Descriptor descriptor = fetch(queue);
    if (const auto* const code = std::get_if<QueueErrorCode>(&descriptor)) {
      stop_queue(*code);
      return WorkState::idle;
    }
    add(WorkCount::descriptors);
    if (!execute(descriptor, queue.geometry.next(queue.head))) return WorkState::wait;
  }
}

Worker::QueueView Worker::look_at_queue() noexcept {
  return registers_.with([](RegisterFile& file) -> QueueView {
    if (!file.queue_may_run()) return {};
    return {file.queue_geometry(), file.queue_head(), file.queue_tail(), file.root_pointer().mode, true};
  });
}

Descriptor Worker::fetch(const QueueView& queue) noexcept {
  const Gpa at = queue.geometry.entry_at(queue.head);
  RawDescriptor raw;
  core::Reader& reader = waist_.own_reader();
  waist_.enter(reader);
  const std::optional low = waist_.memory().load_u128(at);
  const std::optional high = queue.geometry.wide() ? waist_.memory().load_u128(at + 16) : Word128{};
  waist_.leave(reader);
  if (!low || !high) return QueueErrorCode::fetch_failed;
  raw.words = {low->low, low->high, high->low, high->high};
  return decode_descriptor(raw, capabilities_);
}

bool Worker::execute(const Descriptor& descriptor, std::uint32_t next_head) noexcept {
  const auto done = [this, next_head] {
    registers_.with([next_head](RegisterFile& file) { file.set_queue_head(next_head); });
    return true;
  };
  return std::visit(Overloaded{
                        [](const QueueErrorCode&) { return true; },  // the caller has stopped the queue
                        [&](const ContextInvalidation& invalidation) {
                          add(WorkCount::context_invalidations);
                          invalidate(scope_of(invalidation));
                          return done();
                        },
                        [&](const IotlbInvalidation& invalidation) {
                          count_iotlb(invalidation.granularity);
                          invalidate(scope_of(invalidation));
                          return done();
                        },
                        [&](const DeviceTlbInvalidation&) {
                          // Translations that were given out are dropped by the IOTLB invalidation before it.
                          add(WorkCount::device_tlb);
                          return done();
                        },
                        [&](const InterruptEntryInvalidation& invalidation) {
                          add(WorkCount::interrupt_entries);
                          if (invalidation.global) {
                            tell_all_routes();
                          } else {
                            tell_routes(invalidation.first, invalidation.last - std::uint32_t{invalidation.first} + 1);
                          }
                          return done();
                        },
                        [&](const Wait& wait) {
                          wait_ = OpenWait{waist_.ticket(since_last_wait_), wait, next_head};
                          if (since_last_wait_.empty()) wait_->ticket.epoch = 0;  // nothing to drain
                          since_last_wait_.clear();
                          return finish_wait();
                        },
                    },
                    descriptor);
}

bool Worker::finish_wait() noexcept {
  if (!waist_.drained(wait_->ticket)) return false;
  const OpenWait open = *wait_;
  wait_.reset();
  registers_.with([&open](RegisterFile& file) { file.set_queue_head(open.next_head); });
  if (open.wait.status_write) {
    core::Reader& reader = waist_.own_reader();
    waist_.enter(reader);
    const bool stored = waist_.memory().store_u32(open.wait.status_address, open.wait.status_data);
    waist_.leave(reader);
    if (!stored) add(WorkCount::status_writes_dropped);
  }
  if (open.wait.interrupt) {
    registers_.with([this](RegisterFile& file) { registers_.queue(file.complete_wait_interrupt()); });
    registers_.deliver();
  }
  add(WorkCount::waits);
  return true;
}

void Worker::stop_queue(QueueErrorCode code) noexcept {
  registers_.with([this, code](RegisterFile& file) { registers_.queue(file.raise_queue_error(code)); });
  registers_.deliver();
}

}  // namespace viommu::vtd
