// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Dirty tracking: the switch, and what was written.
#include <cstddef>

#include "engine/capi/call_guard.hpp"
#include "engine/capi/engine.hpp"

using viommu::GpaRange;
using viommu::core::DirtyLog;
using viommu::core::Reader;

namespace {

/// Regions that are added from now on see to it themselves.
[[nodiscard]] viommu_result make_room(viommu_engine& engine) noexcept {
  Reader* const reader = engine.waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  const bool wanted_before = engine.waist.dirty().wanted();
  engine.waist.want_dirty(true);
  engine.waist.enter(*reader);
  const bool covered = engine.waist.cover_regions();
  engine.waist.leave(*reader);
  engine.waist.put_reader(*reader);
  if (!covered && !wanted_before) engine.waist.want_dirty(false);
  return covered ? VIOMMU_OK : VIOMMU_E_MEMORY;
}

}  // namespace

extern "C" {

viommu_result viommu_dirty_tracking(viommu_engine* engine, uint32_t on) {
  if (engine == nullptr || on > VIOMMU_DIRTY_ON) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  if (engine->recorder != nullptr) return VIOMMU_E_UNSUPPORTED;  // answers are other ones meanwhile
  if (on == VIOMMU_DIRTY_ON)
    if (const viommu_result room = make_room(*engine); room != VIOMMU_OK) return room;
  if (on == VIOMMU_DIRTY_OFF) engine->waist.want_dirty(false);
  engine->front.with([=](auto& front) { front.track(on == VIOMMU_DIRTY_ON); });
  return VIOMMU_OK;
}

viommu_result viommu_dirty_tracking_is(viommu_engine* engine, uint32_t* on) {
  if (engine == nullptr || on == nullptr) return VIOMMU_E_ARGUMENT;
  *on = engine->front.with([](auto& front) { return front.tracks(); }) ? VIOMMU_DIRTY_ON : VIOMMU_DIRTY_OFF;
  return VIOMMU_OK;
}

viommu_result viommu_dirty_fetch(viommu_engine* engine, viommu_range* runs, uint32_t capacity, uint32_t* count) {
  if (engine == nullptr || runs == nullptr || count == nullptr || capacity == 0) return VIOMMU_E_ARGUMENT;
  *count = 0;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  if (!engine->front.with([](auto& front) { return front.collect_dirty(); })) return VIOMMU_E_BUSY;
  const DirtyLog::Runs to{runs, [](void* array, std::size_t index, GpaRange run) noexcept {
                            static_cast<viommu_range*>(array)[index] = {run.first.value, run.last.value};
                          }};
  *count = static_cast<std::uint32_t>(engine->waist.dirty().fetch(capacity, to));
  return VIOMMU_OK;
}

}  // extern "C"
