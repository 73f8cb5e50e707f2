// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu: its configuration and queues, the domains behind them, and the way of a request.
//
//   driver   queues, or one request as bytes ---> role: Domains ---> Views, Waist, Consumers ---> ticket ---> answer
//   device   translate(): Views -> address space of its domain -> IOTLB -> Mappings -> fill
//   blocked  Events ---> event queue
//
// A request is answered when nobody uses any more what it has taken away: consumers have given it up, and guards and
// holds that began before have ended. One is worked at a time; the next ones stay in the queue meanwhile.
// Transport and interrupts are the VMM's: it says what the driver has negotiated, where the queues are, and that it was
// notified; it is told when the driver is to be.
//
// Threads: everything from any thread; what says `busy` does nothing while another one is at the device's work. Not
// from a callback of the host, but for translating. Source: Virtio, "IOMMU device".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/consumer/consumers.hpp"
#include "engine/consumer/write_tracking.hpp"
#include "engine/core/completions.hpp"
#include "engine/core/dma_request.hpp"
#include "engine/core/fault_counts.hpp"
#include "engine/core/host.hpp"
#include "engine/core/log_limit.hpp"
#include "engine/core/obstacle.hpp"
#include "engine/core/role.hpp"
#include "engine/core/waist.hpp"
#include "engine/machine/ways.hpp"
#include "engine/virtio_iommu/config_space.hpp"
#include "engine/virtio_iommu/device_tap.hpp"
#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/events.hpp"
#include "engine/virtio_iommu/features.hpp"
#include "engine/virtio_iommu/request.hpp"
#include "engine/virtio_iommu/saved_state.hpp"
#include "engine/virtio_iommu/views.hpp"
#include "engine/virtqueue/queue.hpp"

namespace viommu::virtio_iommu {

enum class QueueIndex : std::uint8_t { request = 0, event = 1 };
inline constexpr std::size_t queue_count = 2;

/// What it counts.
enum class RequestCount : std::uint8_t { attach, detach, map, unmap, probe, refused, unanswered };
inline constexpr std::size_t request_counts = 7;

struct DeviceOptions {
  FeatureOptions features;
  ConfigValues config;
  Domains::Limits limits;
  std::uint64_t seed = 0;
  std::uint64_t report_ns = 0;    ///< after this long an answer that is withheld is logged
  std::uint32_t fault_limit = 0;  ///< reports a second of one device
  std::uint32_t subscriptions = 0;
  std::size_t accounts = 0;  ///< pairs of device and domain whose faults are counted apart
};

class Device {
 public:
  Device(const DeviceOptions& options, core::Waist& waist, const core::Host& host) noexcept;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  /// @return false when the host has no memory
  [[nodiscard]] bool reset_memory() noexcept;

  // ---- What the driver does through its transport ----
  [[nodiscard]] Features offered() const noexcept { return offered_; }
  [[nodiscard]] Features negotiated() const noexcept { return {negotiated_.load(std::memory_order_acquire)}; }
  [[nodiscard]] std::uint64_t read_config(std::uint64_t offset, unsigned size) noexcept;
  ConfigWrite write_config(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept;
  enum class Setup : std::uint8_t { ok, refused, busy };
  /// FEATURES_OK. Refused: the driver wants what is not offered, or leaves out what it must have, or has the device
  /// running.
  [[nodiscard]] Setup negotiate(Features accepted) noexcept;
  /// Where a queue is; size 0: nowhere. @param problem  why it was refused
  [[nodiscard]] Setup set_queue(QueueIndex index, const virtqueue::Config& config,
                                virtqueue::ConfigProblem& problem) noexcept;
  /// DRIVER_OK: queues are served from now on.
  [[nodiscard]] Setup start() noexcept;
  void notify(QueueIndex index) noexcept;
  /// It works no queue any more until it is reset (DEVICE_NEEDS_RESET).
  [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_acquire); }
  enum class ResetKind : std::uint8_t {
    device,  ///< of the driver: nobody is attached, and `bypass` stays
    system,  ///< and has its first value again
  };
  [[nodiscard]] bool reset(ResetKind kind) noexcept;

  enum class Answered : std::uint8_t {
    yes,
    busy,   ///< another thread is at work, or another request waits for its answer
    waits,  ///< to be asked again with the same bytes, when host.wake says so
  };
  /// One request as its bytes, for who works the queue himself.
  /// @param used_bytes  of the answer, from its beginning; 0: nothing was written
  [[nodiscard]] Answered request(std::span<const std::byte> readable, std::span<std::byte> writable,
                                 std::uint32_t& used_bytes) noexcept;

  // ---- Work ----
  /// @param budget  requests at most, 0 for as many as the queue has entries
  core::WorkState process(std::uint32_t budget) noexcept;
  /// Runs `use()` while no other thread is at work. @return false when one is
  template <class Use>
  [[nodiscard]] bool exclusively(const Use& use) noexcept {
    const core::WorkLook look = role_.exclusively(use);
    if (look == core::WorkLook::noted) work_again();
    return look != core::WorkLook::busy;
  }

  // ---- Devices of the machine; inside exclusively() ----
  /// Who does not pass this device, or must not send at all. To be called once, before anything else.
  void follow(const machine::Ways& ways) noexcept { ways_ = &ways; }
  /// Everything that comes after this is told.
  void tell(const DeviceTap& tap) noexcept { tap_ = tap; }
  [[nodiscard]] Domains::Added add_endpoint(EndpointName name, std::span<const ReservedRegion> reserved) noexcept;
  void remove_endpoint(SourceId source) noexcept;
  /// For PROBE, and for what it translates. @return false when the host has no memory
  [[nodiscard]] bool set_reserved(SourceId source, std::span<const ReservedRegion> reserved) noexcept;
  /// Those of a bus have another number; ids that are their requester ids follow. @return false: no memory
  [[nodiscard]] bool renumber(std::uint8_t from, std::uint8_t to) noexcept;
  /// What a host leaves of it, before the guest runs.
  void set_page_size_mask(std::uint64_t mask) noexcept;
  [[nodiscard]] const ConfigValues& config() const noexcept { return config_.values(); }
  [[nodiscard]] const DeviceOptions& options() const noexcept { return options_; }
  [[nodiscard]] const Domains& domains() const noexcept { return domains_; }

  // ---- Migration ----
  /// What is in the way of a quiet device.
  [[nodiscard]] core::Obstacle obstacle() noexcept;
  struct Saving {
    enum class Result : std::uint8_t { done, no_room, obstacle, too_large, no_memory } result = Result::done;
    core::Obstacle obstacle{};
    std::size_t length = 0;  ///< of `done` and `no_room`
  };
  /// Writes the state, whole or not at all.
  [[nodiscard]] Saving save(std::span<std::byte> room) noexcept;
  enum class Loading : std::uint8_t {
    done,
    busy,
    refused,    ///< and nothing has changed
    no_memory,  ///< and it is as after a reset of the system
  };
  /// Becomes what the state says, whatever it was. @param problem  why it is refused
  [[nodiscard]] Loading load(std::span<const std::byte> bytes, LoadProblem& problem) noexcept;

  // ---- Dirty tracking ----
  void track(bool on) noexcept {
    if (tracking_.want(on)) work_again();
  }
  [[nodiscard]] bool tracks() const noexcept { return tracking_.on(); }
  [[nodiscard]] bool collect_dirty() noexcept;

  // ---- Translating: any thread, inside a guard of its reader ----
  [[nodiscard]] core::DmaAnswer translate(core::Reader& reader, const core::DmaRequest& request) noexcept;
  /// The same, for a plain request with its context, while mode is plain, that the IOTLB has no hit for.
  [[nodiscard]] core::DmaAnswer translate_missed(core::Reader& reader, const core::DmaRequest& request,
                                                 caches::ContextEntry context) noexcept;
  /// As vtd::Dma::translate_batch().
  template <class Batch>
  void translate_batch(core::Reader& reader, std::size_t count, const Batch& batch) noexcept {
    for (std::size_t first = 0; first < count; first += core::batch_width)
      translate_some(reader, first, first + std::min(core::batch_width, count - first), batch);
  }
  /// A fault that was found elsewhere, reported as one of its own. Inside a guard.
  [[nodiscard]] FaultStatus report_host_fault(core::Reader& reader, const core::DmaRequest& request,
                                              viommu::FaultReason reason) noexcept;
  /// What it goes by. Inside a guard, as far as its domain and reserved memory are looked at.
  [[nodiscard]] Views::Seen seen(SourceId source) const noexcept { return views_.of(source); }
  [[nodiscard]] ConfigSpace seen_config() noexcept {
    const std::lock_guard lock{config_lock_};
    return config_seen_;
  }
  /// What a device sees, for who mirrors it.
  [[nodiscard]] consumer::Content content_of(SourceId source) const noexcept;

  [[nodiscard]] consumer::Consumers& consumers() noexcept { return consumers_; }
  [[nodiscard]] const consumer::Consumers& consumers() const noexcept { return consumers_; }
  [[nodiscard]] Events::Figures event_figures() const noexcept { return events_.figures(); }
  [[nodiscard]] std::uint64_t limited_reports(SourceId source) noexcept { return events_.limited(source); }
  [[nodiscard]] const core::FaultCounts& fault_counts() const noexcept { return faults_; }
  [[nodiscard]] std::uint64_t count(RequestCount which) const noexcept {
    return counts_[static_cast<std::size_t>(which)].load(std::memory_order_relaxed);
  }

  // For core::MappingStore.
  [[nodiscard]] bool find_mapping(viommu::DomainId domain, Iova iova, core::StoredMapping& found) const noexcept;
  [[nodiscard]] bool first_mapping(viommu::DomainId domain, Iova iova, core::StoredMapping& found) const noexcept;

 private:
  /// A request on its way to its answer.
  struct Open {
    Decoded decoded;
    bool from_queue = false;
    bool executed = false;
    Status status = Status::ok;
    std::optional<core::Ticket> ticket = std::nullopt;
    core::Withheld withheld{};
    RequestBytes bytes{};
    BufferSize size{};
  };
  /// What is to go, while somebody who has it is asked.
  struct Withdrawn {
    viommu::DomainId domain;
    IovaRange range;
  };

  // device_work.cpp
  [[nodiscard]] core::WorkState work(std::uint32_t budget) noexcept;
  void follow_bypass() noexcept;
  [[nodiscard]] core::WorkState run_requests(std::uint32_t budget) noexcept;
  void run_events() noexcept;
  void break_down(virtqueue::Problem problem) noexcept;
  [[nodiscard]] bool serves() const noexcept { return running_ && !broken_.load(std::memory_order_relaxed); }
  void forget_open() noexcept;
  [[nodiscard]] core::Obstacle open_work() noexcept;
  void take_back() noexcept;
  [[nodiscard]] bool asks_for_ticket() const noexcept { return domains_.waiting() || views_.waiting(); }
  // device_state.cpp
  [[nodiscard]] Saving save_quiet(std::span<std::byte> room) noexcept;
  [[nodiscard]] bool become(const SavedState& state) noexcept;
  void stop() noexcept;
  void set_bypass(bool bypass) noexcept;
  /// What has gone, as far as nobody is in it.
  void take_all_back() noexcept;
  void publish_views() noexcept;
  [[nodiscard]] DeviceIdentity identity() const noexcept { return {offered_, config_}; }
  // device_requests.cpp
  /// Goes on with the open request. @return idle: it is done, and `status` and `properties` are the answer
  [[nodiscard]] core::WorkState advance(Open& open) noexcept;
  [[nodiscard]] Domains::Outcome execute(const Request& request) noexcept;
  [[nodiscard]] Status probe(const Probe& request) noexcept;
  [[nodiscard]] std::span<const std::byte> properties_of(const Open& open) const noexcept;
  void tell_answered(const Answer& answer) const noexcept {
    if (tap_.answered != nullptr) [[unlikely]]
      tap_.answered(tap_.opaque, answer);
  }
  void count(const Request& request) noexcept;
  void note_drop(const caches::Scope& scope) noexcept;
  void moved(EndpointName endpoint, const EndpointView& before, const EndpointView& now) noexcept;
  caches::Scope drop_context(SourceId source) noexcept;
  [[nodiscard]] bool unmapping(const Domain& domain, IovaRange range) noexcept;
  [[nodiscard]] DomainListener listener() noexcept;
  [[nodiscard]] consumer::FrontEnd front_end() noexcept;
  void work_again() noexcept {
    if (process(0) != core::WorkState::idle) host_.wake();
  }
  // device_translate.cpp
  [[nodiscard]] core::DmaAnswer translate_unlogged(core::Reader& reader, const core::DmaRequest& request) noexcept;
  /// @param version  of contexts, from before `seen` was loaded
  [[nodiscard]] core::DmaAnswer translate_in(core::Reader& reader, const core::DmaRequest& request,
                                             const Views::Seen& seen, std::uint64_t version) noexcept;
  [[nodiscard]] core::DmaAnswer conclude(core::Reader& reader, const core::DmaRequest& request,
                                         const core::Translation& found, const Views::Seen& seen) noexcept;
  [[nodiscard]] core::DmaAnswer identity(core::Reader& reader, const core::DmaRequest& request,
                                         const Views::Seen& seen) const noexcept;
  [[nodiscard]] Views::Seen named(SourceId source) const noexcept;
  [[nodiscard]] core::DmaAnswer fault(core::Reader& reader, const core::DmaRequest& request, const Views::Seen& seen,
                                      virtio_iommu::FaultReason reason) noexcept;
  [[nodiscard]] FaultStatus report(const core::DmaRequest& request, EndpointId endpoint,
                                   virtio_iommu::FaultReason reason) noexcept;
  [[nodiscard]] static caches::AddressSpaceKey key_of(viommu::DomainId domain) noexcept;
  /// Requests [first, end) of a batch, at most core::batch_width.
  template <class Batch>
  void translate_some(core::Reader& reader, std::size_t first, std::size_t end, Batch batch) noexcept;

  [[nodiscard]] machine::Way way_of(SourceId source) const noexcept {
    return ways_ == nullptr ? machine::Way::unit : ways_->of(source);
  }

  const DeviceOptions options_;
  const Features offered_;
  const machine::Ways* ways_ = nullptr;
  DeviceTap tap_;
  core::Waist& waist_;
  const core::Host& host_;
  core::Role role_;
  core::FaultCounts faults_;
  Events events_;
  Views views_;
  std::array<Atomic<std::uint64_t>, request_counts> counts_{};
  Atomic<std::uint64_t> negotiated_{0};
  Atomic<bool> broken_{false};
  Atomic<bool> events_queued_{false};  ///< the event queue is there, and served
  Mutex config_lock_;                  ///< guards config_seen_
  ConfigSpace config_seen_;            ///< by the driver
  // The role's:
  ConfigSpace config_;  ///< in force
  Domains domains_;
  consumer::Consumers consumers_;
  core::Completions completions_;
  consumer::WriteTracking tracking_;
  virtqueue::Queue requests_;
  virtqueue::Chain chain_;  ///< of the open request, where it came through the queue
  std::optional<Open> open_;
  std::optional<Withdrawn> withdrawn_;
  caches::ScopeSet dropped_;  ///< since the last ticket
  std::optional<core::Ticket> reclaim_ticket_;
  HostArray<std::byte> properties_;
  bool running_ = false;
  core::LogLimit breakdowns_;
};

template <class Batch>
void Device::translate_some(core::Reader& reader, std::size_t first, std::size_t end, Batch batch) noexcept {
  const bool usual = waist_.mode().uncounted().plain();
  caches::BatchBits answered{};
  if (usual && waist_.batch_lookup() != nullptr) {
    answered = waist_.look_up_records(reader, static_cast<std::uint64_t>(core::DmaKind::translated),
                                      batch.request_record(first), batch.answer_record(first), end - first);
  }
  for (std::size_t i = first; i < end; ++i) {
    if ((answered[(i - first) / 64] >> ((i - first) % 64) & 1) != 0) continue;
    const caches::ContextEntry context = usual ? waist_.find_context(batch.source(i)) : caches::ContextEntry{};
    if (context && batch.plain(i) && !waist_.uncached()) {
      waist_.charge(reader, batch.source(i));
      if (const core::Waist::Hit hit = waist_.look_up(reader, context.space(), batch.iova(i), batch.asked(i));
          hit.found()) {
        batch.hit(i, hit);
        continue;
      }
      if (batch.iova(i) < context.space().paged) {
        batch.answer(i, translate_missed(reader, batch.request(i), context));
        continue;
      }
    }
    batch.answer(i, translate(reader, batch.request(i)));
  }
}

}  // namespace viommu::virtio_iommu
