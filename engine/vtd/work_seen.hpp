// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the worker has under way, copied out for who wants to see it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/commands.hpp"
#include "engine/vtd/invalidation.hpp"
#include "engine/vtd/queue_geometry.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

/// Begun, and waiting for the users of what was valid before.
struct TicketedCommands {
  std::uint64_t ticket = 0;
  Commands commands;
};
struct WaitSeen {
  std::uint64_t ticket = 0;
  Wait wait;
  std::uint32_t head = 0;     ///< where it stands
  std::uint64_t devices = 0;  ///< device-TLB invalidations up to this number are waited for
};
/// An invalidation of a device TLB that is not answered.
struct DeviceInvalidationSeen {
  std::uint64_t number = 0;
  std::uint64_t handle = 0;  ///< 0: the device has not been asked, because older guards are open
  core::DeviceInvalidation what;
  std::uint64_t deadline_ns = 0;  ///< all ones for none
};
/// The queue, as the register file has it.
struct QueueSeen {
  bool enabled = false;
  bool may_run = false;  ///< enabled, not empty, not stopped by an error
  QueueGeometry geometry;
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
};

struct WorkSeen {
  static constexpr std::size_t most_commands = 3;  ///< of GCMD and PMEN, CCMD, IOTLB_REG
  static constexpr std::size_t most_waits = 8;
  static constexpr std::size_t most_devices = 64;
  Commands asked;  ///< not begun
  std::array<TicketedCommands, most_commands> begun{};
  std::size_t begun_count = 0;
  std::array<WaitSeen, most_waits> waits{};  ///< the oldest first
  std::size_t wait_count = 0;                ///< of those shown
  std::size_t waits_open = 0;
  std::uint32_t fetched = 0;  ///< the next descriptor to be fetched, while a wait is open
  std::array<DeviceInvalidationSeen, most_devices> devices{};
  std::size_t device_count = 0;
  QueueSeen queue;
  bool invalidated_since_wait = false;  ///< the next wait will wait for holds too
  core::Waist::ScanSeen scan;           ///< for whom the tickets wait
};

}  // namespace viommu::vtd
