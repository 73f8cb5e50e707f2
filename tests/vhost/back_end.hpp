// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a feeder sends, as a list, and done to the translations of a back end.
#pragma once

#include <viommu/viommu_vhost.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/support/message_iotlb.hpp"

namespace viommu::test {

/// A message as tests write it.
struct Sent {
  unsigned type = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t uaddr = 0;
  unsigned access = 0;

  friend bool operator==(const Sent&, const Sent&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Sent& sent) {
    constexpr const char* names[] = {"?", "miss", "update", "invalidate", "fail", "begin", "end"};
    return out << names[sent.type % 7] << std::hex << " [" << sent.first << ", " << sent.last << "] -> " << sent.uaddr
               << " " << sent.access << std::dec;
  }
};
[[nodiscard]] inline Sent updated(std::uint64_t first, std::uint64_t last, std::uint64_t uaddr, unsigned access = 3) {
  return {VIOMMU_VHOST_UPDATE, first, last, uaddr, access};
}
[[nodiscard]] inline Sent invalidated(std::uint64_t first, std::uint64_t last) {
  return {VIOMMU_VHOST_INVALIDATE, first, last, 0, 0};
}
[[nodiscard]] inline Sent failed(std::uint64_t first, std::uint64_t last, unsigned access) {
  return {VIOMMU_VHOST_ACCESS_FAIL, first, last, 0, access};
}
inline const std::vector<Sent> all_invalidated{invalidated(0, top_address / 2),
                                               invalidated(top_address / 2 + 1, top_address)};

/// Guest memory as a back end has it mapped.
struct UserRegion {
  std::uint64_t gpa = 0;
  std::uint64_t length = 0;
  std::uint64_t uaddr = 0;
  std::uint64_t flags = 0;
};

/// One feeder, and the back end it feeds.
class BackEnd {
 public:
  explicit BackEnd(std::uint16_t source) {
    options.size = sizeof options;
    options.opaque = this;
    options.source = source;
    options.flags = VIOMMU_VHOST_TELL_FAIL;
    options.send = [](void* opaque, const void* bytes, std::size_t length) {
      static_cast<BackEnd*>(opaque)->receive(bytes, length);
    };
    options.memory = [](void* opaque, std::uint64_t gpa, viommu_region* region) -> std::int32_t {
      return static_cast<BackEnd*>(opaque)->find(gpa, *region) ? 0 : -1;
    };
  }
  BackEnd(const BackEnd&) = delete;
  BackEnd& operator=(const BackEnd&) = delete;
  ~BackEnd() { CHECK(viommu_vhost_feeder_destroy(feeder) == VIOMMU_OK); }

  void begin(viommu_engine* engine) {
    REQUIRE(viommu_vhost_feeder_create(engine, &options, nullptr, &feeder) == VIOMMU_OK);
  }
  viommu_result miss(std::uint64_t first, std::uint64_t last, std::uint32_t access = reads) const {
    return viommu_vhost_feeder_miss(feeder, first, last, access);
  }
  viommu_result miss(std::uint64_t iova) const { return miss(iova, iova); }
  std::vector<Sent> take_sent() { return std::exchange(sent, {}); }
  [[nodiscard]] viommu_vhost_figures figures() const {
    viommu_vhost_figures known{};
    known.size = sizeof known;
    REQUIRE(viommu_vhost_figures_get(feeder, &known) == VIOMMU_OK);
    return known;
  }

  viommu_vhost_options options{};
  viommu_vhost_feeder* feeder = nullptr;
  std::vector<UserRegion> regions;
  std::vector<Sent> sent;
  MessageIotlb iotlb;
  std::function<void()> on_memory;           ///< called inside the callback, before it answers
  std::function<void(const Sent&)> on_sent;  ///< called inside the callback, after it is listed and done

 private:
  void receive(const void* bytes, std::size_t length) {
    viommu_vhost_message message{};
    REQUIRE(viommu_vhost_message_read(options.form, bytes, length, &message) == VIOMMU_OK);
    CHECK(message.asid == options.asid);
    CHECK(viommu_vhost_apply(iotlb.iotlb, &message, nullptr) == VIOMMU_OK);
    const Sent one{message.type, message.iova, message.last, message.uaddr, message.access};
    sent.push_back(one);
    if (on_sent) on_sent(one);
  }
  [[nodiscard]] bool find(std::uint64_t gpa, viommu_region& found) {
    if (on_memory) on_memory();
    for (const UserRegion& region : regions) {
      if (gpa < region.gpa || gpa - region.gpa >= region.length) continue;
      // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed
      found = {region.gpa, region.length, reinterpret_cast<void*>(region.uaddr), region.flags};
      return true;
    }
    return false;
  }
};

}  // namespace viommu::test
