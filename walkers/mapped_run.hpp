// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a page table maps, a run of pages at a time, in one word each:
//
//   63:61 0 | 60:52 pages - 1 | 51:12 frame of the first page | 11:3 index of the first page | 2 mmio | 1:0 rights
//
// Frame and rights stand where a second-stage leaf has them, so a run of one page is its leaf, masked, and the index.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

#include <cstdint>

namespace viommu::walkers {

inline constexpr unsigned table_pages = 512;

struct MappedRun {
  std::uint64_t word = 0;

  static constexpr unsigned index_shift = 3;
  static constexpr unsigned pages_shift = 52;
  static constexpr std::uint64_t mmio_bit = 4;
  static constexpr std::uint64_t right_bits = 3;
  static constexpr std::uint64_t frame_bits = low_bits(52) & ~low_bits(page_shift);

  [[nodiscard]] static constexpr MappedRun of(unsigned first, unsigned pages, Gpa frame, Rights rights,
                                              bool mmio = false) noexcept {
    return {std::uint64_t{pages - 1} << pages_shift | (frame.value & frame_bits) | std::uint64_t{first} << index_shift |
            (mmio ? mmio_bit : 0) | rights.bits()};
  }
  [[nodiscard]] constexpr unsigned first() const noexcept {
    return static_cast<unsigned>(word >> index_shift & low_bits(9));
  }
  [[nodiscard]] constexpr unsigned pages() const noexcept {
    return static_cast<unsigned>(word >> pages_shift & low_bits(9)) + 1;
  }
  [[nodiscard]] constexpr unsigned last() const noexcept { return first() + pages() - 1; }
  [[nodiscard]] constexpr Gpa frame() const noexcept { return {word & frame_bits}; }
  [[nodiscard]] constexpr Rights rights() const noexcept { return Rights::in(word & right_bits); }
  [[nodiscard]] constexpr bool mmio() const noexcept { return (word & mmio_bit) != 0; }
  friend constexpr bool operator==(MappedRun, MappedRun) = default;
};

}  // namespace viommu::walkers
