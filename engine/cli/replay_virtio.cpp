// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about a virtio-iommu, of recordings: device, driver, requests, fault reports.
//
// N and S lines that a request caused stand before its Q, so what they say is looked at when the request was made. A
// recording does not say which endpoints there are: one is when a line first names it.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <viommu/viommu_virtio.h>

#include "engine/base/address.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned guest_address_bits = 48;  // of a recording, which does not say where there is memory
constexpr std::uint64_t bypass_offset = 36;
constexpr unsigned slices_at_most = 1000;

// Requests: types, and where they name an endpoint.
constexpr std::uint8_t attach = 1;
constexpr std::uint8_t unmap = 4;
constexpr std::uint8_t probe = 5;
constexpr std::size_t endpoint_of_attach = 8;
constexpr std::size_t endpoint_of_probe = 4;

constexpr std::size_t tail_bytes = 4;
enum Status : std::uint8_t { ok = 0, unsupported = 2, invalid = 4, out_of_range = 5, no_entry = 6 };

[[nodiscard]] std::uint8_t digit(char c) noexcept {
  return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10);
}
[[nodiscard]] std::vector<std::uint8_t> bytes_of(std::string_view digits) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(digit(digits[i]) << 4 | digit(digits[i + 1])));
  return bytes;
}
[[nodiscard]] std::string digits_of(const std::uint8_t* bytes, std::size_t count) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 0xF];
  }
  return text.empty() ? "-" : text;
}
[[nodiscard]] std::uint32_t word_at(const std::vector<std::uint8_t>& bytes, std::size_t at) noexcept {
  std::uint32_t word = 0;
  if (at + sizeof word <= bytes.size()) std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

/// Where the emulator lets through what the specification does not, or answers what it should leave (U13 to U17).
[[nodiscard]] bool is_deviation(std::uint8_t type, const std::vector<std::uint8_t>& recorded,
                                const std::vector<std::uint8_t>& found) noexcept {
  if (recorded.size() != tail_bytes) return false;
  if (found.empty()) return recorded[0] == unsupported;
  if (found.size() != tail_bytes || type < attach || type > unmap || recorded[0] != ok) return false;
  return found[0] == invalid || found[0] == out_of_range;
}

}  // namespace

bool Replayer::configure_virtio(std::string_view pairs) {
  trace::VirtioConfiguration configuration;
  if (const trace::ParseError error = parse_virtio_configuration(pairs, configuration)) {
    fail(text_of(error));
    return false;
  }
  if (configuration.scenario) {
    fail("this is a scenario of a virtio-iommu, which this build does not have");
    return false;
  }
  virtio_.emplace();
  virtio_->configuration = configuration;
  configured_ = true;
  ready_ = true;
  host_.of_recording = true;
  host_address_width_ = guest_address_bits;
  return true;
}

/// When all regions of the configuration are there.
bool Replayer::create_virtio() {
  constexpr std::uint64_t optional_features = 0x4'3000'0070;  // what `without` can leave out
  const trace::VirtioConfiguration& from = virtio_->configuration;
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
  std::uint32_t count = 0;
  succeed("ready", viommu_ready(unit_.engine->get(), nullptr, 0, &count));
  return true;
}

void Replayer::know_endpoint(std::uint32_t endpoint) {
  if (!virtio_ || !engine_exists() || virtio_->endpoints[static_cast<std::uint16_t>(endpoint)]) return;
  virtio_->endpoints.set(static_cast<std::uint16_t>(endpoint));
  viommu_device device{};
  device.size = sizeof device;
  device.source = static_cast<std::uint16_t>(endpoint);
  succeed("endpoint", viommu_device_add(unit_.engine->get(), &device, nullptr));
}

void Replayer::on(const trace::ReservedRegion& region) {
  if (virtio_) virtio_->reserved.push_back({region.first, region.last, region.subtype, 0});
}

void Replayer::on(const trace::DriverReady& ready) {
  if (!engine_exists()) return;
  std::uint64_t offered = 0;
  succeed("C", viommu_virtio_features(unit_.engine->get(), &offered));
  if (virtio_->features != ready.features) {
    // Bits of the transport are not the device's.
    succeed("C", viommu_virtio_negotiate(unit_.engine->get(), ready.features & offered));
    succeed("C", viommu_virtio_start(unit_.engine->get()));
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
  if (bypass_byte() != change.value)
    static_cast<void>(viommu_virtio_config_write(unit_.engine->get(), bypass_offset, 1, change.value));
  settle_unit(line_);
  compare(trace::Event{change}, std::to_string(change.value), std::to_string(bypass_byte()));
}

void Replayer::on(const trace::Request& q) {
  if (!engine_exists()) return;
  const std::vector<std::uint8_t> request = bytes_of(q.readable);
  const std::vector<std::uint8_t> recorded = bytes_of(q.written);
  const std::uint8_t type = request.empty() ? std::uint8_t{0} : request[0];
  const bool is_known = recorded.size() < tail_bytes || recorded[recorded.size() - tail_bytes] != no_entry;
  if (is_known && type == attach) know_endpoint(word_at(request, endpoint_of_attach));
  if (is_known && type == probe) know_endpoint(word_at(request, endpoint_of_probe));
  std::vector<std::uint8_t> reply(type == probe ? virtio_->configuration.probe_size + tail_bytes : tail_bytes);
  std::uint32_t used = 0;
  viommu_result result = VIOMMU_E_BUSY;
  for (unsigned i = 0; i < slices_at_most && result == VIOMMU_E_BUSY; ++i) {
    result =
        viommu_virtio_request(unit_.engine->get(), request.data(), request.size(), reply.data(), reply.size(), &used);
    settle_unit(line_);
  }
  check_recorded();
  if (result != VIOMMU_OK) return mismatch(text_of(trace::Event{q}), "an answer", viommu_result_text(result));
  reply.resize(used);
  if (reply == recorded) {
    ++report_.matches;
  } else if (is_deviation(type, recorded, reply)) {
    const std::string found = reply.empty() ? "none" : hex(reply[0]);
    ++report_.deviations["status " + hex(recorded[0]) + " -> " + found];
  } else {
    mismatch(text_of(trace::Event{q}), digits_of(recorded.data(), recorded.size()),
             digits_of(reply.data(), reply.size()));
  }
}

void Replayer::on(const trace::FaultReported& report) {
  const std::vector<std::uint8_t> record = bytes_of(report.record);
  Effect effect = event_effect(record.data(), record.size());
  effect.line = line_;
  expect(effect);
}

/// READ and WRITE the emulator sets in some reports only.
bool Replayer::is_report_deviation(const Effect& recorded, const Effect& found) {
  constexpr std::uint64_t access_flags = std::uint64_t{3} << 32;
  if (recorded.kind != Effect::Kind::event || found.kind != Effect::Kind::event) return false;
  Effect alike = found;
  alike.value = (found.value & ~access_flags) | (recorded.value & access_flags);
  if (!recorded.same_as(alike)) return false;
  ++report_.deviations["flags of E"];
  return true;
}

}  // namespace viommu::cli
