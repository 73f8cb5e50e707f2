// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: quiesce, save, load. Dirty tracking is in dirty.cpp.
#include <cstddef>
#include <cstdio>
#include <span>
#include <type_traits>
#include <variant>

#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"

using viommu::capi::RecordedCall;
using viommu::capi::Refusal;
using viommu::core::Obstacle;
using viommu::core::WorkState;
using viommu::machine::FieldMismatch;
using viommu::machine::StateProblem;
using viommu::virtio_iommu::Device;
using viommu::virtio_iommu::MissingEndpoint;
using viommu::vtd::SavedState;
using viommu::vtd::Unit;

namespace {

[[nodiscard]] viommu_result refuse_for(viommu_refusal* to, const Obstacle& obstacle) noexcept {
  Refusal refusal;
  refusal.code = VIOMMU_REFUSED_BUSY;
  refusal.source = obstacle.source.value;
  refusal.found = obstacle.owner;
  refusal.field = obstacle.what;
  refusal.words = obstacle.words;
  return refuse(to, refusal);
}

/// For what either front end finds wrong with a state.
template <class... Problems>
[[nodiscard]] viommu_result refuse_for(viommu_refusal* to, const std::variant<Problems...>& problem) noexcept {
  Refusal refusal;
  char field[24] = "";
  if (const auto* const mismatch = std::get_if<FieldMismatch>(&problem)) {
    std::snprintf(field, sizeof field, "%.*s", static_cast<int>(mismatch->field.size()), mismatch->field.data());
    refusal.code = VIOMMU_REFUSED_FIELD_MISMATCH;
    refusal.expected = mismatch->expected;
    refusal.found = mismatch->found;
    refusal.words = "the state is of a unit with another one";
  } else if (const auto* const bad = std::get_if<StateProblem>(&problem)) {
    std::snprintf(field, sizeof field, "%s", bad->section.data());
    refusal.code = VIOMMU_REFUSED_BAD_STATE;
    refusal.words = bad->words;
  }
  if constexpr ((std::is_same_v<Problems, MissingEndpoint> || ...)) {
    if (const auto* const missing = std::get_if<MissingEndpoint>(&problem)) {
      std::snprintf(field, sizeof field, "endpoint");
      refusal.code = VIOMMU_REFUSED_FIELD_MISMATCH;
      refusal.found = missing->id.value;
      refusal.words = "is in a domain of the state, and is not here";
    }
  }
  refusal.field = field;
  return refuse(to, refusal);
}

[[nodiscard]] viommu_result save(Unit& unit, std::span<std::byte> room, size_t* length,
                                 viommu_refusal* refusal) noexcept {
  SavedState saved;
  if (const Obstacle obstacle = unit.save(&saved)) return refuse_for(refusal, obstacle);
  static_cast<void>(viommu::capi::refuse_nothing(refusal));
  const viommu::vtd::UnitIdentity identity = unit.identity();
  *length = write_state(saved, identity, {});
  if (*length > room.size()) return VIOMMU_E_RANGE;
  write_state(saved, identity, room.first(*length));
  return VIOMMU_OK;
}

[[nodiscard]] viommu_result save(Device& device, std::span<std::byte> room, size_t* length,
                                 viommu_refusal* refusal) noexcept {
  using Result = Device::Saving::Result;
  const Device::Saving saving = device.save(room);
  if (saving.result == Result::obstacle) return refuse_for(refusal, saving.obstacle);
  static_cast<void>(viommu::capi::refuse_nothing(refusal));
  *length = saving.length;
  switch (saving.result) {
    case Result::done:
    case Result::obstacle:  return VIOMMU_OK;
    case Result::no_room:   return VIOMMU_E_RANGE;
    case Result::too_large: return VIOMMU_E_UNSUPPORTED;
    case Result::no_memory: return VIOMMU_E_MEMORY;
  }
  return VIOMMU_E_UNSUPPORTED;
}

[[nodiscard]] viommu_result load(Unit& unit, std::span<const std::byte> state, viommu_refusal* refusal) noexcept {
  viommu::vtd::LoadProblem problem;
  switch (unit.load(state, problem)) {
    case Unit::Loaded::busy:    return VIOMMU_E_BUSY;
    case Unit::Loaded::refused: return refuse_for(refusal, problem);
    case Unit::Loaded::done:    break;
  }
  return viommu::capi::refuse_nothing(refusal);
}

[[nodiscard]] viommu_result load(Device& device, std::span<const std::byte> state, viommu_refusal* refusal) noexcept {
  viommu::virtio_iommu::LoadProblem problem;
  switch (device.load(state, problem)) {
    case Device::Loading::busy:      return VIOMMU_E_BUSY;
    case Device::Loading::refused:   return refuse_for(refusal, problem);
    case Device::Loading::no_memory: return VIOMMU_E_MEMORY;
    case Device::Loading::done:      break;
  }
  return viommu::capi::refuse_nothing(refusal);
}

}  // namespace

extern "C" {

viommu_result viommu_quiesce(viommu_engine* engine, viommu_refusal* refusal) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  // Bound: sweeps of the largest caches end in fewer slices, and a guest that goes on ringing is told of.
  constexpr unsigned most_slices = 65536;
  WorkState state = WorkState::more;
  for (unsigned slice = 0; slice < most_slices && state == WorkState::more; ++slice) state = engine->front.process(0);
  const Obstacle obstacle = engine->front.with([](auto& front) { return front.obstacle(); });
  return obstacle ? refuse_for(refusal, obstacle) : viommu::capi::refuse_nothing(refusal);
}

viommu_result viommu_save(viommu_engine* engine, void* state, size_t capacity, size_t* length,
                          viommu_refusal* refusal) {
  if (engine == nullptr || length == nullptr || (state == nullptr && capacity != 0)) return VIOMMU_E_ARGUMENT;
  *length = 0;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  const std::span room{static_cast<std::byte*>(state), capacity};
  return engine->front.with([&](auto& front) { return save(front, room, length, refusal); });
}

viommu_result viommu_load(viommu_engine* engine, const void* state, size_t length, viommu_refusal* refusal) {
  if (engine == nullptr || state == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  if (engine->recorder != nullptr) return VIOMMU_E_UNSUPPORTED;  // a trace has no word for it
  const std::span bytes{static_cast<const std::byte*>(state), length};
  return engine->front.with([&](auto& front) { return load(front, bytes, refusal); });
}

}  // extern "C"
