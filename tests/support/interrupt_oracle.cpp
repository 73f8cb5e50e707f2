// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/interrupt_oracle.hpp"

namespace viommu::test::interrupt_oracle {
namespace {

std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) {
  const unsigned count = high - low + 1;
  const std::uint64_t ones = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  return (word >> low) & ones;
}

bool reserved_bits_are_zero(const Unit& unit, bool extended, std::uint64_t low, std::uint64_t high) {
  if (bits(low, 13, 12) != 0 || bits(high, 31, 20) != 0 || bits(high, 19, 18) == 3) return false;
  const bool posted = bits(low, 15, 15) == 1;
  if (posted) {
    if (!unit.posting) return false;
    const std::uint64_t address = (bits(high, 63, 32) << 32) | (bits(low, 63, 38) << 6);
    return bits(low, 7, 2) == 0 && bits(low, 37, 24) == 0 && (address >> unit.haw) == 0;
  }
  if (bits(low, 14, 14) != 0 || bits(low, 31, 24) != 0 || bits(high, 63, 32) != 0) return false;
  if (!extended && (bits(low, 39, 32) != 0 || bits(low, 63, 48) != 0)) return false;
  const std::uint64_t delivery = bits(low, 7, 5);
  return delivery != 3 && delivery != 6;
}

bool source_passes(std::uint64_t high, std::uint16_t source) {
  const std::uint64_t sid = bits(high, 15, 0);
  constexpr std::uint64_t masks[] = {0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8};
  switch (bits(high, 19, 18)) {
    case 1: {
      const std::uint64_t mask = masks[bits(high, 17, 16)];
      return (sid & mask) == (source & mask);
    }
    case 2: {
      const std::uint64_t bus = bits(source, 15, 8);
      return bits(sid, 15, 8) <= bus && bus <= bits(sid, 7, 0);
    }
    default: return true;
  }
}

}  // namespace

Answer judge(const Unit& unit, const Load& load, const Request& request) {
  Answer answer;
  const auto fault = [&](unsigned reason) {
    answer.reason = reason;
    return answer;
  };
  const auto pass = [&] {
    answer.kind = Answer::unchanged;
    answer.address = request.address;
    answer.data = request.data;
    return answer;
  };
  const bool extended = bits(unit.table, 11, 11) == 1;
  if (!unit.remapping) return unit.required ? fault(0x2B) : pass();
  if (unit.extended_required && !extended) return fault(0x2A);
  if (bits(request.address, 4, 4) == 0) return extended || !unit.compatibility ? fault(0x25) : pass();
  const bool with_subhandle = bits(request.address, 3, 3) == 1;
  if (with_subhandle && bits(request.data, 31, 16) != 0) return fault(0x20);
  answer.index = static_cast<std::uint32_t>(bits(request.address, 19, 5) | bits(request.address, 2, 2) << 15);
  if (with_subhandle) answer.index += static_cast<std::uint32_t>(bits(request.data, 15, 0));
  const std::uint64_t entries = std::uint64_t{2} << bits(unit.table, 3, 0);
  const std::uint64_t at = (unit.table & ~std::uint64_t{0xFFF}) + 16 * std::uint64_t{answer.index};
  if (answer.index >= entries || (at >> unit.haw) != 0) return fault(0x21);
  const std::optional<std::uint64_t> low = load(at);
  const std::optional<std::uint64_t> high = load(at + 8);
  if (!low || !high) return fault(0x23);
  answer.suppressed = bits(*low, 1, 1) == 1;
  if (bits(*low, 0, 0) == 0) return fault(0x22);
  if (!request.any_source && !source_passes(*high, request.source)) return fault(0x26);
  if (!reserved_bits_are_zero(unit, extended, *low, *high)) return fault(0x24);
  answer.suppressed = false;
  if (bits(*low, 15, 15) == 1) {
    answer.kind = Answer::posted;
    answer.vector = static_cast<unsigned>(bits(*low, 23, 16));
    answer.urgent = bits(*low, 14, 14) == 1;
    answer.descriptor = (bits(*high, 63, 32) << 32) | (bits(*low, 63, 38) << 6);
    return answer;
  }
  const std::uint64_t destination = extended ? bits(*low, 63, 32) : bits(*low, 47, 40);
  answer.kind = Answer::remapped;
  answer.address = 0xFEE00000 | (destination & 0xFF) << 12 | bits(*low, 3, 3) << 3 | bits(*low, 2, 2) << 2 |
                   (destination >> 8) << 40;
  answer.data =
      static_cast<std::uint32_t>(bits(*low, 23, 16) | bits(*low, 7, 5) << 8 | 0x4000 | bits(*low, 4, 4) << 15);
  return answer;
}

}  // namespace viommu::test::interrupt_oracle
