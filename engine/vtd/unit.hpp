// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One VT-d unit in legacy mode: the register window, the worker behind it, and the way of a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/consumer/consumers.hpp"
#include "engine/core/host.hpp"
#include "engine/core/obstacle.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/dma.hpp"
#include "engine/vtd/fault_reporter.hpp"
#include "engine/vtd/interrupt_remapping.hpp"
#include "engine/vtd/registers.hpp"
#include "engine/vtd/saved_state.hpp"
#include "engine/vtd/worker.hpp"

namespace viommu::vtd {

/// Threads: everything from any thread; not from a callback of the host, but for translating and interrupts.
class Unit {
 public:
  /// `capabilities` pass their check().
  Unit(const Capabilities& capabilities, RegisterFile::Options options, core::Waist& waist, const core::Host& host,
       Worker::Times times) noexcept
      : capabilities_{capabilities},
        compress_faults_{options.compress_faults},
        host_{host},
        registers_{capabilities_, options, host},
        faults_{registers_, host},
        dma_{capabilities_, waist, registers_, faults_},
        interrupts_{capabilities_, waist.memory(), faults_},
        pages_{waist, registers_, dma_, host},
        consumers_{waist, host, front_end()},
        worker_{capabilities_, waist, host, registers_, dma_, interrupts_, pages_, consumers_, times} {
    dma_.tell_contexts(&consumers_);
  }

  /// @param records_a_second  of one source's faults, 0 for all @return false when the host has no memory
  [[nodiscard]] bool limit_faults(std::uint32_t records_a_second) noexcept { return faults_.limit(records_a_second); }

  /// @param pairs  of device and domain whose faults are counted apart @return false when the host has no memory
  [[nodiscard]] bool count_faults_apart(std::size_t pairs) noexcept { return faults_.count_apart(pairs); }
  [[nodiscard]] const core::FaultCounts& fault_counts() const noexcept { return faults_.counts(); }

  [[nodiscard]] ReadResult read(std::uint64_t offset, unsigned size) noexcept {
    return registers_.with([&](const RegisterFile& file) { return file.read(offset, size); });
  }
  AccessStatus write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
    bool work = false;
    const AccessStatus access = registers_.with([&](RegisterFile& file) {
      const Actions actions = file.write(offset, size, value);
      registers_.queue(actions.fault_event);
      registers_.queue(actions.completion_event);
      registers_.queue(actions.page_event);
      work = worker_.request(actions);
      return actions.access;
    });
    registers_.deliver();
    if (work) work_again();
    return access;
  }
  /// Whose requests pass the unit. Before the first request.
  void follow(const machine::Ways& ways) noexcept { dma_.follow(ways); }
  WorkState process(std::uint32_t budget) noexcept { return worker_.process(budget); }
  [[nodiscard]] bool reset() noexcept { return worker_.reset(); }
  /// Runs `use()` while no other thread is at the unit's work. @return false when one is: then nothing was run
  template <class Use>
  [[nodiscard]] bool exclusively(const Use& use) noexcept {
    const WorkLook look = worker_.exclusively(use);
    if (look == WorkLook::noted) work_again();
    return look != WorkLook::busy;
  }
  /// Becomes a unit with these, as after creation. They pass their check(). Inside exclusively(), before the guest
  /// runs: nobody translates or asks for routes meanwhile.
  void adopt(const Capabilities& capabilities) noexcept {
    capabilities_ = capabilities;
    consumers_.follow(front_end());
    worker_.adopt_capabilities();
  }

  // ---- Migration ----
  /// What is in the way of a quiet unit. Nothing is: `state`, where there is one, receives what is to be saved.
  [[nodiscard]] core::Obstacle save(SavedState* state) noexcept {
    core::Obstacle obstacle;
    if (worker_.save(state, obstacle) == WorkLook::noted) work_again();
    return obstacle;
  }
  [[nodiscard]] core::Obstacle obstacle() noexcept { return save(nullptr); }
  [[nodiscard]] UnitIdentity identity() noexcept { return {capabilities_, compress_faults_}; }
  enum class Loaded : std::uint8_t { done, refused, busy };
  /// @param problem  why it was refused
  [[nodiscard]] Loaded load(std::span<const std::byte> bytes, LoadProblem& problem) noexcept;
  // ---- Dirty tracking ----
  /// Room for the bits of every region has been made. It is so when tracks() says so.
  void track(bool on) noexcept {
    if (worker_.track(on)) work_again();
  }
  [[nodiscard]] bool tracks() const noexcept { return worker_.tracks(); }
  /// @return whether what was logged by now may be fetched
  [[nodiscard]] bool collect_dirty() noexcept {
    const DirtyCollected collected = worker_.collect_dirty();
    if (collected.noted) work_again();
    return collected.settled;
  }

  /// @return false while another thread is at the unit's work: nothing is seen then
  [[nodiscard]] bool describe_work(WorkSeen& seen) noexcept {
    const WorkLook look = worker_.describe(seen);
    if (look == WorkLook::noted) work_again();
    return look != WorkLook::busy;
  }
  /// All registers as they are at one instant.
  [[nodiscard]] RegisterFile registers() noexcept {
    return registers_.with([](const RegisterFile& file) { return file; });
  }
  [[nodiscard]] Dma& dma() noexcept { return dma_; }
  [[nodiscard]] PageRequests& pages() noexcept { return pages_; }
  [[nodiscard]] const DeviceTlbs& device_tlbs() const noexcept { return worker_.device_tlbs(); }
  /// A device's answer, or what is wrong with it. @return false when no such invalidation is open
  [[nodiscard]] bool device_invalidated(std::uint64_t handle, DeviceTlbs::Answer answer) noexcept {
    if (!worker_.device_tlbs().answer(handle, answer)) return false;
    host_.wake();
    return true;
  }
  [[nodiscard]] bool device_answered_wrongly(std::uint64_t handle) noexcept {
    const std::optional source = worker_.device_tlbs().source_of(handle);
    if (!source) return false;
    registers_.with([&](RegisterFile& file) { registers_.queue(file.raise_completion_error(*source)); });
    registers_.deliver();
    return true;
  }
  [[nodiscard]] InterruptRemapping& interrupts() noexcept { return interrupts_; }
  [[nodiscard]] consumer::Consumers& consumers() noexcept { return consumers_; }
  [[nodiscard]] const consumer::Consumers& consumers() const noexcept { return consumers_; }
  [[nodiscard]] const Capabilities& capabilities() const noexcept { return capabilities_; }
  [[nodiscard]] std::uint64_t count(WorkCount which) const noexcept { return worker_.count(which); }
  [[nodiscard]] std::uint64_t messages() const noexcept { return registers_.messages(); }
  [[nodiscard]] FaultReporter::Figures fault_figures() const noexcept { return faults_.figures(); }
  [[nodiscard]] std::uint64_t suppressed_faults(SourceId source) noexcept { return faults_.suppressed(source); }

 private:
  [[nodiscard]] consumer::FrontEnd front_end() noexcept {
    const auto content_of = [](void* unit, SourceId source) noexcept {
      return static_cast<Unit*>(unit)->dma_.content_of(source);
    };
    return {this, content_of, {low_bits(capabilities_.input_address_bits)}, capabilities_.caching_mode};
  }
  void work_again() noexcept {
    if (worker_.process(0) != WorkState::idle) host_.wake();
  }

  Capabilities capabilities_;  ///< others only refer to it, so that adopt() reaches them all
  const bool compress_faults_;
  const core::Host& host_;
  Registers registers_;
  FaultReporter faults_;
  Dma dma_;
  InterruptRemapping interrupts_;
  PageRequests pages_;
  consumer::Consumers consumers_;
  Worker worker_;
};

}  // namespace viommu::vtd
