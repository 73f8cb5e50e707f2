// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/qemu_interrupts.hpp"

#include <array>

namespace viommu::bench {
namespace {

constexpr std::uint64_t entry_bytes = 16;
constexpr std::uint64_t reserved_low = 0xFFFF'00FF'FF00'7000;  // with destinations of 8 bits
constexpr std::uint64_t reserved_high = 0xFFFF'FFFF'FFF0'0000;

[[nodiscard]] std::uint64_t bits(std::uint64_t word, unsigned low, unsigned count) {
  return word >> low & ((std::uint64_t{1} << count) - 1);
}

}  // namespace

std::uint8_t QemuInterrupts::load(std::uint32_t index, std::uint16_t source, std::uint64_t& low) const {
  if (index >= entries_) return 0x21;
  std::uint64_t high = 0;
  const std::uint64_t at = table_ + index * entry_bytes;
  if (!memory_.read(at, &low, sizeof low) || !memory_.read(at + sizeof low, &high, sizeof high)) return 0x23;
  if ((low & 1) == 0) return 0x22;
  if ((low & reserved_low) != 0 || (high & reserved_high) != 0) return 0x24;
  constexpr std::array<std::uint16_t, 4> masks{0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8};
  switch (bits(high, 18, 2)) {
    case 0: return 0;
    case 1: {
      const std::uint16_t mask = masks[bits(high, 16, 2)];
      return ((high ^ source) & mask) == 0 ? 0 : 0x26;
    }
    case 2:  return bits(high, 8, 8) <= source >> 8u && source >> 8u <= bits(high, 0, 8) ? 0 : 0x26;
    default: return 0x24;
  }
}

ShapeMessage QemuInterrupts::remap(std::uint16_t source, std::uint64_t address, std::uint32_t data) {
  const std::lock_guard guard{mutex_};
  auto index = static_cast<std::uint32_t>(bits(address, 5, 15) | bits(address, 2, 1) << 15);
  if (bits(address, 3, 1) != 0) index += data & 0xFFFF;
  std::uint64_t low = 0;
  ShapeMessage message;
  message.reason = load(index, source, low);
  if (message.reason != 0) return message;
  message.address = 0xFEE0'0000 | bits(low, 40, 8) << 12 | bits(low, 3, 1) << 3 | bits(low, 2, 1) << 2;
  message.data = static_cast<std::uint32_t>(bits(low, 16, 8) | bits(low, 5, 3) << 8 | 0x4000 | bits(low, 4, 1) << 15);
  return message;
}

}  // namespace viommu::bench
