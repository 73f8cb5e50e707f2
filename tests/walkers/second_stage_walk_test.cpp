// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk through second-stage tables that have accessed and dirty flags: where it ends, what it grants, and what it
// leaves in the tables.
#include "walkers/second_stage_walk.hpp"

#include <algorithm>
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

constexpr std::uint64_t readable = 1;
constexpr std::uint64_t writable = 2;
constexpr std::uint64_t large = 0x80;
constexpr std::uint64_t accessed = 0x100;
constexpr std::uint64_t dirty = 0x200;
constexpr std::uint64_t all_rights = readable | writable;
/// Whatever software keeps in an entry and no walk may lose: X, EMT, IPAT, bits 10 and 61:52, and bit 63.
constexpr std::uint64_t ignored = 0xBFF0'0000'0000'047C;
constexpr std::uint64_t root = 0x1000;
constexpr std::uint64_t nowhere = 0x4000'0000;

/// A tree of one path. Table pages one behind the other: the top one at `root`, the next at 0x2000, ...
struct Path {
  explicit Path(unsigned depth, unsigned leaf_level = 0, std::uint64_t bits = all_rights)
      : levels{depth}, leaf{leaf_level}, frame{std::uint64_t{0x5000} << (9 * leaf_level)} {
    iova = {0x00A5'BC3D'E6F7'8912 & low_bits(12 + 9 * depth)};
    memory.words.add_ram(0, 0x8000);
    for (unsigned level = levels - 1; level > leaf; --level) set(level, table(level - 1) | bits);
    set(leaf, frame | bits | (leaf > 0 ? large : 0));
  }
  [[nodiscard]] std::uint64_t table(unsigned level) const { return root + std::uint64_t{levels - 1 - level} * 0x1000; }
  [[nodiscard]] std::uint64_t slot(unsigned level) const {
    return table(level) + 8 * (iova.value >> (12 + 9 * level) & 0x1FF);
  }
  [[nodiscard]] std::uint64_t entry(unsigned level) const { return memory[slot(level)]; }
  void set(unsigned level, std::uint64_t value) const { REQUIRE(memory.words.store_u64(slot(level), value)); }
  void set_bits(unsigned level, std::uint64_t bits) const { set(level, entry(level) | bits); }
  void clear_bits(unsigned level, std::uint64_t bits) const { set(level, entry(level) & ~bits); }
  [[nodiscard]] std::vector<std::uint64_t> entries() const {
    std::vector<std::uint64_t> all;
    for (unsigned level = leaf; level < levels; ++level) all.push_back(entry(level));
    return all;
  }
  [[nodiscard]] SecondStageRequest request(Rights asked) const { return {{root}, iova, asked, levels - 1}; }
  SecondStageAnswer walk(const SecondStageRequest& request) {
    memory.log.clear();
    const SecondStageAnswer answer = walk_second_stage(SecondStage{rules}, controls, memory, request);
    // What an answer says of its work is what it did.
    CHECK(answer.loads == memory.count(MemoryAccess::load));
    CHECK(answer.exchanges == memory.count(MemoryAccess::exchange));
    CHECK(answer.loads <= 8U * levels);
    CHECK(answer.exchanges <= 8U * levels);
    CHECK(answer.updates == std::ranges::count_if(memory.log, [](const MemoryAccess& access) {
            return access.kind == MemoryAccess::exchange && access.outcome == Exchange::done;
          }));
    return answer;
  }
  SecondStageAnswer walk(Rights asked) { return walk(request(asked)); }

  unsigned levels;
  unsigned leaf;
  Iova iova;
  std::uint64_t frame;
  LoggedMemory memory;
  SecondStageRules rules;
  SecondStageControls controls{.flags = true};
};

}  // namespace

TEST_CASE("a second-stage walk with flags ends at the leaf of its address, of every size and at each depth",
          "[walkers][second stage][Second-Stage Translation][GPT-4][SEC-2][SEC-4][B31][RVM-7]") {
  const unsigned levels = GENERATE(3U, 4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const bool flags = GENERATE(false, true);
  Path path{levels, leaf, all_rights | (flags ? accessed : 0)};
  path.controls.flags = flags;
  SecondStageRequest request = path.request(read_only);
  request.root = {root + 0xFF8};  // the low bits of the entry that names the root are no address
  const SecondStageAnswer answer = path.walk(request);
  CHECK(answer.end == SecondStageEnd::leaf);
  CHECK(answer.level == leaf);
  CHECK(answer.frame == Gpa{path.frame});
  CHECK(answer.rights == read_write);
  CHECK(answer.dirty == !flags);       // where there are no flags, none has to be set before a write
  std::vector<MemoryAccess> expected;  // one load a level, and nothing else where all flags are set, or off
  for (unsigned level = levels; level-- > leaf;)
    expected.push_back({MemoryAccess::load, path.slot(level), path.entry(level), 0, Exchange::done});
  CHECK(path.memory.log == expected);
}

TEST_CASE("a second-stage walk with flags says at which level it ended, and why",
          "[walkers][second stage][B35][RVM-7]") {
  const unsigned levels = GENERATE(3U, 4U, 5U);
  for (unsigned level = 0; level < levels; ++level) {
    CAPTURE(levels, level);
    Path path{levels, 0, all_rights | accessed | ignored};
    CHECK(path.walk(read_only).end == SecondStageEnd::leaf);
    const std::uint64_t good = path.entry(level);
    path.set(level, good & ~all_rights);
    SecondStageAnswer answer = path.walk(read_only);
    CHECK(answer.end == SecondStageEnd::absent);
    CHECK(answer.level == level);
    CHECK(answer.rights.none());
    path.set(level, good | std::uint64_t{1} << 62);
    answer = path.walk(read_only);
    CHECK(answer.end == SecondStageEnd::malformed);
    CHECK(answer.level == level);
    CHECK(answer.rights.none());
    if (level == 0) continue;
    path.set(level, nowhere | all_rights | accessed);
    answer = path.walk(read_only);
    CHECK(answer.end == SecondStageEnd::unreadable);
    CHECK(answer.level == level - 1);
    CHECK(answer.rights.none());
  }
  Path path{levels};
  SecondStageRequest request = path.request(read_only);
  request.root = {nowhere};
  CHECK(path.walk(request).end == SecondStageEnd::top_unreadable);
  CHECK(path.walk(request).level == levels - 1);
}

TEST_CASE("a right needs its bit in every entry, a path without any is absent, and what is asked decides between them",
          "[walkers][second stage][Access Rights][RVM-7]") {
  constexpr unsigned levels = 3;
  for (unsigned combination = 0; combination < 64; ++combination) {  // R and W of each of three entries
    Path path{levels};
    unsigned common = 3;
    bool some_absent = false;
    for (unsigned level = 0; level < levels; ++level) {
      const unsigned rights = combination >> (2 * level) & 3;
      path.set(level, (path.entry(level) & ~all_rights) | rights);
      common &= rights;
      some_absent = some_absent || rights == 0;
    }
    for (const Rights asked : {Rights{}, read_only, write_only, read_write}) {
      CAPTURE(combination, asked.read(), asked.write());
      const std::vector<std::uint64_t> before = path.entries();
      const SecondStageAnswer answer = path.walk(asked);
      const bool may_read = common % 2 == 1;
      const bool may_write = common / 2 == 1;
      const bool lacks_read = asked.read() && !may_read;
      const bool lacks_write = asked.write() && !may_write;
      REQUIRE(answer.end == (common == 0   ? SecondStageEnd::absent
                             : lacks_read  ? SecondStageEnd::read_denied
                             : lacks_write ? SecondStageEnd::write_denied
                                           : SecondStageEnd::leaf));
      REQUIRE(answer.rights == Rights{may_read, may_write});
      if (!some_absent) REQUIRE(answer.level == 0);
      if (answer.end != SecondStageEnd::leaf) REQUIRE(path.entry(0) == before.front());
    }
  }
}

TEST_CASE("an absent or malformed second-stage entry is told before a right that is missing above it",
          "[walkers][second stage][RVM-7]") {
  for (unsigned level = 0; level < 3; ++level) {
    for (const std::uint64_t left : {readable, std::uint64_t{0}}) {
      Path path{4};
      path.clear_bits(3, writable);
      if (left == 0) path.clear_bits(2, readable);  // then no right is left on the way
      CHECK(path.walk(write_only).end == (left == 0 ? SecondStageEnd::absent : SecondStageEnd::write_denied));
      CHECK(path.walk(write_only).level == 0);
      path.set_bits(level, std::uint64_t{1} << 62);
      CHECK(path.walk(write_only).end == SecondStageEnd::malformed);
      CHECK(path.walk(write_only).level == level);
      path.clear_bits(level, all_rights);
      CHECK(path.walk(write_only).end == SecondStageEnd::absent);
      CHECK(path.walk(write_only).level == level);
    }
  }
}

TEST_CASE("in a second stage a read sets A in each entry, a write D in the leaf as well, and nothing else changes",
          "[walkers][second stage][Accessed, Extended Accessed, and Dirty Flags][RVM-7]") {
  const unsigned levels = GENERATE(3U, 4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const Rights asked = GENERATE(Rights{}, read_only, write_only, read_write);
  const bool flags = GENERATE(false, true);
  Path path{levels, leaf, all_rights | ignored};
  path.controls.flags = flags;
  std::vector<std::uint64_t> expected = path.entries();
  if (flags) {
    for (std::uint64_t& entry : expected) entry |= accessed;
    if (asked.write()) expected[0] |= dirty;
  }
  SecondStageAnswer answer = path.walk(asked);
  CHECK(answer.end == SecondStageEnd::leaf);
  CHECK(path.entries() == expected);
  CHECK(answer.dirty == (asked.write() || !flags));
  CHECK(answer.wrote_dirty == (asked.write() && flags));
  CHECK(answer.updates == (flags ? levels - leaf : 0));  // A and D of an entry are one step
  CHECK(answer.exchanges == answer.updates);
  // They stay, and are written once.
  answer = path.walk(asked);
  CHECK(answer.end == SecondStageEnd::leaf);
  CHECK(answer.exchanges == 0);
  CHECK(answer.dirty == (asked.write() || !flags));
  CHECK_FALSE(answer.wrote_dirty);
  CHECK(path.walk(read_only).dirty == (asked.write() || !flags));
  CHECK(path.entries() == expected);
}

TEST_CASE("each second-stage flag that is missing is set alone, and D of a table is none",
          "[walkers][second stage][Accessed, Extended Accessed, and Dirty Flags]") {
  Path path{4, 0, all_rights | accessed};
  SecondStageAnswer answer = path.walk(write_only);
  CHECK(answer.updates == 1);
  CHECK(answer.wrote_dirty);
  for (unsigned level = 0; level < 4; ++level) {
    path.clear_bits(level, accessed);
    answer = path.walk(read_only);
    CHECK(answer.updates == 1);
    CHECK_FALSE(answer.wrote_dirty);
    CHECK(answer.dirty);
    CHECK((path.entry(level) & accessed) != 0);
    CHECK((path.entry(level) & dirty) == (level == 0 ? dirty : 0));
  }
}

TEST_CASE("a request that a second stage denies leaves all from the denying entry on as it was",
          "[walkers][second stage][Accessed, Extended Accessed, and Dirty Flags]") {
  for (unsigned denying = 0; denying < 4; ++denying) {
    for (const std::uint64_t missing : {readable, writable}) {
      Path path{4};
      path.clear_bits(denying, missing);
      const std::vector<std::uint64_t> before = path.entries();
      const SecondStageAnswer answer = path.walk(read_write);
      CHECK(answer.end == (missing == readable ? SecondStageEnd::read_denied : SecondStageEnd::write_denied));
      CHECK_FALSE(answer.wrote_dirty);
      CHECK(answer.updates == 3 - denying);
      for (unsigned level = 0; level < 4; ++level)
        CHECK(path.entry(level) == (before.at(level) | (level > denying ? accessed : 0)));
    }
  }
}

TEST_CASE("a second-stage entry that is absent or malformed is never written, nor anything below it",
          "[walkers][second stage][Accessed, Extended Accessed, and Dirty Flags]") {
  for (unsigned level = 0; level < 4; ++level) {
    for (const bool malformed : {false, true}) {
      Path path{4};
      if (malformed) path.set_bits(level, std::uint64_t{1} << 62);
      if (!malformed) path.clear_bits(level, all_rights);
      const std::vector<std::uint64_t> before = path.entries();
      const SecondStageAnswer answer = path.walk(write_only);
      CHECK(answer.end == (malformed ? SecondStageEnd::malformed : SecondStageEnd::absent));
      CHECK(answer.level == level);
      for (unsigned at = 0; at <= level; ++at) CHECK(path.entry(at) == before.at(at));
    }
  }
}

TEST_CASE("a second-stage flag that is needed where walks are not snooped is a fault, one that is there is none",
          "[walkers][second stage][Accessed, Extended Accessed, and Dirty Flags]") {
  Path path{4, 0, all_rights | accessed};
  path.controls.snooped = false;
  CHECK(path.walk(read_only).end == SecondStageEnd::leaf);
  SecondStageAnswer answer = path.walk(write_only);
  CHECK(answer.end == SecondStageEnd::not_snooped);
  CHECK(answer.level == 0);
  CHECK(answer.exchanges == 0);
  CHECK(answer.rights.none());
  path.set_bits(0, dirty);
  CHECK(path.walk(write_only).end == SecondStageEnd::leaf);
  path.clear_bits(2, accessed);
  answer = path.walk(read_only);
  CHECK(answer.end == SecondStageEnd::not_snooped);
  CHECK(answer.level == 2);
  // Neither a denied request nor a tree without flags needs one.
  path.clear_bits(3, writable);
  CHECK(path.walk(write_only).end == SecondStageEnd::write_denied);
  path.controls.flags = false;
  CHECK(path.walk(read_only).end == SecondStageEnd::leaf);
}

TEST_CASE("a second-stage flag that cannot be written ends the walk, and nothing is written",
          "[walkers][second stage][SEC-14]") {
  for (unsigned level = 0; level < 4; ++level) {
    Path path{4, 0, all_rights | accessed};
    path.memory.read_only = true;
    CHECK(path.walk(read_only).end == SecondStageEnd::leaf);
    path.clear_bits(level, accessed);
    const std::vector<std::uint64_t> before = path.entries();
    const SecondStageAnswer answer = path.walk(read_only);
    CHECK(answer.end == SecondStageEnd::update_failed);
    CHECK(answer.level == level);
    CHECK(answer.exchanges == 1);
    CHECK(answer.updates == 0);
    CHECK(answer.rights.none());
    CHECK(path.entries() == before);
  }
}

TEST_CASE("second-stage tables in mapped memory are written there, those in a read-only region never",
          "[walkers][second stage][SEC-14]") {
  const bool is_read_only = GENERATE(false, true);
  test::GuardedRegion ram{0x1000, 0x3000};
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{0x1000}, {0x3FFF}}, ram.data(), is_read_only});
  static_cast<void>(memory.publish(map));
  for (std::uint64_t table = 0x1000; table <= 0x3000; table += 0x1000) ram.store_u64(table, (table + 0x1000) | 3);
  const SecondStage format{SecondStageRules{}};
  const SecondStageControls controls{.flags = true};
  const SecondStageRequest request{{0x1000}, {0x123}, read_write, 2};
  SecondStageAnswer answer = walk_second_stage(format, controls, memory.view(), request);
  if (is_read_only) {
    CHECK(answer.end == SecondStageEnd::update_failed);
    CHECK(answer.level == 2);
    CHECK(ram.load_u64(0x1000) == (0x2000 | all_rights));
  } else {
    CHECK(answer.end == SecondStageEnd::leaf);
    CHECK(answer.updates == 3);
    CHECK(ram.load_u64(0x1000) == (0x2000 | all_rights | accessed));
    CHECK(ram.load_u64(0x3000) == (0x4000 | all_rights | accessed | dirty));
  }
  answer = walk_second_stage(format, controls, memory, request);  // memory itself, without a view
  CHECK(answer.exchanges == (is_read_only ? 1 : 0));
  RegionMap::destroy({}, memory.publish(nullptr));
}

TEST_CASE("a lost exchange in a second stage loads that entry once more and decides on what is there now",
          "[walkers][second stage][P4][SEC-2]") {
  const unsigned levels = GENERATE(3U, 5U);
  const unsigned level = GENERATE(0U, 1U, 2U);
  constexpr std::uint64_t note = std::uint64_t{1} << 55;  // an ignored bit
  Path path{levels};
  bool once = false;
  std::function<void()> change;
  path.memory.before_exchange = [&](std::uint64_t gpa) {
    if (gpa != path.slot(level) || once) return;
    once = true;
    change();
  };
  SecondStageAnswer answer;
  SECTION("another bit of it: the flags are set beside it") {
    change = [&] { path.set_bits(level, note); };
    answer = path.walk(write_only);
    CHECK(answer.end == SecondStageEnd::leaf);
    CHECK(answer.loads == levels + 1);
    CHECK(answer.exchanges == levels + 1);
    CHECK((path.entry(level) & (note | accessed)) == (note | accessed));
  }
  SECTION("someone else set the flags: nothing is left to do") {
    change = [&] { path.set_bits(level, accessed | dirty); };
    answer = path.walk(write_only);
    CHECK(answer.end == SecondStageEnd::leaf);
    CHECK(answer.exchanges == levels);
    CHECK(answer.updates == levels - 1);
    CHECK(answer.wrote_dirty == (level != 0));
    CHECK(answer.dirty);
  }
  SECTION("the entry is gone") {
    change = [&] { path.clear_bits(level, all_rights); };
    answer = path.walk(write_only);
    CHECK(answer.end == SecondStageEnd::absent);
    CHECK(answer.level == level);
    CHECK((path.entry(level) & accessed) == 0);
  }
  SECTION("a right is gone") {
    change = [&] { path.clear_bits(level, writable); };
    answer = path.walk(write_only);
    CHECK(answer.end == SecondStageEnd::write_denied);
    CHECK(answer.rights == read_only);
    CHECK((path.entry(level) & accessed) == 0);
    CHECK((path.entry(0) & dirty) == 0);
  }
  SECTION("a right that was missing above stays missing") {
    // The re-read entry is judged with the entries above it, not alone.
    if (level + 1 < levels) {
      path.clear_bits(level + 1, writable);
      change = [&] { path.set_bits(level, note); };
      answer = path.walk(read_only);
      CHECK(answer.end == SecondStageEnd::leaf);
      CHECK(answer.rights == read_only);
    }
  }
  SECTION("it leads elsewhere") {
    REQUIRE(path.memory.words.store_u64(0x7000 + path.slot(0) % 0x1000, 0x9000 | all_rights));
    change = [&] { path.set(level, (level == 0 ? 0x9000 : 0x7000) | all_rights); };
    answer = path.walk(write_only);
    if (level <= 1) CHECK(answer.frame == Gpa{0x9000});
    if (level > 1) CHECK(answer.end == SecondStageEnd::absent);  // that page has an entry for level 0 alone
    if (level == 1) CHECK((path.memory[path.slot(0)] & (accessed | dirty)) == 0);  // the old way is not followed
  }
  SECTION("the memory is gone") {
    change = [&] { path.memory.words.remove_ram(path.table(level), 0x1000); };
    answer = path.walk(write_only);
    CHECK(answer.end == SecondStageEnd::update_failed);
    CHECK(answer.level == level);
  }
}

TEST_CASE("four losses on a second-stage entry begin the walk again, and eight are the end",
          "[walkers][second stage][P4][SEC-4]") {
  const unsigned levels = GENERATE(3U, 5U);
  const unsigned level = GENERATE(0U, 1U, 2U);
  const unsigned losses = GENERATE(range(0U, 12U));
  CAPTURE(levels, level, losses);
  Path path{levels};
  std::uint64_t note = 0;
  path.memory.before_exchange = [&](std::uint64_t gpa) {  // another ignored value each time: the copy is out of date
    if (gpa != path.slot(level) || note == losses) return;
    ++note;
    path.set(level, (path.entry(level) & low_bits(52)) | note << 52);
  };
  const SecondStageAnswer answer = path.walk(write_only);
  const unsigned above = levels - 1 - level;
  const auto at_slot = std::ranges::count_if(path.memory.log, [&](const MemoryAccess& access) {
    return access.kind == MemoryAccess::exchange && access.gpa == path.slot(level);
  });
  if (losses < 8) {
    CHECK(answer.end == SecondStageEnd::leaf);
    CHECK(answer.loads == levels + losses + (losses >= 4 ? above : 0));
    CHECK(at_slot == losses + 1);
    CHECK(path.entry(level) >> 52 == losses);  // and none of the guest's writes is undone
    CHECK((path.entry(0) & dirty) != 0);
  } else {
    CHECK(answer.end == SecondStageEnd::update_failed);
    CHECK(answer.level == level);
    CHECK(answer.loads == 2 * above + 8);
    CHECK(at_slot == 8);
    CHECK((path.entry(level) & (accessed | dirty)) == 0);
    CHECK(answer.rights.none());
  }
}

TEST_CASE("a second-stage walk that begins again has forgotten the rights it met before",
          "[walkers][second stage][P4]") {
  Path path{4};
  path.clear_bits(3, writable);
  unsigned losses = 0;
  path.memory.before_exchange = [&](std::uint64_t gpa) {
    if (gpa != path.slot(1) || losses == 4) return;
    path.set(1, path.entry(1) ^ std::uint64_t{1} << 55);
    if (++losses == 4) path.set_bits(3, writable);
  };
  const SecondStageAnswer answer = path.walk(read_only);
  CHECK(losses == 4);
  CHECK(answer.end == SecondStageEnd::leaf);
  CHECK(answer.rights == read_write);
}

TEST_CASE("losing everywhere and for ever in a second stage is 40 loads and 40 exchanges at most",
          "[walkers][second stage][SEC-4][P5]") {
  // The worst: three losses on each entry, four on the last, and all of it twice.
  Path path{5};
  unsigned exchanges = 0;
  path.memory.before_exchange = [&](std::uint64_t gpa) {
    ++exchanges;
    const bool wins = exchanges % 4 == 0 && gpa != path.slot(0);
    if (!wins) static_cast<void>(path.memory.words.store_u64(gpa, path.memory[gpa] ^ std::uint64_t{1} << 60));
  };
  path.memory.before_load = [&](std::uint64_t gpa) {  // and nothing that was won lasts
    static_cast<void>(path.memory.words.store_u64(gpa, path.memory[gpa] & ~accessed));
  };
  const SecondStageAnswer answer = path.walk(write_only);
  CHECK(answer.end == SecondStageEnd::update_failed);
  CHECK(answer.level == 0);
  CHECK(answer.loads == 40);
  CHECK(answer.exchanges == 40);
  CHECK(answer.updates == 8);
  CHECK_FALSE(answer.wrote_dirty);
}

TEST_CASE("second-stage tables that point at themselves end the walk with flags at its last level",
          "[walkers][second stage][SEC-4][SEC-7]") {
  const unsigned levels = GENERATE(3U, 4U, 5U);
  Path path{levels};
  for (std::uint64_t at = root; at < root + 0x1000; at += 8)
    REQUIRE(path.memory.words.store_u64(at, root | all_rights));
  SecondStageRequest request = path.request(write_only);
  for (const Iova iova : {path.iova, Iova{0}, Iova{low_bits(12 + 9 * levels)}}) {
    request.iova = iova;
    const SecondStageAnswer answer = path.walk(request);
    CHECK(answer.end == SecondStageEnd::leaf);
    CHECK(answer.level == 0);
    CHECK(answer.loads == levels);
    CHECK(answer.frame == Gpa{root});
  }
}

}  // namespace viommu::walkers
