// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/first_stage_oracle.hpp"

#include <optional>

namespace viommu::oracle {
namespace {

constexpr unsigned present = 0;
constexpr unsigned writable = 1;
constexpr unsigned user = 2;
constexpr unsigned accessed = 5;
constexpr unsigned dirty = 6;
constexpr unsigned page_size = 7;
constexpr unsigned extended_accessed = 10;

bool bit(std::uint64_t word, unsigned number) { return (word >> number) % 2 == 1; }
std::uint64_t with_bit(std::uint64_t word, unsigned number) {
  return bit(word, number) ? word : word + (std::uint64_t{1} << number);
}

// The registers and the PASID table entry.
bool gigabyte_pages(const FirstStageUnit& unit) { return bit(unit.cap, 56); }
bool walks_are_snooped(const FirstStageUnit& unit) { return bit(unit.ecap, 48) && bit(unit.pasid_entry_1, 23); }
bool supervisor_enabled(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 0); }
unsigned levels_of(const FirstStageUnit& unit) { return (unit.pasid_entry_2 >> 2) % 4 == 0 ? 4 : 5; }
bool write_protect(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 4); }
bool extended_accessed_enabled(const FirstStageUnit& unit) { return bit(unit.pasid_entry_2, 7); }
std::uint64_t root_of(const FirstStageUnit& unit) { return unit.pasid_entry_2 / 4096 * 4096; }

/// Bits 63:N are copies of bit N - 1.
bool canonical(std::uint64_t address, unsigned levels) {
  const unsigned n = levels == 4 ? 48 : 57;
  for (unsigned number = n; number < 64; ++number)
    if (bit(address, number) != bit(address, n - 1)) return false;
  return true;
}

/// "First-Stage Paging Entries", figure by figure. Level 1 is the PTE.
bool reserved_bit_set(const FirstStageUnit& unit, std::uint64_t entry, unsigned level) {
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

bool maps_page(std::uint64_t entry, unsigned level) {
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

FirstStageAnswer fault(std::uint8_t reason, unsigned level) {
  FirstStageAnswer answer;
  answer.reason = reason;
  answer.level = level;
  return answer;
}

/// "Accessed, Extended Accessed, and Dirty Flags": the entry as it must be before it is used.
std::uint64_t used(const FirstStageUnit& unit, const FirstStageRequest& request, std::uint64_t entry, unsigned level) {
  entry = with_bit(entry, accessed);
  if (extended_accessed_enabled(unit)) entry = with_bit(entry, extended_accessed);
  if (request.write && maps_page(entry, level)) entry = with_bit(entry, dirty);
  return entry;
}

/// One way from the top to the page; nothing when the same entry was lost four times.
std::optional<FirstStageAnswer> one_pass(const FirstStageUnit& unit, const ReadWord& read_word,
                                         const CompareExchange& compare_exchange, const FirstStageRequest& request,
                                         unsigned& level) {
  std::uint64_t table = root_of(unit);
  Path path;
  unsigned lost = 0;
  for (level = levels_of(unit); lost < 4;) {
    const unsigned low = 12 + 9 * (level - 1);
    const std::uint64_t at = table + 8 * ((request.address >> low) % 512);
    const std::optional<std::uint64_t> read = read_word(at);
    if (!read) return fault(level == levels_of(unit) ? 0x73 : 0x70, level);
    std::uint64_t entry = *read;
    if (!bit(entry, present)) return fault(0x71, level);
    if (reserved_bit_set(unit, entry, level)) return fault(0x72, level);

    const Path here = path.through(entry);
    const std::uint8_t denied = here.reason(unit, request);
    if (denied == 0 && used(unit, request, entry, level) != entry) {
      if (!walks_are_snooped(unit)) return fault(0x90, level);
      const int outcome = compare_exchange(at, entry, used(unit, request, entry, level));
      if (outcome < 0) return fault(0x91, level);
      if (outcome > 0) {
        ++lost;
        continue;
      }
      entry = used(unit, request, entry, level);
    }
    lost = 0;
    path = here;
    const std::uint64_t address = (entry >> 12) % (std::uint64_t{1} << 40) << 12;
    if (!maps_page(entry, level)) {
      table = address;
      --level;
      continue;
    }
    FirstStageAnswer answer = fault(denied, level);
    answer.read = path.may_read(request);
    answer.write = path.may_write(unit, request);
    if (denied != 0) return answer;
    answer.page_mask = (std::uint64_t{1} << low) - 1;
    answer.gpa = (address & ~answer.page_mask) + (request.address & answer.page_mask);
    answer.dirty = bit(entry, dirty);
    return answer;
  }
  return std::nullopt;
}

}  // namespace

FirstStageAnswer translate_first_stage(const FirstStageUnit& unit, const ReadWord& read_word,
                                       const CompareExchange& compare_exchange, const FirstStageRequest& request) {
  if (request.execute) return fault(0x5C, 0);
  if (request.supervisor && !supervisor_enabled(unit)) return fault(0x5D, 0);
  if (!canonical(request.address, levels_of(unit))) return fault(0x80, 0);
  unsigned level = 0;
  for (int pass = 1; pass <= 2; ++pass)
    if (const auto answer = one_pass(unit, read_word, compare_exchange, request, level)) return *answer;
  return fault(0x91, level);
}

}  // namespace viommu::oracle
