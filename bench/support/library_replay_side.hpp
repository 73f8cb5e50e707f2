// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The library as a side of bench/replay.cpp (qemu_replay_side.hpp says what that is): through its C interface, with a
// queue that the guest writes.
#pragma once

#include <viommu/viommu.hpp>

#include <cstdint>
#include <span>

#include "bench/support/guest_queue.hpp"
#include "bench/support/mirror.hpp"
#include "bench/support/replay_guest.hpp"

namespace viommu::bench {

class LibraryReplaySide {
 public:
  static constexpr const char* name = "Viommu";

  /// Throws std::runtime_error when something is refused.
  explicit LibraryReplaySide(const ReplayGuest& guest);
  LibraryReplaySide(const LibraryReplaySide&) = delete;
  LibraryReplaySide& operator=(const LibraryReplaySide&) = delete;

  [[nodiscard]] std::uint32_t pages() const noexcept;
  void begin();
  void end();
  void drop_domain();
  void attach(std::uint32_t domain);
  void mirror_to(Mirror* mirror) noexcept { mirror_ = mirror; }
  [[nodiscard]] std::uint64_t told() const noexcept { return told_; }

  // As a translator of GuestQueue's.
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
    static_cast<void>(engine_.mmio_write(offset, size, value));
  }
  void process() noexcept { static_cast<void>(engine_.process()); }

 private:
  void receive(std::span<viommu_event> events) noexcept;
  void finish();

  const ReplayGuest& guest_;
  Engine engine_;
  GuestQueue<LibraryReplaySide, ReplayGuest> queue_;
  Mirror* mirror_ = nullptr;
  std::uint64_t told_ = 0;
  std::uint64_t subscription_ = 0;
  std::uint32_t domain_ = 0;
};

}  // namespace viommu::bench
