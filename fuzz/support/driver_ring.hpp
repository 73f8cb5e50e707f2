// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The driver's end of a ring, of whichever form was negotiated.
#pragma once

#include <viommu/viommu_virtio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "fuzz/support/require.hpp"
#include "tests/virtqueue/guest.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::fuzz {

// Feature bits.
inline constexpr std::uint64_t virtio_indirect = std::uint64_t{1} << 28;
inline constexpr std::uint64_t virtio_event_index = std::uint64_t{1} << 29;
inline constexpr std::uint64_t virtio_version_1 = std::uint64_t{1} << 32;
inline constexpr std::uint64_t virtio_packed = std::uint64_t{1} << 34;

/// The driver's end of one ring.
class DriverRing {
  static constexpr std::uint16_t size = 16;

 private:
  template <class Use>
  auto visit(const Use& use) {
    if (!driver_) fail("the target's own: no ring");
    return std::visit(use, *driver_);
  }

 public:
  explicit DriverRing(test::RingGuest& guest) : guest_{&guest} {}

  /// Anew, in blank memory.
  void begin(std::uint64_t features) {
    const std::uint64_t at = test::RingGuest::first;
    for (const auto& [from, bytes] :
         {std::pair{at + 0x10, 16ULL * size}, {at + 0x10000, 0x40ULL}, {at + 0x18000, 0xA0ULL}})
      std::ranges::fill(guest_->span(from, bytes), std::byte{});
    const bool event_index = (features & virtio_event_index) != 0;
    has_event_index_ = event_index;
    may_indirect_ = (features & virtio_indirect) != 0;
    if ((features & virtio_packed) != 0)
      driver_.emplace(std::in_place_type<test::PackedDriver>, *guest_, size, event_index);
    else
      driver_.emplace(std::in_place_type<test::SplitDriver>, *guest_, size, event_index);
  }
  void end() { driver_.reset(); }
  [[nodiscard]] bool there() const { return driver_.has_value(); }
  [[nodiscard]] bool may_indirect() const { return may_indirect_; }
  [[nodiscard]] viommu_virtio_queue place(std::uint64_t above) {
    return visit([&](auto& driver) {
      const virtqueue::Config config = driver.config();
      return viommu_virtio_queue{config.descriptor_area.value + above, config.driver_area.value + above,
                                 config.device_area.value + above, config.size, 0};
    });
  }
  [[nodiscard]] std::size_t room() {
    return visit([](auto& driver) { return driver.room(); });
  }
  std::uint32_t add(const test::RingBuffer& buffer) {
    return visit([&](auto& driver) { return std::uint32_t{driver.add(buffer)}; });
  }
  void publish() {
    visit([&](auto& driver) {
      if (has_event_index_) driver.want_after(0);
      driver.publish();
      return 0;
    });
  }
  /// @param due  whether the device had to notify of them
  [[nodiscard]] std::vector<test::UsedBuffer> collect(bool& due) {
    return visit([&](auto& driver) {
      const std::uint64_t before = driver.seen();
      std::vector<test::UsedBuffer> used = driver.collect();
      due = driver.due(before, driver.seen());
      return used;
    });
  }

 private:
  test::RingGuest* guest_;
  std::optional<std::variant<test::SplitDriver, test::PackedDriver>> driver_;
  bool has_event_index_ = false;
  bool may_indirect_ = false;
};

}  // namespace viommu::fuzz
