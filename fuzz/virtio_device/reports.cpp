// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Buffers for reports, and what comes back in them.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fuzz/support/require.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::fuzz::virtio_device {

void World::post(std::uint8_t cuts, std::uint8_t length) {
  if (!running_ || broken_ || !reports_.there()) {
    event_room_ = side_->event_room = cuts % 4U;
    return;
  }
  constexpr std::uint32_t room = 0x100;
  Posted posted;
  posted.length = (length & 0x80) != 0 ? length & 0x7F : 24;
  if (posted.length == 0 || reports_.room() < 3) return;
  posted.at = reports_at + room * (next_report_++ % 64);
  posted.fits = posted.length >= report_bytes;
  std::ranges::fill(guest_.requests.span(posted.at, room), std::byte{untouched});
  std::vector<test::Piece> pieces;
  const std::uint32_t first = cuts % posted.length;
  if (first != 0) pieces.push_back({posted.at, first, true});
  pieces.push_back({posted.at + first, posted.length - first, true});
  posted.id = reports_.add(test::direct(std::move(pieces)));
  reports_.publish();
  posted_.push_back(std::move(posted));
  notify(VIOMMU_VIRTIO_EVENTS);
}

void World::compare_reports() {
  require(side_->events == told_, "what the VMM was told of faults");
  if (!reports_.there() || !running_ || broken_) return;
  bool due = false;
  const std::uint64_t notified = side_->notified[VIOMMU_VIRTIO_EVENTS];
  const std::vector<test::UsedBuffer> used = reports_.collect(due);
  if (due) require(notified != reports_notified_, "a notification of a report that the driver did not get");
  reports_notified_ = notified;
  for (const test::UsedBuffer& one : used) {
    require(!posted_.empty(), "a report that nobody made");
    const Posted& posted = posted_.front();
    require_equal(one.id, posted.id, "the buffer of a report");
    require_equal(one.length, posted.report.size(), "length of a report");
    require(!posted.fits || !posted.report.empty(), "a buffer that comes back without a report");
    for (std::size_t i = 0; i < 0x100; ++i) {
      const std::uint8_t right = i < posted.report.size() ? posted.report[i] : untouched;
      require_equal(guest_.requests.get<std::uint8_t>(posted.at + i), right, "a byte of a report");
    }
    posted_.pop_front();
  }
  const bool lost = !posted_.empty() && (!posted_.front().fits || !posted_.front().report.empty());
  require(!lost, "a report that was lost");
}

}  // namespace viommu::fuzz::virtio_device
