// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/random_scalable_tables.hpp"

#include <algorithm>
#include <array>

namespace viommu::test {
namespace {

constexpr std::array<std::uint64_t, 3> buses{0, 1, 0xFF};
constexpr std::array<std::uint64_t, 8> functions{0, 0, 1, 1, 0x80, 0x80, 0x7F, 0xFF};
constexpr std::array<std::uint64_t, 6> indexes{0, 1, 2, 255, 510, 511};  // of a page table
constexpr std::array<std::uint64_t, 10> pasids{0, 1, 5, 5, 63, 64, 69, 0x1FFF, 0x2000, 0xFFFFF};
constexpr std::uint64_t interrupt_range = 0xFEE00000;

// Pieces of memory. The second one ends in the middle of an entry, the third is the end of a directory of 16,384
// entries, the last lies at the top of the address width.
constexpr std::uint64_t low_gpa = 0x40000;
constexpr std::uint64_t low_bytes = 0x10000;
constexpr std::uint64_t half_gpa = 0x80000;
constexpr std::uint64_t half_bytes = 0x1FF8;
constexpr std::uint64_t directory_gpa = low_gpa + 0x3000;
constexpr std::uint64_t directory_end = directory_gpa + 0x20000;
constexpr std::uint64_t high_bytes = 0x8000;

std::uint64_t bit(std::uint64_t at) { return std::uint64_t{1} << at; }
std::uint64_t one_bit(Random& random, unsigned high, unsigned low) { return bit(low + random.below(high - low + 1)); }
std::uint64_t low_ones(std::uint64_t count) { return count >= 64 ? ~std::uint64_t{0} : bit(count) - 1; }
bool lies_in(const std::vector<std::uint64_t>& pages, std::uint64_t page) {
  return std::ranges::find(pages, page) != pages.end();
}

}  // namespace

oracle::Unit random_scalable_unit(Random& random, const ScalableFeatures& features) {
  constexpr std::array<std::uint64_t, 6> width_sets{1, 2, 4, 3, 6, 7};  // SAGAW[3:1]: 39, 48 and 57 bits
  constexpr std::array<std::uint64_t, 3> large_pages{0, 1, 3};          // SSLPS
  constexpr std::array<unsigned, 7> host_widths{39, 40, 42, 46, 48, 51, 52};
  constexpr std::array<unsigned, 6> versions{1, 1, 3, 5, 6, 8};
  const auto choice = [&](unsigned at, bool possible = true) { return possible && random.chance(2, 3) ? bit(at) : 0; };
  constexpr std::uint64_t smpwcs = std::uint64_t{1} << 48;
  constexpr std::uint64_t pasid = std::uint64_t{1} << 40;

  oracle::Unit unit;
  unit.major_version = random.pick(versions);
  const std::uint64_t fsts = choice(47);
  const std::uint64_t ssts = choice(46);
  const std::uint64_t srs = choice(31);
  const std::uint64_t walk_snoop = random.chance(5, 6) ? smpwcs : 0;
  unit.ecap = 0xF03 | bit(43) | fsts | ssts | srs | walk_snoop;  // C, QI, IRO 0xF0, SMTS
  unit.ecap |= choice(2) | choice(6) | choice(7);                // DT, PT, SC
  unit.ecap |= choice(33, (unit.ecap & 4) != 0);                 // NWFS
  unit.ecap |= choice(29, (unit.ecap & 4) != 0);                 // PRS
  unit.ecap |= random.chance(5, 6) ? pasid : 0;
  unit.ecap |= choice(56, (unit.ecap & 4) != 0 && (unit.ecap & pasid) != 0);                  // PTRS
  unit.ecap |= (random.chance(2, 3) ? 19 : random.below(20)) << 35;                           // PSS
  unit.ecap |= choice(34, fsts != 0 && walk_snoop != 0) | choice(49) | choice(53, srs != 0);  // EAFS, RPS, RPRIVS
  unit.ecap |= choice(52);                                                                    // ADMS
  unit.ecap |= choice(26, features.nested && fsts != 0 && ssts != 0);
  unit.ecap |= choice(45, features.second_stage_flags && walk_snoop != 0);

  std::uint64_t widths = random.pick(width_sets);
  if (ssts == 0 && (unit.major_version >= 6 || random.chance(1, 2))) widths = 0;
  if (widths == 0 && fsts == 0) unit.ecap |= bit(6);  // with nothing to translate, translation cannot be turned on
  const unsigned largest = widths >= 4 || widths == 0 ? 57 : widths >= 2 ? 48 : 39;
  unit.haw = std::min(random.pick(host_widths), largest);
  const std::uint64_t guest_width = unit.haw + random.below(largest - unit.haw + 1);
  unit.cap = random.below(7) | (random.chance(1, 4) ? bit(7) : 0) | widths << 9 | (guest_width - 1) << 16 | choice(22) |
             std::uint64_t{0x22} << 24 | random.pick(large_pages) << 34 | bit(39) | random.below(8) << 40 |
             std::uint64_t{18} << 48 | std::uint64_t{3} << 54 | choice(56, fsts != 0) | choice(60, fsts != 0);
  unit.translation_enabled = true;
  return unit;
}

RandomScalableTables::RandomScalableTables(Random& random, const oracle::Unit& unit, SparseMemory& memory, bool mixed)
    : unit_{unit}, memory_{&memory}, root_{low_gpa}, mixed_{mixed} {
  constexpr std::array<std::uint64_t, 4> rarities{30, 80, 300, 2000};
  constexpr std::array<std::uint64_t, 4> clear_rarities{1, 3, 20, 200};
  rarity_ = random.pick(rarities);
  clear_rarity_ = has(48) ? random.pick(clear_rarities) : 200;

  const std::uint64_t high_gpa = bit(unit.haw) - high_bytes;
  memory.add_ram(low_gpa, low_bytes);
  memory.add_ram(half_gpa, half_bytes);
  memory.add_ram(directory_end - 0x1000, 0x1000);
  memory.add_ram(high_gpa, high_bytes);
  contexts_ = {low_gpa + 0x1000, half_gpa + 0x1000, high_gpa};
  directories_ = {directory_gpa, high_gpa + 0x1000};
  pasid_tables_ = {low_gpa + 0x4000, low_gpa + 0x5000, high_gpa + 0x2000};
  upper_tables_ = {low_gpa + 0x6000, low_gpa + 0x7000, low_gpa + 0x8000, high_gpa + 0x3000, half_gpa};
  lower_tables_ = {low_gpa + 0x9000, low_gpa + 0xA000, low_gpa + 0xF000, high_gpa + 0x4000, high_gpa + 0x7000};
  all_tables_.insert(all_tables_.end(), upper_tables_.begin(), upper_tables_.end());
  all_tables_.insert(all_tables_.end(), lower_tables_.begin(), lower_tables_.end());

  const auto add = [&](std::uint64_t gpa, unsigned count) {
    for (unsigned at = 0; at < count; ++at) words_.push_back(gpa + std::uint64_t{8} * at);
  };
  for (const std::uint64_t bus : buses) add(root_ + 16 * bus, 2);
  for (const std::uint64_t page : contexts_)
    for (const std::uint64_t function : functions) add(page + 32 * (function % 128), 4);
  for (const std::uint64_t pasid : pasids) {
    for (const std::uint64_t page : directories_) add(page + 8 * (pasid / 64), 1);
    for (const std::uint64_t page : pasid_tables_) add(page + 64 * (pasid % 64), 8);
  }
  for (const std::uint64_t page : all_tables_)
    for (const std::uint64_t at : indexes) add(page + 8 * at, 1);
}

void RandomScalableTables::fill(Random& random) {
  for (const std::uint64_t page : all_tables_)  // whole: what one stage maps, the other one asks for
    for (std::uint64_t at = 0; at < 512; ++at) memory_->store_u64(page + 8 * at, word(random, page + 8 * at));
  for (const std::uint64_t gpa : words_) memory_->store_u64(gpa, word(random, gpa));
}

void RandomScalableTables::change(Random& random) {
  const std::uint64_t gpa = words_[random.below(words_.size())];
  memory_->store_u64(gpa, word(random, gpa));
}

std::uint64_t RandomScalableTables::word(Random& random, std::uint64_t gpa) const {
  if (random.chance(1, 20 * rarity_)) return random.next();
  const std::uint64_t page = gpa & ~std::uint64_t{0xFFF};
  const auto at = static_cast<unsigned>(gpa / 8 % 512);
  if (page == root_) return root_word(random);
  if (lies_in(contexts_, page)) return context_word(random, at % 4);
  if (lies_in(pasid_tables_, page)) return pasid_word(random, at % 8);
  if (lies_in(all_tables_, page)) return table_word(random, lies_in(upper_tables_, page));
  return directory_word(random);
}

bool RandomScalableTables::is_of_table(std::uint64_t gpa) const {
  return lies_in(all_tables_, gpa & ~std::uint64_t{0xFFF});
}

std::uint64_t RandomScalableTables::pointer(Random& random, const Pages& pages) const {
  if (spoilt(random)) return random.chance(1, 2) ? low_gpa + low_bytes : low_gpa - 0x1000;
  if (random.chance(1, 2 * rarity_)) return random.below(1 << 20) << 12;     // mostly a hole
  if (random.chance(1, 2 * rarity_)) return one_bit(random, 63, unit_.haw);  // above the width
  if (mixed_ && random.chance(1, 40)) {
    const std::array<const Pages*, 4> kinds{&contexts_, &directories_, &pasid_tables_, &all_tables_};
    const Pages& other = *random.pick(kinds);
    return other[random.below(other.size())];
  }
  return pages[random.below(pages.size())];
}

std::uint64_t RandomScalableTables::root_word(Random& random) const {
  std::uint64_t word = pointer(random, contexts_) | 1;
  if (spoilt(random)) word ^= one_bit(random, 11, 0);
  return word;
}

std::uint64_t RandomScalableTables::context_word(Random& random, unsigned at) const {
  std::uint64_t word = 0;
  if (at == 0) {
    constexpr std::array<std::uint64_t, 5> sizes{0, 0, 1, 3, 7};  // PDTS
    word = pointer(random, directories_) | random.pick(sizes) << 9 | 1;
    if (random.chance(1, 6)) word |= 2;  // FPD
    if (has(2) && random.chance(1, 2)) word |= 4;
    if (has(40) && !spoilt(random)) word |= 8;
    if (has(29) && ((word & 4) != 0 || spoilt(random)) && random.chance(2, 3)) word |= 16;
    if (has(56) && ((word & 8) != 0 || spoilt(random)) && random.chance(1, 2)) word |= 64;
    if (spoilt(random)) word ^= one_bit(random, 8, 0);
  } else if (at == 1) {
    if (has(49) && random.chance(2, 3)) word = random.pick(pasids);
    if (word > 0x1FFF && random.chance(3, 4)) word = 5;
    if (has(53) && random.chance(1, 3)) word |= bit(20);
  }
  if (spoilt(random)) word ^= random.chance(1, 2) ? one_bit(random, 63, 0) : one_bit(random, 21, 0);
  return word;
}

std::uint64_t RandomScalableTables::directory_word(Random& random) const {
  std::uint64_t word = pointer(random, pasid_tables_) | 1;
  if (random.chance(1, 8)) word |= 2;
  if (spoilt(random)) word ^= one_bit(random, 11, 0);
  return word;
}

std::uint64_t RandomScalableTables::pasid_word(Random& random, unsigned at) const {
  std::uint64_t word = 0;
  switch (at) {
    case 0: {
      Pages kinds;
      if (has(47)) kinds.insert(kinds.end(), {1, 1, 1, 1});
      if (has(46)) kinds.insert(kinds.end(), {2, 2, 2, 2});
      if (has(26)) kinds.insert(kinds.end(), {3, 3, 3, 3, 3, 3});
      if (has(6)) kinds.push_back(4);
      std::uint64_t kind = kinds.empty() ? 1 : kinds[random.below(kinds.size())];
      if (spoilt(random)) kind = random.below(8);
      const std::uint64_t widths = unit_.cap >> 9 & 7;
      std::uint64_t aw = 1 + random.below(3);
      while (!spoilt(random) && widths != 0 && (widths >> (aw - 1) & 1) == 0) aw = 1 + random.below(3);
      const bool second_stage = kind == 2 || kind == 3;
      // Where nothing needs them AW and the root may be anything.
      word = (second_stage || random.chance(1, 2) ? pointer(random, upper_tables_) : random.next() << 12) | aw << 2 |
             kind << 6 | 1;
      if (random.chance(1, 8)) word |= 2;
      if (spoilt(random)) word ^= 1;
      if ((has(45) && random.chance(1, 2)) || (!second_stage && random.chance(1, 4))) word |= bit(9);
      break;
    }
    case 1: {
      const std::uint64_t domain_bits = std::min<std::uint64_t>(16, 4 + 2 * (unit_.cap & 7));
      word = spoilt(random) ? 0 : 1 + random.below(random.chance(1, 2) ? 3 : low_ones(domain_bits));
      if (has(48) && random.chance(7, 8)) word |= bit(23);
      if (has(7) && random.chance(1, 2)) word |= bit(24);
      if (random.chance(1, 16)) word |= bit(26);  // EMTE: for first stage and pass-through it does not count
      break;
    }
    case 2:
      word = pointer(random, upper_tables_) | random.below(4) << 5;
      if (has(31) && random.chance(3, 4)) word |= 1;
      if (has_cap(60) && random.chance(1, 2)) word |= 4;
      if (random.chance(1, 3)) word |= bit(4);
      if (has(34) && random.chance(1, 2)) word |= bit(7);
      break;
    default: break;
  }
  if (spoilt(random)) word ^= random.chance(1, 2) ? one_bit(random, 63, 0) : one_bit(random, 31, 0);
  return word;
}

/// Somewhere in guest memory; as far as a second stage looks at it, mostly where a table lies.
std::uint64_t RandomScalableTables::page_of_guest(Random& random, unsigned alignment) const {
  if (spoilt(random)) return interrupt_range & ~low_ones(alignment);
  if (alignment > 12 && random.chance(1, 2)) return 0;  // of these pages the tables come out where they are
  const std::uint64_t page = random.chance(1, 2) ? pointer(random, all_tables_) : random.next() & low_ones(unit_.haw);
  return page & ~low_ones(alignment);
}

std::uint64_t RandomScalableTables::table_word(Random& random, bool upper) const {
  constexpr std::array<std::uint64_t, 10> rights{7, 7, 7, 7, 7, 5, 5, 5, 6, 3};  // P or R, R/W or W, U/S
  constexpr std::array<unsigned, 2> alignments{21, 30};
  constexpr std::uint64_t accessed = 0x520;              // of a first stage with EA, and of a second
  constexpr std::uint64_t dirty = 0x240;                 // of both
  constexpr std::uint64_t ignored = 0xBFF0000000000018;  // 63, 61:52, 4, 3
  const std::uint64_t kind = random.below(upper ? 40 : 16);
  std::uint64_t word = 0;
  if (kind == 0 && (!upper || spoilt(random))) return random.next() & ~std::uint64_t{3};  // absent: no bit counts
  const bool large = upper ? kind == 1 : kind < 8;
  if (large) {
    const unsigned alignment = random.pick(alignments);
    word = page_of_guest(random, alignment) | 0x80;
    if (random.chance(1, 8)) word |= bit(12);  // PAT in a first stage, reserved in a second
  } else if (upper || kind < 11) {
    word = pointer(random, random.chance(2, 3) ? upper_tables_ : lower_tables_);
  } else {
    word = page_of_guest(random, 12);
  }
  word |= random.chance(1, 3 * rarity_) ? random.below(8) : random.chance(2, 3) ? 7 : random.pick(rights);
  if (!random.chance(1, clear_rarity_)) word |= accessed;
  if (random.chance(1, 2)) word |= dirty;
  if (has(7) && !upper && random.chance(1, 8)) word |= 0x800;  // SNP
  if (random.chance(1, 3)) word |= random.next() & ignored;
  if (spoilt(random)) word ^= one_bit(random, 63, 0);
  return word;
}

oracle::Request RandomScalableTables::request(Random& random) const {
  oracle::Request request;
  request.source_id = static_cast<std::uint16_t>(random.pick(buses) << 8 | random.pick(functions));
  if (random.chance(1, 200)) request.source_id = static_cast<std::uint16_t>(random.next());
  if (random.chance(2, 3)) {
    request.pasid = static_cast<std::uint32_t>(random.pick(pasids));
    if (*request.pasid > 0x1FFF && random.chance(3, 4)) request.pasid = 64;
    if (random.chance(1, 100)) request.pasid = static_cast<std::uint32_t>(random.below(1 << 20));
    request.privileged = random.chance(1, 4);
  }
  for (unsigned level = 0; level < 5; ++level) {
    request.iova = request.iova << 9 | (random.chance(1, 50) ? random.below(512) : random.pick(indexes));
  }
  request.iova = request.iova << 12 | random.below(4096);
  if (!random.chance(1, 30)) {  // below one of the widths, or canonical
    constexpr std::array<unsigned, 4> widths{30, 39, 48, 57};
    const auto guest_width = static_cast<unsigned>(unit_.cap >> 16 & 0x3F) + 1;
    const unsigned width = random.chance(1, 2) ? random.pick(widths) : guest_width;
    request.iova &= low_ones(width);
    const std::uint64_t upper_half = random.chance(1, 2) ? 47 : 56;
    if (has(47) && random.chance(1, 5))
      request.iova |= ~low_ones(upper_half);
    else if (has(47) && random.chance(1, 2))
      request.iova &= low_ones(upper_half);
  }
  if (random.chance(1, 40)) request.iova = bit(random.chance(1, 2) ? 47 : 48) - random.below(2);
  if (random.chance(1, 40)) request.iova = bit(random.chance(1, 2) ? 39 : unit_.haw) - random.below(2);
  if (random.chance(1, 30)) request.iova = interrupt_range - 0x1000 + random.below(0x102000);
  if (random.chance(1, 100)) request.iova = random.next();
  const std::uint64_t asked = 1 + random.below(3);
  request.read = (asked & 1) != 0;
  request.write = (asked & 2) != 0;
  request.zero_length = asked == 1 && random.chance(1, 4);
  request.execute = request.pasid && asked == 1 && random.chance(1, 16);
  constexpr std::array<unsigned, 4> lengths{0, 1, 4, 8};
  if (!request.zero_length) request.length = random.pick(lengths);
  return request;
}

}  // namespace viommu::test
