// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about devices, and what can be asked of the machine.
#include <algorithm>
#include <array>
#include <string>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"
#include "engine/trace/vocabulary.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned bus_shift = 8;
constexpr std::uint64_t pinned_page_bytes = 4096;

std::string_view view_text(std::uint32_t view) noexcept {
  switch (view) {
    case VIOMMU_VIEW_SYSTEM:     return "system";
    case VIOMMU_VIEW_TRANSLATED: return "translated";
    case VIOMMU_VIEW_BLOCKED:    return "blocked";
    default:                     return "unknown";
  }
}

std::uint32_t view_of(trace::View view) noexcept {
  switch (view) {
    case trace::View::system:     return VIOMMU_VIEW_SYSTEM;
    case trace::View::translated: return VIOMMU_VIEW_TRANSLATED;
    case trace::View::blocked:    return VIOMMU_VIEW_BLOCKED;
  }
  return VIOMMU_VIEW_BLOCKED;
}

}  // namespace

void Replayer::on(const trace::BusBypassed& bus) { bypassed_buses_.push_back(bus.bus); }

void Replayer::on(const trace::Plug& plug) {
  if (!engine_exists()) return;
  PluggedDevice device;
  device.source = static_cast<std::uint16_t>(plug.source_id);
  device.kind = plug.kind;
  device.pairs = plug.options;
  device.bypassed =
      std::find(bypassed_buses_.begin(), bypassed_buses_.end(), plug.source_id >> bus_shift) != bypassed_buses_.end();
  viommu_refusal refusal{};
  const viommu_result result = add_device(unit_.engine->get(), device, refusal);
  const std::string found = result_text(result, refusal);
  std::uint32_t way = VIOMMU_WAY_UNIT;
  static_cast<void>(viommu_device_way(unit_.engine->get(), device.source, &way));
  const bool bypasses = found == "ok" && way == VIOMMU_WAY_SYSTEM;
  if (same_result(plug.result, found) || (bypasses && plug.result == trace::bypassed_result))
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{plug}), std::string{plug.result}, found);
  if (result != VIOMMU_OK) return;
  std::erase_if(devices_, [&](const PluggedDevice& old) { return old.source == device.source; });
  devices_.push_back(std::move(device));
}

void Replayer::on(const trace::FactsUnset& unset) {
  if (!engine_exists()) return;
  succeed("unset", viommu_host_facts_unset(unit_.engine->get(), static_cast<std::uint16_t>(unset.source_id)));
  for (PluggedDevice& device : devices_)
    if (device.source == unset.source_id) device.has_facts = false;
}

void Replayer::on(const trace::Unplug& unplug) {
  if (!engine_exists()) return;
  const auto source = static_cast<std::uint16_t>(unplug.source_id);
  succeed("unplug", viommu_device_remove(unit_.engine->get(), source));
  std::erase_if(devices_, [&](const PluggedDevice& device) { return device.source == source; });
  host_.around.views.erase(source);
  for (const auto& consumer : unit_.consumers)
    if (consumer->source == source) consumer->end();
}

void Replayer::on(const trace::DriverChoice& choice) {
  if (!machine_is_ready("a driver")) return;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  const auto source = static_cast<std::uint16_t>(choice.source_id);
  const viommu_result result = viommu_driver_features(unit_.engine->get(), source, choice.accepted ? 1 : 0, &refusal);
  const std::string found = result_text(result, refusal);
  if (same_result(choice.result, found))
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{choice}), std::string{choice.result}, found);
  for (PluggedDevice& device : devices_)
    if (device.source == source && device.kind == trace::DeviceKind::virtio) device.driver = choice.accepted;
}

void Replayer::on(const trace::BusRenumbered& renumber) {
  if (!machine_is_ready("a bus number")) return;
  succeed("renumber", viommu_bus_renumber(unit_.engine->get(), renumber.from, renumber.to));
  const auto renumbered = [&](std::uint16_t source) {
    if (source >> bus_shift != renumber.from) return source;
    return static_cast<std::uint16_t>(renumber.to << bus_shift | (source & 0xFF));
  };
  for (PluggedDevice& device : devices_) device.source = renumbered(device.source);
  for (const auto& consumer : unit_.consumers) {
    const auto view = host_.around.views.find(consumer->source);
    consumer->source = renumbered(consumer->source);
    if (view != host_.around.views.end()) host_.around.views[consumer->source] = view->second;
  }
}

// ---- Page requests and faults of real devices ----

void Replayer::on(const trace::PageRequested& page) {
  if (!machine_is_ready("a page request")) return;
  viommu_page_request request{};
  request.iova = page.iova;
  request.source = static_cast<std::uint16_t>(page.source_id);
  request.group = page.group;
  request.access = rights_of(page.access.rights);
  request.last = page.last ? 1 : 0;
  if (page.pasid != trace::no_pasid) {
    request.pasid = page.pasid;
    request.flags = static_cast<std::uint8_t>(VIOMMU_HAS_PASID | (page.access.supervisor ? VIOMMU_PRIVILEGED : 0) |
                                              (page.access.execute ? VIOMMU_EXECUTE : 0));
  }
  std::uint32_t code = 0;
  const viommu_result result = viommu_request_page(unit_.engine->get(), &request, &code);
  if (result < 0) return mismatch(text_of(trace::Event{page}), "it is asked", viommu_result_text(result));
  // An answer at once goes the same way as one of the guest's.
  if (result == VIOMMU_PAGE_ANSWERED)
    host_.effects.push_back(reply_effect(request.source, page.pasid, request.group, code));
}

void Replayer::on(const trace::HostFaulted& fault) {
  if (!machine_is_ready("a fault of the host")) return;
  viommu_request request{};
  request.iova = fault.iova;
  request.source = static_cast<std::uint16_t>(fault.source_id);
  request.access = rights_of(fault.access.rights);
  if (fault.pasid != trace::no_pasid) {
    request.pasid = fault.pasid;
    request.flags = static_cast<std::uint8_t>(VIOMMU_HAS_PASID | (fault.access.supervisor ? VIOMMU_PRIVILEGED : 0) |
                                              (fault.access.execute ? VIOMMU_EXECUTE : 0));
  }
  const viommu_result result = viommu_report_host_fault(unit_.engine->get(), &request, fault.reason, nullptr);
  // Of a device that is not there it is dropped.
  if (result != VIOMMU_OK && result != VIOMMU_E_NOT_FOUND)
    mismatch(text_of(trace::Event{fault}), "it is reported", viommu_result_text(result));
}

void Replayer::on(const trace::PageAnswered& reply) {
  Effect effect =
      reply_effect(static_cast<std::uint16_t>(reply.source_id), reply.pasid, reply.group, reply.code, line_);
  expect(effect);
}

// ---- Questions ----

void Replayer::on(const trace::ViewCheck& check) {
  if (!engine_exists()) return;
  std::uint32_t view = 0;
  const viommu_result result = viommu_view(unit_.engine->get(), static_cast<std::uint16_t>(check.source_id), &view);
  compare(trace::Event{check}, view_text(view_of(check.view)),
          result == VIOMMU_OK ? view_text(view) : viommu_result_text(result));
}

void Replayer::on(const trace::IsolatableCheck& check) {
  if (!engine_exists()) return;
  std::uint32_t answer = 0;
  const viommu_result result =
      viommu_isolatable(unit_.engine->get(), static_cast<std::uint16_t>(check.source_id), &answer);
  compare(trace::Event{check}, std::to_string(check.isolatable ? 1 : 0),
          result == VIOMMU_OK ? std::to_string(answer) : viommu_result_text(result));
}

void Replayer::on(const trace::ScopeCheck& check) {
  if (!engine_exists()) return;
  std::uint32_t answer = 0;
  const viommu_result result =
      viommu_in_scope(unit_.engine->get(), static_cast<std::uint16_t>(check.source_id), &answer);
  compare(trace::Event{check}, std::to_string(check.in_scope ? 1 : 0),
          result == VIOMMU_OK ? std::to_string(answer) : viommu_result_text(result));
}

void Replayer::on(const trace::CapabilitiesCheck& check) {
  if (!engine_exists()) return;
  constexpr unsigned capability = 0x08;
  constexpr unsigned extended_capability = 0x10;
  const std::string expected = hex(check.capability) + " " + hex(check.extended_capability);
  const std::string registers =
      hex(unit_.engine->mmio_read(capability, 8)) + " " + hex(unit_.engine->mmio_read(extended_capability, 8));
  std::uint64_t cap = 0;
  std::uint64_t ecap = 0;
  const viommu_result result = viommu_capabilities_get(unit_.engine->get(), &cap, &ecap, nullptr);
  const std::string told = result == VIOMMU_OK ? hex(cap) + " " + hex(ecap) : viommu_result_text(result);
  compare(trace::Event{check}, expected, registers == told ? registers : registers + ", and the VMM is told " + told);
}

void Replayer::on(const trace::WidthCheck& check) {
  if (!engine_exists()) return;
  std::uint32_t width = 0;
  const viommu_result result = viommu_capabilities_get(unit_.engine->get(), nullptr, nullptr, &width);
  compare(trace::Event{check}, hex(check.width), result == VIOMMU_OK ? hex(width - 1) : viommu_result_text(result));
}

void Replayer::on(const trace::BlockersCheck& check) {
  if (!engine_exists()) return;
  std::uint32_t count = 0;
  std::array<char, 256> text{};
  viommu_result result = VIOMMU_OK;
  while ((result = viommu_migration_blocker(unit_.engine->get(), count, text.data(), text.size())) == VIOMMU_OK)
    ++count;  // ends: there are finitely many
  compare(trace::Event{check}, std::to_string(check.count),
          result == VIOMMU_E_NOT_FOUND ? std::to_string(count) : viommu_result_text(result));
}

void Replayer::on(const trace::PinsCheck& check) {
  if (!engine_exists()) return;
  std::uint64_t bytes = 0;
  const viommu_result result = viommu_pinned_bytes(unit_.engine->get(), &bytes);
  compare(trace::Event{check}, std::to_string(check.pages),
          result == VIOMMU_OK ? std::to_string(bytes / pinned_page_bytes) : viommu_result_text(result));
}

}  // namespace viommu::cli
