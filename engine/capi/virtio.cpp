// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu: life, transport, requests (viommu_virtio.h).
#include <viommu/viommu_virtio.h>

#include <cstddef>
#include <span>

#include "engine/capi/alone.hpp"
#include "engine/capi/create.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/sized.hpp"

using viommu::capi::RecordedCall;
using viommu::capi::Recorder;
using viommu::capi::Settings;
using viommu::virtio_iommu::ConfigWrite;
using viommu::virtio_iommu::Device;
using viommu::virtio_iommu::QueueIndex;
using viommu::virtio_iommu::RequestCount;

namespace {

static_assert(static_cast<int>(QueueIndex::request) == VIOMMU_VIRTIO_REQUESTS &&
              static_cast<int>(QueueIndex::event) == VIOMMU_VIRTIO_EVENTS);
using viommu::virtio_iommu::FaultReason;
static_assert(static_cast<int>(FaultReason::unknown) == VIOMMU_VIRTIO_FAULT_UNKNOWN &&
              static_cast<int>(FaultReason::domain) == VIOMMU_VIRTIO_FAULT_DOMAIN &&
              static_cast<int>(FaultReason::mapping) == VIOMMU_VIRTIO_FAULT_MAPPING);

[[nodiscard]] viommu_result result_of(Device::Setup setup) noexcept {
  switch (setup) {
    case Device::Setup::ok:      return VIOMMU_OK;
    case Device::Setup::refused: return VIOMMU_E_REFUSED;
    case Device::Setup::busy:    return VIOMMU_E_BUSY;
  }
  return VIOMMU_E_ARGUMENT;
}

constexpr std::uint64_t most_offset = ~std::uint32_t{0};  // that a trace can have

/// Runs use(device) for an engine that has one, not from a callback.
template <class Use>
[[nodiscard]] viommu_result with_device(viommu_engine* engine, const Use& use) noexcept {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  Device* const device = engine->front.virtio();
  if (device == nullptr) return VIOMMU_E_UNSUPPORTED;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  const RecordedCall call{engine->recorder.get()};
  return use(*device);
}

}  // namespace

extern "C" {

viommu_result viommu_create_virtio(const viommu_virtio_options* options, const viommu_host* host, char* error,
                                   size_t error_size, viommu_engine** engine) {
  if (options == nullptr) host = nullptr;  // refused below, with an empty text
  const auto read = [&](const viommu_host&, const viommu::HostAllocator& allocator, Settings& settings) {
    return viommu::capi::read_settings(*options, allocator, settings, error, error_size);
  };
  const auto options_of = [](const Settings& settings) -> const auto& { return settings.virtio; };
  return viommu::capi::create(
      {error, error_size}, host, engine, read, options_of, [](viommu_engine& created, const Settings&) {
        Device& device = *created.front.virtio();
        if (!device.reset_memory()) return false;
        return created.recorder == nullptr ||
               created.recorder->follow(device, {created.reserved.begin(), created.reserved.size()});
      });
}

viommu_result viommu_virtio_features(viommu_engine* engine, uint64_t* offered) {
  if (engine == nullptr || offered == nullptr) return VIOMMU_E_ARGUMENT;
  const Device* const device = engine->front.virtio();
  if (device == nullptr) return VIOMMU_E_UNSUPPORTED;
  *offered = device->offered().raw;
  return VIOMMU_OK;
}

viommu_result viommu_virtio_config_read(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t* value) {
  if (value == nullptr || (size != 1 && size != 2 && size != 4 && size != 8)) return VIOMMU_E_ARGUMENT;
  *value = 0;
  return with_device(engine, [&](Device& device) -> viommu_result {
    *value = device.read_config(offset, size);
    Recorder* const recorder = engine->recorder.get();
    if (recorder != nullptr && offset <= most_offset) recorder->register_read(offset, size, *value);
    return VIOMMU_OK;
  });
}

viommu_result viommu_virtio_config_write(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t value) {
  if (size != 1 && size != 2 && size != 4 && size != 8) return VIOMMU_E_ARGUMENT;
  return with_device(engine, [&](Device& device) -> viommu_result {
    Recorder* const recorder = engine->recorder.get();
    if (recorder != nullptr && offset <= most_offset) {
      recorder->driver_ready();  // what may be written follows from what was negotiated
      recorder->register_written(offset, size, value);
    }
    const ConfigWrite written = device.write_config(offset, size, value);
    if (recorder != nullptr && written == ConfigWrite::bypass) recorder->bypass_became();
    return written == ConfigWrite::driver_error ? VIOMMU_E_REFUSED : VIOMMU_OK;
  });
}

viommu_result viommu_virtio_negotiate(viommu_engine* engine, uint64_t features) {
  return with_device(engine, [&](Device& device) { return result_of(device.negotiate({features})); });
}

viommu_result viommu_virtio_queue_set(viommu_engine* engine, uint32_t index, const viommu_virtio_queue* queue) {
  if (index > VIOMMU_VIRTIO_EVENTS) return VIOMMU_E_ARGUMENT;
  viommu::virtqueue::Config config;
  if (queue != nullptr) {
    if (queue->reserved != 0 || queue->size == 0 || queue->size > viommu::virtqueue::most_entries)
      return VIOMMU_E_ARGUMENT;
    config.size = static_cast<std::uint16_t>(queue->size);
    config.descriptor_area = {queue->descriptor_area};
    config.driver_area = {queue->driver_area};
    config.device_area = {queue->device_area};
  }
  return with_device(engine, [&](Device& device) {
    viommu::virtqueue::ConfigProblem problem{};
    return result_of(device.set_queue(static_cast<QueueIndex>(index), config, problem));
  });
}

viommu_result viommu_virtio_start(viommu_engine* engine) {
  return with_device(engine, [&](Device& device) {
    const viommu_result started = result_of(device.start());
    if (started == VIOMMU_OK && engine->recorder != nullptr) engine->recorder->driver_ready();
    return started;
  });
}

viommu_result viommu_virtio_notify(viommu_engine* engine, uint32_t index) {
  if (index > VIOMMU_VIRTIO_EVENTS) return VIOMMU_E_ARGUMENT;
  return with_device(engine, [&](Device& device) -> viommu_result {
    device.notify(static_cast<QueueIndex>(index));
    return VIOMMU_OK;
  });
}

viommu_result viommu_virtio_broken(viommu_engine* engine, uint32_t* broken) {
  if (engine == nullptr || broken == nullptr) return VIOMMU_E_ARGUMENT;
  const Device* const device = engine->front.virtio();
  if (device == nullptr) return VIOMMU_E_UNSUPPORTED;
  *broken = device->broken() ? 1 : 0;
  return VIOMMU_OK;
}

viommu_result viommu_virtio_reset(viommu_engine* engine) {
  return with_device(engine, [&](Device& device) -> viommu_result {
    if (!device.reset(Device::ResetKind::device)) return VIOMMU_E_BUSY;
    if (engine->recorder != nullptr) engine->recorder->reset();
    device.process(0);
    return VIOMMU_OK;
  });
}

viommu_result viommu_virtio_request(viommu_engine* engine, const void* request, size_t request_size, void* reply,
                                    size_t reply_size, uint32_t* used) {
  if (used == nullptr || (request == nullptr && request_size != 0) || (reply == nullptr && reply_size != 0))
    return VIOMMU_E_ARGUMENT;
  *used = 0;
  return with_device(engine, [&](Device& device) -> viommu_result {
    const Device::Answered answered = device.request({static_cast<const std::byte*>(request), request_size},
                                                     {static_cast<std::byte*>(reply), reply_size}, *used);
    return answered == Device::Answered::yes ? VIOMMU_OK : VIOMMU_E_BUSY;
  });
}

viommu_result viommu_virtio_statistics_get(viommu_engine* engine, viommu_virtio_statistics* statistics) {
  if (engine == nullptr || !viommu::capi::can_take(statistics)) return VIOMMU_E_ARGUMENT;
  Device* const device = engine->front.virtio();
  if (device == nullptr) return VIOMMU_E_UNSUPPORTED;
  return viommu::capi::alone(*engine, [&]() -> viommu_result {
    viommu_virtio_statistics s{};
    s.attaches = device->count(RequestCount::attach);
    s.detaches = device->count(RequestCount::detach);
    s.maps = device->count(RequestCount::map);
    s.unmaps = device->count(RequestCount::unmap);
    s.probes = device->count(RequestCount::probe);
    s.refused = device->count(RequestCount::refused);
    s.unanswered = device->count(RequestCount::unanswered);
    const auto events = device->event_figures();
    s.events_recorded = events.recorded;
    s.events_dropped = events.dropped;
    s.events_limited = events.limited;
    s.domains = device->domains().domains();
    s.mappings = device->domains().nodes().mappings();
    s.mapping_bytes = device->domains().nodes().bytes();
    viommu::capi::hand_over(s, *statistics);
    return VIOMMU_OK;
  });
}

}  // extern "C"
