// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// For oracles: what the figures say of first-stage entries, of the registers and of the PASID table entry behind them.
#pragma once

#include <cstdint>

#include "tests/support/first_stage_oracle.hpp"

namespace viommu::oracle::first_stage {

inline constexpr unsigned present = 0;
inline constexpr unsigned writable = 1;
inline constexpr unsigned user = 2;
inline constexpr unsigned accessed = 5;
inline constexpr unsigned dirty = 6;
inline constexpr unsigned page_size = 7;
inline constexpr unsigned extended_accessed = 10;

inline bool bit(std::uint64_t word, unsigned number) { return (word >> number) % 2 == 1; }
inline std::uint64_t with_bit(std::uint64_t word, unsigned number) {
  return bit(word, number) ? word : word + (std::uint64_t{1} << number);
}

// The registers and the PASID table entry.
inline bool gigabyte_pages(const FirstStageUnit& unit) { return bit(unit.cap, 56); }
inline bool walks_are_snooped(const FirstStageUnit& unit) { return bit(unit.ecap, 48) && bit(unit.pasid_entry_1, 23); }
inline bool supervisor_enabled(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 0); }
inline unsigned levels_of(const FirstStageUnit& unit) { return (unit.pasid_entry_2 >> 2) % 4 == 0 ? 4 : 5; }
inline bool write_protect(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 4); }
inline bool extended_accessed_enabled(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 7); }
inline std::uint64_t root_of(const FirstStageUnit& unit) { return unit.pasid_entry_2 / 4096 * 4096; }

/// Bits 63:N are copies of bit N - 1.
inline bool canonical(std::uint64_t address, unsigned levels) {
  const unsigned n = levels == 4 ? 48 : 57;
  for (unsigned number = n; number < 64; ++number)
    if (bit(address, number) != bit(address, n - 1)) return false;
  return true;
}

/// "First-Stage Paging Entries", figure by figure. Level 1 is the PTE.
inline bool reserved_bit_set(const FirstStageUnit& unit, std::uint64_t entry, unsigned level) {
  for (unsigned number = unit.haw; number <= 51; ++number)
    if (bit(entry, number)) return true;
  switch (level) {
    case 5:
    case 4: return bit(entry, page_size);
    case 3:
      if (!bit(entry, page_size)) return false;
      if (!gigabyte_pages(unit)) return true;
      for (unsigned number = 13; number <= 29; ++number)
        if (bit(entry, number)) return true;
      return false;
    case 2:
      for (unsigned number = 13; number <= 20; ++number)
        if (bit(entry, page_size) && bit(entry, number)) return true;
      return false;
    default: return false;
  }
}

inline bool maps_page(std::uint64_t entry, unsigned level) {
  return level == 1 || ((level == 2 || level == 3) && bit(entry, page_size));
}

/// "Access Rights": what the entries from the top down to here let the request do.
struct Path {
  bool all_user = true;
  bool all_writable = true;

  [[nodiscard]] Path through(std::uint64_t entry) const {
    return {all_user && bit(entry, user), all_writable && bit(entry, writable)};
  }
  [[nodiscard]] bool may_read(const FirstStageRequest& request) const { return request.supervisor || all_user; }
  [[nodiscard]] bool may_write(const FirstStageUnit& unit, const FirstStageRequest& request) const {
    if (request.supervisor) return !write_protect(unit) || all_writable;
    return all_user && all_writable;
  }
  /// 0 when it may do what it asks for.
  [[nodiscard]] std::uint8_t reason(const FirstStageUnit& unit, const FirstStageRequest& request) const {
    if (!may_read(request)) return 0x81;
    if (request.write && !may_write(unit, request)) return 0x85;
    return 0;
  }
};

/// "Accessed, Extended Accessed, and Dirty Flags": the entry as it must be before it is used.
inline std::uint64_t used(const FirstStageUnit& unit, const FirstStageRequest& request, std::uint64_t entry,
                          unsigned level) {
  entry = with_bit(entry, accessed);
  if (extended_accessed_enabled(unit)) entry = with_bit(entry, extended_accessed);
  if (request.write && maps_page(entry, level)) entry = with_bit(entry, dirty);
  return entry;
}

}  // namespace viommu::oracle::first_stage
