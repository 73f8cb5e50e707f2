// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp about a virtio-iommu and its driver; requests and fault reports: replay_requests.cpp.
//
// Which endpoints there are a recording of another emulator does not say: one is when a line first names it. In a
// scenario, and in a recording of this library, they are what is plugged.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <viommu/viommu_virtio.h>

#include "engine/base/address.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"
#include "engine/virtio_iommu/features.hpp"
#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned guest_address_bits = 48;  // where a trace does not say where there is memory
constexpr std::uint64_t bypass_offset = offsetof(virtio_iommu::ConfigLayout, bypass);

}  // namespace

bool Replayer::configure_virtio(std::string_view pairs) {
  trace::VirtioConfiguration configuration;
  if (const trace::ParseError error = parse_virtio_configuration(pairs, configuration)) {
    fail(text_of(error));
    return false;
  }
  virtio_ = std::make_unique<VirtioDevice>();
  virtio_->configuration = configuration;
  configuration_.scenario = configuration.scenario;
  configuration_.share = configuration.share;
  configured_ = true;
  ready_ = !configuration.scenario;
  host_.of_recording = !configuration.scenario;
  host_address_width_ = guest_address_bits;
  if (configuration.scenario && options_.explicit_ram) static_cast<void>(host_.memory.remove_ram(0, ~std::uint64_t{0}));
  return true;
}

namespace {

/// What a scenario asks for that there is not; empty when there is all.
std::string missing_of(const trace::VirtioConfiguration& asked) {
  if (asked.unknown == trace::UnknownAbility::legacy) return "a virtio-iommu lets nobody in whose ability is unknown";
  constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
  if (asked.domains > most || asked.endpoints > most || asked.fault_limit > most)
    return "needs a higher limit than there is";
  return {};
}

}  // namespace

/// When all regions of the configuration are there.
bool Replayer::create_virtio() {
  namespace features = virtio_iommu::features;
  constexpr std::uint64_t optional_features = mask_of(features::probe, features::mmio, features::bypass_config,
                                                      features::indirect, features::event_index, features::packed);
  const trace::VirtioConfiguration& from = virtio_->configuration;
  if (std::string missing = missing_of(from); !missing.empty()) {
    fail(std::move(missing));
    return false;
  }
  fill_memory();
  if (virtio_->reserved.size() != from.reserved_regions) {
    fail("there are not as many reserved regions as the cfg line says");
    return false;
  }
  viommu_virtio_options options{};
  options.size = sizeof options;
  options.page_size_mask = from.page_size_mask;
  options.first_input = from.input_first;
  options.last_input = from.input_last;
  options.first_domain = from.domain_first;
  options.last_domain = from.domain_last;
  options.probe_size = from.probe_size;
  if (!from.boot_bypass) options.flags |= VIOMMU_VIRTIO_BLOCKED_AT_BOOT;
  if (from.strict_detach) options.flags |= VIOMMU_VIRTIO_STRICT_DETACH;
  if (from.migratable == trace::Migratable::only) options.flags |= VIOMMU_VIRTIO_MIGRATABLE_ONLY;
  if (from.share) options.flags |= VIOMMU_VIRTIO_SHARE_SPACES;
  options.domains = static_cast<std::uint32_t>(from.domains);
  options.endpoints = static_cast<std::uint32_t>(from.endpoints);
  options.mappings = from.mappings;
  options.fault_limit = static_cast<std::uint32_t>(from.fault_limit);
  options.mapping_quota = from.quota;
  options.without = optional_features & ~from.features;
  options.regions = virtio_->reserved.data();
  options.region_count = static_cast<std::uint32_t>(virtio_->reserved.size());
  options.fill = VIOMMU_FILL_EXACT;
  options.hash_seed = 1;  // the same run every time
  auto engine = Engine::create_virtio(options, host_.table());
  if (!engine) {
    fail("the engine cannot be this device: " +
         (engine.error().text.empty() ? std::string{viommu_result_text(engine.error().code)} : engine.error().text));
    return false;
  }
  unit_.engine = std::make_unique<Engine>(*std::move(engine));
  std::uint64_t offered = 0;
  succeed("cfg", viommu_virtio_features(unit_.engine->get(), &offered));
  if (from.scenario && offered != from.features) {
    fail("the engine offers features " + hex(offered));
    return false;
  }
  return from.scenario || begin_recording();
}

bool Replayer::begin_recording() {
  std::uint32_t count = 0;
  succeed("ready", viommu_ready(unit_.engine->get(), nullptr, 0, &count));
  const bool bypass = virtio_->configuration.bypass;
  if (bypass == virtio_->configuration.boot_bypass) return true;
  // A driver had been there: what it wrote stays, and it has gone.
  std::uint64_t offered = 0;
  succeed("cfg", viommu_virtio_features(unit_.engine->get(), &offered));
  succeed("cfg", viommu_virtio_negotiate(unit_.engine->get(), offered));
  const bool written = viommu_virtio_config_write(unit_.engine->get(), bypass_offset, 1, bypass ? 1 : 0) == VIOMMU_OK;
  succeed("cfg", viommu_virtio_reset(unit_.engine->get()));
  if (!written) fail("no driver can have made bypass what the cfg line says");
  return written;
}

void Replayer::know_endpoint(std::uint32_t endpoint) {
  if (!virtio_ || configuration_.scenario || virtio_->configuration.plugs || !engine_exists() ||
      virtio_->endpoints[static_cast<std::uint16_t>(endpoint)])
    return;
  virtio_->endpoints.set(static_cast<std::uint16_t>(endpoint));
  viommu_device device{};
  device.size = sizeof device;
  device.source = static_cast<std::uint16_t>(endpoint);
  succeed("endpoint", viommu_device_add(unit_.engine->get(), &device, nullptr));
}

void Replayer::on(const trace::ReservedRegion& region) {
  if (unit_.engine) return fail("behind a line that needs the device");
  if (virtio_) virtio_->reserved.push_back({region.first, region.last, region.subtype, 0});
}

void Replayer::on(const trace::DriverReady& ready) {
  if (!machine_is_ready("a driver")) return;
  std::uint64_t offered = 0;
  succeed("C", viommu_virtio_features(unit_.engine->get(), &offered));
  if (configuration_.scenario) {
    succeed("C", viommu_virtio_negotiate(unit_.engine->get(), ready.features));
    succeed("C", viommu_virtio_start(unit_.engine->get()));
  } else if (virtio_->features != ready.features) {
    // Bits of the transport are not the device's. There are no queues that it could be started for.
    succeed("C", viommu_virtio_negotiate(unit_.engine->get(), ready.features & offered));
    virtio_->features = ready.features;
  }
  compare(trace::Event{ready}, ready.bypass ? "1" : "0", std::to_string(bypass_byte()));
}

std::uint64_t Replayer::bypass_byte() const {
  std::uint64_t value = 0;
  static_cast<void>(viommu_virtio_config_read(unit_.engine->get(), bypass_offset, 1, &value));
  return value;
}

void Replayer::on(const trace::BypassChanged& change) {
  if (!engine_exists()) return;
  if (bypass_byte() != change.value) {
    const viommu_result written = viommu_virtio_config_write(unit_.engine->get(), bypass_offset, 1, change.value);
    // Without a driver it was a reset of the system, whose first half, the device's, was the Z before.
    if (written == VIOMMU_E_REFUSED) succeed("B", viommu_reset(unit_.engine->get()));
  }
  settle_unit(line_);
  compare(trace::Event{change}, std::to_string(change.value), std::to_string(bypass_byte()));
}

}  // namespace viommu::cli
