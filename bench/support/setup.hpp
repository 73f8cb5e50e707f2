// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How a translator is to be set up for a question. What a translator does not have, it ignores.
#pragma once

#include <compare>
#include <cstdint>

namespace viommu::bench {

struct Setup {
  bool caches = true;                // false: every request walks
  bool fill_exactly = false;         // the library fills nothing but what was asked for
  std::uint32_t accounts = 0;        // pairs of device and domain that the library counts apart
  std::uint32_t iotlb_pages = 0;     // of the library; 0: its default
  std::uint32_t shape_capacity = 0;  // of QEMU's shape; 0: no limit, so that any working set is compared as hits
  friend auto operator<=>(const Setup&, const Setup&) = default;
};

/// QEMU's own limit.
inline constexpr std::uint32_t qemu_capacity = 1024;

}  // namespace viommu::bench
