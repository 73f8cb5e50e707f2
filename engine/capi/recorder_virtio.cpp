// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The recorder of a virtio-iommu.
//
//   header, cfg, cfg resv, plug ...   when the guest acts for the first time
//   C                                 DRIVER_OK, or the first request of a driver that has negotiated
//   Q, req                            where the request takes effect, with the answer that it has then, be it shown
//                                     later; req where there was less room for the answer than its type takes
//   W, B, R                           the configuration space
//   E, T                              translations, E before its T
//   plug, unplug, renumber            endpoints, by their requester ids
//
// Queues in guest memory are no part of it: their requests are.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/capi/recorder.hpp"
#include "engine/trace/config.hpp"
#include "engine/trace/format.hpp"
#include "engine/trace/hex_bytes.hpp"
#include "engine/trace/text_out.hpp"

namespace viommu::capi {
namespace {

using trace::HexBytes;
using virtio_iommu::Answer;
using virtio_iommu::EndpointName;
using virtio_iommu::RequestTail;

/// Digits of the longest request and of its answer.
[[nodiscard]] std::size_t most_digits(std::uint32_t probe_size) noexcept {
  return 2 * (virtio_iommu::most_readable_bytes + probe_size + sizeof(RequestTail));
}

[[nodiscard]] trace::Source source_of(std::uint8_t kind) noexcept {
  if (kind == VIOMMU_IDENTITY) return trace::Source::bypass;
  return kind == VIOMMU_INTERRUPT ? trace::Source::msi_region : trace::Source::mapping;
}

}  // namespace

bool Recorder::follow(virtio_iommu::Device& device, std::span<const virtio_iommu::ReservedRegion> reserved) noexcept {
  constexpr std::size_t other_fields = 64;
  constexpr std::size_t longest_configuration = 1024;
  const std::size_t most = most_digits(device.config().probe_size);
  try {
    line_.resize(std::max(2 * most + other_fields, longest_configuration));  // the digits, and the line with them
  } catch (...) {
    return false;
  }
  device_ = &device;
  reserved_ = reserved;
  virtio_iommu::DeviceTap tap;
  tap.opaque = this;
  tap.answered = [](void* self, const Answer& answer) { static_cast<Recorder*>(self)->answered(answer); };
  tap.reported = [](void* self, const virtio_iommu::FaultBytes& report) {
    std::array<char, 2 * sizeof report> room;
    HexBytes digits{room};
    digits.append(report);
    static_cast<Recorder*>(self)->write(trace::FaultReported{digits.text()});
  };
  tap.added = [](void* self, EndpointName endpoint) {
    auto& recorder = *static_cast<Recorder*>(self);
    if (recorder.device_begun_) recorder.endpoint_added(endpoint);
  };
  tap.removed = [](void* self, EndpointName endpoint) {
    auto& recorder = *static_cast<Recorder*>(self);
    if (recorder.device_begun_) recorder.write(trace::Unplug{endpoint.source.value});
  };
  tap.renumbered = [](void* self, std::uint8_t from, std::uint8_t to) {
    auto& recorder = *static_cast<Recorder*>(self);
    if (recorder.device_begun_) recorder.write(trace::BusRenumbered{from, to});
  };
  device.tell(tap);
  return true;
}

void Recorder::begin_device() noexcept {
  if (device_ == nullptr || device_begun_) return;
  device_begun_ = true;
  const virtio_iommu::DeviceOptions& options = device_->options();
  const virtio_iommu::ConfigSpace config = device_->seen_config();
  trace::VirtioConfiguration configuration;
  configuration.features = device_->offered().raw;
  configuration.page_size_mask = config.values().page_size_mask;
  configuration.input_first = config.values().input.first.value;
  configuration.input_last = config.values().input.last.value;
  configuration.domain_first = config.values().domains.first.value;
  configuration.domain_last = config.values().domains.last.value;
  configuration.probe_size = options.config.probe_size;
  configuration.boot_bypass = config.values().bypass;
  configuration.bypass = config.bypass();
  configuration.reserved_regions = static_cast<std::uint32_t>(reserved_.size());
  configuration.plugs = true;
  configuration.strict_detach = options.limits.gone_is_unknown;
  configuration.domains = options.limits.domains;
  configuration.endpoints = options.limits.endpoints;
  configuration.mappings = options.limits.mappings.mappings;
  write_header();
  constexpr std::size_t longest_pairs = 512;
  std::array<char, longest_pairs> pairs;
  write_long(trace::Configuration{trace::Family::virtio, trace::format_virtio_configuration(configuration, pairs)});
  for (const virtio_iommu::ReservedRegion& region : reserved_)
    write(trace::ReservedRegion{static_cast<std::uint8_t>(region.kind), region.range.first.value,
                                region.range.last.value});
  device_->domains().for_each_known(
      [this](EndpointName endpoint, const virtio_iommu::EndpointView&) { endpoint_added(endpoint); });
}

void Recorder::write_long(const trace::Event& event) noexcept {
  const RecordedCall call{this};
  begin_device();
  const std::string_view text = trace::format(event, line_);
  emit(text.data(), text.size());
}

void Recorder::endpoint_added(EndpointName endpoint) noexcept {
  std::array<char, 32> room;
  trace::TextOut options{room};
  if (endpoint.id.value != endpoint.source.value) options.word("endpoint=").hex(endpoint.id.value);
  trace::Plug plug;
  plug.source_id = endpoint.source.value;
  plug.options = options.view();
  plug.result = "ok";
  write(plug);
}

void Recorder::tell_driver() noexcept {
  begin_device();
  const std::uint64_t features = device_->negotiated().raw;
  if (features == told_features_) return;
  told_features_ = features;
  write(trace::DriverReady{features, device_->seen_config().bypass()});
}

void Recorder::driver_ready() noexcept {
  const RecordedCall call{this};
  tell_driver();
}

void Recorder::bypass_became() noexcept {
  write(trace::BypassChanged{static_cast<std::uint8_t>(device_->seen_config().bypass() ? 1 : 0)});
}

void Recorder::answered(const Answer& answer) noexcept {
  const RecordedCall call{this};
  tell_driver();
  const std::uint64_t readable = std::min<std::uint64_t>(answer.size.readable, virtio_iommu::most_readable_bytes);
  const std::size_t meant = std::min<std::size_t>(readable, answer.bytes.size());
  // Digits behind, the line in front.
  HexBytes asked{std::span{line_}.last(most_digits(device_->config().probe_size))};
  asked.append(std::span{answer.bytes}.first(meant));
  asked.append_zeros(readable - meant);
  HexBytes told{asked.rest()};
  if (answer.written) {
    told.append(answer.properties);
    told.append_zeros(answer.tail_offset - answer.properties.size());
    const RequestTail tail{answer.status, {}};
    told.append(std::as_bytes(std::span{&tail, 1}));
  }
  using virtio_iommu::RequestType;
  const auto type = readable == 0 ? RequestType{} : static_cast<RequestType>(answer.bytes[0]);
  const std::uint32_t usual = virtio_iommu::usual_writable_bytes(type, device_->options().config.probe_size);
  if (answer.size.writable >= usual) return write_long(trace::Request{asked.text(), told.text()});
  write_long(trace::SizedRequest{static_cast<std::uint32_t>(answer.size.writable), asked.text(), told.text()});
}

void Recorder::device_translated(const viommu_request& request, const viommu_translation& translation) noexcept {
  trace::Translate line = request_line(request, translation);
  if (line.ok) {
    line.gpa = translation.gpa;
    line.source = source_of(translation.kind);
  }
  write(line);
}

}  // namespace viommu::capi
