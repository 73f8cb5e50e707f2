// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who can be handed to a nested guest, and what that may be told.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/capi/alone.hpp"
#include "engine/capi/endpoints.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/capi/sized.hpp"
#include "engine/machine/isolation.hpp"

namespace viommu::capi {
namespace {

[[nodiscard]] bool bridge_makes_sense(const viommu_bridge& bridge) noexcept {
  constexpr std::uint32_t all_flags = VIOMMU_BRIDGE_ACS | VIOMMU_BRIDGE_CONVENTIONAL;
  return (bridge.flags & ~all_flags) == 0 && bridge.secondary > SourceId{bridge.source}.bus() &&
         bridge.subordinate >= bridge.secondary;
}

[[nodiscard]] machine::Bridge bridge_of(const viommu_bridge& from) noexcept {
  machine::Bridge bridge;
  bridge.source = {from.source};
  bridge.secondary = from.secondary;
  bridge.subordinate = from.subordinate;
  bridge.isolates = (from.flags & VIOMMU_BRIDGE_ACS) != 0;
  bridge.conventional = (from.flags & VIOMMU_BRIDGE_CONVENTIONAL) != 0;
  return bridge;
}

[[nodiscard]] std::uint32_t code_of(machine::Ability ability) noexcept {
  switch (ability) {
    case machine::Ability::able:     return VIOMMU_ABILITY_ABLE;
    case machine::Ability::not_able: return VIOMMU_ABILITY_NOT_ABLE;
    case machine::Ability::unknown:  break;
  }
  return VIOMMU_ABILITY_UNKNOWN;
}

[[nodiscard]] bool in_scope(const viommu_engine& engine, SourceId source) noexcept {
  return !engine.bypassing.contains(source);
}
/// Inside alone().
[[nodiscard]] bool can_be_isolated(const viommu_engine& engine, SourceId source) noexcept {
  return in_scope(engine, source) && engine.machine.isolatable(source);
}

/// Inside alone().
[[nodiscard]] viommu_description truth_of(const viommu_engine& engine, SourceId source) noexcept {
  const machine::Device* const device = engine.machine.find(source);
  viommu_description truth{};
  truth.source = source.value;
  truth.ability = VIOMMU_ABILITY_ABLE;
  if (device != nullptr) truth.ability = code_of(device->ability);
  if (device == nullptr && engine.ways.of(source) == machine::Way::blocked) truth.ability = VIOMMU_ABILITY_UNKNOWN;
  truth.translated = engine.ways.of(id_at(engine, source)) == machine::Way::unit ? 1 : 0;
  truth.isolatable = can_be_isolated(engine, source) ? 1 : 0;
  return truth;
}

/// What of it is more than is true.
[[nodiscard]] Refusal claimed(const viommu_description& told, const viommu_description& truth) noexcept {
  Refusal refusal;
  refusal.code = VIOMMU_REFUSED_CANNOT_TRANSLATE;
  refusal.source = truth.source;
  refusal.decimal = true;
  const auto because = [&](const char* field, const char* words, std::uint32_t expected, std::uint32_t found) {
    refusal.field = field;
    refusal.words = words;
    refusal.expected = expected;
    refusal.found = found;
    return refusal;
  };
  if (told.translated > truth.translated)
    return because("translated", "would be told to be translated, and is not", truth.translated, told.translated);
  if (told.isolatable > truth.isolatable)
    return because("isolatable", "would be told to be isolatable, and is not", truth.isolatable, told.isolatable);
  if (told.ability == VIOMMU_ABILITY_ABLE && truth.ability != VIOMMU_ABILITY_ABLE)
    return because("ability", "would be told to be able, and is not known to be", truth.ability, told.ability);
  if (told.translated == 0 || told.ability == VIOMMU_ABILITY_ABLE) return {};
  refusal.code = VIOMMU_REFUSED_INVALID;
  return because("ability", "translated, and not able to be", VIOMMU_ABILITY_ABLE, told.ability);
}

}  // namespace
}  // namespace viommu::capi

using viommu::capi::alone;

extern "C" viommu_result viommu_bridges_put(viommu_engine* engine, const struct viommu_bridge* bridges,
                                            uint32_t count) {
  if (engine == nullptr || (bridges == nullptr && count != 0)) return VIOMMU_E_ARGUMENT;
  if (count > viommu::machine::most_bridges) return VIOMMU_E_LIMIT;
  const std::span given{bridges, count};
  if (!std::ranges::all_of(given, viommu::capi::bridge_makes_sense)) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    std::array<viommu::machine::Bridge, viommu::machine::most_bridges> known;
    std::ranges::transform(given, known.begin(), viommu::capi::bridge_of);
    return engine->machine.put_bridges(std::span{known}.first(count)) ? VIOMMU_OK : VIOMMU_E_MEMORY;
  });
}

extern "C" viommu_result viommu_in_scope(viommu_engine* engine, uint16_t source, uint32_t* in_scope) {
  if (engine == nullptr || in_scope == nullptr) return VIOMMU_E_ARGUMENT;
  *in_scope = viommu::capi::in_scope(*engine, {source}) ? 1 : 0;
  return VIOMMU_OK;
}

extern "C" viommu_result viommu_isolatable(viommu_engine* engine, uint16_t source, uint32_t* isolatable) {
  if (engine == nullptr || isolatable == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    *isolatable = viommu::capi::can_be_isolated(*engine, {source}) ? 1 : 0;
    return VIOMMU_OK;
  });
}

extern "C" viommu_result viommu_describe(viommu_engine* engine, struct viommu_description* description) {
  constexpr std::size_t least = offsetof(viommu_description, source) + sizeof description->source;
  if (engine == nullptr || !viommu::capi::can_take(description) || description->size < least) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    viommu::capi::hand_over(viommu::capi::truth_of(*engine, {description->source}), *description);
    return VIOMMU_OK;
  });
}

extern "C" viommu_result viommu_may_describe(viommu_engine* engine, const struct viommu_description* description,
                                             struct viommu_refusal* refusal) {
  viommu_description told;
  if (engine == nullptr || description == nullptr ||
      viommu::capi::take_over(*description, told, sizeof told) != viommu::capi::Taken::ok || told.reserved != 0 ||
      told.ability < VIOMMU_ABILITY_ABLE || told.ability > VIOMMU_ABILITY_UNKNOWN || told.translated > 1 ||
      told.isolatable > 1)
    return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&] {
    const viommu::capi::Refusal why = viommu::capi::claimed(told, viommu::capi::truth_of(*engine, {told.source}));
    return why.code == VIOMMU_REFUSED_NOTHING ? viommu::capi::refuse_nothing(refusal)
                                              : viommu::capi::refuse(refusal, why);
  });
}
