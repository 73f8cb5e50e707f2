// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices of the machine: admission, host facts, phases.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>

#include "engine/capi/alone.hpp"
#include "engine/capi/endpoints.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/capi/sized.hpp"
#include "engine/core/callback.hpp"
#include "engine/machine/machine.hpp"

namespace viommu::capi {
namespace {

using machine::RefusalCode;

[[nodiscard]] std::uint32_t code_of(RefusalCode code) noexcept {
  switch (code) {
    case RefusalCode::nothing:               return VIOMMU_REFUSED_NOTHING;
    case RefusalCode::caching_mode:          return VIOMMU_REFUSED_CACHING_MODE;
    case RefusalCode::already_exists:        return VIOMMU_REFUSED_ALREADY_EXISTS;
    case RefusalCode::width_too_small:       return VIOMMU_REFUSED_WIDTH_TOO_SMALL;
    case RefusalCode::host_type:             return VIOMMU_REFUSED_HOST_TYPE;
    case RefusalCode::need_iommufd:          return VIOMMU_REFUSED_NEED_IOMMUFD;
    case RefusalCode::nesting_unsupported:   return VIOMMU_REFUSED_NESTING_UNSUPPORTED;
    case RefusalCode::field_mismatch:        return VIOMMU_REFUSED_FIELD_MISMATCH;
    case RefusalCode::narrows_haw:           return VIOMMU_REFUSED_NARROWS_HAW;
    case RefusalCode::alias_conflict:        return VIOMMU_REFUSED_ALIAS_CONFLICT;
    case RefusalCode::migration_not_allowed: return VIOMMU_REFUSED_MIGRATION_NOT_ALLOWED;
    case RefusalCode::cannot_translate:      return VIOMMU_REFUSED_CANNOT_TRANSLATE;
    case RefusalCode::unknown_ability:       return VIOMMU_REFUSED_UNKNOWN_ABILITY;
    case RefusalCode::not_supported:         return VIOMMU_REFUSED_NOT_SUPPORTED;
    case RefusalCode::invalid:               return VIOMMU_REFUSED_INVALID;
    case RefusalCode::vetoed:                return VIOMMU_REFUSED_VETOED;
    case RefusalCode::granule_frozen:        return VIOMMU_REFUSED_GRANULE_FROZEN;
    case RefusalCode::page_sizes_disjoint:   return VIOMMU_REFUSED_PAGE_SIZES_DISJOINT;
  }
  return VIOMMU_REFUSED_INVALID;
}

/// That a device was taken as one that does not pass the unit. @return VIOMMU_OK
viommu_result say_bypassed(viommu_refusal* to, SourceId source) noexcept {
  Refusal said;
  said.source = source.value;
  said.field = "Bypassed";
  said.words = "does not pass the unit";
  static_cast<void>(refuse(to, said));
  return VIOMMU_OK;
}

/// In force before anything of it is cached, and nothing that was cached goes on.
void put_way(viommu_engine& engine, SourceId source, machine::Way way) noexcept {
  if (engine.ways.of(source) == way) return;
  engine.ways.put(source, way);
  engine.waist.forget_sources(source);
}
/// Who mirrors the id, if anybody does, is told of its view.
void tell_of_way(viommu_engine& engine, SourceId id, bool bypassed) noexcept {
  consumer::Consumers& consumers = engine.front.consumers();
  if (consumers.view(id)) static_cast<void>(consumers.add_device(id, bypassed));  // it is there
}

/// The way of an id is what its devices and their drivers have made it.
void follow_devices(viommu_engine& engine, SourceId id) noexcept {
  const Behind all = behind(engine, id);
  if (all.count == 0) return;
  const bool moved = all.way != engine.ways.of(id);
  put_way(engine, id, all.way);
  if (moved || engine.front.consumers().bypasses(id) != all.bypassed) tell_of_way(engine, id, all.bypassed);
}

viommu_result refuse_device(viommu_refusal* to, const machine::Refusal& why) noexcept {
  char field[sizeof to->field];
  std::snprintf(field, sizeof field, "%.*s", static_cast<int>(why.field.size()), why.field.data());
  Refusal refusal;
  refusal.code = code_of(why.code);
  refusal.source = why.source.value;
  refusal.expected = why.expected;
  refusal.found = why.found;
  refusal.decimal = why.decimal;
  refusal.field = field;
  refusal.words = why.words;
  if (why.code == RefusalCode::vetoed) refusal.words = why.veto_text.front() != '\0' ? why.veto_text.data() : "vetoed";
  return refuse(to, refusal);
}

/// The caller's facts, each question marked as a call of the host.
struct AskedFacts {
  viommu_host_facts facts{};
  const core::Host* host = nullptr;
  bool no_memory = false;  ///< for an answer

  template <class... Arguments>
  static std::int32_t ask(void* opaque, std::int32_t (*viommu_host_facts::*question)(void*, Arguments...),
                          Arguments... arguments) noexcept {
    const auto& self = *static_cast<const AskedFacts*>(opaque);
    const core::CallbackScope scope{self.host};
    return (self.facts.*question)(self.facts.opaque, arguments...);
  }
  [[nodiscard]] machine::FactFunctions functions() noexcept;
};

machine::FactFunctions AskedFacts::functions() noexcept {
  machine::FactFunctions asked;
  asked.opaque = this;
  asked.backend = facts.backend == VIOMMU_BACKEND_VFIO ? machine::Backend::vfio : machine::Backend::iommufd;
  if (facts.kind != nullptr)
    asked.kind = [](void* self, std::uint32_t* kind) { return ask(self, &viommu_host_facts::kind, kind); };
  if (facts.width != nullptr)
    asked.width = [](void* self, std::uint32_t* bits) { return ask(self, &viommu_host_facts::width, bits); };
  if (facts.capabilities != nullptr)
    asked.capabilities = [](void* self, std::uint64_t* cap, std::uint64_t* ecap) {
      return ask(self, &viommu_host_facts::capabilities, cap, ecap);
    };
  if (facts.page_sizes != nullptr)
    asked.page_sizes = [](void* self, std::uint64_t* mask) { return ask(self, &viommu_host_facts::page_sizes, mask); };
  if (facts.iova_ranges != nullptr)
    asked.iova_ranges = [](void* self, IovaRange* ranges, std::uint32_t capacity,
                           std::uint32_t* count) -> std::int32_t {
      HostArray<viommu_range> theirs;
      auto& asking = *static_cast<AskedFacts*>(self);
      asking.no_memory = capacity != 0 && !theirs.reset(asking.host->allocator(), capacity);
      if (asking.no_memory) return VIOMMU_E_MEMORY;
      const std::int32_t code = ask(self, &viommu_host_facts::iova_ranges, theirs.begin(), capacity, count);
      std::ranges::transform(theirs, ranges,
                             [](const viommu_range& range) -> IovaRange { return {{range.first}, {range.last}}; });
      return code;
    };
  return asked;
}

/// A device as this version knows it, looked through.
struct Described {
  viommu_device device{};
  AskedFacts asked;
  machine::FactFunctions facts;
  HostArray<GpaRange> reserved;
  machine::Candidate candidate;
  std::optional<std::uint32_t> endpoint;
};

[[nodiscard]] viommu_result read_facts(const viommu_engine& engine, Described& into) noexcept {
  const bool bypasses = (into.device.flags & VIOMMU_DEVICE_BYPASSED) != 0 ||
                        into.device.ability == VIOMMU_ABILITY_NOT_ABLE || into.device.wish == VIOMMU_WISH_BYPASS;
  const bool needed = into.device.kind == VIOMMU_DEVICE_HOST && !bypasses;
  if (into.device.facts == nullptr) return needed ? VIOMMU_E_ARGUMENT : VIOMMU_OK;
  if (into.device.kind != VIOMMU_DEVICE_HOST) return VIOMMU_E_ARGUMENT;
  viommu_host_facts& facts = into.asked.facts;
  if (take_over(*into.device.facts, facts, sizeof facts) != Taken::ok || facts.reserved != 0 ||
      (facts.backend != VIOMMU_BACKEND_VFIO && facts.backend != VIOMMU_BACKEND_IOMMUFD))
    return VIOMMU_E_ARGUMENT;
  if (!needed) return VIOMMU_OK;
  into.asked.host = &engine.host;
  into.facts = into.asked.functions();
  into.candidate.facts = &into.facts;
  return VIOMMU_OK;
}

[[nodiscard]] viommu_result read_reserved(const viommu_engine& engine, Described& into) noexcept {
  const std::uint32_t count = into.device.reserved_count;
  if (count == 0) return VIOMMU_OK;
  if (into.device.reserved_memory == nullptr) return VIOMMU_E_ARGUMENT;
  if (count > machine::most_reserved_regions) return VIOMMU_E_LIMIT;
  if (!into.reserved.reset(engine.host.allocator(), count)) return VIOMMU_E_MEMORY;
  const std::span theirs{into.device.reserved_memory, count};
  for (std::size_t i = 0; i < count; ++i) {
    if (theirs[i].last < theirs[i].first) return VIOMMU_E_ARGUMENT;
    into.reserved[i] = {{theirs[i].first}, {theirs[i].last}};
  }
  into.candidate.reserved_memory = into.reserved.begin();
  into.candidate.reserved_count = count;
  return VIOMMU_OK;
}

[[nodiscard]] std::optional<machine::DeviceKind> kind_of(std::uint32_t kind) noexcept {
  switch (kind) {
    case VIOMMU_DEVICE_EMULATED: return machine::DeviceKind::emulated;
    case VIOMMU_DEVICE_HOST:     return machine::DeviceKind::host;
    case VIOMMU_DEVICE_MEDIATED: return machine::DeviceKind::mediated;
    default:                     return std::nullopt;
  }
}

[[nodiscard]] viommu_result read_conduct(Described& into) noexcept {
  const viommu_device& device = into.device;
  const auto has = [&](std::uint32_t flag) { return (device.flags & flag) != 0; };
  if (device.ability > VIOMMU_ABILITY_UNKNOWN || device.wish > VIOMMU_WISH_BYPASS ||
      (device.endpoint != 0 && !has(VIOMMU_DEVICE_ENDPOINT)) ||
      (has(VIOMMU_DEVICE_OFFERS_PLATFORM) && !has(VIOMMU_DEVICE_VIRTIO)) ||
      (has(VIOMMU_DEVICE_VIRTUAL_FUNCTION) ? device.physical == device.source : device.physical != 0))
    return VIOMMU_E_ARGUMENT;
  if (has(VIOMMU_DEVICE_ENDPOINT)) into.endpoint = device.endpoint;
  machine::Candidate& candidate = into.candidate;
  candidate.bypassed = has(VIOMMU_DEVICE_BYPASSED);
  candidate.is_virtio = has(VIOMMU_DEVICE_VIRTIO);
  candidate.offers_platform = has(VIOMMU_DEVICE_OFFERS_PLATFORM);
  candidate.isolates = has(VIOMMU_DEVICE_ACS);
  if (has(VIOMMU_DEVICE_VIRTUAL_FUNCTION)) candidate.physical = SourceId{device.physical};
  switch (device.ability) {
    case VIOMMU_ABILITY_ABLE:     candidate.ability = machine::Ability::able; break;
    case VIOMMU_ABILITY_NOT_ABLE: candidate.ability = machine::Ability::not_able; break;
    case VIOMMU_ABILITY_UNKNOWN:  candidate.ability = machine::Ability::unknown; break;
    default:                      break;
  }
  if (device.wish == VIOMMU_WISH_TRANSLATE) candidate.wish = machine::Wish::translate;
  if (device.wish == VIOMMU_WISH_BYPASS) candidate.wish = machine::Wish::bypass;
  return VIOMMU_OK;
}

[[nodiscard]] viommu_result read_device(const viommu_engine& engine, const viommu_device& given,
                                        Described& into) noexcept {
  viommu_device& device = into.device;
  constexpr std::size_t first_version = offsetof(viommu_device, facts) + sizeof device.facts;
  if (take_over(given, device, first_version) != Taken::ok) return VIOMMU_E_ARGUMENT;
  constexpr std::uint32_t all_flags = VIOMMU_DEVICE_ENDPOINT * 2 - 1;
  const std::optional kind = kind_of(device.kind);
  if (!kind || (device.flags & ~all_flags) != 0) return VIOMMU_E_ARGUMENT;
  into.candidate.source = {device.source};
  if ((device.flags & VIOMMU_DEVICE_HAS_ALIAS) != 0) into.candidate.alias = SourceId{device.alias};
  into.candidate.kind = *kind;
  into.candidate.described = &given;
  if (const viommu_result read = read_conduct(into); read != VIOMMU_OK) return read;
  if (const viommu_result read = read_facts(engine, into); read != VIOMMU_OK) return read;
  return read_reserved(engine, into);
}

/// Makes a device that is let in an endpoint.
struct AsEndpoint {
  viommu_engine& engine;
  std::optional<std::uint32_t> endpoint;
  viommu_result put = VIOMMU_OK;

  [[nodiscard]] machine::Placement placement() noexcept {
    return {this, [](void* opaque, const machine::Device& device) {
              auto& self = *static_cast<AsEndpoint*>(opaque);
              self.put = put_endpoint(self.engine, device, self.endpoint);
              return self.put == VIOMMU_OK;
            }};
  }
};

/// A veto of the machine that asks this one of the VMM's.
[[nodiscard]] machine::Veto asking(VmmVeto& veto) noexcept {
  return {&veto, [](void* opaque, const machine::Candidate& candidate, char* text, std::size_t size) -> std::int32_t {
            const auto& [given, host] = *static_cast<const VmmVeto*>(opaque);
            const core::CallbackScope scope{host};
            return given.refuses(given.opaque, static_cast<const viommu_device*>(candidate.described), text, size);
          }};
}

}  // namespace
}  // namespace viommu::capi

using viommu::capi::alone;
using viommu::capi::id_of;

extern "C" {

viommu_result viommu_device_add(viommu_engine* engine, const viommu_device* device, viommu_refusal* refusal) {
  if (engine == nullptr || device == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&] {
    viommu::capi::Described described;
    if (const viommu_result read = viommu::capi::read_device(*engine, *device, described); read != VIOMMU_OK)
      return read;
    if (!engine->front.consumers().make_room()) return viommu_result{VIOMMU_E_MEMORY};
    viommu::machine::Refusal why;
    const viommu::SourceId source = described.candidate.source;
    viommu::capi::AsEndpoint as_endpoint{*engine, described.endpoint};
    const viommu::machine::Admitted admitted = engine->machine.add(described.candidate, why, as_endpoint.placement());
    if (admitted == viommu::machine::Admitted::unplaced) return as_endpoint.put;
    if (admitted == viommu::machine::Admitted::yes) {
      const viommu::machine::Device& taken = *engine->machine.find(source);
      const viommu::SourceId id = id_of(*engine, taken);
      const viommu::capi::Behind all = viommu::capi::behind(*engine, id);
      viommu::capi::put_way(*engine, id, all.way);
      static_cast<void>(engine->front.consumers().add_device(id, all.bypassed));  // there is room
      engine->bypassing.put(source, taken.bypassed);
      return taken.bypassed ? viommu::capi::say_bypassed(refusal, source) : viommu::capi::refuse_nothing(refusal);
    }
    if (admitted == viommu::machine::Admitted::no_memory || described.asked.no_memory)
      return viommu_result{VIOMMU_E_MEMORY};
    if (why.code == viommu::machine::RefusalCode::unknown_ability) {
      engine->bypassing.put(source, true);
      viommu::capi::put_way(*engine, source, viommu::machine::Way::blocked);
      viommu::capi::tell_of_way(*engine, source, false);
    }
    return viommu::capi::refuse_device(refusal, why);
  });
}

viommu_result viommu_device_remove(viommu_engine* engine, uint16_t source) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    const viommu::machine::Device* const device = engine->machine.find({source});
    const viommu::SourceId id = viommu::capi::id_at(*engine, {source});
    if (device != nullptr) viommu::capi::remove_endpoint(*engine, *device);
    const bool is_last = viommu::capi::behind(*engine, id).count <= (device != nullptr ? 1U : 0U);
    if (is_last) engine->on_id_unused(id);  // before the device is gone
    engine->machine.remove({source});
    engine->bypassing.put({source}, false);
    if (is_last) return VIOMMU_OK;
    viommu::capi::follow_devices(*engine, id);
    // They keep their own reserved memory; where there is no memory to say so, all of it.
    static_cast<void>(viommu::capi::refresh_endpoint(*engine, id));
    return VIOMMU_OK;
  });
}

viommu_result viommu_device_way(viommu_engine* engine, uint16_t source, uint32_t* way) {
  static_assert(static_cast<int>(viommu::machine::Way::unit) == VIOMMU_WAY_UNIT &&
                static_cast<int>(viommu::machine::Way::system) == VIOMMU_WAY_SYSTEM &&
                static_cast<int>(viommu::machine::Way::blocked) == VIOMMU_WAY_BLOCKED);
  if (engine == nullptr || way == nullptr) return VIOMMU_E_ARGUMENT;
  *way = static_cast<uint32_t>(engine->ways.of({source}));
  return VIOMMU_OK;
}

viommu_result viommu_driver_features(viommu_engine* engine, uint16_t source, uint32_t accepted,
                                     viommu_refusal* refusal) {
  if (engine == nullptr || accepted > 1) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&] {
    viommu::machine::Refusal why;
    const bool agreed = engine->machine.driver_chose({source}, accepted != 0, why);
    viommu::capi::follow_devices(*engine, viommu::capi::id_at(*engine, {source}));
    return agreed ? viommu::capi::refuse_nothing(refusal) : viommu::capi::refuse_device(refusal, why);
  });
}

viommu_result viommu_driver_reset(viommu_engine* engine, uint16_t source) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    engine->machine.driver_gone({source});
    viommu::capi::follow_devices(*engine, viommu::capi::id_at(*engine, {source}));
    return VIOMMU_OK;
  });
}

viommu_result viommu_host_facts_unset(viommu_engine* engine, uint16_t source) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    engine->machine.unset_facts({source});
    const viommu::SourceId id = viommu::capi::id_at(*engine, {source});
    return viommu::capi::refresh_endpoint(*engine, id) ? VIOMMU_OK : VIOMMU_E_MEMORY;
  });
}

viommu_result viommu_bus_renumber(viommu_engine* engine, uint8_t from, uint8_t to) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    if (!engine->machine.renumber(from, to)) return VIOMMU_E_EXISTS;
    viommu::virtio_iommu::Device* const device = engine->front.virtio();
    if (device != nullptr && !device->renumber(from, to)) {
      static_cast<void>(engine->machine.renumber(to, from));
      return VIOMMU_E_MEMORY;
    }
    engine->on_bus_renumbered(from, to);
    return VIOMMU_OK;
  });
}

viommu_result viommu_veto_add(viommu_engine* engine, const viommu_veto* veto) {
  if (engine == nullptr || veto == nullptr || veto->refuses == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    if (engine->veto_count == engine->vetoes.size()) return VIOMMU_E_LIMIT;
    viommu::capi::VmmVeto& kept = engine->vetoes[engine->veto_count++];
    kept = {*veto, &engine->host};
    return engine->machine.add_veto(viommu::capi::asking(kept)) ? VIOMMU_OK : VIOMMU_E_LIMIT;
  });
}

viommu_result viommu_ready(viommu_engine* engine, viommu_refusal* refusals, uint32_t capacity, uint32_t* count) {
  if (engine == nullptr || (refusals == nullptr && capacity != 0)) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    std::uint32_t told = 0;
    const bool ready = engine->machine.ready([&](const viommu::machine::Refusal& why) {
      if (told < capacity) viommu::capi::refuse_device(refusals + told, why);
      ++told;
    });
    if (count != nullptr) *count = told;
    return ready ? VIOMMU_OK : VIOMMU_E_REFUSED;
  });
}

viommu_result viommu_capabilities_get(viommu_engine* engine, uint64_t* capability, uint64_t* extended_capability,
                                      uint32_t* host_address_width) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::vtd::Unit* const unit = engine->front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  const viommu::vtd::RegisterFile file = unit->registers();  // of one instant
  if (capability != nullptr) *capability = file.capabilities().cap;
  if (extended_capability != nullptr) *extended_capability = file.capabilities().ecap;
  if (host_address_width != nullptr) *host_address_width = file.capabilities().host_address_width;
  return VIOMMU_OK;
}

viommu_result viommu_migration_blocker(viommu_engine* engine, uint32_t index, char* text, size_t text_size) {
  if (engine == nullptr || text == nullptr || text_size == 0) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  text[0] = '\0';
  if (index != 0 || !engine->machine.narrowed()) return VIOMMU_E_NOT_FOUND;
  std::snprintf(text, text_size, "%s", viommu::machine::narrowed_text);
  return VIOMMU_OK;
}

}  // extern "C"
