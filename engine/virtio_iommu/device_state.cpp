// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: what a quiet device is saved as, and becoming what a state says.
#include "engine/virtio_iommu/device.hpp"
#include "engine/virtio_iommu/saved_state.hpp"

namespace viommu::virtio_iommu {

Device::Saving Device::save(std::span<std::byte> room) noexcept {
  Saving saving{Saving::Result::obstacle, {"process", "another thread is at the device's work", 0}};
  static_cast<void>(exclusively([&] { saving = save_quiet(room); }));
  return saving;
}

Device::Saving Device::save_quiet(std::span<std::byte> room) noexcept {
  if (const core::Obstacle obstacle = open_work()) return {Saving::Result::obstacle, obstacle};
  SavedState state;
  state.negotiated = negotiated();
  state.running = running_;
  state.broken = broken();
  state.bypass = seen_config().bypass();  // that of the driver: views follow it wherever they are made
  state.queues[0] = {requests_.config(), requests_.state()};
  state.queues[1] = {events_.queue().config(), events_.state()};
  if (!domains_.save(state)) return {Saving::Result::no_memory};
  const std::optional bytes = bytes_of(state);
  if (!bytes) return {Saving::Result::too_large};
  if (*bytes > room.size()) return {Saving::Result::no_room, {}, *bytes};
  write_state(state, identity(), domains_, room.first(*bytes));
  return {Saving::Result::done, {}, *bytes};
}

Device::Loading Device::load(std::span<const std::byte> bytes, LoadProblem& problem) noexcept {
  problem = {};
  bool done = false;
  const bool alone = exclusively([&] {
    SavedState state;
    problem = read_state(bytes, identity(), options_.limits, host_.allocator(), state);
    if (!std::holds_alternative<std::monostate>(problem)) return;
    if (const std::optional id = domains_.missing(state))
      problem = MissingEndpoint{*id};
    else
      done = become(state);
  });
  if (!alone) return Loading::busy;
  if (std::holds_alternative<NoMemory>(problem)) return Loading::no_memory;
  if (!std::holds_alternative<std::monostate>(problem)) return Loading::refused;
  work_again();
  return done ? Loading::done : Loading::no_memory;
}

/// What was there goes first. Views change when all of what comes is there, each once, and none of them to `bypass` in
/// between. @return false when there is no memory for it
bool Device::become(const SavedState& state) noexcept {
  stop();
  config_.load_bypass(false);
  domains_.detach_all();
  take_all_back();
  const bool done = domains_.restore(state);
  set_bypass(done ? state.bypass : config_.values().bypass);
  if (done) {
    negotiated_.store(state.negotiated.raw, std::memory_order_release);
    // Neither fails: the state was read.
    if (const SavedQueue& queue = state.queues[0]; queue.config.size != 0)
      static_cast<void>(requests_.load(queue.config, queue.state));
    if (const SavedQueue& queue = state.queues[1]; queue.config.size != 0)
      static_cast<void>(events_.enable(queue.config, queue.state));
    running_ = state.running;
    broken_.store(state.broken, std::memory_order_release);
    events_queued_.store(serves() && events_.queue().enabled(), std::memory_order_release);
  }
  publish_views();
  if (!consumers_.advance()) host_.wake();  // the rest goes on in process(), before anything else
  dropped_.clear();
  take_back();
  return done;
}

/// No queue is worked, and no features are negotiated.
void Device::stop() noexcept {
  running_ = false;
  forget_open();
  requests_.disable();
  events_queued_.store(false, std::memory_order_release);
  events_.disable();
  negotiated_.store(0, std::memory_order_release);
  broken_.store(false, std::memory_order_release);
}

void Device::set_bypass(bool bypass) noexcept {
  config_.load_bypass(bypass);
  const std::lock_guard lock{config_lock_};
  config_seen_.load_bypass(bypass);
}

void Device::take_all_back() noexcept {
  constexpr std::size_t slice = 4096;
  // All of it is sealed, also what waits for another ticket's turn: what is retired later is known apart from it.
  reclaim_ticket_ = waist_.ticket({});
  domains_.seal(reclaim_ticket_->epoch);
  views_.seal(reclaim_ticket_->epoch);
  if (!waist_.drained(*reclaim_ticket_)) return;
  reclaim_ticket_.reset();
  while (domains_.reclaim(waist_.tickets_passed(), slice)) {  // ends: so many nodes are there
  }
  views_.reclaim(waist_.tickets_passed());
}

/// Of everybody who sees something else now.
void Device::publish_views() noexcept {
  domains_.for_each_known([this](EndpointName name, const EndpointView& now) {
    if (now.domain != nullptr) waist_.begin_counting(now.domain->index());
    if (views_.of(name.source).kind != now.kind) views_.put(name.source, now, domains_.covers_reserved(name.id));
  });
  waist_.drop(caches::Scope{});
  consumers_.mode_changed();
}

}  // namespace viommu::virtio_iommu
