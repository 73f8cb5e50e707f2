// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A unit with somebody behind it who has work to do for each range that is dropped, as a consumer has who takes it back
// from a device. There are no consumers yet, so that work is a loop of known length; it is called as theirs will be
// (engine/core/drop_listener.hpp), which the C interface does not offer: the unit is put together here.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/unit.hpp"

namespace viommu::bench {

/// So many nanoseconds of arithmetic, by a count that was calibrated once when this machine did nothing else.
void work_for(std::uint32_t ns) noexcept;

struct ListenerSetup {
  std::uint32_t domains = 1;   // one address space each
  std::uint32_t first_id = 1;  // of the domains: the others follow
  std::uint32_t work_ns = 0;   // of the listener for each range; 0: nobody listens
  std::uint32_t threads = 0;   // of an executor of viommu_tbb, 1 or 2; 0: none
};

class ListeningUnit {
 public:
  static constexpr std::uint32_t queue_entries = 512;

  /// To be called first of all: oneTBB looks at the cores that its first caller may use.
  static void start_threads();
  /// The thread of the executor that is not the caller's, when it has run; 0 where there is but one core.
  [[nodiscard]] static pid_t other_thread();
  /// Throws std::runtime_error when a part of it is refused.
  explicit ListeningUnit(const ListenerSetup& setup);
  ListeningUnit(const ListeningUnit&) = delete;
  ListeningUnit& operator=(const ListeningUnit&) = delete;
  ~ListeningUnit();

  /// Puts page-selective descriptors into the queue, of one domain after the other, no two pages of them neighbours;
  /// and a wait with a status write. `fill` has the pages cached before, which is no part of what is asked.
  void fill(std::uint32_t descriptors) noexcept;
  void put(std::uint32_t descriptors) noexcept;
  /// Writes the tail and returns when the guest sees the status.
  void run() noexcept;

  /// Why nothing may be timed; empty when each descriptor drops its page, no other, and is told.
  [[nodiscard]] std::string wrong();

 private:
  struct Ram;
  struct Executor;
  [[nodiscard]] core::HostFunctions functions() noexcept;
  [[nodiscard]] core::WaistOptions options() const noexcept;
  [[nodiscard]] caches::ContextEntry context(std::uint32_t domain) noexcept;
  [[nodiscard]] std::uint64_t iova(std::uint32_t number) const noexcept;

  ListenerSetup setup_;
  Atomic<std::uint32_t> range_ns_{setup_.work_ns};
  std::vector<std::uint64_t> told_;  // ranges, by domain: each is told of by one thread at a time
  std::unique_ptr<Ram> ram_;
  Executor* executor_;  // null: none
  core::Host host_;
  core::Waist waist_;
  vtd::Unit unit_;
  core::Reader* reader_ = nullptr;
  std::uint32_t tail_ = 0;
  std::uint32_t status_ = 0;
};

}  // namespace viommu::bench
