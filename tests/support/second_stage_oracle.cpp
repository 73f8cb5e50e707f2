// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/second_stage_oracle.hpp"

#include <algorithm>
#include <optional>

namespace viommu::oracle {
namespace {

bool bit(std::uint64_t word, unsigned number) { return (word >> number) % 2 == 1; }

bool any_set(std::uint64_t word, unsigned high, unsigned low) {
  for (unsigned number = low; number <= high; ++number)
    if (bit(word, number)) return true;
  return false;
}

// The registers and the PASID table entry.
bool walks_are_snooped(const SecondStageUnit& unit) { return bit(unit.ecap, 48) && bit(unit.pasid_entry_1, 23); }
unsigned address_width(const SecondStageUnit& unit) { return static_cast<unsigned>(unit.pasid_entry_0 >> 2) % 8; }

/// "Second-Stage Paging Entries", figure by figure. Level 1 is the SS-PTE.
bool maps_page(std::uint64_t entry, unsigned level) {
  return level == 1 || ((level == 2 || level == 3) && bit(entry, 7));
}

bool reserved_bit_set(const SecondStageUnit& unit, std::uint64_t entry, unsigned level) {
  if (bit(entry, 62)) return true;
  if (any_set(entry, 51, unit.haw)) return true;
  if (!maps_page(entry, level)) return bit(entry, 11) || bit(entry, 7);
  const bool snoop_control = bit(unit.ecap, 7);
  if (bit(entry, 11) && !snoop_control) return true;
  const bool pages_2m = bit(unit.cap, 34);
  const bool pages_1g = bit(unit.cap, 35);
  if (level == 2) return !pages_2m || any_set(entry, 20, 12);
  if (level == 3) return !pages_1g || any_set(entry, 29, 12);
  return false;
}

SecondStageAnswer fault(std::uint8_t reason, unsigned level) {
  SecondStageAnswer answer;
  answer.reason = reason;
  answer.level = level;
  return answer;
}

/// One request on its way down.
struct Walk {
  const SecondStageUnit& unit;
  const ReadWord& read_word;
  const CompareExchange& compare_exchange;
  const SecondStageRequest& request;
  unsigned top = 0;
  unsigned lost_at = 0;  ///< level of the entry on which four exchanges were lost

  /// "Access Rights" and SSS.2: 0 when the entries so far grant what is asked.
  [[nodiscard]] std::uint8_t denial(bool may_read, bool may_write) const {
    if (!may_read && !may_write) return 0x79;
    if (request.read && !may_read) return 0x86;
    if (request.write && !may_write) return 0x85;
    return 0;
  }

  /// "Accessed and Dirty Flags": the entry as it must be before it is used.
  [[nodiscard]] std::uint64_t used(std::uint64_t entry, unsigned level) const {
    if (!second_stage_flags_enabled(unit)) return entry;
    if (!bit(entry, 8)) entry += 1U << 8;
    if (request.write && maps_page(entry, level) && !bit(entry, 9)) entry += 1U << 9;
    return entry;
  }

  /// From the table of this level on; nothing when the same entry was lost four times.
  std::optional<SecondStageAnswer> from(std::uint64_t table, unsigned level, bool may_read, bool may_write) {
    const unsigned low = 12 + 9 * (level - 1);
    const std::uint64_t at = table + 8 * ((request.address >> low) % 512);
    for (int attempt = 1; attempt <= 4; ++attempt) {
      const std::optional<std::uint64_t> word = read_word(at);
      if (!word) return fault(level == top ? 0x7B : 0x78, level);
      std::uint64_t entry = *word;
      if (!bit(entry, 0) && !bit(entry, 1)) return fault(0x79, level);
      if (reserved_bit_set(unit, entry, level)) return fault(0x7A, level);

      const bool read = may_read && bit(entry, 0);
      const bool write = may_write && bit(entry, 1);
      const std::uint8_t denied = denial(read, write);
      if (denied == 0 && used(entry, level) != entry) {
        if (!walks_are_snooped(unit)) return fault(0x7C, level);
        const int outcome = compare_exchange(at, entry, used(entry, level));
        if (outcome < 0) return fault(0x7D, level);
        if (outcome > 0) continue;
        entry = used(entry, level);
      }
      const std::uint64_t address = (entry >> 12) % (std::uint64_t{1} << 40) << 12;
      if (!maps_page(entry, level)) return from(address, level - 1, read, write);
      return page(entry, address, level, denied, read, write);
    }
    lost_at = level;
    return std::nullopt;
  }

  [[nodiscard]] SecondStageAnswer page(std::uint64_t entry, std::uint64_t address, unsigned level, std::uint8_t denied,
                                       bool read, bool write) const {
    SecondStageAnswer answer = fault(denied, level);
    answer.read = read;
    answer.write = write;
    if (denied != 0) return answer;
    answer.page_mask = (std::uint64_t{1} << (12 + 9 * (level - 1))) - 1;
    answer.gpa = address + (request.address & answer.page_mask);
    answer.dirty = bit(entry, 9);
    return answer;
  }
};

}  // namespace

std::uint64_t highest_second_stage_input(const SecondStageUnit& unit) {
  const unsigned maximum_guest_address_width = static_cast<unsigned>(unit.cap >> 16) % 64 + 1;
  const unsigned width = std::min(maximum_guest_address_width, 30 + 9 * address_width(unit));
  return (std::uint64_t{1} << width) - 1;
}

bool second_stage_flags_enabled(const SecondStageUnit& unit) { return bit(unit.pasid_entry_0, 9); }

SecondStageAnswer translate_second_stage(const SecondStageUnit& unit, const ReadWord& read_word,
                                         const CompareExchange& compare_exchange, const SecondStageRequest& request) {
  if (request.address > highest_second_stage_input(unit)) return fault(0x84, 0);
  Walk walk{unit, read_word, compare_exchange, request, address_width(unit) + 2};
  const std::uint64_t root = unit.pasid_entry_0 / 4096 * 4096;
  for (int pass = 1; pass <= 2; ++pass)
    if (const auto answer = walk.from(root, walk.top, true, true)) return *answer;
  return fault(0x7D, walk.lost_at);
}

}  // namespace viommu::oracle
