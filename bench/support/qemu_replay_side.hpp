// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// QEMU's shape as a side of bench/replay.cpp. A side is told what the guest does, and tells a consumer; that one
// counts, or mirrors what it is told.
#pragma once

#include <cstdint>

#include "bench/peers/address_dispatch.hpp"
#include "bench/peers/qemu_replay.hpp"
#include "bench/support/mirror.hpp"
#include "bench/support/replay_guest.hpp"

namespace viommu::bench {

class QemuReplaySide {
 public:
  static constexpr const char* name = "QemuShape";
  /// It is asked for the first pages of a large guest only: 1 Mi of them. More cost it more each.
  static constexpr std::uint32_t most_tables = 2048;

  explicit QemuReplaySide(const ReplayGuest& guest);

  [[nodiscard]] std::uint32_t pages() const noexcept;
  /// The device's consumer comes and is told of all that is mapped; it goes.
  void begin();
  void end();
  /// The guest drops the domain that the device uses.
  void drop_domain();
  /// The guest has the device use another domain, and drops the one before.
  void attach(std::uint32_t domain);
  /// Null: events are counted, no more.
  void mirror_to(Mirror* mirror) noexcept { mirror_ = mirror; }
  [[nodiscard]] std::uint64_t told() const noexcept { return told_; }

 private:
  void resync();

  const ReplayGuest& guest_;
  AddressDispatch memory_;
  QemuReplay replay_;
  Mirror* mirror_ = nullptr;
  std::uint64_t told_ = 0;
  std::uint32_t domain_ = 0;
};

}  // namespace viommu::bench
