// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A MirrorModel (tests/support) as the consumer of a mirror that no engine stands around.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "engine/consumer/event.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::consumer {

/// What a consumer says of itself with VIOMMU_CONSUMER_* and unit_bytes.
[[nodiscard]] inline Declared declared_by(std::uint32_t declares, std::uint64_t unit_bytes = 0) {
  constexpr std::uint64_t gib = 0x4000'0000;
  Declared declared;
  declared.map = declared.unmap = true;
  if ((declares & VIOMMU_CONSUMER_LEAF) != 0) declared.units = Units::leaf;
  if ((declares & VIOMMU_CONSUMER_SPLIT) != 0) declared.units = Units::split;
  declared.large = unit_bytes == gib;
  declared.powers_of_two = (declares & VIOMMU_CONSUMER_POW2) != 0;
  declared.mmio = (declares & VIOMMU_CONSUMER_MMIO) != 0;
  declared.shares = (declares & VIOMMU_CONSUMER_SHARES) != 0;
  declared.whole_range = (declares & VIOMMU_CONSUMER_UNMAP_ALL) != 0;
  return declared;
}

[[nodiscard]] inline test::MirrorModel& model_of(const Sink& sink) {
  return *static_cast<test::MirrorModel*>(sink.opaque);
}

[[nodiscard]] inline viommu_event event_for_model(const Event& event) {
  static_assert(sizeof(Event) == sizeof(viommu_event));
  viommu_event one;
  std::memcpy(&one, &event, sizeof one);
  return one;
}

/// Reports are kept too.
[[nodiscard]] inline Sink sink_of(test::MirrorModel& model) {
  Sink sink;
  sink.opaque = &model;
  sink.events = [](const Sink& to, Event* events, std::uint32_t count) {
    for (Event& event : std::span{events, count}) {
      viommu_event one = event_for_model(event);
      model_of(to).consumer.events(&model_of(to), &one, 1);
      event.status = one.status;
    }
  };
  sink.report = [](const Sink& to, Reported what, SourceId source, const Event& event) {
    const viommu_consumer_report report{static_cast<std::uint32_t>(what), source.value, 0, event_for_model(event)};
    model_of(to).consumer.report(&model_of(to), &report);
  };
  sink.space_events = [](const Sink& to, Event* events, std::uint32_t count) {
    for (Event& event : std::span{events, count}) {
      viommu_event one = event_for_model(event);
      model_of(to).consumer.space_events(&model_of(to), to.space, &one, 1);
      event.status = one.status;
    }
  };
  sink.attach = [](const Sink& to, std::uint64_t space) { model_of(to).consumer.attach(&model_of(to), space); };
  sink.space_gone = [](const Sink& to, std::uint64_t space) { model_of(to).consumer.space_gone(&model_of(to), space); };
  return sink;
}

}  // namespace viommu::consumer
