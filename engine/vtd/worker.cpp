// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/worker.hpp"

#include <algorithm>
#include <utility>

#include "engine/vtd/page_formats.hpp"
#include "engine/vtd/scopes.hpp"

namespace viommu::vtd {

bool Worker::request(const Actions& actions) noexcept {
  const bool commands = actions.flush_write_buffer || actions.set_root_pointer || actions.set_interrupt_table ||
                        actions.compatibility_format || actions.queue || actions.interrupt_remapping ||
                        actions.translation || actions.protected_memory || actions.context_invalidation ||
                        actions.iotlb_invalidation;
  if (!commands) return actions.tail_written || actions.queue_restarted;
  commands_.write_buffer |= actions.flush_write_buffer;
  commands_.root_pointer |= actions.set_root_pointer;
  commands_.interrupt_table |= actions.set_interrupt_table;
  const auto take = [](auto& into, const auto& from) {
    if (from) into = from;
  };
  take(commands_.compatibility_format, actions.compatibility_format);
  take(commands_.queue, actions.queue);
  take(commands_.interrupt_remapping, actions.interrupt_remapping);
  take(commands_.translation, actions.translation);
  take(commands_.protected_memory, actions.protected_memory);
  take(commands_.context, actions.context_invalidation);
  take(commands_.iotlb, actions.iotlb_invalidation);
  commanded_.store(true, std::memory_order_release);
  return true;
}

WorkState Worker::process(std::uint32_t budget) noexcept {
  Budget left{budget};
  if (!role_.enter()) return WorkState::idle;
  const WorkState state = role_.run([&] { return work(left); });
  registers_.deliver();
  return state;
}

bool Worker::reset() noexcept {
  // A note that came meanwhile is the caller's process() to do.
  return exclusively([this] { start_over(); }) != WorkLook::busy;
}

void Worker::adopt_capabilities() noexcept {
  registers_.with([this](RegisterFile& file) { file.adopt(capabilities_); });
  waist_.adopt(second_stage_rules(capabilities_), first_stage_rules(capabilities_));
  start_over();
}

void Worker::start_over() noexcept {
  const std::uint32_t entries = forget_registers();
  forget_work();
  dma_.set_mode({}, false, false);
  interrupts_.set_mode({}, false, false);
  waist_.drop(caches::Scope{});
  consumers_.mode_changed();
  consumers_.finish();
  pages_.reset();
  // Nobody keeps a route of a table that was never in force.
  if (const std::uint32_t routed = std::exchange(routed_entries_, 0); routed != 0)
    tell_routes(0, std::max(entries, routed));
}

WorkState Worker::work(Budget& budget) noexcept {
  // Memory that has gone is withdrawn before it is given up, and what is being mirrored before anything is completed.
  const std::uint64_t regions_told = consumers_.regions_told();
  if (!consumers_.advance()) return WorkState::more;
  // Commands that are under way end before the next ones begin.
  bool waiting = !finish_commands();
  if (!waiting && commanded_.load(std::memory_order_acquire)) {
    begin_commands();
    waiting = !finish_commands();
  }
  if (!tracking_.advance(completions_)) waiting = true;
  pages_.write_posted();
  advance_devices();
  const WorkState queue = run_queue(budget);
  if (!waist_.reclaim_regions(regions_told) || devices_.any_open()) waiting = true;
  if (consumers_.busy()) return WorkState::more;
  const bool more = waist_.reclaim();
  if (queue != WorkState::idle) return queue;
  if (more) return WorkState::more;
  return waiting ? WorkState::wait : WorkState::idle;
}

void Worker::begin_commands() noexcept {
  struct Taken {
    Commands commands;
    RootPointer root;
    bool translating;
    bool protecting;
  };
  Taken taken = registers_.with([this](RegisterFile& file) -> Taken {
    commanded_.store(false, std::memory_order_release);
    return {std::exchange(commands_, {}), file.root_pointer(), file.translation_enabled(), file.protection_enabled()};
  });
  const Commands& commands = taken.commands;
  registers_.with([&](RegisterFile& file) {
    // Nothing is buffered, so these have no effect to wait for.
    if (commands.write_buffer) file.complete_write_buffer_flush();
    if (commands.queue) file.complete_queue(*commands.queue);
  });
  if (commands.queue) {  // a queue that was switched off has none
    forget_waits();
    devices_.forget();
  }
  caches::ScopeSet held;  // stays empty for interrupts: no hold concerns them
  if (commands.of_translation()) {
    dma_.set_mode(taken.root, commands.translation.value_or(taken.translating),
                  commands.protected_memory.value_or(taken.protecting));
    const caches::Scope everything;
    waist_.drop(everything);
    held.add(everything);
    if (commands.translation || commands.root_pointer) consumers_.mode_changed();
  }
  if (commands.of_interrupts()) begin_interrupt_commands(commands);
  if (commands.of_translation() || commands.of_interrupts()) global_ = GlobalCommand{waist_.ticket(held), commands};
  const auto begin = [this](const auto& invalidation) {
    const caches::Scope scope = scope_of(invalidation);
    waist_.drop(scope);
    caches::ScopeSet scopes;
    scopes.add(scope);
    return waist_.ticket(scopes);
  };
  if (commands.context) {
    count_invalidation(*commands.context);
    context_ = ContextCommand{begin(*commands.context), commands.context->granularity};
  }
  if (commands.iotlb) {
    count_invalidation(*commands.iotlb);
    iotlb_ = IotlbCommand{begin(*commands.iotlb), commands.iotlb->granularity};
  }
}

void Worker::begin_interrupt_commands(const Commands& commands) noexcept {
  struct InForce {
    InterruptTable table;
    bool remapping;
    bool compatibility;
  };
  const InForce before = registers_.with([](const RegisterFile& file) -> InForce {
    return {file.interrupt_table(), file.interrupt_remapping_enabled(), file.compatibility_format_allowed()};
  });
  interrupts_.set_mode(before.table, commands.interrupt_remapping.value_or(before.remapping),
                       commands.compatibility_format.value_or(before.compatibility));
  // Without ESIRTPS entries of the old table may stay in use until the guest invalidates them, which is told then.
  const bool new_table = commands.interrupt_table && capabilities_.interrupt_table_invalidates;
  if (new_table || commands.interrupt_remapping) return tell_all_routes();
  if (commands.compatibility_format) tell_routes(0, 0);
}

bool Worker::finish_commands() noexcept {
  if (consumers_.busy()) return false;
  if (global_ && completions_.drained(global_->ticket, global_->withheld, "a command of GCMD or PMEN")) {
    registers_.with([this](RegisterFile& file) {
      const Commands& done = global_->commands;
      if (done.root_pointer) file.complete_root_pointer();
      if (done.interrupt_table) file.complete_interrupt_table();
      if (done.compatibility_format) file.complete_compatibility_format(*done.compatibility_format);
      if (done.interrupt_remapping) file.complete_interrupt_remapping(*done.interrupt_remapping);
      if (done.translation) file.complete_translation(*done.translation);
      if (done.protected_memory) file.complete_protected_memory(*done.protected_memory);
    });
    global_.reset();
  }
  if (context_ && completions_.drained(context_->ticket, context_->withheld, "a context invalidation")) {
    registers_.with([this](RegisterFile& file) { file.complete_context_invalidation(context_->granularity); });
    context_.reset();
  }
  if (iotlb_ && completions_.drained(iotlb_->ticket, iotlb_->withheld, "an IOTLB invalidation")) {
    registers_.with([this](RegisterFile& file) { file.complete_iotlb_invalidation(iotlb_->granularity); });
    iotlb_.reset();
  }
  return !global_ && !context_ && !iotlb_;
}

void Worker::count_iotlb(IotlbGranularity granularity) noexcept {
  switch (granularity) {
    case IotlbGranularity::domain: return add(WorkCount::iotlb_domain);
    case IotlbGranularity::page:   return add(WorkCount::iotlb_page);
    default:                       return add(WorkCount::iotlb_global);
  }
}

void Worker::count_invalidation(const IotlbInvalidation& invalidation) noexcept {
  count_iotlb(invalidation.granularity);
  if (invalidation.granularity == IotlbGranularity::domain)
    waist_.count_dropped(invalidation.domain, caches::Dropped::whole);
  if (invalidation.granularity == IotlbGranularity::page)
    waist_.count_dropped(invalidation.domain, caches::Dropped::pages);
}

void Worker::count_invalidation(const ContextInvalidation& invalidation) noexcept {
  add(WorkCount::context_invalidations);
  if (invalidation.granularity == ContextGranularity::domain)
    waist_.count_dropped(invalidation.domain, caches::Dropped::contexts);
  if (invalidation.granularity == ContextGranularity::device)
    waist_.count_dropped(invalidation.source, caches::Dropped::contexts);
}

void Worker::tell_routes(std::uint32_t first, std::uint32_t count) noexcept { host_.routes_changed(first, count); }

void Worker::tell_all_routes() noexcept {
  const std::uint32_t entries =
      registers_.with([](const RegisterFile& file) { return file.interrupt_table().entries; });
  // A table that was larger leaves routes behind that lead nowhere now.
  tell_routes(0, std::max(entries, std::exchange(routed_entries_, entries)));
}

}  // namespace viommu::vtd
