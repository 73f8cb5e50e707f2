// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What both sides have in common: where memory is, which devices there are, and what a unit can do.
#pragma once

#include <array>
#include <cstdint>

namespace viommu::qemu {

// Guest memory. The first megabyte is left alone: there are holes in it.
inline constexpr std::uint64_t ram_first = 0x10'0000;
inline constexpr std::uint64_t ram_end = 0x200'0000;
/// The part that a case uses, two 2 MiB pages.
inline constexpr std::uint64_t arena = 0x100'0000;
inline constexpr std::uint64_t first_table = arena;
inline constexpr std::uint64_t table_end = arena + 0x7'F000;
inline constexpr std::uint64_t queue_page = arena + 0x8'0000;  ///< the first of two
inline constexpr std::uint64_t status_page = arena + 0x8'2000;
inline constexpr std::uint64_t first_data = arena + 0x10'0000;
inline constexpr std::uint64_t data_pages = 16;
inline constexpr std::uint64_t data_bytes = 0x1000 * data_pages;
inline constexpr std::uint64_t second_data = first_data + 0x20'0000;  ///< as many, in the next 2 MiB page
inline constexpr std::uint64_t arena_end = second_data + data_bytes;
inline constexpr std::uint64_t no_memory = 0x5000'0000;  ///< nothing is there on either side

[[nodiscard]] constexpr bool is_ram(std::uint64_t gpa) noexcept { return gpa >= ram_first && gpa < ram_end; }
[[nodiscard]] constexpr bool is_data(std::uint64_t gpa) noexcept {
  return (gpa >= first_data && gpa - first_data < data_bytes) || (gpa >= second_data && gpa - second_data < data_bytes);
}

/// Devices that do DMA: two functions of one device, another device, and one on another bus.
inline constexpr std::array<std::uint16_t, 4> sources{0x08, 0x09, 0x10, 0x0100};
inline constexpr std::size_t other_bus = 3;  ///< index of the one on bus 1

/// Addresses that devices use. Their offsets in a 2 MiB and in a 1 GiB page are those of a data page, so that every
/// size of page leads there; the first two are addresses of data pages themselves, for pass-through.
inline constexpr std::array<std::uint64_t, 8> iovas{
    first_data,
    first_data + 0x1000,
    first_data + 0x7000,
    first_data + 0x20'0000,           // the next 2 MiB page
    first_data + 0x4000'0000,         // the next 1 GiB page
    first_data + 0x80'0000'0000,      // beyond 39 bits
    first_data + 0x1'0000'0000'0000,  // beyond 48 bits
    0xFEDF'F000,                      // the last page below the interrupt address range
};

/// A kind of unit that QEMU can be given.
struct Variant {
  const char* name;
  unsigned address_bits;  ///< of QEMU both MGAW and the host address width
  bool caching_mode;
};
inline constexpr std::array<Variant, 3> variants{{{"48", 48, false}, {"48-cm", 48, true}, {"39", 39, false}}};

/// Registers as 32-bit words.
inline constexpr std::uint64_t register_bytes = 0x230;
using Registers = std::array<std::uint32_t, register_bytes / 4>;

}  // namespace viommu::qemu
