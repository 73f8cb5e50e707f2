// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/oracle.hpp"

#include <algorithm>

namespace viommu::oracle {
namespace {

/// Bits [high:low] of a word, as the specification numbers them.
std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) {
  const std::uint64_t shifted = word >> low;
  const unsigned width = high - low + 1;
  return width == 64 ? shifted : shifted % (std::uint64_t{1} << width);
}

bool bit(std::uint64_t word, unsigned number) { return bits(word, number, number) == 1; }

/// Whether any bit of [high:low] is set; an empty range (low > high) has none.
bool any_set(std::uint64_t word, unsigned high, unsigned low) { return low <= high && bits(word, high, low) != 0; }

std::uint64_t page_address(std::uint64_t word) { return bits(word, 63, 12) << 12; }

bool in_interrupt_range(std::uint64_t address) { return bits(address, 63, 20) == 0xFEE; }

/// Whether an address is at most 2^width - 1.
bool fits(std::uint64_t address, unsigned width) { return width >= 64 || (address >> width) == 0; }

// Capability Register.
unsigned domain_id_bits(const Unit& unit) {
  return std::min(16U, 4U + 2U * static_cast<unsigned>(bits(unit.cap, 2, 0)));
}
bool caching_mode(const Unit& unit) { return bit(unit.cap, 7); }
bool width_supported(const Unit& unit, std::uint64_t aw) {
  return aw >= 1 && aw <= 3 && bit(unit.cap, static_cast<unsigned>(8 + aw));
}
unsigned guest_width(const Unit& unit) { return static_cast<unsigned>(bits(unit.cap, 21, 16)) + 1; }
bool zero_length_reads(const Unit& unit) { return bit(unit.cap, 22); }
bool pages_2m(const Unit& unit) { return bit(unit.cap, 34); }
bool pages_1g(const Unit& unit) { return bit(unit.cap, 35); }

// Extended Capability Register.
bool device_tlbs(const Unit& unit) { return bit(unit.ecap, 2); }
bool pass_through(const Unit& unit) { return bit(unit.ecap, 6); }
bool snoop_control(const Unit& unit) { return bit(unit.ecap, 7); }
bool scalable_mode(const Unit& unit) { return bit(unit.ecap, 43); }
bool abort_dma_mode(const Unit& unit) { return bit(unit.ecap, 52); }
bool set_ir_walks(const Unit& unit) { return bit(unit.ecap, 57); }

Answer fault(std::uint8_t reason, bool fault_processing_disabled) {
  Answer answer;
  answer.kind = Answer::fault;
  answer.reason = reason;
  answer.reported = !fault_processing_disabled;
  return answer;
}

Answer identity(const Request& request, std::uint64_t page_mask) {
  Answer answer;
  answer.kind = Answer::identity;
  answer.gpa = request.iova;
  answer.page_mask = page_mask;
  answer.read = true;
  answer.write = true;
  return answer;
}

Answer unqualified_fault(std::uint8_t reason) { return fault(reason, false); }

/// "Context Entry": the bits that a present entry must have clear.
bool context_reserved_bit_set(const Unit& unit, std::uint64_t low, std::uint64_t high) {
  const bool pointer_used = bits(low, 3, 2) != 2;  // with pass-through the whole table pointer is ignored
  const std::uint64_t domain_id = bits(high, 23, 8);
  return any_set(low, 11, 4) || (pointer_used && any_set(low, 63, std::max(12U, unit.haw))) || bit(high, 7) ||
         any_set(high, 23, 8 + domain_id_bits(unit)) || any_set(high, 63, 24) || (caching_mode(unit) && domain_id == 0);
}

/// "Context Entry", the fields AW and TT: what a present entry may ask for.
bool context_type_supported(const Unit& unit, std::uint64_t type, std::uint64_t aw) {
  if (!width_supported(unit, aw)) return false;
  if (type == 0) return true;
  if (type == 1) return device_tlbs(unit);
  if (type == 2)
    return pass_through(unit) && !(aw < 3 && width_supported(unit, aw + 1)) &&
           !(aw < 2 && width_supported(unit, aw + 2));
  return false;
}

bool page_size_bit_allowed(const Unit& unit, unsigned level) {
  return (level == 2 && pages_2m(unit)) || (level == 3 && pages_1g(unit));
}

/// "Second-Stage Paging Entries": level 1 is the table of 4 KiB pages. Bit 7 of its entries is ignored.
bool is_page(std::uint64_t entry, unsigned level) { return level == 1 || (bit(entry, 7) && level <= 3); }

bool entry_reserved_bit_set(const Unit& unit, std::uint64_t entry, unsigned level) {
  if (bit(entry, 62) || any_set(entry, 51, std::max(12U, unit.haw))) return true;
  if (level > 1 && bit(entry, 7) && !page_size_bit_allowed(unit, level)) return true;
  if (!is_page(entry, level)) return bit(entry, 11);
  if (bit(entry, 11) && !snoop_control(unit)) return true;
  if (level == 2) return any_set(entry, 20, 12);
  if (level == 3) return any_set(entry, 29, 12);
  return false;
}

/// Rights are judged last, when the whole walk has been found well formed.
std::optional<std::uint8_t> missing_right(const Unit& unit, const Request& request, bool may_read, bool may_write) {
  if (request.write && !may_write) return std::uint8_t{0x5};
  const bool harmless = request.zero_length && !request.write && zero_length_reads(unit) && may_write;
  if (request.read && !may_read && !harmless) return std::uint8_t{0x6};
  return std::nullopt;
}

Answer second_stage_walk(const Unit& unit, const ReadWord& read_word, const Request& request, std::uint64_t root,
                         unsigned levels, bool fault_disable) {
  std::uint64_t table = root;
  bool may_read = true;
  bool may_write = true;
  for (unsigned level = levels; level >= 1; --level) {
    const unsigned low = 12 + 9 * (level - 1);
    const std::uint64_t index = bits(request.iova, low + 8, low);
    const std::optional<std::uint64_t> entry = read_word(table + 8 * index);
    if (!entry) return fault(level == levels ? 0x3 : 0x7, fault_disable);
    may_read = may_read && bit(*entry, 0);
    may_write = may_write && bit(*entry, 1);
    if (!bit(*entry, 0) && !bit(*entry, 1)) {
      return fault(missing_right(unit, request, false, false).value_or(0x6), fault_disable);
    }
    if (entry_reserved_bit_set(unit, *entry, level)) return fault(0xC, fault_disable);
    const std::uint64_t address = bits(*entry, 51, 12) << 12;
    if (!is_page(*entry, level)) {
      table = address;
      continue;
    }
    if (const auto reason = missing_right(unit, request, may_read, may_write)) return fault(*reason, fault_disable);
    Answer answer;
    answer.kind = Answer::translated;
    answer.page_mask = (std::uint64_t{1} << low) - 1;
    answer.gpa = address + bits(request.iova, low - 1, 0);
    answer.read = may_read;
    answer.write = may_write;
    if (in_interrupt_range(answer.gpa)) return fault(0xE, fault_disable);
    return answer;
  }
  return fault(0x7, fault_disable);  // not reached: a level 1 entry is a page or a fault
}

/// "Interrupt Address Range": requests without a PASID never reach the tables here.
Answer interrupt_range(const Request& request) {
  const bool message = request.write && !request.read && (request.length == 4 || request.length == 0);
  const bool zero_length_read = request.read && !request.write && request.zero_length;
  if (!message && !zero_length_read) return unqualified_fault(0x29);
  Answer answer;
  answer.kind = Answer::interrupt;
  answer.gpa = request.iova;
  return answer;
}

/// "Root Table Address Register", field TTM: whether the mode is one that blocks every request.
std::optional<Answer> mode_fault(const Unit& unit, const Request& request) {
  const std::uint64_t mode = bits(unit.root_table, 11, 10);
  if (mode == 2) return unqualified_fault(0x30);
  if (mode == 3) return unqualified_fault(abort_dma_mode(unit) ? 0x33 : 0x30);
  if (mode == 1 && !scalable_mode(unit)) return unqualified_fault(0x30);
  if (mode == 0 && set_ir_walks(unit) && bit(unit.root_table, 7)) return unqualified_fault(0x30);
  if (mode == 0 && request.pasid) return unqualified_fault(0x31);
  return std::nullopt;
}

}  // namespace

Answer translate(const Unit& unit, const ReadWord& read_word, const Request& request) {
  if (!unit.translation_enabled) return identity(request, ~std::uint64_t{0});
  if (!request.pasid && in_interrupt_range(request.iova)) return interrupt_range(request);
  if (const auto blocked = mode_fault(unit, request)) return *blocked;

  const std::uint64_t root_entry = page_address(unit.root_table) + 16 * bits(request.source_id, 15, 8);
  const auto root_low = read_word(root_entry);
  const auto root_high = read_word(root_entry + 8);
  if (!root_low || !root_high) return unqualified_fault(0x8);
  if (!bit(*root_low, 0)) return unqualified_fault(0x1);
  if (any_set(*root_low, 11, 1) || any_set(*root_low, 63, std::max(12U, unit.haw)) || *root_high != 0) {
    return unqualified_fault(0xA);
  }

  const std::uint64_t context_entry = page_address(*root_low) + 16 * bits(request.source_id, 7, 0);
  const auto low = read_word(context_entry);
  const auto high = read_word(context_entry + 8);
  if (!low || !high) return unqualified_fault(0x9);
  const bool fault_disable = bit(*low, 1);
  if (!bit(*low, 0)) return fault(0x2, fault_disable);
  if (context_reserved_bit_set(unit, *low, *high)) return fault(0xB, fault_disable);
  const std::uint64_t type = bits(*low, 3, 2);
  const std::uint64_t aw = bits(*high, 2, 0);
  if (!context_type_supported(unit, type, aw)) return fault(0x3, fault_disable);

  if (type == 2) {
    if (!fits(request.iova, unit.haw)) return fault(0x4, fault_disable);
    return identity(request, 0xFFF);
  }
  const auto levels = static_cast<unsigned>(aw) + 2;
  const unsigned adjusted_width = 30 + 9 * static_cast<unsigned>(aw);
  if (!fits(request.iova, std::min(guest_width(unit), adjusted_width))) return fault(0x4, fault_disable);
  return second_stage_walk(unit, read_word, request, page_address(*low), levels, fault_disable);
}

}  // namespace viommu::oracle
