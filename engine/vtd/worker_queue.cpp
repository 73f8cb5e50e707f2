// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue. Source: VT-d, "Queued Invalidation Interface".
//
// Order at a wait: caches dropped -> older guards and holds gone, devices have answered -> head visible -> status
// written -> interrupt. Waits complete in order.
//
// The head moves behind a descriptor only when it was valid and is done; on an error it stays on the bad one. While a
// wait is open the head stands on it, and descriptors behind it are fetched and begun all the same (but behind a fence,
// and while there is room for their waits): what they drop is dropped sooner, and devices work side by side. An error
// behind an open wait is told when that wait is complete. A device that does not answer in time (ITE) aborts the open
// waits: fetching stops with the head on the oldest of them and goes on there when the guest has cleared ITE.
//
// Invalidations of domains, of PASIDs in them, and of pages of either that follow each other form a run, which ends at
// anything else: a wait, an error, the budget, and every other descriptor. So what has to come after a context or
// PASID-cache invalidation, or before one of device TLBs, does ("Invalidation Descriptors", ordering). Inside a run the
// order does not show: all of it lies before the tail that was loaded first, so it may be sorted by domain and done by
// several threads.
#include <optional>
#include <variant>

#include "engine/base/tracepoint.hpp"
#include "engine/vtd/scopes.hpp"
#include "engine/vtd/worker.hpp"

namespace viommu::vtd {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

/// What a run takes besides pages: domains, and what PASIDs have.
[[nodiscard]] bool is_of_run(const Descriptor& descriptor, caches::PageScope& scope) noexcept {
  if (const auto* const iotlb = std::get_if<IotlbInvalidation>(&descriptor)) {
    if (iotlb->granularity != IotlbGranularity::domain) return false;
    scope = {all_iovas, iotlb->domain};
    return true;
  }
  const auto* const by_pasid = std::get_if<PasidIotlbInvalidation>(&descriptor);
  if (by_pasid == nullptr) return false;
  scope = page_scope_of(*by_pasid);
  return true;
}

}  // namespace

WorkState Worker::run_queue(Budget& budget) noexcept {
  if (consumers_.busy()) return WorkState::more;
  const bool complete = finish_waits();
  if (!complete && (waits_.newest().wait.fence || waits_.full())) return WorkState::wait;
  // One look is enough: a tail that is written later comes with a note, and so with another turn.
  QueueView queue = look_at_queue();
  if (!queue.may_run) return complete ? WorkState::idle : WorkState::wait;
  if (!complete) queue.head = fetched_;
  if (const auto problem = queue_problem(queue.geometry, queue.tail, queue.mode, capabilities_)) {
    if (!complete) return WorkState::wait;
    stop_queue(*problem, queue, {});
    return WorkState::idle;
  }
  if (queue.head == queue.tail) return complete ? WorkState::idle : WorkState::wait;
  budget.begin(queue.geometry.entries());
  return run_to_tail(queue, budget);
}

WorkState Worker::run_to_tail(QueueView queue, Budget& budget) noexcept {
  std::uint32_t shown = queue.head;
  DropRun run{waist_.long_run()};
  // What is done is dropped from the caches, and the guest sees how far the queue has come.
  const auto settle = [&] {
    flush(run);
    fetched_ = queue.head;
    if (waits_.empty() && shown != queue.head) show_head(shown = queue.head);
  };
  RingPage page;
  while (queue.head != queue.tail) {  // ends: the head moves on, and meets the tail within one ring
    if (!budget.take() || consumers_.busy()) {
      settle();
      return WorkState::more;
    }
    const std::uint32_t next = queue.geometry.next(queue.head);
    const std::optional<RawDescriptor> raw = fetch(queue, page);
    if (raw) tracepoint::descriptor(queue.head, raw->words[0], raw->words[1]);
    if (raw && decode_pages(*raw, capabilities_, run.next())) [[likely]] {
      if (run.take()) flush(run);
      queue.head = next;
      continue;
    }
    const Descriptor descriptor =
        raw ? decode_descriptor(*raw, queue.mode, capabilities_) : QueueErrorCode::fetch_failed;
    if (is_of_run(descriptor, run.next())) {
      if (run.take()) flush(run);
      queue.head = next;
      continue;
    }
    flush(run);
    if (consumers_.busy()) {
      settle();
      return WorkState::more;
    }
    if (const auto* const code = std::get_if<QueueErrorCode>(&descriptor)) {
      settle();
      if (!waits_.empty()) return WorkState::wait;
      stop_queue(*code, queue, raw);
      return WorkState::idle;
    }
    if (const auto* const wait = std::get_if<Wait>(&descriptor)) {
      add(WorkCount::descriptors);
      begin_wait(*wait, queue.head, next);
      shown = next;  // what is to be seen now is seen: it, or what is behind it
      queue.head = next;
      if (!waits_.empty() && (wait->fence || waits_.full())) return WorkState::wait;
      continue;
    }
    const std::uint64_t issued = devices_.issued();
    if (!execute(descriptor)) {
      settle();
      return WorkState::wait;
    }
    add(WorkCount::descriptors);
    queue.head = next;
    if (issued == devices_.issued()) continue;
    settle();
    if (!advance_devices()) return WorkState::idle;
  }
  settle();
  return waits_.empty() ? WorkState::idle : WorkState::wait;
}

void Worker::flush(DropRun& run) noexcept {
  if (run.scopes().empty()) return;
  waist_.drop(run.scopes());
  devices_.caches_dropped();
  std::uint64_t domains = 0;
  for (const caches::PageScope& scope : run.scopes()) {
    since_last_wait_.add(caches::scope_of(scope));
    const bool whole = scope.is_whole();
    domains += static_cast<std::uint64_t>(whole);
    waist_.count_dropped(scope.domain, whole ? caches::Dropped::whole : caches::Dropped::pages);
  }
  add(WorkCount::descriptors, run.scopes().size());
  add(WorkCount::iotlb_domain, domains);
  add(WorkCount::iotlb_page, run.scopes().size() - domains);
  run.clear();
}

Worker::QueueView Worker::look_at_queue() noexcept {
  return registers_.with([](RegisterFile& file) -> QueueView {
    if (!file.queue_may_run()) return {};
    return {file.queue_geometry(), file.queue_head(), file.queue_tail(), file.root_pointer().mode, true};
  });
}

std::optional<RawDescriptor> Worker::fetch(const QueueView& queue, RingPage& page) const noexcept {
  // Without a guard: only the role frees region maps (Waist::reclaim_regions). A page of the ring is looked up once;
  // each 16 bytes are loaded once.
  const Gpa at = queue.geometry.entry_at(queue.head);
  const std::uint64_t inside = at.value & low_bits(page_shift);
  const Gpa first{at.value - inside};
  if (!page.known || page.first != first) page = {true, first, waist_.memory().page(first)};
  const auto load = [&](std::uint64_t offset) -> std::optional<Word128> {
    if (page.host != nullptr) return load_mapped_u128(page.host + inside + offset);
    return waist_.memory().load_u128(at + offset);
  };
  const std::optional low = load(0);
  const std::optional high = queue.geometry.wide() ? load(sizeof(Word128)) : Word128{};
  if (!low || !high) return std::nullopt;
  return RawDescriptor{{low->low, low->high, high->low, high->high}};
}

// NOLINTNEXTLINE(bugprone-exception-escape): a descriptor of trivial alternatives is never without a value
bool Worker::execute(const Descriptor& descriptor) noexcept {
  const auto drop = [this](const auto& invalidation) {
    const caches::Scope scope = scope_of(invalidation);
    waist_.drop(scope);
    devices_.caches_dropped();
    since_last_wait_.add(scope);
  };
  bool begun = true;
  std::visit(Overloaded{
                 [](const QueueErrorCode&) {},  // the caller has taken care of these two
                 [](const Wait&) {},
                 [&](const IotlbInvalidation& invalidation) {
                   count_invalidation(invalidation);
                   drop(invalidation);
                 },
                 [](const PasidIotlbInvalidation&) {},  // is always of a run
                 [&](const ContextInvalidation& invalidation) {
                   count_invalidation(invalidation);
                   drop(invalidation);
                 },
                 [&](const PasidCacheInvalidation& invalidation) {
                   add(WorkCount::context_invalidations);
                   if (invalidation.granularity != PasidCacheGranularity::global)
                     waist_.count_dropped(invalidation.domain, caches::Dropped::contexts);
                   drop(invalidation);
                 },
                 [&](const DeviceTlbInvalidation& i) {
                   begun = begin_device_invalidation(
                       {{i.source, i.pages, std::nullopt, false}, i.physical_function, i.max_pending});
                 },
                 [&](const PasidDeviceTlbInvalidation& i) {
                   begun = begin_device_invalidation(
                       {{i.source, i.pages, i.pasid, !i.pasid}, i.physical_function, i.max_pending});
                 },
                 [&](const PageGroupResponse& response) {
                   if (!pages_.respond(response)) add(WorkCount::page_responses_dropped);
                 },
                 [](const HostPermissionInvalidation&) {},  // no host permission table is cached
                 [&](const InterruptEntryInvalidation& invalidation) {
                   add(WorkCount::interrupt_entries);
                   interrupts_since_last_wait_ = true;
                   if (invalidation.global) return tell_all_routes();
                   tell_routes(invalidation.first, invalidation.last - std::uint32_t{invalidation.first} + 1);
                 },
             },
             descriptor);
  return begun;
}

bool Worker::begin_device_invalidation(const DeviceTlbs::Invalidation& invalidation) noexcept {
  if (!devices_.add(invalidation)) return false;
  if (!invalidation.what.pasid || invalidation.what.every_pasid)
    consumers_.device_tlb_dropped(invalidation.what.source, invalidation.what.range);
  add(WorkCount::device_tlb);
  waist_.count_dropped(invalidation.what.source, caches::Dropped::pages);
  return true;
}

bool Worker::advance_devices() noexcept {
  const std::optional<SourceId> late = devices_.advance();
  if (!late) return true;
  if (!waits_.empty()) {
    forget_waits();
    since_last_wait_.add(caches::Scope{});  // what they waited for, the next one waits for
  }
  registers_.with([&](RegisterFile& file) { registers_.queue(file.raise_timeout(*late)); });
  registers_.deliver();
  log_timeout(*late);
  return false;
}

void Worker::begin_wait(const Wait& wait, std::uint32_t head, std::uint32_t next_head) noexcept {
  const bool is_first = waits_.empty();
  OpenWait& open = waits_.add();
  open.wait = wait;
  open.head = head;
  open.devices = devices_.issued();
  if (!since_last_wait_.empty() || interrupts_since_last_wait_) open.ticket = waist_.ticket(since_last_wait_);
  since_last_wait_.clear();
  interrupts_since_last_wait_ = false;
  tracepoint::wait_begun(head, open.ticket.epoch);
  fetched_ = next_head;
  // Behind an older one it cannot be complete yet.
  if (is_first && !finish_waits()) show_head(head);
}

bool Worker::finish_waits() noexcept {
  if (consumers_.busy()) return waits_.empty();
  while (!waits_.empty()) {
    OpenWait& oldest = waits_.oldest();
    if (!devices_.answered_up_to(oldest.devices) ||
        !completions_.drained(oldest.ticket, oldest.withheld, "an invalidation wait"))
      return false;
    const Wait wait = oldest.wait;
    if (wait.page_drain) pages_.write_posted();
    const std::uint64_t ticket = oldest.ticket.epoch;
    waits_.remove_oldest();
    const std::uint32_t head = waits_.empty() ? fetched_ : waits_.oldest().head;
    show_head(head);
    complete(wait);
    tracepoint::wait_completed(head, ticket);
  }
  return true;
}

void Worker::complete(const Wait& wait) noexcept {
  const bool dropped = wait.status_write && !waist_.memory().store_u32(wait.status_address, wait.status_data);
  if (dropped) add(WorkCount::status_writes_dropped);
  if (wait.interrupt) {
    registers_.with([this](RegisterFile& file) { registers_.queue(file.complete_wait_interrupt()); });
    registers_.deliver();
  }
  add(WorkCount::waits);
  if (dropped) log_dropped_write(wait);
}

void Worker::forget_waits() noexcept {
  waits_.clear();
  since_last_wait_.clear();
  interrupts_since_last_wait_ = false;
}

void Worker::show_head(std::uint32_t head) noexcept {
  registers_.with([head](RegisterFile& file) { file.set_queue_head(head); });
}

void Worker::stop_queue(QueueErrorCode code, const QueueView& queue, const std::optional<RawDescriptor>& raw) noexcept {
  tracepoint::queue_stopped(queue.head, static_cast<std::uint32_t>(code));
  registers_.with([this, code](RegisterFile& file) { registers_.queue(file.raise_queue_error(code)); });
  registers_.deliver();
  log_stop(code, queue, raw);
}

}  // namespace viommu::vtd
