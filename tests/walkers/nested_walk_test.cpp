// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk through first-stage tables behind a second stage: which address is translated by which stage, where the walk
// ends, what it grants, and what it leaves in the tables of both.
#include "walkers/nested_walk.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/walkers/logged_memory.hpp"

namespace viommu::walkers {
namespace {

using test::LoggedMemory;
using test::MemoryAccess;

constexpr std::uint64_t present = 1;
constexpr std::uint64_t user = 4;
constexpr std::uint64_t readable = 1;
constexpr std::uint64_t writable = 2;  // at the same place in both stages
constexpr std::uint64_t large = 0x80;  // so is this
constexpr std::uint64_t first_accessed = 0x20;
constexpr std::uint64_t first_dirty = 0x40;
constexpr std::uint64_t first_rights = present | writable | user;
constexpr std::uint64_t second_accessed = 0x100;
constexpr std::uint64_t second_dirty = 0x200;
constexpr std::uint64_t second_rights = readable | writable;
constexpr std::uint64_t nowhere = 0x4'0000'0000;
constexpr unsigned second_levels = 4;

/// First-stage tables one behind the other, the top one at `root`, each in a page of its own; the page they lead to at
/// `page`. All of these are inputs of the second stage, which keeps each under a top-level entry of its own, so that no
/// two share an entry, and maps it to somewhere else.
struct Nest {
  static constexpr std::uint64_t second_root = 0x100000;
  static constexpr std::uint64_t input_of(unsigned number) { return (number + 1) * (std::uint64_t{1} << 39) | 0x15000; }

  explicit Nest(unsigned depth, unsigned first_leaf = 0, unsigned second_leaf = 0)
      : levels{depth}, leaf{first_leaf}, page_leaf{second_leaf} {
    iova = levels == 4 ? Iova{0x0000'3C3D'E6F7'8912} : Iova{0x00A5'BC3D'E6F7'8912};
    memory.words.add_ram(second_root, 0x100000);
    memory.words.add_ram(0x800000, 0x10000);
    for (unsigned level = levels; level-- > leaf;) {
      map(first_table(level), place(level), 0);
      const std::uint64_t next = level > leaf ? first_table(level - 1) : page() | (leaf > 0 ? large : 0);
      set_first(level, next | first_rights | first_accessed);
    }
    map(page() + (iova.value & low_bits(12 + 9 * leaf)), frame(), page_leaf);
    memory.log.clear();
  }

  // Inputs of the second stage.
  [[nodiscard]] std::uint64_t first_table(unsigned level) const { return input_of(level); }
  [[nodiscard]] std::uint64_t page() const { return input_of(7) & ~low_bits(12 + 9 * leaf); }
  // What it makes of them.
  [[nodiscard]] std::uint64_t place(unsigned level) const { return 0x800000 + std::uint64_t{level} * 0x1000; }
  [[nodiscard]] std::uint64_t frame() const { return std::uint64_t{0x15000} << (9 * page_leaf); }

  /// The slot of a first-stage entry, where it lies.
  [[nodiscard]] std::uint64_t first_slot(unsigned level) const {
    return place(level) + 8 * (iova.value >> (12 + 9 * level) & 0x1FF);
  }
  [[nodiscard]] std::uint64_t first(unsigned level) const { return memory[first_slot(level)]; }
  void set_first(unsigned level, std::uint64_t value) const {
    REQUIRE(memory.words.store_u64(first_slot(level), value));
  }
  /// The slots of the second-stage entries for an input, from the top down.
  [[nodiscard]] std::vector<std::uint64_t> second_slots(std::uint64_t input) const {
    std::vector<std::uint64_t> slots;
    std::uint64_t table = second_root;
    for (unsigned level = second_levels; level-- > 0;) {
      slots.push_back(table + 8 * (input >> (12 + 9 * level) & 0x1FF));
      const std::uint64_t entry = memory[slots.back()];
      if ((entry & large) != 0) break;
      table = entry & 0x000F'FFFF'FFFF'F000;
    }
    return slots;
  }
  /// The slots for the address of a first-stage entry, and those for the page.
  [[nodiscard]] std::vector<std::uint64_t> way_to(unsigned level) const { return second_slots(first_table(level)); }
  [[nodiscard]] std::vector<std::uint64_t> way_to_page() const {
    return second_slots(page() + (iova.value & low_bits(12 + 9 * leaf)));
  }
  void set_bits(std::uint64_t slot, std::uint64_t bits) const {
    REQUIRE(memory.words.store_u64(slot, memory[slot] | bits));
  }
  void clear_bits(std::uint64_t slot, std::uint64_t bits) const {
    REQUIRE(memory.words.store_u64(slot, memory[slot] & ~bits));
  }
  void map(std::uint64_t input, std::uint64_t to, unsigned level) {
    std::uint64_t table = second_root;
    for (unsigned at = second_levels - 1; at > level; --at) {
      const std::uint64_t slot = table + 8 * (input >> (12 + 9 * at) & 0x1FF);
      if (memory[slot] == 0) {
        REQUIRE(memory.words.store_u64(slot, next_second_table | second_rights));
        next_second_table += 0x1000;
      }
      table = memory[slot] & 0x000F'FFFF'FFFF'F000;
    }
    const std::uint64_t slot = table + 8 * (input >> (12 + 9 * level) & 0x1FF);
    REQUIRE(memory.words.store_u64(slot, to | second_rights | (level > 0 ? large : 0)));
  }
  /// Sets A everywhere, and D in each second-stage leaf: then nothing is left to be set but by the request itself.
  void set_second_flags() const {
    for (unsigned level = leaf; level < levels; ++level) {
      for (const std::uint64_t slot : way_to(level)) set_bits(slot, second_accessed);
      set_bits(way_to(level).back(), second_dirty);
    }
    for (const std::uint64_t slot : way_to_page()) set_bits(slot, second_accessed);
  }

  [[nodiscard]] FirstStageRequest request(Rights asked) const {
    return {{first_table(levels - 1)}, iova, asked, Privilege::user, false};
  }
  [[nodiscard]] NestedStages stages() {
    controls.levels = levels;
    return {FirstStage{rules, controls},
            SecondStage{second_rules},
            second_controls,
            {second_root},
            second_levels - 1,
            input_width};
  }
  NestedAnswer walk(const FirstStageRequest& request) {
    memory.log.clear();
    const NestedAnswer answer = walk_nested(stages(), memory, request);
    // What an answer says of its work is what it did.
    CHECK(answer.loads == memory.count(MemoryAccess::load));
    CHECK(answer.exchanges == memory.count(MemoryAccess::exchange));
    CHECK(answer.updates == std::ranges::count_if(memory.log, [](const MemoryAccess& access) {
            return access.kind == MemoryAccess::exchange && access.outcome == Exchange::done;
          }));
    if (answer.end != NestedEnd::leaf) {
      CHECK(answer.frame == Gpa{});
      CHECK_FALSE(answer.dirty);
    }
    return answer;
  }
  NestedAnswer walk(Rights asked) { return walk(request(asked)); }

  unsigned levels;
  unsigned leaf;
  unsigned page_leaf;
  Iova iova;
  std::uint64_t next_second_table = second_root + 0x1000;
  unsigned input_width = 48;
  LoggedMemory memory;
  FirstStageRules rules;
  FirstStageControls controls;
  SecondStageRules second_rules;
  SecondStageControls second_controls;
};

}  // namespace

TEST_CASE("each address of a nested walk goes through the second stage once, and no answer of it goes through again",
          "[walkers][nested][Nested Translation][B37][SEC-2]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  Nest nest{levels, leaf};
  std::vector<std::uint64_t> expected;
  for (unsigned level = levels; level-- > leaf;) {
    for (const std::uint64_t slot : nest.way_to(level)) expected.push_back(slot);
    expected.push_back(nest.first_slot(level));
  }
  for (const std::uint64_t slot : nest.way_to_page()) expected.push_back(slot);
  const NestedAnswer answer = nest.walk(read_only);
  CHECK(answer.end == NestedEnd::leaf);
  std::vector<std::uint64_t> loaded;
  loaded.reserve(nest.memory.log.size());
  for (const MemoryAccess& access : nest.memory.log) loaded.push_back(access.gpa);
  CHECK(loaded == expected);
  CHECK(answer.loads == (levels - leaf) * (second_levels + 1) + second_levels);
}

TEST_CASE("a nested page is as large as the smaller of its two leaves, and lies where both lead",
          "[walkers][nested][Nested Translation][B31]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned first = GENERATE(0U, 1U, 2U);
  const unsigned second = GENERATE(0U, 1U, 2U);
  Nest nest{levels, first, second};
  const NestedAnswer answer = nest.walk(read_only);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.level == std::min(first, second));
  CHECK(answer.rights == read_write);
  // The offset in the page of the first stage is part of the second one's input, and its offset part of the answer.
  const std::uint64_t input = nest.page() + (nest.iova.value & low_bits(12 + 9 * first));
  const std::uint64_t byte = nest.frame() + (input & low_bits(12 + 9 * second));
  CHECK(answer.frame.value == (byte & ~low_bits(12 + 9 * std::min(first, second))));
}

TEST_CASE("what the first stage says of a request is said in a nested walk too", "[walkers][nested][B30][RVM-7]") {
  Nest nest{4};
  nest.rules.host_address_width = 50;
  FirstStageRequest request = nest.request(read_only);
  request.execute = true;
  CHECK(nest.walk(request).end == NestedEnd::execute_blocked);
  request.execute = false;
  request.privilege = Privilege::supervisor;
  CHECK(nest.walk(request).end == NestedEnd::supervisor_blocked);
  request.privilege = Privilege::user;
  request.iova.value |= std::uint64_t{1} << 47;
  CHECK(nest.walk(request).end == NestedEnd::not_canonical);
  CHECK(nest.walk(request).level == 3);
  CHECK(nest.memory.log.empty());
  for (unsigned level = 0; level < 4; ++level) {
    const std::uint64_t good = nest.first(level);
    const auto walk_with = [&](std::uint64_t entry, Rights asked) {
      nest.set_first(level, entry);
      const NestedAnswer answer = nest.walk(asked);
      CHECK(answer.level ==
            (answer.end == NestedEnd::user_denied || answer.end == NestedEnd::write_denied ? 0 : level));
      CHECK(answer.rights == (answer.end == NestedEnd::write_denied ? read_only : Rights{}));
      return answer.end;
    };
    CHECK(walk_with(good & ~present, read_only) == NestedEnd::absent);
    CHECK(walk_with(good | std::uint64_t{1} << 50, read_only) == NestedEnd::malformed);
    CHECK(walk_with(good & ~user, read_only) == NestedEnd::user_denied);
    CHECK(walk_with(good & ~writable, write_only) == NestedEnd::write_denied);
    nest.set_first(level, good);
  }
}

TEST_CASE("an address in a first-stage entry that is beyond the second stage is a fault of its own",
          "[walkers][nested][Nested Translation][B38]") {
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    for (unsigned level = leaf; level < 4; ++level) {
      CAPTURE(leaf, level);
      Nest nest{4, leaf};
      nest.second_rules.host_address_width = nest.rules.host_address_width = 50;
      // 48 bits: the second stage's tables; then fewer: MGAW.
      for (const unsigned width : {48U, 47U}) {
        nest.input_width = width;
        const std::uint64_t good = nest.first(level);
        nest.set_first(level, good | std::uint64_t{1} << (width - 1));  // the highest bit there is: something is absent
        CHECK(nest.walk(read_only).end == NestedEnd::second_absent);
        nest.set_first(level, good | std::uint64_t{1} << width);
        CHECK(nest.walk(read_only).end == NestedEnd::address_out_of_range);
        CHECK(nest.walk(read_only).level == level);
        nest.set_first(level, good | std::uint64_t{1} << 49);
        CHECK(nest.walk(read_only).end == NestedEnd::address_out_of_range);
        // Neither a missing right comes first nor a flag is set; a reserved bit does come first, and P clear.
        const std::uint64_t bare = (good | std::uint64_t{1} << 49) & ~(user | first_accessed);
        nest.set_first(level, bare);
        CHECK(nest.walk(write_only).end == NestedEnd::address_out_of_range);
        CHECK(nest.first(level) == bare);
        nest.set_first(level, bare | std::uint64_t{1} << 50);
        CHECK(nest.walk(read_only).end == NestedEnd::malformed);
        nest.set_first(level, bare & ~present);
        CHECK(nest.walk(read_only).end == NestedEnd::absent);
        nest.set_first(level, good);
      }
    }
  }
}

TEST_CASE("a first-stage root beyond the second stage ends the walk before everything else",
          "[walkers][nested][Nested Translation][B38]") {
  Nest nest{4};
  for (const unsigned width : {48U, 47U}) {
    nest.input_width = width;
    FirstStageRequest request = nest.request(read_only);
    request.root = {low_bits(width)};  // the last address there is; its page offset does not count
    CHECK(nest.walk(request).end == NestedEnd::second_absent);
    request.root = {std::uint64_t{1} << width};
    CHECK(nest.walk(request).end == NestedEnd::root_out_of_range);
    CHECK(nest.walk(request).level == 3);
    request.execute = true;
    CHECK(nest.walk(request).end == NestedEnd::root_out_of_range);
    CHECK(nest.memory.log.empty());
  }
}

TEST_CASE("a first-stage entry that the second stage does not let be read is told by its level, for any request",
          "[walkers][nested][Nested Translation]") {
  const unsigned levels = GENERATE(4U, 5U);
  for (unsigned level = 0; level < levels; ++level) {
    const NestedEnd denied = level == levels - 1 ? NestedEnd::top_entry_denied : NestedEnd::entry_denied;
    for (std::size_t denying = 0; denying < second_levels; ++denying) {
      CAPTURE(levels, level, denying);
      for (const Rights asked : {read_only, write_only}) {
        Nest nest{levels};
        nest.clear_bits(nest.way_to(level).at(denying), readable);
        NestedAnswer answer = nest.walk(asked);
        CHECK(answer.end == denied);
        CHECK(answer.level == level);
        CHECK(answer.rights.none());
        nest.set_bits(nest.way_to(level).at(denying), readable);
        // To look at an entry is a write too where the second stage has flags, and only there.
        nest.clear_bits(nest.way_to(level).at(denying), writable);
        CHECK(nest.walk(read_only).end == NestedEnd::leaf);
        nest.second_controls.flags = true;
        answer = nest.walk(asked);
        CHECK(answer.end == denied);
        CHECK(answer.level == level);
      }
    }
  }
}

TEST_CASE("other trouble in the second stage keeps its own reason, on the way to an entry and to the page",
          "[walkers][nested][Nested Translation][B35]") {
  constexpr unsigned levels = 4;
  for (unsigned target = 0; target <= levels; ++target) {  // `levels` is the page
    for (std::size_t at = 0; at < second_levels; ++at) {
      CAPTURE(target, at);
      const auto walk = [&](const std::function<void(Nest&, std::uint64_t slot)>& spoil) {
        Nest nest{levels};
        nest.set_second_flags();
        nest.second_controls.flags = true;
        const std::uint64_t slot = (target == levels ? nest.way_to_page() : nest.way_to(target)).at(at);
        spoil(nest, slot);
        const NestedAnswer answer = nest.walk(read_only);
        CHECK(answer.level == target % levels);
        CHECK(answer.rights.none());
        return answer.end;
      };
      CHECK(walk([](Nest& nest, std::uint64_t slot) { nest.clear_bits(slot, second_rights); }) ==
            NestedEnd::second_absent);
      CHECK(walk([](Nest& nest, std::uint64_t slot) { nest.set_bits(slot, std::uint64_t{1} << 62); }) ==
            NestedEnd::second_malformed);
      CHECK(walk([](Nest& nest, std::uint64_t slot) {
              nest.clear_bits(slot, second_accessed);
              nest.controls.snooped = nest.second_controls.snooped = false;
            }) == NestedEnd::second_not_snooped);
      CHECK(walk([](Nest& nest, std::uint64_t slot) {
              nest.clear_bits(slot, second_accessed);
              nest.memory.read_only = true;
            }) == NestedEnd::second_update_failed);
      if (at + 1 == second_levels) continue;  // the others lead to tables
      CHECK(walk([](Nest& nest, std::uint64_t slot) {
              REQUIRE(nest.memory.words.store_u64(slot, nowhere | second_rights | second_accessed));
            }) == NestedEnd::second_unreadable);
    }
  }
  Nest nest{levels};
  NestedStages stages = nest.stages();
  stages.second_root = {nowhere};
  const NestedAnswer answer = walk_nested(stages, nest.memory, nest.request(read_only));
  CHECK(answer.end == NestedEnd::second_top_unreadable);
  CHECK(answer.level == levels - 1);
}

TEST_CASE("a first-stage table that the second stage maps to no memory is one that cannot be read",
          "[walkers][nested][B35]") {
  for (unsigned level = 0; level < 4; ++level) {
    Nest nest{4};
    REQUIRE(nest.memory.words.store_u64(nest.way_to(level).back(), nowhere | second_rights));
    const NestedAnswer answer = nest.walk(read_only);
    CHECK(answer.end == (level == 3 ? NestedEnd::top_unreadable : NestedEnd::unreadable));
    CHECK(answer.level == level);
  }
}

TEST_CASE("the page needs what is asked in both stages, and is granted what both grant",
          "[walkers][nested][Access Rights][RVM-7]") {
  const unsigned first_leaf = GENERATE(0U, 1U);
  const unsigned second_leaf = GENERATE(0U, 1U);
  for (unsigned second = 1; second < 4; ++second) {  // R and W of the second stage
    for (const bool first_writable : {false, true}) {
      for (const Rights asked : {Rights{}, read_only, write_only, read_write}) {
        CAPTURE(second, first_writable, asked.read(), asked.write());
        Nest nest{4, first_leaf, second_leaf};
        nest.clear_bits(nest.way_to_page().back(), second_rights & ~std::uint64_t{second});
        if (!first_writable) nest.clear_bits(nest.first_slot(first_leaf), writable);
        const NestedAnswer answer = nest.walk(asked);
        const bool may_read = second % 2 == 1;
        const bool may_write = second / 2 == 1;
        const Rights granted{may_read, may_write && first_writable};
        if (asked.write() && !first_writable) {
          REQUIRE(answer.end == NestedEnd::write_denied);  // the second stage of the page is not looked at any more
          REQUIRE(answer.rights == read_only);             // what the first one grants
          continue;
        }
        REQUIRE(answer.end == (asked.read() && !may_read     ? NestedEnd::read_denied
                               : asked.write() && !may_write ? NestedEnd::write_denied
                               : granted.none()              ? NestedEnd::read_denied
                                                             : NestedEnd::leaf));
        REQUIRE(answer.rights == granted);
        REQUIRE(answer.level == std::min(first_leaf, second_leaf));
      }
    }
  }
}

TEST_CASE("a supervisor's rights in the first stage are joined with those of the second",
          "[walkers][nested][Access Rights]") {
  Nest nest{4};
  nest.clear_bits(nest.first_slot(1), writable | user);
  FirstStageRequest request = nest.request(read_write);
  request.privilege = Privilege::supervisor;
  nest.controls.supervisor = true;
  CHECK(nest.walk(request).end == NestedEnd::leaf);
  CHECK(nest.walk(request).rights == read_write);
  nest.controls.write_protect = true;
  CHECK(nest.walk(request).end == NestedEnd::write_denied);
  request.asked = read_only;
  CHECK(nest.walk(request).rights == read_only);
  nest.controls.write_protect = false;
  nest.clear_bits(nest.way_to_page().at(1), writable);
  CHECK(nest.walk(request).rights == read_only);
}

TEST_CASE("a nested walk sets the flags of both stages, each in its own entries",
          "[walkers][nested][Accessed, Extended Accessed, and Dirty Flags][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U);
  const bool second_flags = GENERATE(false, true);
  const Rights asked = GENERATE(read_only, write_only, read_write);
  Nest nest{levels, leaf};
  nest.second_controls.flags = second_flags;
  for (unsigned level = leaf; level < levels; ++level) nest.clear_bits(nest.first_slot(level), first_accessed);
  NestedAnswer answer = nest.walk(asked);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.dirty == asked.write());
  const unsigned entries = levels - leaf;
  CHECK(answer.updates == entries + (second_flags ? (entries + 1) * second_levels : 0));
  for (unsigned level = leaf; level < levels; ++level) {
    CHECK((nest.first(level) & (first_accessed | first_dirty)) ==
          (first_accessed | (level == leaf && asked.write() ? first_dirty : 0)));
    const std::vector<std::uint64_t> way = nest.way_to(level);
    for (const std::uint64_t slot : way)
      CHECK((nest.memory[slot] & second_accessed) == (second_flags ? second_accessed : 0));
    // With flags, looking at an entry is a write to the page it lies in.
    CHECK((nest.memory[way.back()] & second_dirty) == (second_flags ? second_dirty : 0));
  }
  const std::vector<std::uint64_t> way = nest.way_to_page();
  for (const std::uint64_t slot : way)
    CHECK((nest.memory[slot] & second_accessed) == (second_flags ? second_accessed : 0));
  CHECK((nest.memory[way.back()] & second_dirty) == (second_flags && asked.write() ? second_dirty : 0));
  // They stay, and are written once.
  answer = nest.walk(asked);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.exchanges == 0);
  CHECK(answer.dirty == asked.write());
}

TEST_CASE("a nested page is dirty when no stage has D left to set", "[walkers][nested][A/D]") {
  for (const bool first : {false, true}) {
    for (const bool second : {false, true}) {
      for (const bool flags : {false, true}) {
        Nest nest{4};
        nest.second_controls.flags = flags;
        if (first) nest.set_bits(nest.first_slot(0), first_dirty);
        if (second) nest.set_bits(nest.way_to_page().back(), second_dirty);
        CHECK(nest.walk(read_only).dirty == (first && (second || !flags)));
      }
    }
  }
}

TEST_CASE("a first-stage flag is set only where the second stage lets its entry be written",
          "[walkers][nested][Nested Translation][Accessed, Extended Accessed, and Dirty Flags]") {
  for (unsigned level = 0; level < 4; ++level) {
    for (std::size_t denying = 0; denying < second_levels; ++denying) {
      Nest nest{4};
      nest.clear_bits(nest.way_to(level).at(denying), writable);
      CHECK(nest.walk(read_only).end == NestedEnd::leaf);  // nothing to set
      nest.clear_bits(nest.first_slot(level), first_accessed);
      const std::uint64_t before = nest.first(level);
      NestedAnswer answer = nest.walk(read_only);
      CHECK(answer.end == NestedEnd::update_denied);
      CHECK(answer.level == level);
      CHECK(answer.exchanges == 0);
      CHECK(nest.first(level) == before);
      // Where walks are not snooped that is told first.
      nest.controls.snooped = false;
      CHECK(nest.walk(read_only).end == NestedEnd::not_snooped);
      // A denied request needs no flag.
      nest.clear_bits(nest.first_slot(3), user);
      CHECK(nest.walk(read_only).end == NestedEnd::user_denied);
    }
    Nest nest{4};
    nest.clear_bits(nest.first_slot(level), first_accessed);
    nest.memory.read_only = true;
    CHECK(nest.walk(read_only).end == NestedEnd::update_failed);
    CHECK(nest.walk(read_only).level == level);
  }
}

TEST_CASE("a page that the second stage denies leaves its own flags as they were",
          "[walkers][nested][Accessed, Extended Accessed, and Dirty Flags]") {
  Nest nest{4};
  nest.set_second_flags();
  nest.second_controls.flags = true;
  const std::uint64_t slot = nest.way_to_page().back();
  nest.clear_bits(slot, writable | second_accessed);
  const std::uint64_t before = nest.memory[slot];
  CHECK(nest.walk(write_only).end == NestedEnd::write_denied);
  CHECK(nest.memory[slot] == before);
  CHECK((nest.first(0) & first_dirty) != 0);  // the first stage was done with
}

TEST_CASE("a lost exchange on a first-stage entry loads that entry once more, where it lies",
          "[walkers][nested][P4][SEC-2]") {
  for (unsigned level = 0; level < 4; ++level) {
    for (unsigned losses = 0; losses < 10; ++losses) {
      CAPTURE(level, losses);
      Nest nest{4};
      nest.clear_bits(nest.first_slot(level), first_accessed);
      std::uint64_t note = 0;
      nest.memory.before_exchange = [&](std::uint64_t gpa) {
        REQUIRE(gpa == nest.first_slot(level));
        if (note == losses) return;
        ++note;
        nest.set_first(level, (nest.first(level) & low_bits(52)) | note << 52);
      };
      const NestedAnswer answer = nest.walk(read_only);
      if (losses < 8) {
        CHECK(answer.end == NestedEnd::leaf);
        // The second pass has translated the top entry already if that is where the first one ended.
        const unsigned again = losses < 4 ? 0 : (3 - level) * (second_levels + 1) + (level == 3 ? 0 : second_levels);
        CHECK(answer.loads == 5 * second_levels + 4 + losses + again);
        CHECK(nest.first(level) >> 52 == losses);  // and none of the guest's writes is undone
      } else {
        CHECK(answer.end == NestedEnd::update_failed);
        CHECK(answer.level == level);
        CHECK(answer.exchanges == 8);
        CHECK((nest.first(level) & first_accessed) == 0);
      }
    }
  }
}

TEST_CASE("a walk goes on where its entry was found, though the second stage has changed meanwhile",
          "[walkers][nested][P4][SEC-2]") {
  Nest nest{4};
  nest.clear_bits(nest.first_slot(1), first_accessed);
  const std::uint64_t way = nest.way_to(1).back();
  nest.memory.before_exchange = [&](std::uint64_t) {
    REQUIRE(nest.memory.words.store_u64(way, nest.place(9) | second_rights));  // an empty page
  };
  const NestedAnswer answer = nest.walk(read_only);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK((nest.first(1) & first_accessed) != 0);  // at the old place, of which the copy was
}

TEST_CASE("losing everywhere and for ever in both stages is 480 loads and 480 exchanges at most",
          "[walkers][nested][SEC-4][P5]") {
  // The worst: three losses on each entry, four on the last of a first pass, and nothing that was won lasts.
  const bool to_page =
      GENERATE(false, true);  // whether the last exchange of the first stage is won, and a page follows
  constexpr std::uint64_t second = 0x100000;
  constexpr std::uint64_t first = 0x200000;
  constexpr std::uint64_t depth = 5;
  LoggedMemory memory;
  memory.words.add_ram(second, depth * 0x1000);
  memory.words.add_ram(first, depth * 0x1000);
  for (std::uint64_t slot = 0; slot < 512; ++slot) {
    for (std::uint64_t table = second; table < second + 0x4000; table += 0x1000)
      REQUIRE(memory.words.store_u64(table + 8 * slot, (table + 0x1000) | second_rights));
    REQUIRE(memory.words.store_u64(second + 0x4000 + 8 * slot, (first + (slot << 12)) | second_rights));
  }
  for (std::uint64_t table = first; table < first + depth * 0x1000; table += 0x1000)
    REQUIRE(memory.words.store_u64(table, (table + 0x1000) | first_rights));
  unsigned on_first = 0;
  unsigned on_second = 0;
  memory.before_exchange = [&](std::uint64_t gpa) {
    unsigned& exchanges = gpa < first ? on_second : on_first;
    ++exchanges;
    const bool ends_a_pass = exchanges % 40 == 20 || (gpa >= first && exchanges == 40 && !to_page);
    const bool wins = exchanges % 4 == 0 && !ends_a_pass;
    if (!wins) static_cast<void>(memory.words.store_u64(gpa, memory[gpa] ^ std::uint64_t{1} << 60));
  };
  memory.before_load = [&](std::uint64_t gpa) {
    const std::uint64_t flags = gpa < first ? second_accessed | second_dirty : first_accessed;
    static_cast<void>(memory.words.store_u64(gpa, memory[gpa] & ~flags));
  };
  FirstStageControls controls;
  controls.levels = depth;
  const NestedStages stages{
      FirstStage{{}, controls}, SecondStage{SecondStageRules{}}, {.flags = true}, {second}, 4, 57};
  const NestedAnswer answer = walk_nested(stages, memory, {{first}, {0}, read_write, Privilege::user, false});
  CHECK(answer.end == (to_page ? NestedEnd::leaf : NestedEnd::update_failed));
  CHECK(answer.level == 0);
  CHECK(on_first == 40);
  CHECK(answer.loads == (to_page ? 480 : 440));
  CHECK(answer.exchanges == answer.loads);
  CHECK(answer.updates == (to_page ? 11 * 9 + 9 : 10 * 9 + 8));
}

TEST_CASE("first-stage tables that point at themselves end a nested walk at its last level",
          "[walkers][nested][SEC-4][SEC-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  LoggedMemory memory;  // both stages are one page, and every entry of it leads there
  memory.words.add_ram(0x1000, 0x1000);
  for (std::uint64_t at = 0x1000; at < 0x2000; at += 8)
    REQUIRE(memory.words.store_u64(at, 0x1000 | first_rights | first_accessed));
  FirstStageControls controls;
  controls.levels = levels;
  const NestedStages stages{FirstStage{{}, controls}, SecondStage{SecondStageRules{}}, {}, {0x1000}, 3, 48};
  const NestedAnswer answer = walk_nested(stages, memory, {{0x1000}, {0}, read_only, Privilege::user, false});
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.level == 0);
  CHECK(answer.frame == Gpa{0x1000});
  CHECK(answer.loads == 4 + levels + 4);  // the one entry that is looked at again and again keeps its place
}

TEST_CASE("whoever knows where first-stage tables lie answers for them, and for them alone", "[walkers][nested]") {
  Nest nest{4};
  nest.second_controls.flags = GENERATE(false, true);
  nest.set_second_flags();
  const NestedStages stages = nest.stages();
  const NestedAnswer usual = nest.walk(read_only);
  std::vector<std::uint64_t> asked;
  const auto known = [&](const SecondStageRequest& table) noexcept {
    asked.push_back(table.iova.value);
    SecondStageAnswer answer;
    for (unsigned level = 0; level < 4; ++level) {
      if (table.iova.value >> 12 != nest.first_table(level) >> 12) continue;
      answer.end = SecondStageEnd::leaf;
      answer.rights = table.asked;
      answer.frame = {nest.place(level)};
    }
    return answer;
  };
  nest.memory.log.clear();
  const NestedAnswer answer = walk_nested(stages, nest.memory, nest.request(read_only), known);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.frame == usual.frame);
  CHECK(asked.size() == 4);
  CHECK(answer.loads == 4 + second_levels);
  CHECK(answer.loads == nest.memory.count(MemoryAccess::load));
  // What it refuses ends the walk.
  const auto refuses = [](const SecondStageRequest&) noexcept { return SecondStageAnswer{}; };
  CHECK(walk_nested(stages, nest.memory, nest.request(read_only), refuses).end == NestedEnd::second_absent);
}

TEST_CASE("nested tables in mapped memory are written there", "[walkers][nested][SEC-14]") {
  test::GuardedRegion ram{0x1000, 0x8000};
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{0x1000}, {0x8FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  // The second stage is three tables at 0x1000; it maps input pages 0 to 4 to 0x4000 and up, and the first stage is the
  // first four of these.
  ram.store_u64(0x1000, 0x2000 | second_rights);
  ram.store_u64(0x2000, 0x3000 | second_rights);
  for (std::uint64_t page = 0; page < 5; ++page) {
    ram.store_u64(0x3000 + 8 * page, (0x4000 + page * 0x1000) | second_rights);
    if (page < 4) ram.store_u64(0x4000 + page * 0x1000, (page + 1) * 0x1000 | first_rights);
  }
  const NestedStages stages{FirstStage{{}, {}}, SecondStage{SecondStageRules{}}, {.flags = true}, {0x1000}, 2, 39};
  const FirstStageRequest request{{0}, {0x123}, read_write, Privilege::user, false};
  const NestedAnswer answer = walk_nested(stages, memory.view(), request);
  CHECK(answer.end == NestedEnd::leaf);
  CHECK(answer.frame == Gpa{0x8000});
  CHECK(answer.dirty);
  CHECK(ram.load_u64(0x7000) == (0x4000 | first_rights | first_accessed | first_dirty));
  CHECK(ram.load_u64(0x3020) == (0x8000 | second_rights | second_accessed | second_dirty));
  CHECK(walk_nested(stages, memory, request).exchanges == 0);  // memory itself, without a view
  RegionMap::destroy({}, memory.publish(nullptr));
}

}  // namespace viommu::walkers
