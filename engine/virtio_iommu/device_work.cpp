// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The work behind a notification: one thread at a time (core::Role).
#include <array>
#include <cinttypes>
#include <cstdio>

#include "engine/virtio_iommu/device.hpp"
#include "engine/virtio_iommu/reply.hpp"

namespace viommu::virtio_iommu {

using core::WorkState;
using virtqueue::Served;

core::WorkState Device::process(std::uint32_t budget) noexcept {
  if (!role_.enter()) return WorkState::idle;
  return role_.run([&] { return work(budget); });
}

WorkState Device::work(std::uint32_t budget) noexcept {
  // Memory that has gone is withdrawn before it is given up, and what is being mirrored before anything is answered.
  const std::uint64_t regions_told = consumers_.regions_told();
  follow_bypass();
  if (!consumers_.advance()) return WorkState::more;
  const bool switching = !tracking_.advance(completions_);
  run_events();
  const WorkState requests = run_requests(budget);
  take_back();
  const bool waits = !waist_.reclaim_regions(regions_told) || switching || reclaim_ticket_.has_value();
  if (consumers_.busy()) return WorkState::more;
  const bool more = waist_.reclaim();
  if (requests != WorkState::idle) return requests;
  if (more) return WorkState::more;
  return waits ? WorkState::wait : WorkState::idle;
}

/// A write of the driver has changed the byte.
void Device::follow_bypass() noexcept {
  bool wanted = false;
  {
    const std::lock_guard lock{config_lock_};
    wanted = config_seen_.bypass();
  }
  if (wanted == config_.bypass()) return;
  config_.load_bypass(wanted);
  domains_.bypass_changed();
  dropped_.clear();  // nothing is answered for it
}

WorkState Device::run_requests(std::uint32_t budget) noexcept {
  if (open_ && !open_->from_queue) return WorkState::wait;  // it goes on when it is asked again
  if (!serves() || !requests_.enabled()) return WorkState::idle;
  const virtqueue::Memory memory{waist_.memory()};
  if (open_) {
    if (const WorkState state = advance(*open_); state != WorkState::idle) return state;
    const std::optional used =
        write_reply(memory, chain_, open_->decoded.tail_offset, open_->status, properties_of(*open_));
    forget_open();
    if (!used) requests_.fail(virtqueue::Problem::memory_gone);
    if (!used || !requests_.put(memory, chain_.token(), *used)) {
      break_down(requests_.problem());
      return WorkState::idle;
    }
  }
  WorkState left = WorkState::idle;
  const auto serve = [&](const virtqueue::Chain& chain) -> Served {
    RequestBytes bytes{};
    const std::optional decoded = read_request(memory, chain, negotiated(), config_.values().probe_size, bytes);
    if (!decoded) return {Served::Outcome::memory_gone};
    count(decoded->request);
    const BufferSize size{chain.readable_bytes(), chain.writable_bytes()};
    if (std::holds_alternative<Unanswered>(decoded->request)) {
      tell_answered({bytes, size});
      return {Served::Outcome::done, 0};
    }
    Open& open = open_.emplace(Open{.decoded = *decoded, .from_queue = true, .bytes = bytes, .size = size});
    left = advance(open);
    if (left != WorkState::idle) return {Served::Outcome::later};
    const std::optional used = write_reply(memory, chain, open.decoded.tail_offset, open.status, properties_of(open));
    forget_open();
    if (!used) return {Served::Outcome::memory_gone};
    return {Served::Outcome::done, *used};
  };
  const std::uint32_t most = budget != 0 ? budget : requests_.config().size;
  const virtqueue::RunResult result = requests_.run(memory, chain_, most, serve);
  if (result.notify) host_.virtio_notify(static_cast<std::uint32_t>(QueueIndex::request));
  switch (result.stop) {
    case virtqueue::RunResult::Stop::idle:  return WorkState::idle;
    case virtqueue::RunResult::Stop::more:  return WorkState::more;
    case virtqueue::RunResult::Stop::later: return left;
    case virtqueue::RunResult::Stop::broken:
      forget_open();
      break_down(requests_.problem());
      return WorkState::idle;
  }
  return WorkState::idle;
}

void Device::run_events() noexcept {
  if (!serves()) return;
  const Events::Worked worked = events_.work(virtqueue::Memory{waist_.memory()});
  if (worked.notify) host_.virtio_notify(static_cast<std::uint32_t>(QueueIndex::event));
  if (worked.broken) break_down(events_.queue().problem());
}

void Device::break_down(virtqueue::Problem problem) noexcept {
  broken_.store(true, std::memory_order_release);
  events_queued_.store(false, std::memory_order_release);
  host_.virtio_needs_reset();
  const std::uint64_t times = breakdowns_.happened();
  if (times == 0 || !host_.has_log()) return;
  const std::string_view words = virtqueue::text_of(problem);
  std::array<char, 192> text;
  std::snprintf(text.data(), text.size(), "virtio-iommu needs a reset: %.*s; so far: %" PRIu64,
                static_cast<int>(words.size()), words.data(), times);
  host_.log(core::LogLevel::warning, text.data());
}

void Device::forget_open() noexcept {
  open_.reset();
  withdrawn_.reset();
  domains_.forget_unmap();
}

/// What domains and views have given up comes back when a ticket has passed; a few thousand nodes at a time.
void Device::take_back() noexcept {
  constexpr std::size_t slice = 4096;
  if (reclaim_ticket_ && waist_.drained(*reclaim_ticket_)) reclaim_ticket_.reset();
  const std::uint64_t passed = waist_.tickets_passed();
  static_cast<void>(domains_.reclaim(passed, slice));
  views_.reclaim(passed);
  if (reclaim_ticket_ || !asks_for_ticket()) return;
  reclaim_ticket_ = waist_.ticket({});
  domains_.seal(reclaim_ticket_->epoch);
  views_.seal(reclaim_ticket_->epoch);
}

}  // namespace viommu::virtio_iommu
