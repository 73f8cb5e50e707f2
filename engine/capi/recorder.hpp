// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Writes down what an engine is asked and answers, in the trace format, so that it can be replayed elsewhere.
//
// Recorded calls are served one at a time: the order of lines is the order of effects. The lock is recursive because a
// host function that the engine calls may translate; it is the one lock that is held across callbacks, and exists only
// in an engine with a sink.
#pragma once

#include <viommu/viommu.h>

#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/base/address_type.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/core/host.hpp"
#include "engine/trace/event.hpp"
#include "engine/virtio_iommu/device.hpp"
#include "engine/vtd/capabilities.hpp"

namespace viommu::capi {

/// How an answer came about.
enum class AnswerSource : std::uint8_t { iotlb, walk, pass_through, off };

/// Threads: any.
class Recorder {
 public:
  Recorder(void (*sink)(void* opaque, const char* text, std::size_t length), void* opaque) noexcept
      : sink_{sink}, opaque_{opaque} {}
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// Makes `functions` report guest accesses and messages here.
  void attach(core::HostFunctions& functions) noexcept;
  /// Calls of the sink are callbacks of this host.
  void belongs_to(const core::Host& host) noexcept { host_ = &host; }

  void started(const vtd::Capabilities& capabilities, bool compress_faults) noexcept;
  void register_written(std::uint64_t offset, std::uint32_t size, std::uint64_t value) noexcept;
  void register_read(std::uint64_t offset, std::uint32_t size, std::uint64_t value) noexcept;
  void translated(const viommu_request& request, const viommu_translation& translation, AnswerSource source,
                  viommu::AddressType type = viommu::AddressType::untranslated) noexcept;
  void interrupted(const viommu_message& message, const viommu_routed& routed) noexcept;
  void asked_for_route(const viommu_message& message, const viommu_routed& routed) noexcept;
  void reset() noexcept;
  void caches_dropped() noexcept;

  // ---- A virtio-iommu (recorder_virtio.cpp) ----
  /// Records it from now on. Nothing is written before the guest acts, because hosts may narrow until then what it is;
  /// then the trace begins with what it has become.
  /// @param reserved  what no endpoint may map; it stays, as the device does
  /// @return false when there is no memory
  [[nodiscard]] bool follow(virtio_iommu::Device& device,
                            std::span<const virtio_iommu::ReservedRegion> reserved) noexcept;
  [[nodiscard]] bool follows_device() const noexcept { return device_ != nullptr; }
  void driver_ready() noexcept;
  /// The byte has its value.
  void bypass_became() noexcept;
  void device_translated(const viommu_request& request, const viommu_translation& translation) noexcept;

  [[nodiscard]] std::recursive_mutex& lock() noexcept { return lock_; }

 private:
  void write(const trace::Event& event) noexcept;
  void emit(const char* text, std::size_t length) noexcept;
  void loaded(std::uint64_t gpa, const std::uint64_t* words, std::size_t count) noexcept;
  void load_failed(std::uint64_t gpa, std::uint64_t size_bytes) noexcept;
  void stored(std::uint64_t gpa, std::uint64_t value, std::uint64_t size_bytes) noexcept;
  void remember(std::uint64_t gpa, std::uint64_t value) noexcept;
  void write_header() noexcept;
  /// Without the address and where it is from: families say them in their own ways.
  [[nodiscard]] static trace::Translate request_line(const viommu_request& request,
                                                     const viommu_translation& translation) noexcept;
  /// The header and what the device is, once.
  void begin_device() noexcept;
  /// What was negotiated, unless the trace has it.
  void tell_driver() noexcept;
  void answered(const virtio_iommu::Answer& answer) noexcept;
  void endpoint_added(virtio_iommu::EndpointName endpoint) noexcept;
  /// An event whose line may be longer than others.
  void write_long(const trace::Event& event) noexcept;

  void (*sink_)(void* opaque, const char* text, std::size_t length);
  void* opaque_;
  const core::Host* host_ = nullptr;
  std::recursive_mutex lock_;
  /// What the trace so far says about guest memory. Forgotten when it grows too large: words are then written again.
  std::unordered_map<std::uint64_t, std::uint64_t> known_;
  virtio_iommu::Device* device_ = nullptr;
  std::span<const virtio_iommu::ReservedRegion> reserved_;
  bool device_begun_ = false;
  std::uint64_t told_features_ = 0;
  std::vector<char> line_;  ///< room for the longest
};

/// One recorded call; nothing without a recorder.
class RecordedCall {
 public:
  explicit RecordedCall(Recorder* recorder) noexcept : recorder_{recorder} {
    if (recorder_ != nullptr) recorder_->lock().lock();
  }
  RecordedCall(const RecordedCall&) = delete;
  RecordedCall& operator=(const RecordedCall&) = delete;
  ~RecordedCall() {
    if (recorder_ != nullptr) recorder_->lock().unlock();
  }

 private:
  Recorder* recorder_;
};

}  // namespace viommu::capi
