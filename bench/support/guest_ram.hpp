// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The RAM of a recorded guest: one anonymous mapping for each run of gigabytes that the recording touches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

namespace viommu::bench {

class GuestRam {
 public:
  struct Region {
    std::uint64_t gpa = 0;
    std::span<std::byte> memory;
  };

  GuestRam() = default;
  /// RAM around every page of `pages` (gpa >> 12). Throws std::bad_alloc when it cannot be mapped.
  explicit GuestRam(const std::set<std::uint64_t>& pages);
  GuestRam(GuestRam&& other) noexcept;
  GuestRam& operator=(GuestRam&& other) noexcept;
  ~GuestRam();

  [[nodiscard]] const std::vector<Region>& regions() const noexcept { return regions_; }
  /// Where the byte at `gpa` is; null outside the regions.
  [[nodiscard]] std::byte* at(std::uint64_t gpa) const noexcept;
  /// The 8-byte word at `gpa`, 0 outside the regions.
  [[nodiscard]] std::uint64_t word(std::uint64_t gpa) const noexcept;
  /// Zeroes the recorded pages; they stay mapped, so no page fault falls into a later measurement.
  void clear() noexcept;

 private:
  std::vector<Region> regions_;
  std::vector<std::byte*> pages_;
};

}  // namespace viommu::bench
