// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: whether the unit is quiet, and taking a state in.
#include <algorithm>
#include <array>
#include <utility>

#include "engine/vtd/worker.hpp"

namespace viommu::vtd {

/// Of what only the role knows.
Obstacle Worker::open_work() const noexcept {
  if (const Obstacle hold = core::open_hold(waist_)) return hold;
  if (devices_.any_open()) {
    std::array<DeviceInvalidationSeen, DeviceTlbs::most_open> seen;
    const std::size_t count = devices_.describe(seen);
    const SourceId source = count == 0 ? SourceId{} : seen[0].what.source;
    return {"device invalidation", "waits for its answer", source.value, source};
  }
  if (global_) return core::delay_of(waist_, global_->ticket);
  if (context_) return core::delay_of(waist_, context_->ticket);
  if (iotlb_) return core::delay_of(waist_, iotlb_->ticket);
  if (!waits_.empty()) return core::delay_of(waist_, waits_.oldest().ticket);
  if (const Obstacle region = core::removed_region(waist_)) return region;
  return tracking_.obstacle();
}

WorkLook Worker::save(SavedState* state, Obstacle& obstacle) noexcept {
  obstacle = {"process", "another thread is at the unit's work", 0};
  return exclusively([&] {
    obstacle = open_work();
    registers_.with([&](const RegisterFile& file) {
      if (obstacle) return;
      if (commanded_.load(std::memory_order_relaxed)) {
        obstacle = {"command", "was not begun", 1};
      } else if (file.queue_may_run()) {
        const QueueGeometry ring = file.queue_geometry();
        const bool inside = file.queue_tail() < ring.size_bytes;
        obstacle = {"descriptors", "wait in the queue",
                    inside ? ring.waiting(file.queue_head(), file.queue_tail()) : 0};
      } else if (const std::optional source = pages_.first_posted()) {
        obstacle = {"page request", "is not in the guest's queue", source->value, *source};
      } else if (registers_.queued() != 0) {
        obstacle = {"message", "was not sent", registers_.queued()};
      } else if (state != nullptr) {
        state->registers = file.image();
        state->groups = pages_.waiting();
      }
    });
  });
}

bool Worker::load(const RegisterFile& loaded, const PageGroups& groups) noexcept {
  const WorkLook look = exclusively([&] {
    // First what was goes, while the registers let no page request in; the mode stays until the new one is in force, so
    // that nothing passes untranslated in between.
    const std::uint32_t entries_before = forget_registers();
    forget_work();
    pages_.reset();
    registers_.with([&](RegisterFile& file) {
      file = loaded;
      pages_.take_over(groups);
    });
    dma_.set_mode(loaded.root_pointer(), loaded.translation_enabled(), loaded.protection_enabled());
    const InterruptTable table = loaded.interrupt_table();
    interrupts_.set_mode(table, loaded.interrupt_remapping_enabled(), loaded.compatibility_format_allowed());
    waist_.drop(caches::Scope{});
    consumers_.mode_changed();
    if (!consumers_.advance()) host_.wake();  // the rest goes on in process(), before anything else
    const std::uint32_t routed = std::exchange(routed_entries_, table.entries);
    tell_routes(0, std::max({table.entries, routed, entries_before}));
  });
  return look != WorkLook::busy;  // a note that came meanwhile is the caller's process() to do
}

std::uint32_t Worker::forget_registers() noexcept {
  const std::uint32_t entries = registers_.with([this](RegisterFile& file) {
    const std::uint32_t before = file.interrupt_table().entries;
    file.reset();
    commands_ = {};
    commanded_.store(false, std::memory_order_release);
    return before;
  });
  registers_.drop_messages();
  return entries;
}

void Worker::forget_work() noexcept {
  global_.reset();
  context_.reset();
  iotlb_.reset();
  forget_waits();
  devices_.forget();
}

DirtyCollected Worker::collect_dirty() noexcept {
  DirtyCollected result{false, false};
  const WorkLook look = exclusively([&] { result.settled = tracking_.collect(); });
  result.noted = look == WorkLook::noted;
  return result;
}

}  // namespace viommu::vtd
