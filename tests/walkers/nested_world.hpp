// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Tables of two stages such as no driver writes them, and requests through both.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

#include "tests/support/nested_oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/guest_at_work.hpp"
#include "tests/walkers/logged_memory.hpp"
#include "walkers/nested_walk.hpp"

namespace viommu::test {

/// Tables of both stages, with entries in four slots of each. All addresses that matter are made of these slots, so
/// that pages of every size, of either stage, lead to tables again: first-stage ones lie in one 1 GiB page at such
/// places, second-stage ones beside it.
class NestedWorld {
 public:
  static constexpr std::uint64_t first_tables = 0x4000'0000;
  static constexpr std::uint64_t first_tables_bytes = 0x4000'0000;
  static constexpr std::uint64_t second_tables = 0x40000;
  static constexpr std::uint64_t second_tables_bytes = 0xA000;

  explicit NestedWorld(std::uint64_t seed)
      : random_{seed}, noise_{1 + random_.below(3)}, flags_{random_.chance(1, 2) ? 2U : 60U} {
    constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
    constexpr std::array<unsigned, 4> guest_widths{39, 46, 48, 57};
    unit_.haw = random_.pick(widths);
    unit_.cap = std::uint64_t{random_.pick(guest_widths) - 1} << 16 | bit(34, random_.chance(7, 8)) |
                bit(35, random_.chance(7, 8)) | bit(56, random_.chance(7, 8));
    unit_.ecap =
        bit(7, random_.chance(1, 2)) | bit(31, true) | bit(34, true) | bit(45, true) | bit(48, random_.chance(9, 10));
    const std::uint64_t top_level = 2 + random_.below(3);
    unit_.pasid_entry_0 =
        (second_tables + top_level * tables_a_level * 0x1000) | 1 | (top_level - 1) << 2 | bit(9, random_.chance(1, 2));
    unit_.pasid_entry_1 = bit(23, random_.chance(9, 10));
    unit_.pasid_entry_2 = input(random_) | bit(0, random_.chance(9, 10)) | bit(2, random_.chance(1, 2)) |
                          bit(4, random_.chance(1, 2)) | bit(7, random_.chance(1, 2));
    if (random_.chance(1, 30)) unit_.pasid_entry_0 ^= std::uint64_t{0x800000};  // its top table is nowhere
    if (random_.chance(1, 20)) unit_.pasid_entry_2 |= std::uint64_t{1} << (39 + random_.below(13));
    for (std::uint64_t page = 0; page < tables_a_level * walkers::second_stage_levels; ++page)
      add_table(second_tables + page * 0x1000);
    for (const std::uint64_t high : slots)
      for (const std::uint64_t low : slots) add_table(first_tables | high << 21 | low << 12);
  }

  [[nodiscard]] const oracle::NestedUnit& unit() const noexcept { return unit_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] unsigned levels() const noexcept { return (unit_.pasid_entry_2 & 0xC) == 0 ? 4 : 5; }
  [[nodiscard]] bool second_flags() const noexcept { return set(unit_.pasid_entry_0, 9); }
  [[nodiscard]] walkers::NestedStages stages() const {
    const bool snooped = set(unit_.ecap, 48) && set(unit_.pasid_entry_1, 23);
    return {walkers::FirstStage{{unit_.haw, set(unit_.cap, 56)},
                                {.levels = levels(),
                                 .supervisor = set(unit_.pasid_entry_2, 0),
                                 .write_protect = set(unit_.pasid_entry_2, 4),
                                 .extended_accessed = set(unit_.pasid_entry_2, 7),
                                 .snooped = snooped}},
            walkers::SecondStage{
                walkers::SecondStageRules{unit_.haw, set(unit_.ecap, 7), set(unit_.cap, 34), set(unit_.cap, 35)}},
            {.flags = second_flags(), .snooped = snooped},
            {unit_.pasid_entry_0},
            second_top_level(),
            input_width()};
  }
  /// Its words as they were made, by address: all that a walk may write to.
  [[nodiscard]] std::map<std::uint64_t, std::uint64_t> words() const {
    std::map<std::uint64_t, std::uint64_t> words;
    for (const auto& [table, entries] : tables_)
      for (std::size_t i = 0; i < slots.size(); ++i) words.emplace(table + 8 * slots.at(i), entries.at(i));
    return words;
  }
  /// The memory as it was made.
  [[nodiscard]] LoggedMemory memory() const {
    LoggedMemory memory;
    for (const auto& [table, entries] : tables_) {
      memory.words.add_ram(table, 0x1000);
      for (std::size_t i = 0; i < slots.size(); ++i) memory.words.store_u64(table + 8 * slots.at(i), entries.at(i));
    }
    return memory;
  }
  void let_in(Guest guest, LoggedMemory& memory, Random& random) const {
    test::let_in(guest, memory, random, random.chance(1, 2) ? 0x20 : 0x100,
                 [this](std::uint64_t gpa, Random& from) { return entry(gpa, from); });
  }
  oracle::FirstStageRequest request() {
    oracle::FirstStageRequest request;
    for (unsigned level = 0; level < levels(); ++level)
      request.address = request.address << 9 | (random_.chance(1, 80) ? random_.below(512) : random_.pick(slots));
    request.address = request.address << 12 | random_.below(4096);
    const unsigned width = levels() == 4 ? 48 : 57;
    if ((request.address >> (width - 1) & 1) != 0) request.address |= ~low_bits(width);
    if (random_.chance(1, 40)) request.address ^= std::uint64_t{1} << random_.below(64);
    request.write = random_.chance(1, 2);
    request.read = random_.chance(1, request.write ? 3 : 1) && random_.chance(9, 10);  // neither: a zero-length read
    request.supervisor = random_.chance(1, 3);
    request.execute = random_.chance(1, 40);
    return request;
  }

 private:
  static constexpr std::array<std::uint64_t, 4> slots{0, 1, 2, 511};
  static constexpr std::uint64_t tables_a_level = 2;

  static std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }
  static bool set(std::uint64_t word, unsigned number) { return (word >> number & 1) != 0; }

  [[nodiscard]] unsigned second_top_level() const noexcept {
    return static_cast<unsigned>(unit_.pasid_entry_0 >> 2 & 7) + 1;
  }
  [[nodiscard]] unsigned input_width() const noexcept {
    return std::min(static_cast<unsigned>(unit_.cap >> 16 & 0x3F) + 1, 12 + 9 * (second_top_level() + 1));
  }
  void add_table(std::uint64_t at) {
    auto& entries = tables_[at];
    for (std::size_t i = 0; i < slots.size(); ++i) entries.at(i) = entry(at, random_);
  }
  /// A page that the second stage may translate, and that an entry can name.
  [[nodiscard]] std::uint64_t input(Random& random) const {
    std::uint64_t page = 0;
    for (unsigned level = 0; level <= second_top_level(); ++level) page = page << 9 | random.pick(slots);
    return page << 12 & low_bits(std::min(input_width(), unit_.haw));
  }
  [[nodiscard]] bool rarely(Random& random, std::uint64_t of) const { return random.chance(noise_, of); }
  [[nodiscard]] std::uint64_t entry(std::uint64_t at, Random& random) const {
    if (rarely(random, 2000)) return random.next();
    return at >= first_tables ? first_stage_entry(random) : second_stage_entry(at, random);
  }
  [[nodiscard]] std::uint64_t first_stage_entry(Random& random) const {
    std::uint64_t entry = bit(0, !rarely(random, 100)) | bit(1, !rarely(random, 60)) | bit(2, !rarely(random, 80));
    for (const unsigned flag : {5U, 6U, 10U}) entry |= bit(flag, random.chance(flags_, flags_ + 1));
    if (random.chance(1, 4)) entry |= random.next() & 0xFFF0'0000'0000'0B18;
    if (rarely(random, 300)) entry |= std::uint64_t{1} << random.below(64);
    if (rarely(random, 300)) entry |= std::uint64_t{1} << (38 + random.below(14));  // beyond one width or the other
    std::uint64_t page = input(random);
    if (random.chance(1, 8)) {  // PS, with an address that is aligned for one size; at level 0 it is PAT
      entry |= 0x80;
      page &= ~low_bits(random.chance(1, 2) ? 21 : 30);
    }
    return entry | page;
  }
  [[nodiscard]] std::uint64_t second_stage_entry(std::uint64_t at, Random& random) const {
    std::uint64_t entry = bit(0, !rarely(random, 120)) | bit(1, !rarely(random, 60));
    if (rarely(random, 300)) entry &= ~std::uint64_t{3};
    for (const unsigned flag : {8U, 9U}) entry |= bit(flag, random.chance(flags_, flags_ + 1));
    entry |= bit(11, rarely(random, 400));
    if (random.chance(1, 4)) entry |= random.next() & 0xBFF0'0000'0000'047C;
    if (rarely(random, 300)) entry |= std::uint64_t{1} << random.below(64);
    if (rarely(random, 300)) return entry | (random.next() & low_bits(unit_.haw) & ~low_bits(12));  // mostly a hole
    const std::uint64_t page = first_tables | random.pick(slots) << 21 | random.pick(slots) << 12;
    // Its table is for this level, if the guest keeps to it.
    const std::uint64_t level = (at - second_tables) / 0x1000 / tables_a_level;
    if (level == 0) return entry | page;
    if (level <= 2 && random.chance(1, 4))
      return entry | 0x80 | (page & ~low_bits(random.chance(3, 4) == (level == 1) ? 21 : 30));
    if (rarely(random, 300)) return entry | (random.chance(1, 2) ? page : second_tables);
    return entry | (second_tables + ((level - 1) * tables_a_level + random.below(tables_a_level)) * 0x1000);
  }

  Random random_;
  std::uint64_t noise_;  // how often an entry is not as it should be
  std::uint64_t flags_;  // how often a flag is set: so many times for each that it is not
  oracle::NestedUnit unit_;
  std::map<std::uint64_t, std::array<std::uint64_t, slots.size()>> tables_;
};

/// The reason that VT-d has for it.
inline std::uint8_t code_of(walkers::NestedEnd end) {
  switch (end) {
    case walkers::NestedEnd::leaf:                  return 0;
    case walkers::NestedEnd::root_out_of_range:     return 0x5B;
    case walkers::NestedEnd::execute_blocked:       return 0x5C;
    case walkers::NestedEnd::supervisor_blocked:    return 0x5D;
    case walkers::NestedEnd::not_canonical:         return 0x80;
    case walkers::NestedEnd::top_unreadable:        return 0x73;
    case walkers::NestedEnd::unreadable:            return 0x70;
    case walkers::NestedEnd::absent:                return 0x71;
    case walkers::NestedEnd::malformed:             return 0x72;
    case walkers::NestedEnd::address_out_of_range:  return 0x74;
    case walkers::NestedEnd::top_entry_denied:      return 0x75;
    case walkers::NestedEnd::entry_denied:          return 0x76;
    case walkers::NestedEnd::update_denied:         return 0x77;
    case walkers::NestedEnd::user_denied:           return 0x81;
    case walkers::NestedEnd::not_snooped:           return 0x90;
    case walkers::NestedEnd::update_failed:         return 0x91;
    case walkers::NestedEnd::write_denied:          return 0x85;
    case walkers::NestedEnd::read_denied:           return 0x86;
    case walkers::NestedEnd::second_top_unreadable: return 0x7B;
    case walkers::NestedEnd::second_unreadable:     return 0x78;
    case walkers::NestedEnd::second_absent:         return 0x79;
    case walkers::NestedEnd::second_malformed:      return 0x7A;
    case walkers::NestedEnd::second_not_snooped:    return 0x7C;
    case walkers::NestedEnd::second_update_failed:  return 0x7D;
  }
  return 0xFF;
}

}  // namespace viommu::test
