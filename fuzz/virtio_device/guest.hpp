// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The guest's memory: rings, requests and reports.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/virtqueue/guest.hpp"

namespace viommu::fuzz::virtio_device {

using test::RingGuest;

inline constexpr std::uint64_t buffers_at = RingGuest::first + 0x20000;
inline constexpr std::uint64_t buffer_bytes = 0x4000;  ///< of a request: readable part, table, writable part
inline constexpr std::uint64_t margin = 16;
inline constexpr std::uint64_t reports_at = RingGuest::first + 0x70000;
inline constexpr std::uint64_t report_bytes = 24;
inline constexpr std::uint8_t untouched = 0xEE;
/// The ring of reports lies where that of requests does, in memory of its own that begins so much further up.
inline constexpr std::uint64_t events_above = 0x10'0000;
inline constexpr std::size_t most_in_a_burst = 4;

struct Guest {
  RingGuest requests{test::Reach::mapped};
  RingGuest reports{test::Reach::mapped};
};
/// All that is in its memory now.
class GuestBytes {
 public:
  explicit GuestBytes(Guest& guest) : guest_{guest}, bytes_{all(guest.requests), all(guest.reports)} {}
  void put_back() const {
    std::ranges::copy(bytes_[0], guest_.requests.span(RingGuest::first, RingGuest::bytes).begin());
    std::ranges::copy(bytes_[1], guest_.reports.span(RingGuest::first, RingGuest::bytes).begin());
  }

 private:
  [[nodiscard]] static std::vector<std::byte> all(RingGuest& guest) {
    const std::span<std::byte> whole = guest.span(RingGuest::first, RingGuest::bytes);
    return {whole.begin(), whole.end()};
  }
  Guest& guest_;
  std::array<std::vector<std::byte>, 2> bytes_;
};

}  // namespace viommu::fuzz::virtio_device
