// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the writes of a back end are logged: guest memory as its targets name it, a bitmap by guest-physical address,
// and whoever else is told. Constant once made; a new one takes its place.
#pragma once

#include <viommu/viommu_iotlb.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::capi {

class WriteLog {
 public:
  enum class Made : std::uint8_t { ok, bad, no_memory };

  [[nodiscard]] Made make(const HostAllocator& allocator, const viommu_iotlb_log& log) noexcept {
    log_ = log;
    if (log.region_count == 0) return Made::ok;
    if (!regions_.reset(allocator, log.region_count)) return Made::no_memory;
    std::copy_n(log.regions, log.region_count, regions_.begin());
    std::sort(regions_.begin(), regions_.end(),
              [](const auto& one, const auto& other) { return one.target < other.target; });
    for (std::size_t i = 0; i < regions_.size(); ++i) {
      const viommu_iotlb_region& region = regions_[i];
      if (region.length == 0 || past_the_end(region.target, region.length) || past_the_end(region.gpa, region.length))
        return Made::bad;
      if (i != 0 && last_of(regions_[i - 1]) >= region.target) return Made::bad;
    }
    return Made::ok;
  }

  /// @return whether all of the piece was logged
  [[nodiscard]] bool add(const viommu_iotlb_piece& piece) const noexcept {
    if (piece.length == 0 || past_the_end(piece.target, piece.length)) return false;
    const std::uint64_t last = piece.target + (piece.length - 1);
    if (regions_.size() == 0) return set(piece.iova, piece.target, last - piece.target);
    bool all = true;
    // The first region that ends at or behind the piece's first byte.
    const auto* region = std::partition_point(regions_.begin(), regions_.end(), [&](const viommu_iotlb_region& before) {
      return last_of(before) < piece.target;
    });
    std::uint64_t at = piece.target;
    for (; region != regions_.end() && region->target <= last; ++region) {  // ends: at the last region
      if (region->target > at) all = false;
      at = std::max(at, region->target);
      const std::uint64_t end = std::min(last, last_of(*region));
      all &= set(piece.iova + (at - piece.target), region->gpa + (at - region->target), end - at);
      if (end == last) return all;
      at = end + 1;
    }
    return false;
  }

  // In the list of those that wait for their readers:
  WriteLog* next = nullptr;
  std::uint64_t ticket = 0;

 private:
  [[nodiscard]] static bool past_the_end(std::uint64_t first, std::uint64_t length) noexcept {
    return length - 1 > ~first;
  }
  [[nodiscard]] static std::uint64_t last_of(const viommu_iotlb_region& region) noexcept {
    return region.target + (region.length - 1);
  }

  /// The bytes [gpa, gpa + more]. At most as many pages as the bitmap has.
  [[nodiscard]] bool set(std::uint64_t iova, std::uint64_t gpa, std::uint64_t more) const noexcept {
    bool all = true;
    if (log_.bitmap != nullptr) {
      constexpr std::uint64_t pages_a_byte = 8;
      const std::uint64_t last = (gpa + more) / page_size_bytes;
      // Compared in bytes: eight times their number may be more than there is in 64 bits.
      const bool fits = last / pages_a_byte < log_.bitmap_bytes;
      all = fits;
      for (std::uint64_t page = gpa / page_size_bytes; page <= last && page / pages_a_byte < log_.bitmap_bytes;
           ++page) {
        const auto bit = static_cast<std::uint8_t>(1U << page % pages_a_byte);
        // Release: whoever fetches the bit finds the write that it is about.
        std::atomic_ref{log_.bitmap[page / pages_a_byte]}.fetch_or(bit, std::memory_order_release);
      }
    }
    if (log_.dirty != nullptr) log_.dirty(log_.opaque, iova, gpa, more + 1);
    return all;
  }

  viommu_iotlb_log log_{};
  HostArray<viommu_iotlb_region> regions_;
};

}  // namespace viommu::capi
