// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How many faults of one source are recorded in a second of the host's clock, so that it cannot keep the recording
// registers from the others.
//
// A source's second begins with the first record after its last one ended: at most `limit` records in any second that
// begins so, twice as many in any second at all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

namespace viommu::core {

/// Threads: under one lock of the owner.
class FaultLimit {
 public:
  /// @param records_a_second  0: no limit, and no memory for one
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::uint32_t records_a_second) noexcept {
    constexpr std::size_t source_ids = std::size_t{1} << 16;
    limit_ = records_a_second;
    return limit_ == 0 || sources_.reset(allocator, source_ids);
  }
  [[nodiscard]] bool is_on() const noexcept { return limit_ != 0; }

  /// Whether a fault may be recorded now; if not, it counts as suppressed.
  [[nodiscard]] bool allows(SourceId id, std::uint64_t now_ns) noexcept {
    if (!is_on()) return true;
    Source& source = sources_[id.value];
    if (source.records < limit_ || now_ns - source.since_ns >= one_second_ns) return true;
    ++source.suppressed;
    return false;
  }
  /// One of this source was recorded.
  void count(SourceId id, std::uint64_t now_ns) noexcept {
    if (!is_on()) return;
    Source& source = sources_[id.value];
    if (source.records == 0 || now_ns - source.since_ns >= one_second_ns) {
      source.since_ns = now_ns;
      source.records = 0;
    }
    ++source.records;
  }
  [[nodiscard]] std::uint64_t suppressed(SourceId id) const noexcept {
    return is_on() ? sources_[id.value].suppressed : 0;
  }

 private:
  static constexpr std::uint64_t one_second_ns = 1'000'000'000;
  struct Source {
    std::uint64_t since_ns = 0;
    std::uint64_t suppressed = 0;
    std::uint32_t records = 0;  ///< since then
  };

  HostArray<Source> sources_;
  std::uint32_t limit_ = 0;
};

}  // namespace viommu::core
