// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The second-stage format against the specification's own words, bit by bit.
#include "walkers/format/second_stage.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

namespace viommu::walkers {
namespace {

constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
constexpr unsigned page_size_bit = 7;

std::vector<SecondStageRules> all_rules() {
  std::vector<SecondStageRules> rules;
  for (const unsigned width : {32U, 39U, 46U, 48U, 51U, 52U})
    for (const bool snoop : {false, true})
      for (const bool pages_2m : {false, true})
        for (const bool pages_1g : {false, true}) rules.push_back({width, snoop, pages_2m, pages_1g});
  return rules;
}

/// VT-d, "Second-Stage Paging Entries": whether one more bit in a present entry makes it malformed, or nothing.
/// A leaf at level 1 or 2 is an entry with PS set; where large pages are not supported PS itself is reserved.
bool reserved(const SecondStageRules& rules, unsigned level, bool is_leaf, unsigned number) {
  if (number >= rules.host_address_width && number <= 51) return true;
  if (number == 62) return true;                                   // IW, and SSIRWE does not exist here
  if (number == 11) return is_leaf ? !rules.snoop_control : true;  // SNP
  if (is_leaf && level == 1 && number >= 12 && number <= 20) return true;
  if (is_leaf && level == 2 && number >= 12 && number <= 29) return true;
  if (number == page_size_bit && level >= 3) return true;
  if (number == page_size_bit && level == 2) return !rules.pages_1g;
  if (number == page_size_bit && level == 1) return !rules.pages_2m;
  return false;
}

}  // namespace

TEST_CASE("a bit is a fault if and only if it is reserved at this level under these capabilities",
          "[walkers][Second-Stage Paging Entries][B24]") {
  for (const SecondStageRules& rules : all_rules()) {
    const SecondStage format{rules};
    for (unsigned level = 0; level < second_stage_levels; ++level) {
      for (const std::uint64_t rights : {1U, 2U, 3U}) {
        for (const bool as_leaf : {false, true}) {
          if (as_leaf && (level == 0 || level >= 3))
            continue;  // level 0 holds leaves, 3 and 4 none, with or without PS
          const std::uint64_t entry = rights | (as_leaf ? bit(page_size_bit) : 0);
          const bool is_leaf = level == 0 || as_leaf;
          const bool allowed = !as_leaf || !reserved(rules, level, true, page_size_bit);
          for (unsigned number = 2; number < 64; ++number) {
            if (as_leaf && number == page_size_bit) continue;
            const bool becomes_leaf = is_leaf || (number == page_size_bit && level < 3);
            const bool wrong = !allowed || reserved(rules, level, becomes_leaf, number);
            const EntryKind expected = wrong ? EntryKind::malformed : becomes_leaf ? EntryKind::leaf : EntryKind::table;
            if (format.classify(entry | bit(number), level) != expected)
              FAIL("width " << rules.host_address_width << " SC " << rules.snoop_control << " 2M " << rules.pages_2m
                            << " 1G " << rules.pages_1g << " level " << level << " entry " << entry << " bit "
                            << number);
          }
          const EntryKind alone = !allowed ? EntryKind::malformed : is_leaf ? EntryKind::leaf : EntryKind::table;
          CHECK(format.classify(entry, level) == alone);
        }
      }
    }
  }
}

TEST_CASE("in an entry without rights no bit counts", "[walkers][Second-Stage Paging Entries]") {
  for (const SecondStageRules& rules : all_rules()) {
    const SecondStage format{rules};
    for (unsigned level = 0; level < second_stage_levels; ++level) {
      CHECK(format.classify(0, level) == EntryKind::absent);
      CHECK(format.classify(~std::uint64_t{3}, level) == EntryKind::absent);
      for (unsigned number = 2; number < 64; ++number)
        if (format.classify(bit(number), level) != EntryKind::absent) FAIL("level " << level << " bit " << number);
    }
  }
}

TEST_CASE("an address is a table's or a page's, with as many bits as its level leaves", "[walkers][B31][GPT-6]") {
  constexpr std::uint64_t all_but_rights = ~std::uint64_t{3};
  CHECK(SecondStage::next_table(~std::uint64_t{0}) == Gpa{low_bits(52) & ~low_bits(12)});
  CHECK(SecondStage::frame(all_but_rights, 0) == Gpa{low_bits(52) & ~low_bits(12)});
  CHECK(SecondStage::frame(all_but_rights, 1) == Gpa{low_bits(52) & ~low_bits(21)});
  CHECK(SecondStage::frame(all_but_rights, 2) == Gpa{low_bits(52) & ~low_bits(30)});
  CHECK(SecondStage::frame(0x1000, 0) == Gpa{0x1000});
  CHECK(SecondStage::page_shift(0) == 12);
  CHECK(SecondStage::page_shift(4) == 48);
}

TEST_CASE("the slot of an address is one of 512 in its table", "[walkers][GPT-4]") {
  CHECK(SecondStage::slot({0x5000}, {0}, 0) == Gpa{0x5000});
  CHECK(SecondStage::slot({0x5000}, {0x1FF000}, 0) == Gpa{0x5FF8});
  CHECK(SecondStage::slot({0x5000}, {0x200000}, 0) == Gpa{0x5000});
  CHECK(SecondStage::slot({0x5000}, {0x200000}, 1) == Gpa{0x5008});
  CHECK(SecondStage::slot({0x5000}, {low_bits(57)}, 4) == Gpa{0x5FF8});
  // The levels take all bits above the page, each once.
  std::uint64_t seen = 0;
  for (unsigned level = 0; level < second_stage_levels; ++level) {
    for (unsigned number = 12; number < 57; ++number) {
      if (SecondStage::slot({0}, {bit(number)}, level) == Gpa{0}) continue;
      CHECK((seen & bit(number)) == 0);
      seen |= bit(number);
    }
  }
  CHECK(seen == (low_bits(57) & ~low_bits(12)));
}

TEST_CASE("bit 2, the old execute right, counts for nothing", "[walkers][Second-Stage Paging Entries]") {
  const SecondStage format{SecondStageRules{}};
  CHECK(format.classify(4, 0) == EntryKind::absent);
  CHECK(format.classify(5, 0) == EntryKind::leaf);
  CHECK(SecondStage::rights(4).none());
  CHECK(SecondStage::rights(5) == read_only);
  CHECK(SecondStage::rights(6) == write_only);
}

}  // namespace viommu::walkers
