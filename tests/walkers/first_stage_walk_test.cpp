// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk through first-stage tables at a time: where it ends, what it grants, and what it leaves in the tables.
#include "walkers/first_stage_walk.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/walkers/logged_memory.hpp"

namespace viommu::walkers {
namespace {

using test::LoggedMemory;
using test::MemoryAccess;

constexpr std::uint64_t present = 1;
constexpr std::uint64_t writable = 2;
constexpr std::uint64_t user = 4;
constexpr std::uint64_t accessed = 0x20;
constexpr std::uint64_t dirty = 0x40;
constexpr std::uint64_t large = 0x80;
constexpr std::uint64_t extended = 0x400;
constexpr std::uint64_t all_rights = present | writable | user;
/// Whatever software keeps in an entry and no walk may lose: PWT, PCD, G, bits 9, 11 and 62:52, and XD.
constexpr std::uint64_t ignored = 0xFFF0'0000'0000'0B18;
constexpr std::uint64_t root = 0x1000;
constexpr std::uint64_t nowhere = 0x4000'0000;

constexpr Iova iova_of(unsigned levels) {
  return levels == 4 ? Iova{0x0000'3C3D'E6F7'8912} : Iova{0x00A5'BC3D'E6F7'8912};
}

/// A tree of one path. Table pages one behind the other: the top one at `root`, the next at 0x2000, ...
struct Path {
  explicit Path(unsigned depth, unsigned leaf_level = 0, std::uint64_t bits = all_rights)
      : levels{depth}, leaf{leaf_level}, iova{iova_of(depth)}, frame{std::uint64_t{0x5000} << (9 * leaf_level)} {
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
  [[nodiscard]] FirstStageRequest request(Rights asked, Privilege privilege = Privilege::user) const {
    return {{root}, iova, asked, privilege, false};
  }
  FirstStageAnswer walk(const FirstStageRequest& request) {
    controls.levels = levels;
    memory.log.clear();
    const FirstStageAnswer answer = walk_first_stage(FirstStage{rules, controls}, memory, request);
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
  FirstStageAnswer walk(Rights asked, Privilege privilege = Privilege::user) { return walk(request(asked, privilege)); }

  unsigned levels;
  unsigned leaf;
  Iova iova;
  std::uint64_t frame;
  LoggedMemory memory;
  FirstStageRules rules;
  FirstStageControls controls;
};

}  // namespace

TEST_CASE("a first-stage walk ends at the leaf of its address, of every size and at both depths",
          "[walkers][first stage][First-Stage Translation][GPT-4][SEC-2][SEC-4][B31][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  Path path{levels, leaf, all_rights | accessed};
  const FirstStageAnswer answer = path.walk(read_only);
  CHECK(answer.end == FirstStageEnd::leaf);
  CHECK(answer.level == leaf);
  CHECK(answer.frame == Gpa{path.frame});
  CHECK(answer.rights == read_write);
  CHECK(answer.user);
  CHECK(answer.writable);
  CHECK_FALSE(answer.dirty);
  std::vector<MemoryAccess> expected;  // one load a level, and nothing else where all flags are set
  for (unsigned level = levels; level-- > leaf;)
    expected.push_back({MemoryAccess::load, path.slot(level), path.entry(level), 0, Exchange::done});
  CHECK(path.memory.log == expected);
}

TEST_CASE("an address that is not canonical ends before the tables, at both depths and from both halves",
          "[walkers][first stage][B30][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned width = levels == 4 ? 48 : 57;
  Path path{levels};
  FirstStageRequest request = path.request(read_only);
  request.iova = {path.iova.value | std::uint64_t{1} << (width - 1)};  // the highest bit not copied upwards
  CHECK(path.walk(request).end == FirstStageEnd::not_canonical);
  request.iova = {path.iova.value | std::uint64_t{1} << 63};
  CHECK(path.walk(request).end == FirstStageEnd::not_canonical);
  CHECK(path.walk(request).level == levels - 1);
  CHECK(path.memory.log.empty());
  // The upper half leads to the upper half of the top table.
  request.iova = {~low_bits(width - 1) | path.iova.value};
  const std::uint64_t upper_slot = path.slot(levels - 1) + 0x800;
  REQUIRE(path.memory.words.store_u64(upper_slot, path.entry(levels - 1)));
  CHECK(path.walk(request).end == FirstStageEnd::leaf);
  CHECK(path.memory.log.front().gpa == upper_slot);
}

TEST_CASE("a first-stage walk says at which level it ended, and why", "[walkers][first stage][B35][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  for (unsigned level = 0; level < levels; ++level) {
    CAPTURE(levels, level);
    Path path{levels, 0, all_rights | accessed | ignored};
    CHECK(path.walk(read_only).end == FirstStageEnd::leaf);
    const std::uint64_t good = path.entry(level);
    path.set(level, good & ~present);
    FirstStageAnswer answer = path.walk(read_only);
    CHECK(answer.end == FirstStageEnd::absent);
    CHECK(answer.level == level);
    CHECK(answer.loads == levels - level);
    CHECK(answer.rights.none());
    path.rules.host_address_width = 46;
    path.set(level, good | std::uint64_t{1} << 46);
    answer = path.walk(read_only);
    CHECK(answer.end == FirstStageEnd::malformed);
    CHECK(answer.level == level);
    path.set(level, (good | std::uint64_t{1} << 46) & ~present);
    CHECK(path.walk(read_only).end == FirstStageEnd::absent);
    if (level == 0) continue;
    path.set(level, nowhere | all_rights | accessed);
    answer = path.walk(read_only);
    CHECK(answer.end == FirstStageEnd::unreadable);
    CHECK(answer.level == level - 1);
  }
  Path path{levels};
  FirstStageRequest request = path.request(read_only);
  request.root = {nowhere};
  CHECK(path.walk(request).end == FirstStageEnd::top_unreadable);
  CHECK(path.walk(request).level == levels - 1);
  request.root = {root + 0xFF8};  // the low bits of the entry that names the root are no address
  CHECK(path.walk(request).end == FirstStageEnd::leaf);
}

TEST_CASE("1 GiB pages are a capability and 2 MiB pages are not", "[walkers][first stage][B24]") {
  Path path{4, 2};
  path.rules.pages_1g = false;
  CHECK(path.walk(read_only).end == FirstStageEnd::malformed);
  CHECK(path.walk(read_only).level == 2);
  Path smaller{4, 1};
  smaller.rules.pages_1g = false;
  CHECK(smaller.walk(read_only).end == FirstStageEnd::leaf);
}

TEST_CASE("execute requests end before the tables, and XD counts for nothing", "[walkers][first stage][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  Path path{levels};
  path.controls.supervisor = true;
  FirstStageRequest request = path.request(read_only, GENERATE(Privilege::user, Privilege::supervisor));
  request.execute = true;
  CHECK(path.walk(request).end == FirstStageEnd::execute_blocked);
  CHECK(path.walk(request).rights.none());
  CHECK(path.memory.log.empty());
  request.execute = false;
  for (unsigned level = 0; level < levels; ++level) path.set_bits(level, std::uint64_t{1} << 63);
  CHECK(path.walk(request).end == FirstStageEnd::leaf);
}

TEST_CASE("supervisor requests end before the tables unless they are enabled", "[walkers][first stage][RVM-7]") {
  Path path{4, 0, present | writable};  // U/S clear everywhere
  CHECK(path.walk(read_only, Privilege::supervisor).end == FirstStageEnd::supervisor_blocked);
  CHECK(path.walk(read_only, Privilege::supervisor).rights.none());
  CHECK(path.memory.log.empty());
  path.controls.supervisor = true;
  CHECK(path.walk(read_only, Privilege::supervisor).end == FirstStageEnd::leaf);
  CHECK(path.walk(read_only).end == FirstStageEnd::user_denied);
}

TEST_CASE("users need U/S in every entry, writes R/W in every entry, supervisors the second with WPE alone",
          "[walkers][first stage][Access Rights][RVM-7]") {
  constexpr unsigned levels = 4;
  for (unsigned combination = 0; combination < 256; ++combination) {  // R/W and U/S of each of four entries
    bool all_user = true;
    bool all_writable = true;
    Path path{levels};
    for (unsigned level = 0; level < levels; ++level) {
      const bool is_user = (combination >> (2 * level) & 1) != 0;
      const bool is_writable = (combination >> (2 * level) & 2) != 0;
      if (!is_user) path.clear_bits(level, user);
      if (!is_writable) path.clear_bits(level, writable);
      all_user = all_user && is_user;
      all_writable = all_writable && is_writable;
    }
    path.controls.supervisor = true;
    for (const bool write_protect : {false, true}) {
      path.controls.write_protect = write_protect;
      for (const Rights asked : {read_only, write_only, read_write}) {
        const FirstStageAnswer for_user = path.walk(asked);
        const bool may_write = all_user && all_writable;
        REQUIRE(for_user.end == (!all_user                     ? FirstStageEnd::user_denied
                                 : asked.write() && !may_write ? FirstStageEnd::write_denied
                                                               : FirstStageEnd::leaf));
        REQUIRE(for_user.rights == Rights{all_user, may_write});
        const FirstStageAnswer privileged = path.walk(asked, Privilege::supervisor);
        const bool supervisor_writes = !write_protect || all_writable;
        REQUIRE(privileged.end ==
                (asked.write() && !supervisor_writes ? FirstStageEnd::write_denied : FirstStageEnd::leaf));
        REQUIRE(privileged.rights == Rights{true, supervisor_writes});
        for (const FirstStageAnswer& answer : {for_user, privileged}) {
          REQUIRE(answer.user == all_user);
          REQUIRE(answer.writable == all_writable);
          REQUIRE(answer.level == 0);
        }
      }
    }
  }
}

TEST_CASE("an absent or malformed entry is told before a right that is missing above it, and U/S before R/W",
          "[walkers][first stage][RVM-7]") {
  for (unsigned level = 0; level < 3; ++level) {
    Path path{4};
    path.clear_bits(3, user | writable);
    CHECK(path.walk(write_only).end == FirstStageEnd::user_denied);
    path.clear_bits(level, present);
    CHECK(path.walk(write_only).end == FirstStageEnd::absent);
    path.set_bits(level, present);
    path.rules.host_address_width = 46;
    path.set_bits(level, std::uint64_t{1} << 50);
    CHECK(path.walk(write_only).end == FirstStageEnd::malformed);
  }
}

TEST_CASE("a read sets A in each entry, a write D in the leaf as well, and nothing else changes",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags][RVM-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const bool extended_accessed = GENERATE(false, true);
  const Rights asked = GENERATE(read_only, write_only, read_write);
  Path path{levels, leaf, all_rights | ignored};
  path.controls.extended_accessed = extended_accessed;
  std::vector<std::uint64_t> expected = path.entries();
  for (std::uint64_t& entry : expected) entry |= accessed | (extended_accessed ? extended : 0);
  if (asked.write()) expected[0] |= dirty;
  FirstStageAnswer answer = path.walk(asked);
  CHECK(answer.end == FirstStageEnd::leaf);
  CHECK(path.entries() == expected);
  CHECK(answer.dirty == asked.write());
  CHECK(answer.wrote_dirty == asked.write());
  CHECK(answer.updates == levels - leaf);  // A, EA and D of an entry are one step
  CHECK(answer.exchanges == levels - leaf);
  // They stay, and are written once.
  answer = path.walk(asked);
  CHECK(answer.end == FirstStageEnd::leaf);
  CHECK(answer.exchanges == 0);
  CHECK(answer.dirty == asked.write());
  CHECK_FALSE(answer.wrote_dirty);
  CHECK(path.walk(read_only).dirty == asked.write());
  CHECK(path.entries() == expected);
}

TEST_CASE("each flag that is missing is set alone, and those there stay",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags]") {
  Path path{4, 0, all_rights | accessed};
  path.controls.extended_accessed = true;
  for (unsigned level = 0; level < 4; ++level) path.set_bits(level, extended);
  FirstStageAnswer answer = path.walk(write_only);
  CHECK(answer.updates == 1);
  CHECK(answer.wrote_dirty);
  for (unsigned level = 0; level < 4; ++level) {
    for (const std::uint64_t flag : {accessed, extended}) {
      path.clear_bits(level, flag);
      answer = path.walk(read_only);
      CHECK(answer.updates == 1);
      CHECK_FALSE(answer.wrote_dirty);
      CHECK(answer.dirty);
      CHECK((path.entry(level) & (accessed | extended)) == (accessed | extended));
    }
  }
  CHECK((path.entry(0) & dirty) != 0);
  // D of a table is ignored, and EA is none of ours where it is not enabled.
  CHECK((path.entry(1) & dirty) == 0);
  path.controls.extended_accessed = false;
  path.clear_bits(1, extended);
  CHECK(path.walk(read_only).exchanges == 0);
}

TEST_CASE("a request that is denied leaves the leaf and all below the denying entry as they were",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags]") {
  for (unsigned denying = 0; denying < 4; ++denying) {
    for (const std::uint64_t missing : {user, writable}) {
      Path path{4};
      path.clear_bits(denying, missing);
      const std::vector<std::uint64_t> before = path.entries();
      const FirstStageAnswer answer = path.walk(read_write);
      CHECK(answer.end == (missing == user ? FirstStageEnd::user_denied : FirstStageEnd::write_denied));
      CHECK_FALSE(answer.wrote_dirty);
      CHECK(answer.updates == 3 - denying);
      for (unsigned level = 0; level < 4; ++level)
        CHECK(path.entry(level) == (before.at(level) | (level > denying ? accessed : 0)));
    }
  }
}

TEST_CASE("an entry that is absent or malformed is never written, nor anything below it",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags]") {
  for (unsigned level = 0; level < 4; ++level) {
    for (const bool malformed : {false, true}) {
      Path path{4};
      path.rules.host_address_width = 46;
      if (malformed) path.set_bits(level, std::uint64_t{1} << 51);
      if (!malformed) path.clear_bits(level, present);
      const std::vector<std::uint64_t> before = path.entries();
      const FirstStageAnswer answer = path.walk(write_only);
      CHECK(answer.end == (malformed ? FirstStageEnd::malformed : FirstStageEnd::absent));
      CHECK(answer.level == level);
      for (unsigned at = 0; at <= level; ++at) CHECK(path.entry(at) == before.at(at));
    }
  }
}

TEST_CASE("a flag that is needed where walks are not snooped is a fault, one that is there is none",
          "[walkers][first stage][Accessed, Extended Accessed, and Dirty Flags]") {
  Path path{4, 0, all_rights | accessed};
  path.controls.snooped = false;
  CHECK(path.walk(read_only).end == FirstStageEnd::leaf);
  FirstStageAnswer answer = path.walk(write_only);
  CHECK(answer.end == FirstStageEnd::not_snooped);
  CHECK(answer.level == 0);
  CHECK(answer.exchanges == 0);
  CHECK(answer.rights.none());
  path.set_bits(0, dirty);
  CHECK(path.walk(write_only).end == FirstStageEnd::leaf);
  path.controls.extended_accessed = true;
  answer = path.walk(read_only);
  CHECK(answer.end == FirstStageEnd::not_snooped);
  CHECK(answer.level == 3);
  // A denied request needs none.
  path.controls.extended_accessed = false;
  path.clear_bits(3, writable);
  path.clear_bits(1, accessed);
  CHECK(path.walk(write_only).end == FirstStageEnd::write_denied);
}

TEST_CASE("a flag that cannot be written ends the walk, and nothing is written", "[walkers][first stage][SEC-14]") {
  for (unsigned level = 0; level < 4; ++level) {
    Path path{4, 0, all_rights | accessed};
    path.memory.read_only = true;
    CHECK(path.walk(read_only).end == FirstStageEnd::leaf);
    path.clear_bits(level, accessed);
    const std::vector<std::uint64_t> before = path.entries();
    const FirstStageAnswer answer = path.walk(read_only);
    CHECK(answer.end == FirstStageEnd::update_failed);
    CHECK(answer.level == level);
    CHECK(answer.exchanges == 1);
    CHECK(answer.updates == 0);
    CHECK(answer.rights.none());
    CHECK(path.entries() == before);
  }
}

TEST_CASE("tables in mapped memory are written there, those in a read-only region never, behind callbacks by callback",
          "[walkers][first stage][SEC-14]") {
  constexpr std::array<std::uint64_t, 4> tables{0x1000, 0x2000, 0x3000, 0x4000};
  test::SparseMemory behind;
  MemoryCallbacks callbacks;
  callbacks.opaque = &behind;
  callbacks.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
    return static_cast<test::SparseMemory*>(self)->read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
  };
  callbacks.compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected, std::uint64_t desired) {
    auto& words = *static_cast<test::SparseMemory*>(self);
    const std::optional<std::uint64_t> found = words.load_u64(gpa);
    if (!found) return -1;
    if (*found == *expected) return words.store_u64(gpa, desired) ? 0 : -1;
    *expected = *found;
    return 1;
  };
  const FirstStage format{{}, {}};
  const FirstStageRequest request{{tables[0]}, {0x123}, read_write, Privilege::user, false};
  enum class Kind : std::uint8_t { mapped, read_only_region, behind_callbacks };
  for (const Kind kind : {Kind::mapped, Kind::read_only_region, Kind::behind_callbacks}) {
    test::GuardedRegion ram{0x1000, 0x4000};
    GuestMemory memory{callbacks};
    RegionMap* const map = RegionMap::create({}, 1);
    REQUIRE(map != nullptr);
    if (kind == Kind::behind_callbacks) {
      behind.add_ram(0x1000, 0x4000);
    } else {
      map->assign_with(nullptr, {{{0x1000}, {0x4FFF}}, ram.data(), kind == Kind::read_only_region});
    }
    static_cast<void>(memory.publish(map));
    const auto word = [&](std::uint64_t gpa) { return memory.load_u64({gpa}).value(); };
    for (std::size_t i = 0; i < tables.size(); ++i) {
      const std::uint64_t next = i + 1 < tables.size() ? tables.at(i + 1) : 0x9000;
      ram.store_u64(tables.at(i), next | all_rights);
      static_cast<void>(behind.store_u64(tables.at(i), next | all_rights));
    }
    FirstStageAnswer answer = walk_first_stage(format, memory.view(), request);
    if (kind == Kind::read_only_region) {
      CHECK(answer.end == FirstStageEnd::update_failed);
      CHECK(answer.level == 3);
      CHECK(word(0x1000) == (0x2000 | all_rights));
    } else {
      CHECK(answer.end == FirstStageEnd::leaf);
      CHECK(answer.updates == 4);
      CHECK(word(0x1000) == (0x2000 | all_rights | accessed));
      CHECK(word(0x4000) == (0x9000 | all_rights | accessed | dirty));
    }
    answer = walk_first_stage(format, memory, request);  // memory itself, without a view
    CHECK(answer.exchanges == (kind == Kind::read_only_region ? 1 : 0));
    RegionMap::destroy({}, memory.publish(nullptr));
  }
}

TEST_CASE("a lost exchange loads that entry once more and decides on what is there now",
          "[walkers][first stage][P4][SEC-2]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned level = GENERATE(0U, 1U, 2U, 3U);
  constexpr std::uint64_t note = std::uint64_t{1} << 55;  // an ignored bit
  Path path{levels};
  bool once = false;
  std::function<void()> change;
  path.memory.before_exchange = [&](std::uint64_t gpa) {
    if (gpa != path.slot(level) || once) return;
    once = true;
    change();
  };
  FirstStageAnswer answer;
  SECTION("another bit of it: the flags are set beside it") {
    change = [&] { path.set_bits(level, note); };
    answer = path.walk(write_only);
    CHECK(answer.end == FirstStageEnd::leaf);
    CHECK(answer.loads == levels + 1);
    CHECK(answer.exchanges == levels + 1);
    CHECK((path.entry(level) & (note | accessed)) == (note | accessed));
  }
  SECTION("someone else set the flags: nothing is left to do") {
    change = [&] { path.set_bits(level, accessed | dirty); };
    answer = path.walk(write_only);
    CHECK(answer.end == FirstStageEnd::leaf);
    CHECK(answer.loads == levels + 1);
    CHECK(answer.exchanges == levels);
    CHECK(answer.updates == levels - 1);
    CHECK(answer.wrote_dirty == (level != 0));
    CHECK(answer.dirty);
  }
  SECTION("the entry is gone") {
    change = [&] { path.clear_bits(level, present); };
    answer = path.walk(write_only);
    CHECK(answer.end == FirstStageEnd::absent);
    CHECK(answer.level == level);
    CHECK((path.entry(level) & accessed) == 0);
  }
  SECTION("a right is gone") {
    change = [&] { path.clear_bits(level, writable); };
    answer = path.walk(write_only);
    CHECK(answer.end == FirstStageEnd::write_denied);
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
      CHECK(answer.end == FirstStageEnd::leaf);
      CHECK(answer.rights == read_only);
    }
  }
  SECTION("it leads elsewhere") {
    REQUIRE(path.memory.words.store_u64(0x7000 + path.slot(0) % 0x1000, 0x9000 | all_rights));
    change = [&] { path.set(level, (level == 0 ? 0x9000 : 0x7000) | all_rights); };
    answer = path.walk(write_only);
    if (level == 0) CHECK(answer.frame == Gpa{0x9000});
    if (level == 1) CHECK(answer.frame == Gpa{0x9000});
    if (level > 1) CHECK(answer.end == FirstStageEnd::absent);  // that page has an entry for level 0 alone
    if (level == 1) CHECK((path.memory[path.slot(0)] & (accessed | dirty)) == 0);  // the old way is not followed
  }
  SECTION("the memory is gone") {
    change = [&] { path.memory.words.remove_ram(path.table(level), 0x1000); };
    answer = path.walk(write_only);
    CHECK(answer.end == FirstStageEnd::update_failed);
    CHECK(answer.level == level);
  }
}

TEST_CASE("three losses on an entry cost three loads, the fourth begins the walk again, and eight are the end",
          "[walkers][first stage][P4][SEC-4]") {
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned level = GENERATE(0U, 1U, 2U, 3U);
  const unsigned losses = GENERATE(range(0U, 12U));
  CAPTURE(levels, level, losses);
  Path path{levels};
  std::uint64_t note = 0;
  path.memory.before_exchange = [&](std::uint64_t gpa) {  // another ignored value each time: the copy is out of date
    if (gpa != path.slot(level) || note == losses) return;
    ++note;
    path.set(level, (path.entry(level) & low_bits(52)) | note << 52);
  };
  const FirstStageAnswer answer = path.walk(write_only);
  const unsigned above = levels - 1 - level;
  const auto at_slot = std::ranges::count_if(path.memory.log, [&](const MemoryAccess& access) {
    return access.kind == MemoryAccess::exchange && access.gpa == path.slot(level);
  });
  if (losses < 8) {
    CHECK(answer.end == FirstStageEnd::leaf);
    CHECK(answer.loads == levels + losses + (losses >= 4 ? above : 0));
    CHECK(at_slot == losses + 1);
    CHECK(path.entry(level) >> 52 == losses);  // and none of the guest's writes is undone
    CHECK((path.entry(0) & dirty) != 0);
  } else {
    CHECK(answer.end == FirstStageEnd::update_failed);
    CHECK(answer.level == level);
    CHECK(answer.loads == 2 * above + 8);
    CHECK(at_slot == 8);
    CHECK((path.entry(level) & (accessed | dirty)) == 0);
    CHECK(answer.rights.none());
  }
}

TEST_CASE("a first-stage walk that begins again has forgotten the rights it met before", "[walkers][first stage][P4]") {
  Path path{4};
  path.clear_bits(3, writable);
  unsigned losses = 0;
  path.memory.before_exchange = [&](std::uint64_t gpa) {
    if (gpa != path.slot(1) || losses == 4) return;
    path.set(1, path.entry(1) ^ std::uint64_t{1} << 55);
    if (++losses == 4) path.set_bits(3, writable);
  };
  const FirstStageAnswer answer = path.walk(read_only);
  CHECK(losses == 4);
  CHECK(answer.end == FirstStageEnd::leaf);
  CHECK(answer.rights == read_write);
}

TEST_CASE("losing everywhere and for ever is 40 loads and 40 exchanges at most", "[walkers][first stage][SEC-4][P5]") {
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
  const FirstStageAnswer answer = path.walk(write_only);
  CHECK(answer.end == FirstStageEnd::update_failed);
  CHECK(answer.level == 0);
  CHECK(answer.loads == 40);
  CHECK(answer.exchanges == 40);
  CHECK(answer.updates == 8);
  CHECK_FALSE(answer.wrote_dirty);
}

TEST_CASE("first-stage tables that point at themselves end the walk at its last level",
          "[walkers][first stage][SEC-4][SEC-7]") {
  const unsigned levels = GENERATE(4U, 5U);
  Path path{levels};
  for (std::uint64_t at = root; at < root + 0x1000; at += 8)
    REQUIRE(path.memory.words.store_u64(at, root | all_rights));
  FirstStageRequest request = path.request(write_only);
  for (const Iova iova : {path.iova, Iova{0}, Iova{low_bits(47)}, Iova{~low_bits(47)}}) {
    request.iova = iova;
    const FirstStageAnswer answer = path.walk(request);
    CHECK(answer.end == FirstStageEnd::leaf);
    CHECK(answer.level == 0);
    CHECK(answer.loads == levels);
    CHECK(answer.frame == Gpa{root});
  }
}

}  // namespace viommu::walkers
