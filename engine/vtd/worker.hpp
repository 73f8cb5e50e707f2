// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The unit's own work: commands of the register window and the invalidation queue, one thread at a time.
//
// Any thread may call process(): core/role.hpp.
//
// A command becomes visible to the guest (GSTS, ICC, IVT, status write, interrupt) only when its ticket is drained. If
// it is not, the work stops there with `wait`; the end of a guard or hold calls host.wake.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "caches/scope.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/scratch.hpp"
#include "engine/consumer/consumers.hpp"
#include "engine/consumer/write_tracking.hpp"
#include "engine/core/completions.hpp"
#include "engine/core/host.hpp"
#include "engine/core/log_limit.hpp"
#include "engine/core/obstacle.hpp"
#include "engine/core/role.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/commands.hpp"
#include "engine/vtd/descriptors.hpp"
#include "engine/vtd/device_tlbs.hpp"
#include "engine/vtd/dma.hpp"
#include "engine/vtd/interrupt_remapping.hpp"
#include "engine/vtd/open_waits.hpp"
#include "engine/vtd/page_requests.hpp"
#include "engine/vtd/registers.hpp"
#include "engine/vtd/saved_state.hpp"
#include "engine/vtd/work_seen.hpp"

namespace viommu::vtd {

using core::Obstacle;
using core::WorkLook;
using core::WorkState;

/// What the worker counts.
enum class WorkCount : std::uint8_t {
  descriptors,
  context_invalidations,
  iotlb_global,
  iotlb_domain,
  iotlb_page,
  device_tlb,
  interrupt_entries,
  waits,
  status_writes_dropped,
  page_responses_dropped,
};
inline constexpr std::size_t work_counts = 10;

/// What Worker::collect_dirty() has come to.
struct DirtyCollected {
  bool settled = false;  ///< what was collected may be fetched
  bool noted = false;    ///< process() is to follow
};

/// Threads: everything from any thread.
class Worker {
 public:
  struct Times {
    std::uint64_t report_ns = 0;          ///< after this long a completion that is withheld is logged
    std::uint64_t device_timeout_ns = 0;  ///< a device-TLB invalidation is to be answered within it
  };
  Worker(const Capabilities& capabilities, core::Waist& waist, const core::Host& host, Registers& registers, Dma& dma,
         InterruptRemapping& interrupts, PageRequests& pages, consumer::Consumers& consumers, Times times) noexcept
      : capabilities_{capabilities},
        waist_{waist},
        host_{host},
        registers_{registers},
        dma_{dma},
        interrupts_{interrupts},
        pages_{pages},
        consumers_{consumers},
        completions_{waist, host, times.report_ns},
        tracking_{waist, consumers},
        devices_{waist, host, capabilities.device_tlb_throttle, times.device_timeout_ns} {}

  /// Takes note of what a register write asks for; process() does it. Called under the registers' lock.
  /// @return whether there is anything for process() to do.
  [[nodiscard]] bool request(const Actions& actions) noexcept;
  /// @param budget  descriptors at most, 0 for one whole ring
  WorkState process(std::uint32_t budget) noexcept;
  /// System reset. @return false when another thread has the role.
  [[nodiscard]] bool reset() noexcept;
  /// Runs `use()` in the role, unless another thread has it. After `noted` process() is to follow: a note that came
  /// meanwhile is its to answer.
  template <class Use>
  [[nodiscard]] WorkLook exclusively(const Use& use) noexcept {
    return role_.exclusively(use);
  }
  /// The unit's capabilities are others now: everything begins as after creation. By whoever has the role, before the
  /// guest runs.
  void adopt_capabilities() noexcept;
  /// What is under way (worker_describe.cpp), as exclusively().
  [[nodiscard]] WorkLook describe(WorkSeen& seen) noexcept;

  // worker_state.cpp
  /// What is in the way of a quiet unit; nothing is: then `state`, where there is one, receives what is to be saved.
  /// After `noted` process() is to follow.
  [[nodiscard]] WorkLook save(SavedState* state, Obstacle& obstacle) noexcept;
  /// The unit becomes one with these registers and groups, whatever it was. @return false when another thread has the
  /// role: then nothing is done. process() is to follow
  [[nodiscard]] bool load(const RegisterFile& loaded, const PageGroups& groups) noexcept;
  /// Asks for dirty tracking; process() does it. @return whether there is anything to do
  [[nodiscard]] bool track(bool on) noexcept { return tracking_.want(on); }
  [[nodiscard]] bool tracks() const noexcept { return tracking_.on(); }
  /// Takes what was logged, and says whether the guards in which it was logged have ended. Not settled: to be asked
  /// again, host.wake is called when it is worth it.
  [[nodiscard]] DirtyCollected collect_dirty() noexcept;

  [[nodiscard]] std::uint64_t count(WorkCount which) const noexcept {
    return counts_[static_cast<std::size_t>(which)].load(std::memory_order_relaxed);
  }
  [[nodiscard]] DeviceTlbs& device_tlbs() noexcept { return devices_; }
  [[nodiscard]] const DeviceTlbs& device_tlbs() const noexcept { return devices_; }

 private:
  /// Begun, and waiting for its ticket.
  struct GlobalCommand {
    core::Ticket ticket;
    Commands commands;
    core::Withheld withheld{};
  };
  struct ContextCommand {
    core::Ticket ticket;
    ContextGranularity granularity;
    core::Withheld withheld{};
  };
  struct IotlbCommand {
    core::Ticket ticket;
    IotlbGranularity granularity;
    core::Withheld withheld{};
  };
  /// The queue as one look under the lock shows it. Only the role changes what is in it but the tail, so a run up to
  /// this tail needs no second look; the guest sees the head move when the run ends and at each wait.
  struct QueueView {
    QueueGeometry geometry;
    std::uint32_t head = 0;  ///< the next one to be fetched, which the guest sees when no wait is open
    std::uint32_t tail = 0;
    TableMode mode = TableMode::legacy;
    bool may_run = false;
  };
  /// How many descriptors one call may process.
  class Budget {
   public:
    /// @param descriptors  0 for as many as the ring has entries
    explicit Budget(std::uint32_t descriptors) noexcept : left_{descriptors}, whole_ring_{descriptors == 0} {}
    void begin(std::uint32_t ring_entries) noexcept {
      if (whole_ring_) left_ = ring_entries;
      whole_ring_ = false;
    }
    [[nodiscard]] bool take() noexcept {
      if (left_ == 0) return false;
      --left_;
      return true;
    }

   private:
    std::uint32_t left_;
    bool whole_ring_;
  };
  /// Invalidations of a domain or of its pages in a row, dropped together: the lines of the later ones are on their way
  /// meanwhile; and where the host has an executor, a long run may be dropped by several threads (Waist::drop()).
  class DropRun {
   public:
    /// @param room  for a long run; empty: what is here is enough
    explicit DropRun(std::span<caches::PageScope> room) noexcept : room_{room} {
      if (room_.empty()) room_ = {here_.data(), few};
      std::construct_at(room_.data());
    }
    DropRun(const DropRun&) = delete;
    DropRun& operator=(const DropRun&) = delete;
    /// Where the next one is decoded into; there is always room.
    [[nodiscard]] caches::PageScope& next() noexcept { return room_[count_]; }
    /// It counts. @return whether the run is full and has to be flushed
    [[nodiscard]] bool take() noexcept {
      ++count_;
      if (count_ == room_.size()) return true;
      std::construct_at(room_.data() + count_);
      return false;
    }
    void clear() noexcept {
      count_ = 0;
      room_.front() = {};
    }
    [[nodiscard]] std::span<const caches::PageScope> scopes() const noexcept { return room_.first(count_); }

   private:
    static constexpr std::size_t few = 64;
    Scratch<caches::PageScope, few> here_;
    std::span<caches::PageScope> room_;
    std::size_t count_ = 0;
  };
  /// The page of the ring that is being read.
  struct RingPage {
    bool known = false;
    Gpa first;
    std::byte* host = nullptr;  ///< null: to be read word by word
  };
  /// As after creation.
  void start_over() noexcept;
  [[nodiscard]] WorkState work(Budget& budget) noexcept;
  void begin_commands() noexcept;
  /// New interrupt requests go by what the commands ask for, and the VMM is told.
  void begin_interrupt_commands(const Commands& commands) noexcept;
  /// @return false while one of them waits for its ticket.
  [[nodiscard]] bool finish_commands() noexcept;
  [[nodiscard]] WorkState run_queue(Budget& budget) noexcept;
  [[nodiscard]] QueueView look_at_queue() noexcept;
  /// Descriptors from the head to the tail of the view. @return more when the budget ends, wait while a wait is open or
  /// where one has to be done before the next descriptor, idle otherwise.
  [[nodiscard]] WorkState run_to_tail(QueueView queue, Budget& budget) noexcept;
  /// Drops what the run names.
  void flush(DropRun& run) noexcept;
  /// The descriptor at the head; nothing when there is no memory.
  [[nodiscard]] std::optional<RawDescriptor> fetch(const QueueView& queue, RingPage& page) const noexcept;
  /// @return false when it cannot begin before a device has answered
  [[nodiscard]] bool execute(const Descriptor& descriptor) noexcept;
  [[nodiscard]] bool begin_device_invalidation(const DeviceTlbs::Invalidation& invalidation) noexcept;
  /// Asks devices and takes in their answers. @return false when one is too late, and the queue has been stopped
  bool advance_devices() noexcept;
  void begin_wait(const Wait& wait, std::uint32_t head, std::uint32_t next_head) noexcept;
  void show_head(std::uint32_t head) noexcept;
  /// Completes open waits, in order. @return false while one is open
  [[nodiscard]] bool finish_waits() noexcept;
  void complete(const Wait& wait) noexcept;
  void forget_waits() noexcept;
  // worker_state.cpp
  /// @return how large the interrupt table was
  std::uint32_t forget_registers() noexcept;
  void forget_work() noexcept;
  [[nodiscard]] Obstacle open_work() const noexcept;
  /// @param raw  the descriptor at the head, where that is what is wrong and could be read
  void stop_queue(QueueErrorCode code, const QueueView& queue, const std::optional<RawDescriptor>& raw) noexcept;
  // worker_log.cpp; without a lock, like every call of the host.
  void log_stop(QueueErrorCode code, const QueueView& queue, const std::optional<RawDescriptor>& raw) noexcept;
  void log_dropped_write(const Wait& wait) noexcept;
  void log_timeout(SourceId source) noexcept;
  void count_iotlb(IotlbGranularity granularity) noexcept;
  void count_invalidation(const IotlbInvalidation& invalidation) noexcept;
  void count_invalidation(const ContextInvalidation& invalidation) noexcept;
  void tell_routes(std::uint32_t first, std::uint32_t count) noexcept;
  void tell_all_routes() noexcept;
  void add(WorkCount which, std::uint64_t amount = 1) noexcept {
    Atomic<std::uint64_t>& counter = counts_[static_cast<std::size_t>(which)];  // written by the role only
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  const Capabilities& capabilities_;
  core::Waist& waist_;
  const core::Host& host_;
  Registers& registers_;
  Dma& dma_;
  InterruptRemapping& interrupts_;
  PageRequests& pages_;
  consumer::Consumers& consumers_;
  core::Completions completions_;
  consumer::WriteTracking tracking_;

  core::Role role_;
  Atomic<bool> commanded_{false};  ///< commands_ holds something
  Commands commands_;              ///< asked for and not yet begun; under the registers' lock
  // Whoever has the role:
  std::optional<GlobalCommand> global_;
  std::optional<ContextCommand> context_;
  std::optional<IotlbCommand> iotlb_;
  OpenWaits waits_;
  std::uint32_t fetched_ = 0;  ///< the next descriptor to be fetched, while a wait is open; the head stands on that one
  caches::ScopeSet since_last_wait_;
  std::uint32_t routed_entries_ = 0;         ///< how large the table was when all of it was told last
  bool interrupts_since_last_wait_ = false;  ///< interrupts under way may go by entries that were invalidated
  std::array<Atomic<std::uint64_t>, work_counts> counts_{};
  core::LogLimit stops_;
  core::LogLimit dropped_writes_;
  core::LogLimit timeouts_;
  DeviceTlbs devices_;
};

}  // namespace viommu::vtd
