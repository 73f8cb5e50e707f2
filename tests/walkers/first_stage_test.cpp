// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The first-stage format against the specification's own words, bit by bit.
#include "walkers/format/first_stage.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/support/layout_round_trip.hpp"
#include "tests/walkers/array_memory.hpp"
#include "walkers/walk.hpp"

namespace viommu::walkers {
namespace {

constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
constexpr unsigned page_size_bit = 7;

std::vector<FirstStageRules> all_rules() {
  std::vector<FirstStageRules> rules;
  for (const unsigned width : {32U, 39U, 46U, 48U, 51U, 52U})
    for (const bool pages_1g : {false, true}) rules.push_back({width, pages_1g});
  return rules;
}

/// VT-d, "First-Stage Paging Entries": whether one more bit in a present entry makes it malformed, or nothing.
/// A leaf at level 1 or 2 is an entry with PS set; where 1 GiB pages are not supported PS itself is reserved there.
bool reserved(const FirstStageRules& rules, unsigned level, bool is_leaf, unsigned number) {
  if (number >= rules.host_address_width && number <= 51) return true;
  if (is_leaf && level == 1 && number >= 13 && number <= 20) return true;
  if (is_leaf && level == 2 && number >= 13 && number <= 29) return true;
  if (number == page_size_bit && level >= 3) return true;
  return number == page_size_bit && level == 2 && !rules.pages_1g;
}

}  // namespace

TEST_CASE("each field of first-stage entries goes in and comes out alone",
          "[walkers][first stage][First-Stage Paging Entries]") {
  test::check_round_trips(first_stage_table::rows);
  test::check_round_trips(first_stage_leaf::rows);
  test::check_round_trips(first_stage_leaf_2m::rows);
  test::check_round_trips(first_stage_leaf_1g::rows);
}

TEST_CASE("first-stage entries reserve what the figures print",
          "[walkers][first stage][First-Stage Paging Entries][B24]") {
  const std::uint64_t above_39 = low_bits(52) & ~low_bits(39);
  const FirstStageMasks masks = first_stage_masks({39, true});
  for (const unsigned level : {1U, 2U}) CHECK(masks.table.at(level) == above_39);
  for (const unsigned level : {3U, 4U}) CHECK(masks.table.at(level) == (above_39 | 0x80));
  CHECK(masks.leaf[0] == above_39);
  CHECK(masks.leaf[1] == (above_39 | 0x1FE000));
  CHECK(masks.leaf[2] == (above_39 | 0x3FFFE000));
  CHECK(first_stage_masks({39, false}).leaf[2] == (above_39 | 0x3FFFE080));
  CHECK(first_stage_masks({39, false}).leaf[1] == masks.leaf[1]);
}

TEST_CASE("a bit of a first-stage entry is a fault if and only if it is reserved at this level",
          "[walkers][first stage][First-Stage Paging Entries][B24]") {
  for (const FirstStageRules& rules : all_rules()) {
    const FirstStage format{rules, {}};
    for (unsigned level = 0; level < first_stage_levels; ++level) {
      for (const bool as_leaf : {false, true}) {
        if (as_leaf && (level == 0 || level >= 3)) continue;  // level 0 holds leaves, 3 and 4 none, PS or not
        const std::uint64_t entry = 1 | (as_leaf ? bit(page_size_bit) : 0);
        const bool is_leaf = level == 0 || as_leaf;
        const bool allowed = !as_leaf || !reserved(rules, level, true, page_size_bit);
        for (unsigned number = 1; number < 64; ++number) {
          if (as_leaf && number == page_size_bit) continue;
          const bool becomes_leaf = is_leaf || (number == page_size_bit && level < 3);
          const bool wrong = !allowed || reserved(rules, level, becomes_leaf, number);
          const EntryKind expected = wrong ? EntryKind::malformed : becomes_leaf ? EntryKind::leaf : EntryKind::table;
          if (format.classify(entry | bit(number), level) != expected)
            FAIL("width " << rules.host_address_width << " 1G " << rules.pages_1g << " level " << level << " entry "
                          << entry << " bit " << number);
        }
        CHECK(format.classify(entry, level) == (!allowed  ? EntryKind::malformed
                                                : is_leaf ? EntryKind::leaf
                                                          : EntryKind::table));
      }
    }
  }
}

TEST_CASE("within narrower tables a larger address is one more reserved bit, in table entries and leaves of all sizes",
          "[walkers][first stage][nested][First-Stage Paging Entries]") {
  for (const FirstStageRules& rules : all_rules()) {
    const FirstStage format{rules, {}};
    for (const unsigned width : {31U, 39U, 47U, 48U, 52U, 57U}) {
      const FirstStage narrower = format.within(width);
      for (unsigned level = 0; level < first_stage_levels; ++level) {
        for (const std::uint64_t entry : {std::uint64_t{1}, 1 | bit(page_size_bit)}) {
          CHECK(narrower.classify(entry, level) == format.classify(entry, level));
          for (unsigned number = 1; number < 64; ++number) {
            const bool beyond = number >= width && number < 52;
            const EntryKind expected = beyond ? EntryKind::malformed : format.classify(entry | bit(number), level);
            if (narrower.classify(entry | bit(number), level) != expected)
              FAIL("width " << width << " level " << level << " entry " << entry << " bit " << number);
          }
        }
      }
    }
  }
}

TEST_CASE("under another PASID table entry the unit's rules are the same, and the entry's controls count",
          "[walkers][first stage]") {
  FirstStageControls controls;
  controls.levels = 5;
  controls.write_protect = true;
  controls.extended_accessed = true;
  controls.snooped = false;
  for (const FirstStageRules& rules : all_rules()) {
    const FirstStage format = FirstStage{rules, {}}.under(controls);
    CHECK(format.top_level() == 4);
    CHECK_FALSE(format.controls().snooped);
    CHECK(format.rights(0, Privilege::supervisor) == read_only);
    CHECK(format.flags(EntryKind::table, false) == 0x420);
    for (unsigned number = 1; number < 64; ++number)
      CHECK(format.classify(1 | bit(number), 2) == FirstStage{rules, {}}.classify(1 | bit(number), 2));
  }
}

TEST_CASE("in a first-stage entry with P clear no bit counts", "[walkers][first stage][First-Stage Paging Entries]") {
  for (const FirstStageRules& rules : all_rules()) {
    const FirstStage format{rules, {}};
    for (unsigned level = 0; level < first_stage_levels; ++level) {
      CHECK(format.classify(0, level) == EntryKind::absent);
      CHECK(format.classify(~std::uint64_t{1}, level) == EntryKind::absent);
      for (unsigned number = 1; number < 64; ++number)
        if (format.classify(bit(number), level) != EntryKind::absent) FAIL("level " << level << " bit " << number);
    }
  }
}

TEST_CASE("a first-stage address has as many bits as its level leaves, and PAT is none of them",
          "[walkers][first stage][B31][GPT-6]") {
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  CHECK(FirstStage::next_table(ones) == Gpa{low_bits(52) & ~low_bits(12)});
  CHECK(FirstStage::frame(ones, 0) == Gpa{low_bits(52) & ~low_bits(12)});
  CHECK(FirstStage::frame(ones, 1) == Gpa{low_bits(52) & ~low_bits(21)});
  CHECK(FirstStage::frame(ones, 2) == Gpa{low_bits(52) & ~low_bits(30)});
  CHECK(FirstStage::frame(0x1000, 0) == Gpa{0x1000});
  CHECK(FirstStage::frame(0x201000, 1) == Gpa{0x200000});
  CHECK(FirstStage::page_shift(0) == 12);
  CHECK(FirstStage::page_shift(1) == 21);
  CHECK(FirstStage::page_shift(2) == 30);
}

TEST_CASE("the slot of a first-stage address is one of 512 in its table, the same for both halves",
          "[walkers][first stage][GPT-4]") {
  CHECK(FirstStage::slot({0x5000}, {0}, 0) == Gpa{0x5000});
  CHECK(FirstStage::slot({0x5000}, {0x1FF000}, 0) == Gpa{0x5FF8});
  CHECK(FirstStage::slot({0x5000}, {0x200000}, 1) == Gpa{0x5008});
  CHECK(FirstStage::slot({0x5000}, {~std::uint64_t{0}}, 3) == Gpa{0x5FF8});
  CHECK(FirstStage::slot({0x5000}, {0xFFFF'8000'0000'0000}, 3) == Gpa{0x5800});
  CHECK(FirstStage::slot({0x5000}, {0xFF00'0000'0000'0000}, 4) == Gpa{0x5800});
  std::uint64_t seen = 0;  // the levels take all bits above the page, each once
  for (unsigned level = 0; level < first_stage_levels; ++level) {
    for (unsigned number = 12; number < 57; ++number) {
      if (FirstStage::slot({0}, {bit(number)}, level) == Gpa{0}) continue;
      CHECK((seen & bit(number)) == 0);
      seen |= bit(number);
    }
  }
  CHECK(seen == (low_bits(57) & ~low_bits(12)));
}

TEST_CASE("an address is canonical when the bits above its tables' all equal their highest",
          "[walkers][first stage][B30]") {
  for (const unsigned levels : {4U, 5U}) {
    const unsigned width = levels == 4 ? 48 : 57;
    const FirstStage format{{}, {.levels = levels}};
    for (const std::uint64_t low : {std::uint64_t{0}, low_bits(width - 1), std::uint64_t{0x1234'5678'9ABC}}) {
      CHECK(format.is_canonical({low}));
      CHECK(format.is_canonical({low | ~low_bits(width - 1)}));
      for (unsigned number = width - 1; number < 64; ++number) {
        CHECK_FALSE(format.is_canonical({low | bit(number)}));
        CHECK_FALSE(format.is_canonical({(low | ~low_bits(width - 1)) & ~bit(number)}));
      }
    }
  }
}

TEST_CASE("flags of a first-stage entry: A always, EA where enabled, D in a leaf that is written",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags]") {
  const FirstStage plain{{}, {}};
  const FirstStage extended{{}, {.extended_accessed = true}};
  CHECK(plain.flags(EntryKind::table, false) == 0x20);
  CHECK(plain.flags(EntryKind::table, true) == 0x20);
  CHECK(plain.flags(EntryKind::leaf, false) == 0x20);
  CHECK(plain.flags(EntryKind::leaf, true) == 0x60);
  CHECK(extended.flags(EntryKind::table, true) == 0x420);
  CHECK(extended.flags(EntryKind::leaf, false) == 0x420);
  CHECK(extended.flags(EntryKind::leaf, true) == 0x460);
  CHECK(FirstStage::is_dirty(0x40));
  CHECK_FALSE(FirstStage::is_dirty(~std::uint64_t{0x40}));
}

TEST_CASE("the walk that only looks follows first-stage tables too", "[walkers][first stage]") {
  test::ArrayMemory memory{5};
  memory[0x1000] = 0x2007;
  memory[0x2000] = 0x3005;
  memory[0x3000] = 0x4007;
  memory[0x4008] = 0x9007;
  const FirstStage format{{}, {}};
  const Walk walked = walk(format, memory, Gpa{0x1000}, format.top_level(), Iova{0x1234});
  CHECK(walked.end == WalkEnd::leaf);
  CHECK(walked.frame == Gpa{0x9000});
  CHECK(walked.rights == read_only);
  CHECK(memory[0x1000] == 0x2007);
}

}  // namespace viommu::walkers
