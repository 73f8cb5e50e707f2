// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Migration: quiesce, save, load. Dirty tracking is in dirty.cpp.
#include <cstddef>
#include <cstdio>
#include <span>
#include <variant>

#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"

using viommu::capi::RecordedCall;
using viommu::capi::Refusal;
using viommu::core::Obstacle;
using viommu::core::WorkState;
using viommu::vtd::FieldMismatch;
using viommu::vtd::LoadProblem;
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

[[nodiscard]] viommu_result refuse_for(viommu_refusal* to, const LoadProblem& problem) noexcept {
  Refusal refusal;
  char field[24];
  if (const auto* const mismatch = std::get_if<FieldMismatch>(&problem)) {
    std::snprintf(field, sizeof field, "%.*s", static_cast<int>(mismatch->field.size()), mismatch->field.data());
    refusal.code = VIOMMU_REFUSED_FIELD_MISMATCH;
    refusal.expected = mismatch->expected;
    refusal.found = mismatch->found;
    refusal.words = "the state is of a unit with another one";
  } else if (const auto* const bad = std::get_if<viommu::machine::StateProblem>(&problem)) {
    std::snprintf(field, sizeof field, "%s", bad->section.data());
    refusal.code = VIOMMU_REFUSED_BAD_STATE;
    refusal.words = bad->words;
  }
  refusal.field = field;
  return refuse(to, refusal);
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
  Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  SavedState saved;
  if (const Obstacle obstacle = unit->save(&saved)) return refuse_for(refusal, obstacle);
  static_cast<void>(viommu::capi::refuse_nothing(refusal));
  const viommu::vtd::UnitIdentity identity = unit->identity();
  *length = write_state(saved, identity, {});
  if (*length > capacity) return VIOMMU_E_RANGE;
  write_state(saved, identity, {static_cast<std::byte*>(state), *length});
  return VIOMMU_OK;
}

viommu_result viommu_load(viommu_engine* engine, const void* state, size_t length, viommu_refusal* refusal) {
  if (engine == nullptr || state == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  if (engine->recorder != nullptr) return VIOMMU_E_UNSUPPORTED;  // a trace has no word for it
  Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  LoadProblem problem;
  switch (unit->load({static_cast<const std::byte*>(state), length}, problem)) {
    case Unit::Loaded::busy:    return VIOMMU_E_BUSY;
    case Unit::Loaded::refused: return refuse_for(refusal, problem);
    case Unit::Loaded::done:    break;
  }
  return viommu::capi::refuse_nothing(refusal);
}

}  // extern "C"
