// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Interrupt requests, and the question what would become of one.
#include <bit>
#include <cstddef>
#include <cstring>

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/bits.hpp"
#include "engine/capi/call_guard.hpp"
#include "engine/capi/engine.hpp"

using viommu::capi::CallGuard;
using viommu::capi::engine_of;
using viommu::capi::reader_of;
using viommu::capi::RecordedCall;
using viommu::core::Count;
using viommu::core::Reader;
using viommu::vtd::InterruptAnswer;
using viommu::vtd::InterruptKind;
using viommu::vtd::InterruptRequest;

namespace {

constexpr unsigned all_flags = VIOMMU_MESSAGE_ANY_SOURCE;

[[nodiscard]] bool makes_sense(const viommu_message& message) noexcept {
  return viommu::interrupt_window.contains(message.address) && (message.flags & ~all_flags) == 0;
}

[[nodiscard]] InterruptRequest request_of(const viommu_message& message) noexcept {
  return {{message.source}, (message.flags & VIOMMU_MESSAGE_ANY_SOURCE) != 0, message.address, message.data};
}

[[nodiscard]] constexpr std::uint8_t kind_of(InterruptKind kind) noexcept { return static_cast<std::uint8_t>(kind); }
static_assert(kind_of(InterruptKind::fault) == VIOMMU_ROUTE_FAULT &&
              kind_of(InterruptKind::unchanged) == VIOMMU_ROUTE_UNCHANGED &&
              kind_of(InterruptKind::remapped) == VIOMMU_ROUTE_REMAPPED &&
              kind_of(InterruptKind::posted) == VIOMMU_ROUTE_POSTED);

/// In words, because who reads the answer next reads it in words: parts of one would have to reach the cache first.
void write(viommu_routed& routed, const InterruptAnswer& answer) noexcept {
  static_assert(std::endian::native == std::endian::little);
  static_assert(offsetof(viommu_routed, index) == offsetof(viommu_routed, data) + 4 &&
                offsetof(viommu_routed, kind) == offsetof(viommu_routed, data) + 8 &&
                offsetof(viommu_routed, urgent) == offsetof(viommu_routed, kind) + 5 &&
                sizeof(viommu_routed) == offsetof(viommu_routed, kind) + 8);
  const std::uint64_t message = viommu::joined(answer.data, answer.index);
  const std::uint64_t tail = std::uint64_t{kind_of(answer.kind)} | static_cast<std::uint64_t>(answer.reason) << 8 |
                             static_cast<std::uint64_t>(answer.status) << 16 | std::uint64_t{answer.vector} << 24 |
                             std::uint64_t{answer.notify} << 32 | std::uint64_t{answer.urgent} << 40;
  routed.address = answer.address;
  routed.descriptor = answer.descriptor.value;
  std::memcpy(&routed.data, &message, sizeof message);
  std::memcpy(&routed.kind, &tail, sizeof tail);
}

[[nodiscard]] viommu_result result_of(const InterruptAnswer& answer) noexcept {
  return answer.kind == InterruptKind::fault ? VIOMMU_E_FAULT : VIOMMU_OK;
}

/// Where nothing is remapped the message is delivered as it is.
template <class Ask>
void remap(viommu_engine& engine, const viommu_message& message, InterruptAnswer& answer, const Ask& ask) noexcept {
  if (viommu::vtd::Unit* const unit = engine.front.vtd(); unit != nullptr) [[likely]]
    return ask(unit->interrupts(), request_of(message), answer);
  answer.kind = InterruptKind::unchanged;
  answer.address = message.address;
  answer.data = message.data;
}

[[nodiscard]] viommu_result interrupt(viommu_engine& engine, Reader& reader, const viommu_message& message,
                                      viommu_routed& routed) noexcept {
  const RecordedCall call{engine.recorder.get()};
  const CallGuard guard{engine.waist, reader};
  InterruptAnswer answer;
  remap(engine, message, answer,
        [](auto& interrupts, const auto& request, auto& to) { interrupts.request(request, to); });
  write(routed, answer);
  reader.counters.add(Count::messages);
  if (answer.kind == InterruptKind::posted) reader.counters.add(Count::messages_posted);
  if (answer.kind == InterruptKind::fault) reader.counters.add(Count::messages_blocked);
  if (engine.recorder != nullptr) engine.recorder->interrupted(message, routed);
  return result_of(answer);
}

/// Runs `action(reader)` with a reader for one call. Waits a little when all are in use: each is for some instructions.
template <class Action>
[[nodiscard]] viommu_result with_transient_reader(viommu_engine& engine, const Action& action) noexcept {
  constexpr unsigned most_rounds = 4096;
  Reader* reader = engine.waist.take_transient_reader();
  for (unsigned round = 0; reader == nullptr; ++round) {
    if (round == most_rounds) return VIOMMU_E_BUSY;
    viommu::spin_pause(round);
    reader = engine.waist.take_transient_reader();
  }
  const viommu_result result = action(*reader);
  engine.waist.put_reader(*reader);
  return result;
}

}  // namespace

extern "C" {

viommu_result viommu_interrupt(viommu_reader* handle, const viommu_message* message, viommu_routed* routed) {
  if (handle == nullptr || message == nullptr || routed == nullptr || !makes_sense(*message)) return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  return interrupt(engine_of(reader), reader, *message, *routed);
}

viommu_result viommu_interrupt_once(viommu_engine* engine, const viommu_message* message, viommu_routed* routed) {
  if (engine == nullptr || message == nullptr || routed == nullptr || !makes_sense(*message)) return VIOMMU_E_ARGUMENT;
  return with_transient_reader(*engine, [&](Reader& reader) { return interrupt(*engine, reader, *message, *routed); });
}

viommu_result viommu_route(viommu_engine* engine, const viommu_message* message, viommu_routed* routed) {
  if (engine == nullptr || message == nullptr || routed == nullptr || !makes_sense(*message)) return VIOMMU_E_ARGUMENT;
  return with_transient_reader(*engine, [&](Reader& reader) {
    const RecordedCall call{engine->recorder.get()};
    const CallGuard guard{engine->waist, reader};
    InterruptAnswer answer;
    remap(*engine, *message, answer,
          [](auto& interrupts, const auto& request, auto& to) { interrupts.route(request, to); });
    write(*routed, answer);
    if (engine->recorder != nullptr) engine->recorder->asked_for_route(*message, *routed);
    return result_of(answer);
  });
}

}  // extern "C"
