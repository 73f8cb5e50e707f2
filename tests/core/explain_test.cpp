// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What an explanation says of each entry: by the format of its stage, with the flags that a request would set.
#include "engine/core/explain.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/core/test_waist.hpp"

namespace viommu::core {
namespace {

using caches::Interpretation;
using test::GuardedRegion;
using test::GuestTables;
using test::TestWaist;
using walkers::EntryKind;

constexpr Iova iova{0x40003000};
constexpr std::uint64_t accessed = std::uint64_t{1} << 5;
constexpr std::uint64_t dirty = std::uint64_t{1} << 6;
constexpr unsigned second_width = 39;

/// Tables of both stages. The second one maps the first 2 MiB, all of RAM among them, onto themselves.
class World {
 public:
  World() {
    REQUIRE(waist_.add(ram) == RegionResult::ok);
    tables.map(second_, 0, 0, 3, 2);
  }
  [[nodiscard]] caches::AddressSpaceKey key(Interpretation interpretation) const {
    caches::AddressSpaceKey key{{5}, interpretation, 3, {first.root}, {low_bits(47)}, Pasid{7}};
    key.flags.privileged = true;  // the tables have no bit for users
    if (interpretation == Interpretation::nested) {
      key.second_top_level = static_cast<std::uint8_t>(second_.levels - 1);
      key.second_width = second_width;
      key.second_root = {second_.root};
    }
    return key;
  }
  [[nodiscard]] PathSeen explained(Interpretation interpretation, Rights asked = read_only) {
    const test::WaistGuard guard{waist_.waist, reader_};
    PathSeen path;
    explain(walkers::SecondStage{walkers::SecondStageRules{}}, walkers::FirstStage{{}, {}}, waist_->memory(),
            key(interpretation), iova, asked, path);
    return path;
  }
  /// The first-stage entries among them, from the top.
  [[nodiscard]] static std::vector<EntrySeen> of_first_stage(const PathSeen& path) {
    std::vector<EntrySeen> entries;
    for (const EntrySeen& entry : path.seen())
      if (entry.stage == Stage::first) entries.push_back(entry);
    return entries;
  }

  GuardedRegion ram{0x100000, 0x40000};
  GuestTables tables{test::words_of(ram), 0x100000};
  test::Tree first = tables.create_tree(4);

 private:
  test::Tree second_ = tables.create_tree(3);
  TestWaist waist_;
  Reader& reader_ = waist_.reader();
};

}  // namespace

TEST_CASE("an explanation shows the flags that a request would set, and sets none", "[core][explain]") {
  const Interpretation interpretation = GENERATE(Interpretation::first_stage, Interpretation::nested);
  const bool writes = GENERATE(false, true);
  World world;
  world.tables.map(world.first, iova.value, 0x5000, 3);
  const std::uint64_t leaf = world.tables.slot(world.first, iova.value, 1);
  const PathSeen path = world.explained(interpretation, writes ? write_only : read_only);
  CHECK(path.found.outcome == Outcome::translated);
  CHECK(path.found.gpa == Gpa{0x5000});
  const std::vector<EntrySeen> entries = World::of_first_stage(path);
  REQUIRE(entries.size() == 4);
  for (unsigned level = 0; level < 4; ++level) {
    const EntrySeen& entry = entries[3 - level];
    CAPTURE(level);
    CHECK(entry.level == level);
    CHECK(entry.at == Gpa{world.tables.slot(world.first, iova.value, level + 1)});
    CHECK(entry.kind == (level == 0 ? EntryKind::leaf : EntryKind::table));
    CHECK(entry.wrong == 0);
    CHECK(entry.sets == (accessed | (level == 0 && writes ? dirty : 0)));
  }
  CHECK(world.ram.load_u64(leaf) == 0x5003);
  world.ram.store_u64(leaf, 0x5003 | accessed | dirty);
  CHECK(World::of_first_stage(world.explained(interpretation, write_only)).at(3).sets == 0);
}

TEST_CASE("an explanation judges an entry by the format of its stage", "[core][explain]") {
  World world;
  world.tables.map(world.first, iova.value, 0x5000, 2);  // not present, which a second stage's entry would be
  const PathSeen path = world.explained(Interpretation::first_stage);
  CHECK(path.found.outcome == Outcome::absent);
  REQUIRE(path.count == 4);
  CHECK(path.entries[3].stage == Stage::first);
  CHECK(path.entries[3].kind == EntryKind::absent);
}

TEST_CASE("an explanation shows the address bits that lie beyond a second stage's width", "[core][explain]") {
  constexpr std::uint64_t beyond = std::uint64_t{1} << second_width;
  World world;
  world.tables.map(world.first, iova.value, 0x5000);
  world.ram.store_u64(world.tables.slot(world.first, iova.value, 1), beyond | 0x5003);
  const std::vector<EntrySeen> behind = World::of_first_stage(world.explained(Interpretation::nested));
  REQUIRE(behind.size() == 4);
  CHECK(behind[2].kind == EntryKind::table);
  CHECK(behind[3].kind == EntryKind::malformed);
  CHECK(behind[3].wrong == beyond);
  const std::vector<EntrySeen> alone = World::of_first_stage(world.explained(Interpretation::first_stage));
  REQUIRE(alone.size() == 4);
  CHECK(alone[3].kind == EntryKind::leaf);
  CHECK(alone[3].wrong == 0);
}

}  // namespace viommu::core
