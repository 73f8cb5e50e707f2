// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Addresses, each kind its own type, and inclusive ranges of them.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>

namespace viommu {

/// An address of one kind. Only arithmetic that keeps the kind is offered; `value` is the way out.
template <class Kind>
struct Address {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(Address, Address) = default;
  [[nodiscard]] constexpr Address operator+(std::uint64_t bytes) const noexcept { return {value + bytes}; }
};

/// What a device sends: an input address of the unit.
using Iova = Address<struct IovaKind>;
/// Guest-physical address: what the unit answers, and where the guest's tables are.
using Gpa = Address<struct GpaKind>;

/// Inclusive on both ends, because a range may end at the last address there is. Never empty.
template <class A>
struct Range {
  A first;
  A last;

  friend constexpr bool operator==(Range, Range) = default;
  [[nodiscard]] constexpr bool contains(A address) const noexcept { return first <= address && address <= last; }
  [[nodiscard]] constexpr bool overlaps(Range other) const noexcept {
    return first <= other.last && other.first <= last;
  }
};

using IovaRange = Range<Iova>;
using GpaRange = Range<Gpa>;

inline constexpr IovaRange all_iovas{{0}, {~std::uint64_t{0}}};
inline constexpr unsigned page_shift = 12;
inline constexpr std::uint64_t page_size_bytes = std::uint64_t{1} << page_shift;

/// The lowest `count` bits set; 64 gives all ones (a plain shift would be undefined there).
[[nodiscard]] constexpr std::uint64_t low_bits(unsigned count) noexcept {
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// The interrupt address range: a write into it is an interrupt request, not DMA (VT-d, "Interrupt Address Range").
inline constexpr Range<std::uint64_t> interrupt_window{0xFEE00000, 0xFEEFFFFF};

/// size - 1 of the largest aligned power-of-two block around `address` that keeps clear of the interrupt window; for an
/// address outside the window. The highest bit in which the two differ is the first that such a block may not cover.
[[nodiscard]] constexpr std::uint64_t mask_clear_of_interrupts(std::uint64_t address) noexcept {
  const std::uint64_t differing = (address ^ interrupt_window.first) | (interrupt_window.last ^ interrupt_window.first);
  return low_bits(static_cast<unsigned>(std::bit_width(differing)) - 1);
}

}  // namespace viommu
