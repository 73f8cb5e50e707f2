// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/events.hpp"

#include <algorithm>
#include <span>

namespace viommu::virtio_iommu {

FaultStatus Events::report(const FaultReport& report, SourceId source) noexcept {
  const std::uint64_t now_ns = host_.now_ns();  // no call of the host under the lock
  const std::lock_guard lock{lock_};
  if (!limit_.allows(source, now_ns)) {
    limited_.fetch_add(1, std::memory_order_relaxed);
    return FaultStatus::limited;
  }
  if (kept_count_ >= room_) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return FaultStatus::no_buffer;
  }
  kept_[kept_count_++] = report;
  limit_.count(source, now_ns);
  recorded_.fetch_add(1, std::memory_order_relaxed);
  return FaultStatus::recorded;
}

FaultStatus Events::hand_over(const FaultReport& report, SourceId source) noexcept {
  const std::uint64_t now_ns = host_.now_ns();
  {
    const std::lock_guard lock{lock_};
    if (!limit_.allows(source, now_ns)) {
      limited_.fetch_add(1, std::memory_order_relaxed);
      return FaultStatus::limited;
    }
  }
  if (!host_.virtio_event(encode(report))) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return FaultStatus::no_buffer;
  }
  recorded_.fetch_add(1, std::memory_order_relaxed);
  const std::lock_guard lock{lock_};
  limit_.count(source, now_ns);
  return FaultStatus::recorded;
}

virtqueue::ConfigProblem Events::enable(const virtqueue::Config& config, const virtqueue::State& state) noexcept {
  const virtqueue::ConfigProblem problem = queue_.load(config, state);
  if (problem != virtqueue::ConfigProblem::none) return problem;
  first_ = count_ = usable_ = 0;
  const std::lock_guard lock{lock_};
  kept_count_ = room_ = 0;
  return problem;
}

void Events::disable() noexcept {
  queue_.disable();
  first_ = count_ = usable_ = 0;
  const std::lock_guard lock{lock_};
  kept_count_ = room_ = 0;
}

virtqueue::State Events::state() const noexcept {
  virtqueue::State state = queue_.state();
  if (count_ == 0) return state;
  state.next_available = buffers_[first_].before.next_available;
  state.available_wrap = buffers_[first_].before.available_wrap;
  return state;
}

Events::Worked Events::work(const virtqueue::Memory& memory) noexcept {
  Worked worked;
  if (!queue_.enabled()) return worked;
  if (write_kept(memory)) fetch(memory);
  worked.notify = queue_.notification_due(memory);
  worked.broken = queue_.problem() != virtqueue::Problem::none;
  if (!worked.broken) return worked;
  const std::lock_guard lock{lock_};
  kept_count_ = room_ = 0;
  return worked;
}

bool Events::write_kept(const virtqueue::Memory& memory) noexcept {
  std::array<FaultReport, most> reports;
  std::size_t count = 0;
  {
    const std::lock_guard lock{lock_};
    count = kept_count_;
    std::copy_n(kept_.begin(), count, reports.begin());
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (!give_back_too_small(memory)) return false;
    if (!write(memory, buffers_[first_], reports[i])) queue_.fail(virtqueue::Problem::memory_gone);
    if (!give_back(memory, report_bytes)) return false;
  }
  const std::lock_guard lock{lock_};
  std::copy(kept_.begin() + static_cast<std::ptrdiff_t>(count),
            kept_.begin() + static_cast<std::ptrdiff_t>(kept_count_), kept_.begin());
  kept_count_ -= count;
  room_ -= count;
  return true;
}

bool Events::write(const virtqueue::Memory& memory, const Buffer& buffer, const FaultReport& report) noexcept {
  const FaultBytes bytes = encode(report);
  std::span<const std::byte> left{bytes};
  for (std::size_t i = 0; i < buffer.count; ++i) {
    const virtqueue::Segment& segment = buffer.segments[i];
    if (!memory.store(segment.gpa, left.first(segment.size_bytes))) return false;
    left = left.subspan(segment.size_bytes);
  }
  return true;
}

bool Events::give_back(const virtqueue::Memory& memory, std::uint32_t used_bytes) noexcept {
  if (!queue_.put(memory, buffers_[first_].token, used_bytes)) return false;
  if (buffers_[first_].count != 0) --usable_;
  first_ = (first_ + 1) % most;
  --count_;
  return true;
}

/// In their turn, so that what another side fetches again is what was not given back.
bool Events::give_back_too_small(const virtqueue::Memory& memory) noexcept {
  while (count_ != 0 && buffers_[first_].count == 0)
    if (!give_back(memory, 0)) return false;
  return true;
}

void Events::fetch(const virtqueue::Memory& memory) noexcept {
  bool done = false;
  // Ends: a driver whose buffers are all too small gets each back once in a call, and is asked again at its next word.
  for (std::uint32_t fetched = 0; !done && fetched <= queue_.config().size; ++fetched)
    if (!fetch_one(memory, done) || !give_back_too_small(memory)) return;
  const std::lock_guard lock{lock_};
  room_ = usable_;
}

bool Events::fetch_one(const virtqueue::Memory& memory, bool& done) noexcept {
  done = count_ == most;
  if (done) return true;
  Buffer& buffer = buffers_[(first_ + count_) % most];
  buffer.before = queue_.state();
  virtqueue::Taken taken = queue_.take(memory, chain_);
  if (taken == virtqueue::Taken::empty) {
    if (!queue_.listen(memory)) return false;
    full_fence();  // the driver looks at the wish after it has made a buffer available: one of both sees the other
    buffer.before = queue_.state();
    taken = queue_.take(memory, chain_);
  }
  done = taken == virtqueue::Taken::empty;
  if (taken != virtqueue::Taken::chain) return done;
  buffer.token = chain_.token();
  buffer.count = 0;
  ++count_;
  if (chain_.writable_bytes() < report_bytes) return true;
  ++usable_;
  std::uint64_t bytes = 0;
  for (const virtqueue::Segment& segment : chain_.writable()) {
    if (bytes == report_bytes) break;
    const std::uint64_t part = std::min(segment.size_bytes, report_bytes - bytes);
    buffer.segments[buffer.count++] = {segment.gpa, part};
    bytes += part;
  }
  return true;
}

}  // namespace viommu::virtio_iommu
