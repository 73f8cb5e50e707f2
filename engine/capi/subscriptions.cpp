// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Consumers: views, subscriptions, replays.
#include <cstddef>
#include <cstring>
#include <optional>
#include <type_traits>

#include "engine/capi/alone.hpp"
#include "engine/capi/endpoints.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/capi/sized.hpp"

using viommu::capi::alone;
using viommu::capi::refuse;
using viommu::capi::refuse_nothing;
using viommu::capi::Taken;
using viommu::consumer::Declared;
using viommu::consumer::Event;
using viommu::consumer::EventKind;
using viommu::consumer::Mirror;
using viommu::consumer::Reported;
using viommu::consumer::Result;
using viommu::consumer::Subscription;
using viommu::consumer::Units;
using viommu::consumer::View;

namespace {

// One layout with two names: a batch is handed over as it is.
static_assert(sizeof(Event) == sizeof(viommu_event) && std::is_standard_layout_v<Event>);
static_assert(offsetof(Event, last) == offsetof(viommu_event, last) &&
              offsetof(Event, gpa) == offsetof(viommu_event, gpa) &&
              offsetof(Event, hva) == offsetof(viommu_event, hva) &&
              offsetof(Event, kind) == offsetof(viommu_event, kind) &&
              offsetof(Event, rights) == offsetof(viommu_event, rights) &&
              offsetof(Event, status) == offsetof(viommu_event, status));
static_assert(static_cast<int>(EventKind::map) == VIOMMU_EVENT_MAP &&
              static_cast<int>(EventKind::unmap) == VIOMMU_EVENT_UNMAP &&
              static_cast<int>(EventKind::device_unmap) == VIOMMU_EVENT_DEVICE_UNMAP);
static_assert(static_cast<int>(Reported::failed) == VIOMMU_REPORT_FAILED &&
              static_cast<int>(Reported::no_memory) == VIOMMU_REPORT_NO_MEMORY &&
              static_cast<int>(Reported::mmio) == VIOMMU_REPORT_MMIO &&
              static_cast<int>(Reported::discarded) == VIOMMU_REPORT_DISCARDED &&
              static_cast<int>(Reported::quota) == VIOMMU_REPORT_QUOTA &&
              static_cast<int>(Reported::unsupported) == VIOMMU_REPORT_UNSUPPORTED);
static_assert(static_cast<int>(View::system) == VIOMMU_VIEW_SYSTEM &&
              static_cast<int>(View::translated) == VIOMMU_VIEW_TRANSLATED &&
              static_cast<int>(View::blocked) == VIOMMU_VIEW_BLOCKED);
static_assert(viommu::consumer::mmio_right == VIOMMU_MMIO && viommu::consumer::no_gpa == VIOMMU_NO_GPA);

constexpr std::uint64_t two_mib = std::uint64_t{1} << 21;
constexpr std::uint64_t one_gib = std::uint64_t{1} << 30;

[[nodiscard]] Declared declared_by(const viommu_engine& engine, const viommu_consumer& consumer) noexcept {
  const auto declares = [&](std::uint32_t flag) { return (consumer.declares & flag) != 0; };
  Declared declared;
  declared.map = (consumer.notify & VIOMMU_EVENT_MAP) != 0;
  declared.unmap = (consumer.notify & VIOMMU_EVENT_UNMAP) != 0;
  declared.device_unmap = (consumer.notify & VIOMMU_EVENT_DEVICE_UNMAP) != 0;
  declared.units = declares(VIOMMU_CONSUMER_LEAF) || declares(VIOMMU_CONSUMER_NO_BLINK) ? Units::leaf
                   : declares(VIOMMU_CONSUMER_SPLIT)                                    ? Units::split
                                                                                        : Units::table;
  declared.large = consumer.unit_bytes == one_gib;
  declared.powers_of_two = declares(VIOMMU_CONSUMER_POW2);
  declared.snoops = declares(VIOMMU_CONSUMER_SNOOPS);
  declared.mmio = declares(VIOMMU_CONSUMER_MMIO);
  declared.private_memory = declares(VIOMMU_CONSUMER_PRIVATE);
  declared.logs = declares(VIOMMU_CONSUMER_LOGS);
  declared.shares = declared.map && engine.share_spaces && declares(VIOMMU_CONSUMER_SHARES);
  declared.whole_range = declares(VIOMMU_CONSUMER_UNMAP_ALL);
  return declared;
}

/// What the unit cannot do for this consumer. Nothing is changed yet.
[[nodiscard]] viommu::capi::Refusal refusal_of(viommu_engine& engine, std::uint16_t source,
                                               const viommu_consumer& consumer) noexcept {
  constexpr std::uint32_t all_kinds = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP | VIOMMU_EVENT_DEVICE_UNMAP;
  constexpr std::uint32_t all_declared = VIOMMU_CONSUMER_UNMAP_ALL * 2 - 1;
  const auto invalid = [&](const char* field, const char* words, std::uint64_t found) {
    return viommu::capi::Refusal{VIOMMU_REFUSED_INVALID, source, 0, found, field, words};
  };
  const auto unsupported = [&](const char* field, const char* words) {
    return viommu::capi::Refusal{VIOMMU_REFUSED_NOT_SUPPORTED, source, 0, consumer.notify, field, words};
  };
  if (consumer.notify == 0 || (consumer.notify & ~all_kinds) != 0)
    return invalid("notify", "no kind of event that there is", consumer.notify);
  if ((consumer.declares & ~all_declared) != 0)
    return invalid("declares", "something that this version does not know", consumer.declares);
  const bool map = (consumer.notify & VIOMMU_EVENT_MAP) != 0;
  if (map && (consumer.notify & VIOMMU_EVENT_UNMAP) == 0)
    return invalid("notify", "MAP without UNMAP", consumer.notify);
  if (consumer.last < consumer.first) return invalid("range", "ends before it begins", consumer.last);
  if (consumer.unit_bytes != 0 && consumer.unit_bytes != two_mib && consumer.unit_bytes != one_gib)
    return invalid("unit_bytes", "neither 2 MiB nor 1 GiB", consumer.unit_bytes);
  if (consumer.events == nullptr) return invalid("events", "no function", 0);
  if (engine.share_spaces && (consumer.declares & VIOMMU_CONSUMER_SHARES) != 0) {
    const bool told = consumer.attach != nullptr && consumer.space_gone != nullptr && consumer.space_events != nullptr;
    if (!told) return invalid("attach", "not all functions of a consumer that shares", 0);
    if (map && engine.front.consumers().has_sharer({source}))
      return invalid("declares", "a device uses one host address space, and has a consumer that shares", source);
  }
  viommu::vtd::Unit* const front = engine.front.vtd();
  if (front == nullptr) {  // its guest announces every mapping, and knows neither device TLBs nor snoop control
    if ((consumer.notify & VIOMMU_EVENT_DEVICE_UNMAP) == 0) return {};
    return invalid("DEVIOTLB_UNMAP", "a virtio-iommu has no device TLBs", consumer.notify);
  }
  const viommu::vtd::Capabilities& unit = front->capabilities();
  if (map && !unit.caching_mode && unit.translates() && !engine.front.consumers().bypasses({source}))
    return unsupported("MAP", "the unit has no caching-mode, so the guest announces no new mappings");
  if ((consumer.notify & VIOMMU_EVENT_DEVICE_UNMAP) != 0 && !unit.device_tlb)
    return unsupported("DEVIOTLB_UNMAP", "the unit has no device TLBs (ECAP.DT)");
  if (map && unit.snoop_control && (consumer.declares & VIOMMU_CONSUMER_SNOOPS) == 0)
    return unsupported("Snoop Control", "the unit offers it (ECAP.SC), and the consumer does not honour it");
  return {};
}

[[nodiscard]] viommu_result result_of(Result result) noexcept {
  switch (result) {
    case Result::ok:        return VIOMMU_OK;
    case Result::limit:     return VIOMMU_E_LIMIT;
    case Result::no_memory: return VIOMMU_E_MEMORY;
    case Result::not_found: return VIOMMU_E_NOT_FOUND;
    case Result::exists:    return VIOMMU_E_EXISTS;
  }
  return VIOMMU_E_ARGUMENT;
}

[[nodiscard]] viommu::consumer::Sink sink_of(const viommu_consumer& consumer, const viommu::core::Host& host) noexcept {
  using Events = decltype(consumer.events);
  using Report = decltype(consumer.report);
  using SpaceEvents = decltype(consumer.space_events);
  using OfSpace = decltype(consumer.attach);
  using Sink = viommu::consumer::Sink;
  Sink sink;
  sink.engine = &host;
  sink.opaque = consumer.opaque;
  sink.given_events = reinterpret_cast<Sink::Function>(consumer.events);
  sink.given_report = reinterpret_cast<Sink::Function>(consumer.report);
  sink.events = [](const Sink& to, Event* events, std::uint32_t count) {
    reinterpret_cast<Events>(to.given_events)(to.opaque, reinterpret_cast<viommu_event*>(events), count);
  };
  sink.given_space_events = reinterpret_cast<Sink::Function>(consumer.space_events);
  sink.given_attach = reinterpret_cast<Sink::Function>(consumer.attach);
  sink.given_space_gone = reinterpret_cast<Sink::Function>(consumer.space_gone);
  sink.space_events = [](const Sink& to, Event* events, std::uint32_t count) {
    reinterpret_cast<SpaceEvents>(to.given_space_events)(to.opaque, to.space, reinterpret_cast<viommu_event*>(events),
                                                         count);
  };
  sink.attach = [](const Sink& to, std::uint64_t space) {
    reinterpret_cast<OfSpace>(to.given_attach)(to.opaque, space);
  };
  sink.space_gone = [](const Sink& to, std::uint64_t space) {
    reinterpret_cast<OfSpace>(to.given_space_gone)(to.opaque, space);
  };
  if (consumer.report == nullptr) return sink;
  sink.report = [](const Sink& to, Reported what, viommu::SourceId source, const Event& event) {
    viommu_consumer_report report{};
    report.what = static_cast<std::uint32_t>(what);
    report.source = source.value;
    std::memcpy(&report.event, &event, sizeof event);
    reinterpret_cast<Report>(to.given_report)(to.opaque, &report);
  };
  return sink;
}

}  // namespace

extern "C" {

viommu_result viommu_view(viommu_engine* engine, uint16_t source, uint32_t* view) {
  if (engine == nullptr || view == nullptr) return VIOMMU_E_ARGUMENT;
  if (const std::optional known = engine->front.consumers().view({source}); known) {
    *view = static_cast<std::uint32_t>(*known);
    return VIOMMU_OK;
  }
  viommu::core::Reader* const reader = engine->waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  engine->waist.enter(*reader);
  *view = static_cast<std::uint32_t>(engine->front.content_of({source}).view);
  engine->waist.leave(*reader);
  engine->waist.put_reader(*reader);
  return VIOMMU_OK;
}

viommu_result viommu_subscribe(viommu_engine* engine, uint16_t source, const viommu_consumer* consumer,
                               viommu_refusal* refusal, uint64_t* subscription) {
  static_cast<void>(refuse_nothing(refusal));
  if (engine == nullptr || consumer == nullptr || subscription == nullptr) return VIOMMU_E_ARGUMENT;
  *subscription = 0;
  viommu_consumer wanted;
  constexpr std::size_t least = offsetof(viommu_consumer, events) + sizeof wanted.events;
  switch (viommu::capi::take_over(*consumer, wanted, least)) {
    case Taken::ok:            break;
    case Taken::no_version:    return VIOMMU_E_ARGUMENT;
    case Taken::unknown_field: return VIOMMU_E_UNSUPPORTED;
  }
  return alone(*engine, [&] {
    source = viommu::capi::id_at(*engine, {source}).value;
    const viommu::capi::Refusal refused = refusal_of(*engine, source, wanted);
    if (refused.code != VIOMMU_REFUSED_NOTHING) return refuse(refusal, refused);
    const Subscription made{sink_of(wanted, engine->host),
                            declared_by(*engine, wanted),
                            {{wanted.first}, {wanted.last}},
                            wanted.quota != 0 ? wanted.quota : engine->mapping_quota,
                            wanted.share_group,
                            engine->machine.facts_class({source})};
    return result_of(engine->front.consumers().subscribe({source}, made, *subscription));
  });
}

viommu_result viommu_replay(viommu_engine* engine, uint64_t subscription) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&] {
    engine->range_ns.store(viommu_engine::mirrored_range_ns, std::memory_order_relaxed);
    return result_of(engine->front.consumers().replay(subscription));
  });
}

viommu_result viommu_unsubscribe(viommu_engine* engine, uint64_t subscription) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&] { return result_of(engine->front.consumers().unsubscribe(subscription)); });
}

viommu_result viommu_subscription_figures_get(viommu_engine* engine, uint64_t subscription,
                                              viommu_subscription_figures* figures) {
  if (engine == nullptr || !viommu::capi::can_take(figures)) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    const Mirror* const mirror = engine->front.consumers().find(subscription);
    if (mirror == nullptr) return VIOMMU_E_NOT_FOUND;
    const Mirror::Figures& now = mirror->figures();
    viommu_subscription_figures found{};
    found.mappings = now.mappings;
    found.mapped_bytes = now.bytes;
    found.shadow_bytes = mirror->shadow_bytes();
    found.maps = now.told.maps;
    found.unmaps = now.told.unmaps;
    found.split_bytes = now.split_bytes;
    found.failures = now.told.failures;
    found.left_out = now.told.left_out;
    found.tables = now.tables;
    viommu::capi::hand_over(found, *figures);
    return VIOMMU_OK;
  });
}

viommu_result viommu_pinned_bytes(viommu_engine* engine, uint64_t* bytes) {
  if (engine == nullptr || bytes == nullptr) return VIOMMU_E_ARGUMENT;
  return alone(*engine, [&]() -> viommu_result {
    *bytes = engine->front.consumers().pinned_bytes();
    return VIOMMU_OK;
  });
}

}  // extern "C"
