// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/random_tables.hpp"

#include <algorithm>
#include <array>

namespace viommu::test {
namespace {

constexpr std::array<std::uint64_t, 4> buses{0, 1, 0x7F, 0xFF};
constexpr std::array<std::uint64_t, 4> functions{0, 1, 0x80, 0xFF};
constexpr std::array<std::uint64_t, 6> indexes{0, 1, 2, 255, 510, 511};  // of a page table
constexpr std::uint64_t interrupt_range = 0xFEE00000;

// Three pieces of memory. The second one ends in the middle of an entry, the third at the top of the address width.
constexpr std::uint64_t low_gpa = 0x40000;
constexpr std::uint64_t low_bytes = 0x8000;
constexpr std::uint64_t half_gpa = 0x80000;
constexpr std::uint64_t half_bytes = 0x1FF8;
constexpr std::uint64_t high_bytes = 0x4000;
std::uint64_t high_gpa(const oracle::Unit& unit) { return (std::uint64_t{1} << unit.haw) - high_bytes; }

std::uint64_t one_bit(Random& random, unsigned high, unsigned low) {
  return std::uint64_t{1} << (low + random.below(high - low + 1));
}

std::uint64_t low_ones(unsigned count) { return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1; }

}  // namespace

oracle::Unit random_unit(Random& random) {
  constexpr std::array<std::uint64_t, 6> width_sets{1, 2, 4, 3, 6, 7};  // SAGAW[3:1]: 39, 48 and 57 bits
  constexpr std::array<std::uint64_t, 3> large_pages{0, 1, 3};          // SSLPS
  constexpr std::array<unsigned, 7> host_widths{39, 40, 42, 46, 48, 51, 52};
  const auto choice = [&](unsigned at) { return std::uint64_t{random.chance(1, 2)} << at; };
  const std::uint64_t widths = random.pick(width_sets);
  const unsigned largest = widths >= 4 ? 57 : widths >= 2 ? 48 : 39;

  oracle::Unit unit;
  unit.haw = std::min(random.pick(host_widths), largest);
  const std::uint64_t guest_width = unit.haw + random.below(largest - unit.haw + 1);
  unit.cap = random.below(7) | choice(7) | widths << 9 | (guest_width - 1) << 16 | choice(22) |
             std::uint64_t{0x22} << 24 | random.pick(large_pages) << 34 | std::uint64_t{1} << 39 |
             random.below(8) << 40 | std::uint64_t{18} << 48 | std::uint64_t{3} << 54;
  unit.ecap = 1 | std::uint64_t{1} << 1 | choice(2) | choice(6) | choice(7) | std::uint64_t{0xF} << 8;
  unit.translation_enabled = true;
  return unit;
}

std::vector<std::pair<std::uint64_t, std::size_t>> RandomTables::whole_pages() const {
  return {{low_gpa, low_bytes}, {high_gpa(unit_), high_bytes}};
}

RandomTables::RandomTables(const oracle::Unit& unit, SparseMemory& memory)
    : unit_{unit}, memory_{&memory}, root_{low_gpa} {
  const std::uint64_t high = high_gpa(unit);
  memory.add_ram(low_gpa, low_bytes);
  memory.add_ram(half_gpa, half_bytes);
  memory.add_ram(high, high_bytes);

  context_pages_ = {low_gpa + 0x1000, half_gpa + 0x1000, low_gpa + 0x5000, high};
  for (const std::uint64_t page : {low_gpa + 0x2000, low_gpa + 0x3000, low_gpa + 0x4000, low_gpa + 0x7000, half_gpa,
                                   half_gpa + 0x1000, high + 0x1000, high + 0x3000}) {
    table_pages_.push_back(page);
  }
  for (const std::uint64_t bus : buses) words_.insert(words_.end(), {root_ + 16 * bus, root_ + 16 * bus + 8});
  for (const std::uint64_t page : context_pages_) {
    for (const std::uint64_t at : functions) words_.insert(words_.end(), {page + 16 * at, page + 16 * at + 8});
  }
  for (const std::uint64_t page : table_pages_) {
    for (const std::uint64_t at : indexes) words_.push_back(page + 8 * at);
  }
}

void RandomTables::fill(Random& random) {
  for (const std::uint64_t gpa : words_) memory_->store_u64(gpa, word(random, gpa));
}

void RandomTables::change(Random& random) {
  const std::uint64_t gpa = words_[random.below(words_.size())];
  memory_->store_u64(gpa, word(random, gpa));
}

std::uint64_t RandomTables::word(Random& random, std::uint64_t gpa) const {
  if (random.chance(1, 400)) return random.next();
  const std::uint64_t page = gpa & ~std::uint64_t{0xFFF};
  const bool high = gpa % 16 == 8;
  // A page may be of two kinds at once; what is written there decides the words it gets.
  const bool holds_tables = std::ranges::find(table_pages_, page) != table_pages_.end();
  const bool holds_contexts = std::ranges::find(context_pages_, page) != context_pages_.end();
  if (page == root_) return root_word(random, high);
  if (holds_contexts && !(holds_tables && random.chance(1, 2))) return context_word(random, high);
  return entry_word(random);
}

std::uint64_t RandomTables::pointer(Random& random, const std::vector<std::uint64_t>& pages) const {
  if (random.chance(1, 100)) return random.chance(1, 2) ? low_gpa + low_bytes : low_gpa - 0x1000;
  if (random.chance(1, 150)) return random.below(1 << 20) << 12;     // mostly a hole
  if (random.chance(1, 150)) return one_bit(random, 63, unit_.haw);  // above the width
  if (random.chance(1, 150)) return random.next() & low_ones(unit_.haw) & ~std::uint64_t{0xFFF};
  return pages[random.below(pages.size())];
}

std::uint64_t RandomTables::root_word(Random& random, bool high) const {
  if (high) return random.chance(1, 80) ? one_bit(random, 63, 0) : 0;
  std::uint64_t word = pointer(random, context_pages_) | 1;
  if (random.chance(1, 80)) word ^= one_bit(random, 11, 0);
  return word;
}

std::uint64_t RandomTables::context_word(Random& random, bool high) const {
  std::uint64_t word = 0;
  if (high) {
    const std::uint64_t domain_bits = std::min<std::uint64_t>(16, 4 + 2 * (unit_.cap & 7));
    const std::uint64_t widths = (unit_.cap >> 9) & 7;
    std::uint64_t aw = 1 + random.below(3);
    while (random.chance(39, 40) && (widths >> (aw - 1) & 1) == 0) aw = 1 + random.below(3);
    const std::uint64_t domain = random.next() & low_ones(static_cast<unsigned>(domain_bits));
    word = aw | (random.below(16) << 3) | (random.chance(1, 30) ? 0 : domain | 1) << 8;
  } else {
    const std::uint64_t type = random.chance(7, 8) ? 0 : random.below(4);
    word = pointer(random, table_pages_) | type << 2 | (random.chance(1, 5) ? 2U : 0U) | 1;
  }
  if (random.chance(1, 40)) word ^= one_bit(random, 63, 0);
  return word;
}

std::uint64_t RandomTables::entry_word(Random& random) const {
  constexpr std::array<std::uint64_t, 12> rights{3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 2};
  constexpr std::array<std::uint64_t, 4> alignments{12, 21, 30, 30};
  constexpr std::uint64_t ignored = 0xBFF000000000077C;  // 63, 61:52, 10:8, 6:2
  const std::uint64_t kind = random.below(20);
  std::uint64_t word = 0;
  if (kind < 1) return random.next() & ~std::uint64_t{3};  // absent: no other bit counts
  if (kind < 15) {
    word = pointer(random, table_pages_) | random.pick(rights);
  } else {
    const std::uint64_t alignment = random.pick(alignments);
    word = random.next() & low_ones(unit_.haw) & ~low_ones(static_cast<unsigned>(alignment));
    if (kind == 19) word = interrupt_range & ~low_ones(static_cast<unsigned>(alignment));
    word |= (alignment > 12 ? 0x80U : 0U) | random.pick(rights);
    if (random.chance(1, 8)) word |= 0x800;  // SNP
  }
  if (random.chance(1, 3)) word |= random.next() & ignored;
  if (random.chance(1, 25)) word ^= one_bit(random, 63, 0);
  return word;
}

oracle::Request RandomTables::request(Random& random) const {
  oracle::Request request;
  request.source_id = static_cast<std::uint16_t>(random.pick(buses) << 8 | random.pick(functions));
  if (random.chance(1, 100)) request.source_id = static_cast<std::uint16_t>(random.next());
  for (unsigned level = 0; level < 5; ++level) {
    request.iova = request.iova << 9 | (random.chance(1, 50) ? random.below(512) : random.pick(indexes));
  }
  request.iova = request.iova << 12 | random.below(4096);
  if (!random.chance(1, 20)) {  // below one of the widths
    constexpr std::array<unsigned, 4> widths{30, 39, 48, 57};
    const auto guest_width = static_cast<unsigned>(unit_.cap >> 16 & 0x3F) + 1;
    request.iova &= low_ones(random.chance(1, 5) ? random.pick(widths) : guest_width);
  }
  if (random.chance(1, 40)) request.iova = (std::uint64_t{1} << (random.chance(1, 2) ? 39 : 48)) - random.below(2);
  if (random.chance(1, 40)) request.iova = interrupt_range - 0x1000 + random.below(0x102000);
  if (random.chance(1, 100)) request.iova = random.next();
  const std::uint64_t asked = 1 + random.below(3);
  request.read = (asked & 1) != 0;
  request.write = (asked & 2) != 0;
  request.zero_length = asked == 1 && random.chance(1, 4);
  if (random.chance(1, 50)) request.pasid = static_cast<std::uint32_t>(random.below(1 << 20));
  constexpr std::array<unsigned, 4> lengths{0, 1, 4, 8};
  if (!request.zero_length) request.length = random.pick(lengths);
  return request;
}

}  // namespace viommu::test
