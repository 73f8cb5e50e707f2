// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is under way, for who wants to see it.
#include <algorithm>

#include "engine/vtd/worker.hpp"

namespace viommu::vtd {

WorkLook Worker::describe(WorkSeen& seen) noexcept {
  return exclusively([&] {
    registers_.with([&](const RegisterFile& file) {
      seen.asked = commands_;
      seen.queue = {file.queue_enabled(), file.queue_may_run(), file.queue_geometry(), file.queue_head(),
                    file.queue_tail()};
    });
    const auto begun = [&](std::uint64_t ticket, const Commands& commands) {
      seen.begun[seen.begun_count++] = {ticket, commands};
    };
    if (global_) begun(global_->ticket.epoch, global_->commands);
    if (context_) {
      Commands command;
      command.context.emplace().granularity = context_->granularity;
      begun(context_->ticket.epoch, command);
    }
    if (iotlb_) {
      Commands command;
      command.iotlb.emplace().granularity = iotlb_->granularity;
      begun(iotlb_->ticket.epoch, command);
    }
    seen.waits_open = waits_.size();
    seen.fetched = fetched_;
    for (; seen.wait_count < std::min(waits_.size(), WorkSeen::most_waits); ++seen.wait_count) {
      const OpenWait& open = waits_.at(seen.wait_count);
      seen.waits[seen.wait_count] = {open.ticket.epoch, open.wait, open.head, open.devices};
    }
    seen.device_count = devices_.describe(seen.devices);
    seen.invalidated_since_wait = !since_last_wait_.empty() || interrupts_since_last_wait_;
    seen.scan = waist_.peek_scan();
  });
}

}  // namespace viommu::vtd
