// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device of an engine, and the back end that keeps its translations.
//
//   miss          stamp -> a free reader -> runs around the missed range -> UPDATE messages, or a failure
//   UNMAP event   INVALIDATE messages
//
// Order and waiting are the Outbox's. The feeder remembers nothing of what the back end has: an invalidation is passed
// on whether it is about that or not.
#pragma once

#include <viommu/viommu_vhost.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "engine/vhost/lookout.hpp"
#include "engine/vhost/outbox.hpp"
#include "engine/vhost/range.hpp"

namespace viommu::vhost {

class Feeder {
 public:
  Feeder(viommu_engine* engine, const viommu_vhost_options& options) noexcept : engine_{engine}, options_{options} {}
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;
  ~Feeder();

  /// Readers, and the subscription.
  [[nodiscard]] viommu_result begin(viommu_refusal* refusal);
  /// @return VIOMMU_OK, or what keeps it from ending
  [[nodiscard]] viommu_result end() noexcept;

  [[nodiscard]] viommu_result miss(const Range& missed, std::uint8_t access);
  [[nodiscard]] viommu_result message(const void* bytes, std::size_t length);
  void withdraw(const Range& range);
  [[nodiscard]] viommu_vhost_figures figures() const noexcept;

 private:
  static constexpr unsigned most_attempts = 8;
  static constexpr std::size_t most_updates = Outbox::most_at_once - 2;  // with a batch around them

  struct Place {
    viommu_reader* reader = nullptr;
    std::atomic<bool> used{false};
  };
  /// Runs with their user addresses.
  struct Answer {
    std::array<Range, most_updates> ranges;
    std::array<viommu_vhost_message, Outbox::most_at_once> messages;
    std::size_t count = 0;
  };

  [[nodiscard]] Place* take_place() noexcept;
  void look(viommu_reader* reader, const Range& missed, std::uint8_t access, bool reported, Answer& answer) const;
  [[nodiscard]] bool add_run(const Lookout& lookout, std::uint64_t at, std::uint8_t access, bool reported,
                             Answer& answer) const;
  [[nodiscard]] viommu_vhost_message message_of(std::uint8_t type, const Range& range) const noexcept;
  [[nodiscard]] bool batches() const noexcept { return (options_.flags & VIOMMU_VHOST_BATCH) != 0; }
  static void on_events(void* opaque, viommu_event* events, std::uint32_t count);
  static void on_message(void* opaque, const viommu_vhost_message& message);

  viommu_engine* const engine_;
  const viommu_vhost_options options_;
  Outbox outbox_{on_message, this};
  std::unique_ptr<Place[]> places_;
  std::uint64_t subscription_ = 0;  ///< 0: none
  std::atomic<std::uint64_t> misses_{0};
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::uint64_t> updates_{0};
  std::atomic<std::uint64_t> updated_bytes_{0};
  std::atomic<std::uint64_t> invalidations_{0};
  std::atomic<std::uint64_t> overtaken_{0};
};

}  // namespace viommu::vhost
