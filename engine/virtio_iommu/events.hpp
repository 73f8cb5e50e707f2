// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Reports of blocked accesses on their way to the guest.
//
//   any thread   report(): is there a buffer for it? -> kept, to be written soon
//   the role     fetches buffers ahead, writes what was kept, gives them back
//
// So whoever translates never touches the queue and waits for nothing, and still knows at once whether the guest will
// hear of it. At most as many are kept as buffers were fetched; without one a report is dropped and counted, which the
// specification allows. Source: Virtio, "Fault reporting".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"
#include "engine/core/fault_limit.hpp"
#include "engine/core/host.hpp"
#include "engine/virtio_iommu/fault_report.hpp"
#include "engine/virtqueue/chain.hpp"
#include "engine/virtqueue/memory.hpp"
#include "engine/virtqueue/queue.hpp"

namespace viommu::virtio_iommu {

class Events {
 public:
  explicit Events(const core::Host& host) noexcept : host_{host} {}

  /// @param reports_a_second  of one device, 0 for all of them @return false when the host has no memory
  [[nodiscard]] bool limit(std::uint32_t reports_a_second) noexcept {
    return limit_.reset(host_.allocator(), reports_a_second);
  }

  // ---- Any thread ----
  /// What becomes of it: recorded (kept, to be written by work()), no_buffer, or limited.
  [[nodiscard]] FaultStatus report(const FaultReport& report, SourceId source) noexcept;
  /// The same for a VMM that works the queue itself: it is asked at once.
  [[nodiscard]] FaultStatus hand_over(const FaultReport& report, SourceId source) noexcept;
  struct Figures {
    std::uint64_t recorded = 0;
    std::uint64_t dropped = 0;
    std::uint64_t limited = 0;
  };
  [[nodiscard]] Figures figures() const noexcept {
    return {recorded_.load(std::memory_order_relaxed), dropped_.load(std::memory_order_relaxed),
            limited_.load(std::memory_order_relaxed)};
  }
  [[nodiscard]] std::uint64_t limited(SourceId source) noexcept {
    const std::lock_guard lock{lock_};
    return limit_.suppressed(source);
  }

  // ---- The role ----
  /// The queue is another one, or none.
  [[nodiscard]] virtqueue::ConfigProblem enable(const virtqueue::Config& config,
                                                const virtqueue::State& state) noexcept;
  void disable() noexcept;
  [[nodiscard]] const virtqueue::Queue& queue() const noexcept { return queue_; }
  /// From where another side goes on: buffers that were fetched and not used are fetched again there. Nothing is kept.
  [[nodiscard]] virtqueue::State state() const noexcept;
  struct Worked {
    bool notify = false;  ///< the driver wants to hear of what was given back
    bool broken = false;  ///< queue().problem() says why
  };
  /// Writes what was kept, and fetches buffers.
  [[nodiscard]] Worked work(const virtqueue::Memory& memory) noexcept;
  [[nodiscard]] bool anything_kept() noexcept {
    const std::lock_guard lock{lock_};
    return kept_count_ != 0;
  }

 private:
  static constexpr std::size_t most = 64;  ///< buffers fetched ahead
  static constexpr std::size_t report_bytes = sizeof(FaultLayout);
  /// As much of a buffer as a report takes, in at most so many pieces.
  struct Buffer {
    virtqueue::Token token;
    virtqueue::State before;  ///< of the queue, when it was fetched
    std::size_t count = 0;    ///< 0: too small for a report, which never lies in several
    std::array<virtqueue::Segment, report_bytes> segments{};
  };

  void fetch(const virtqueue::Memory& memory) noexcept;
  /// Takes one more. @return false when it is broken; `done`: there is none, or no room
  [[nodiscard]] bool fetch_one(const virtqueue::Memory& memory, bool& done) noexcept;
  /// The oldest buffer goes back to the driver.
  [[nodiscard]] bool give_back(const virtqueue::Memory& memory, std::uint32_t used_bytes) noexcept;
  [[nodiscard]] bool give_back_too_small(const virtqueue::Memory& memory) noexcept;
  [[nodiscard]] bool write_kept(const virtqueue::Memory& memory) noexcept;
  [[nodiscard]] static bool write(const virtqueue::Memory& memory, const Buffer& buffer,
                                  const FaultReport& report) noexcept;

  const core::Host& host_;
  Atomic<std::uint64_t> recorded_{0};
  Atomic<std::uint64_t> dropped_{0};
  Atomic<std::uint64_t> limited_{0};
  Mutex lock_;  ///< guards the next four; held for a few stores
  core::FaultLimit limit_;
  std::array<FaultReport, most> kept_{};
  std::size_t kept_count_ = 0;
  std::size_t room_ = 0;  ///< buffers, those included that what is kept will take
  // The role's:
  virtqueue::Queue queue_;
  virtqueue::Chain chain_;
  std::array<Buffer, most> buffers_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::size_t usable_ = 0;  ///< of them
};

}  // namespace viommu::virtio_iommu
