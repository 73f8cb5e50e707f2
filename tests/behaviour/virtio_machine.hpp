// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest with a virtio-iommu, through the C interface: requests as bytes or through rings in its memory, devices that
// access memory, and what the VMM is told.
#pragma once

#include <viommu/viommu_virtio.h>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tests/virtqueue/guest.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::test {

/// Virtio, "Device operations" of the IOMMU device: the status codes.
namespace virtio_status {
inline constexpr std::uint8_t ok = 0, unsupported = 2, device_error = 3, invalid = 4, range = 5, no_entry = 6,
                              no_memory = 8;
}  // namespace virtio_status

using Bytes = std::vector<std::uint8_t>;

template <class T>
void append(Bytes& bytes, T value) {
  const auto* const from = reinterpret_cast<const std::uint8_t*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof value);
}

// Requests as the specification prints them.
[[nodiscard]] inline Bytes attach_bytes(std::uint32_t domain, std::uint32_t endpoint, std::uint32_t flags = 0) {
  Bytes bytes{1, 0, 0, 0};
  append(bytes, domain);
  append(bytes, endpoint);
  append(bytes, flags);
  append(bytes, std::uint32_t{0});
  return bytes;
}
[[nodiscard]] inline Bytes detach_bytes(std::uint32_t domain, std::uint32_t endpoint) {
  Bytes bytes{2, 0, 0, 0};
  append(bytes, domain);
  append(bytes, endpoint);
  append(bytes, std::uint64_t{0});
  return bytes;
}
[[nodiscard]] inline Bytes map_bytes(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t gpa,
                                     std::uint32_t flags = 3) {
  Bytes bytes{3, 0, 0, 0};
  append(bytes, domain);
  append(bytes, first);
  append(bytes, last);
  append(bytes, gpa);
  append(bytes, flags);
  return bytes;
}
[[nodiscard]] inline Bytes unmap_bytes(std::uint32_t domain, std::uint64_t first, std::uint64_t last) {
  Bytes bytes{4, 0, 0, 0};
  append(bytes, domain);
  append(bytes, first);
  append(bytes, last);
  append(bytes, std::uint32_t{0});
  return bytes;
}
[[nodiscard]] inline Bytes probe_bytes(std::uint32_t endpoint) {
  Bytes bytes{5, 0, 0, 0};
  append(bytes, endpoint);
  bytes.resize(72);
  return bytes;
}

/// What VERSION_1 and everything else of the device comes to.
inline constexpr std::uint64_t all_virtio_features = 0x5'3000'0077;

inline constexpr std::uint64_t msi_first = 0xFEE0'0000;
inline constexpr std::uint64_t msi_last = 0xFEEF'FFFF;

/// 4 KiB granule, endpoints without a domain are blocked, a doorbell at FEE0'0000h.
[[nodiscard]] inline viommu_virtio_options virtio_options() {
  static constexpr viommu_virtio_region doorbell{msi_first, msi_last, VIOMMU_VIRTIO_MSI, 0};
  viommu_virtio_options options{};
  options.size = sizeof options;
  options.flags = VIOMMU_VIRTIO_BLOCKED_AT_BOOT;
  options.regions = &doorbell;
  options.region_count = 1;
  options.domains = 16;
  options.endpoints = 16;
  options.mappings = 1 << 16;
  options.iotlb_pages = 1024;
  return options;
}

/// For one thread, but for threads that the test starts.
class VirtioMachine {
 public:
  static constexpr std::uint16_t pf = 0x300;
  static constexpr std::uint16_t vf = 0x380;

  enum class Records : bool { no, yes };
  /// @param host  what is set here beside the functions below, as its allocator
  explicit VirtioMachine(const viommu_virtio_options& options = virtio_options(), Records records = Records::no,
                         viommu_host host = {}) {
    host.size = sizeof host;
    host.opaque = this;
    host.wake = [](void* self) { ++static_cast<VirtioMachine*>(self)->wakes; };
    host.now_ns = [](void* self) { return static_cast<VirtioMachine*>(self)->now_ns; };
    host.log = [](void* self, std::int32_t, const char* text) {
      static_cast<VirtioMachine*>(self)->log.emplace_back(text);
    };
    host.region_gone = [](void* self, std::uint64_t cookie) {
      static_cast<VirtioMachine*>(self)->gone.push_back(cookie);
    };
    host.virtio_notify = [](void* self, std::uint32_t queue) {
      static_cast<VirtioMachine*>(self)->notified.push_back(queue);
    };
    host.virtio_needs_reset = [](void* self) { ++static_cast<VirtioMachine*>(self)->needs_reset; };
    host.virtio_event = [](void* self, const void* event, std::uint32_t size) -> std::int32_t {
      auto& machine = *static_cast<VirtioMachine*>(self);
      if (machine.event_buffers == 0) return -1;
      --machine.event_buffers;
      const auto* const bytes = static_cast<const std::uint8_t*>(event);
      machine.events.emplace_back(bytes, bytes + size);
      return 0;
    };
    host.view_changed = [](void* self, std::uint16_t source, std::uint32_t view) {
      auto& machine = *static_cast<VirtioMachine*>(self);
      if (machine.on_view) machine.on_view(source, view);
    };
    if (records == Records::yes)
      host.record = [](void* self, const char* text, std::size_t length) {
        static_cast<VirtioMachine*>(self)->recorded.append(text, length);
      };
    std::array<char, 160> text{};
    const viommu_result created = viommu_create_virtio(&options, &host, text.data(), text.size(), &engine);
    INFO(text.data());
    REQUIRE(created == VIOMMU_OK);
    add_region(RingGuest::first, RingGuest::bytes, guest.span(RingGuest::first, RingGuest::bytes).data());
    REQUIRE(viommu_reader_create(engine, &reader) == VIOMMU_OK);
  }
  VirtioMachine(const VirtioMachine&) = delete;
  VirtioMachine& operator=(const VirtioMachine&) = delete;
  ~VirtioMachine() {
    static_cast<void>(viommu_reader_destroy(reader));
    static_cast<void>(viommu_destroy(engine));
  }

  RingGuest guest{Reach::mapped};
  viommu_engine* engine = nullptr;
  viommu_reader* reader = nullptr;
  std::uint64_t wakes = 0;
  std::uint64_t now_ns = 0;
  std::vector<std::string> log;
  std::vector<std::uint64_t> gone;
  std::vector<std::uint32_t> notified;
  unsigned needs_reset = 0;
  unsigned event_buffers = 1000;
  std::vector<Bytes> events;
  std::string recorded;
  std::function<void(std::uint16_t source, std::uint32_t view)> on_view;

  void add_region(std::uint64_t gpa, std::uint64_t length, void* hva) const {
    const viommu_region region{gpa, length, hva, hva == nullptr ? std::uint64_t{VIOMMU_REGION_UNMAPPED} : 0};
    REQUIRE(viommu_region_add(engine, &region) == VIOMMU_OK);
  }
  viommu_result plug(std::uint16_t source) {
    viommu_device device{};
    device.size = sizeof device;
    device.source = source;
    return plug(device);
  }
  viommu_result plug(const viommu_device& device) {
    refusal = {};
    refusal.size = sizeof refusal;
    return viommu_device_add(engine, &device, &refusal);
  }
  void unplug(std::uint16_t source) const { REQUIRE(viommu_device_remove(engine, source) == VIOMMU_OK); }
  void negotiate(std::uint64_t features = all_virtio_features) const {
    REQUIRE(viommu_virtio_negotiate(engine, features) == VIOMMU_OK);
  }

  /// The answer's bytes; nothing where it went back unwritten.
  [[nodiscard]] Bytes ask(const Bytes& request, std::size_t room = 4) const {
    Bytes reply(room, 0xAA);
    std::uint32_t used = 0;
    viommu_result result = VIOMMU_E_BUSY;
    for (unsigned turn = 0; turn < 100 && result == VIOMMU_E_BUSY; ++turn)
      result = viommu_virtio_request(engine, request.data(), request.size(), reply.data(), reply.size(), &used);
    REQUIRE(result == VIOMMU_OK);
    REQUIRE(used <= room);
    for (std::size_t i = used; i < room; ++i) CHECK(reply[i] == 0xAA);
    reply.resize(used);
    return reply;
  }
  /// Its status.
  [[nodiscard]] std::uint8_t status(const Bytes& request) const {
    const Bytes reply = ask(request);
    REQUIRE(reply.size() == 4);
    CHECK((reply[1] | reply[2] | reply[3]) == 0);
    return reply[0];
  }
  std::uint8_t attach(std::uint32_t domain, std::uint32_t endpoint, std::uint32_t flags = 0) const {
    return status(attach_bytes(domain, endpoint, flags));
  }
  std::uint8_t detach(std::uint32_t domain, std::uint32_t endpoint) const {
    return status(detach_bytes(domain, endpoint));
  }
  std::uint8_t map(std::uint32_t domain, std::uint64_t first, std::uint64_t last, std::uint64_t gpa,
                   std::uint32_t flags = 3) const {
    return status(map_bytes(domain, first, last, gpa, flags));
  }
  std::uint8_t unmap(std::uint32_t domain, std::uint64_t first, std::uint64_t last) const {
    return status(unmap_bytes(domain, first, last));
  }

  viommu_translation translate(std::uint16_t source, std::uint64_t iova, std::uint8_t access = VIOMMU_READ,
                               std::uint8_t flags = 0) const {
    const viommu_request request{iova, 0, 0, source, access, flags};
    viommu_translation answer{};
    const viommu_result result = viommu_translate(reader, &request, &answer);
    CHECK(result == (answer.kind == VIOMMU_FAULT ? VIOMMU_E_FAULT : VIOMMU_OK));
    return answer;
  }
  /// The reason of a fault, or 0xFF where there is none.
  [[nodiscard]] std::uint8_t reason(std::uint16_t source, std::uint64_t iova, std::uint8_t access = VIOMMU_READ) const {
    const viommu_translation answer = translate(source, iova, access, VIOMMU_NO_REPORT);
    return answer.kind == VIOMMU_FAULT ? answer.reason : std::uint8_t{0xFF};
  }
  [[nodiscard]] viommu_statistics figures() const {
    viommu_statistics statistics{};
    statistics.size = sizeof statistics;
    REQUIRE(viommu_statistics_get(engine, &statistics) == VIOMMU_OK);
    return statistics;
  }
  [[nodiscard]] viommu_virtio_statistics device_figures() const {
    viommu_virtio_statistics statistics{};
    statistics.size = sizeof statistics;
    REQUIRE(viommu_virtio_statistics_get(engine, &statistics) == VIOMMU_OK);
    return statistics;
  }
  viommu_progress process() const {
    viommu_progress progress{};
    REQUIRE(viommu_process(engine, 0, &progress) == VIOMMU_OK);
    return progress;
  }

  viommu_refusal refusal{};
};

/// The page at 1000h of `pf`, in domain 1, is the one at 8000h.
struct OnePage : VirtioMachine {
  OnePage() {
    negotiate();
    REQUIRE(plug(pf) == VIOMMU_OK);
    REQUIRE(attach(1, pf) == virtio_status::ok);
    REQUIRE(map(1, 0x1000, 0x1FFF, 0x8000) == virtio_status::ok);
  }
};

}  // namespace viommu::test
