// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "walkers/walk.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/array_memory.hpp"
#include "walkers/format/second_stage.hpp"

namespace viommu::walkers {
namespace {

using test::ArrayMemory;

constexpr SecondStage format{SecondStageRules{}};
constexpr std::uint64_t rw = 3;
constexpr std::uint64_t large = 0x80;
constexpr Gpa root{0x1000};

/// The specification's figure: which 9 bits of the address choose the entry of a level.
constexpr std::uint64_t index_of(Iova iova, unsigned level) { return iova.value >> (12 + 9 * level) & 0x1FF; }
/// Table pages one behind the other: the top one at `root`, the next at 0x2000, ...
constexpr std::uint64_t table_at(unsigned top, unsigned level) {
  return root.value + std::uint64_t{top - level} * 0x1000;
}
constexpr std::uint64_t slot_at(unsigned top, Iova iova, unsigned level) {
  return table_at(top, level) + 8 * index_of(iova, level);
}

/// Tables of `top` + 1 levels that lead `iova` to `frame` by a leaf at `leaf`.
ArrayMemory path(unsigned top, Iova iova, unsigned leaf, std::uint64_t frame) {
  ArrayMemory memory{8};
  for (unsigned level = top; level > leaf; --level) memory[slot_at(top, iova, level)] = table_at(top, level - 1) | rw;
  memory[slot_at(top, iova, leaf)] = frame | rw | (leaf > 0 ? large : 0);
  return memory;
}

constexpr Iova iova_of(unsigned top) { return {0x01A5'BC3D'E6F7'8912 & low_bits(12 + 9 * (top + 1))}; }

}  // namespace

TEST_CASE("a walk ends at the leaf of its address, whatever its level and however many levels there are",
          "[walkers][Second-Stage Translation][GPT-4][SEC-4]") {
  const unsigned top = GENERATE(2U, 3U, 4U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const std::uint64_t bytes = std::uint64_t{0x1000} << (9 * leaf);
  const Iova iova = iova_of(top);
  const ArrayMemory memory = path(top, iova, leaf, 5 * bytes);
  const Walk walked = walk(format, memory, root, top, iova);
  CHECK(walked.end == WalkEnd::leaf);
  CHECK(walked.level == leaf);
  CHECK(walked.frame == Gpa{5 * bytes});
  CHECK(walked.rights == read_write);
  std::vector<std::uint64_t> expected;
  for (unsigned level = top + 1; level-- > leaf;) expected.push_back(slot_at(top, iova, level));
  CHECK(memory.loads == expected);
  CHECK(walked.loads == top + 1 - leaf);
}

TEST_CASE("the first and the last entry of a table are its address's ends", "[walkers][GPT-4]") {
  const unsigned top = GENERATE(2U, 3U, 4U);
  for (const Iova iova : {Iova{0}, Iova{low_bits(12 + 9 * (top + 1))}}) {
    const ArrayMemory memory = path(top, iova, 0, 0x7000);
    CHECK(walk(format, memory, root, top, iova).frame == Gpa{0x7000});
  }
}

TEST_CASE("a walk says at which level it ended, and why", "[walkers][B35]") {
  const unsigned top = GENERATE(2U, 3U, 4U);
  const Iova iova = iova_of(top);
  for (unsigned level = 0; level <= top; ++level) {
    CAPTURE(top, level);
    ArrayMemory memory = path(top, iova, 0, 0x7000);
    std::uint64_t& entry = memory[slot_at(top, iova, level)];
    const std::uint64_t good = entry;
    entry = 0;
    Walk walked = walk(format, memory, root, top, iova);
    CHECK(walked.end == WalkEnd::absent);
    CHECK(walked.level == level);
    CHECK(walked.loads == top - level + 1);
    entry = good & ~rw;  // no right at all is the same, whatever else is set
    CHECK(walk(format, memory, root, top, iova).end == WalkEnd::absent);
    constexpr std::uint64_t reserved = std::uint64_t{1} << 62;
    entry = good | reserved;
    walked = walk(format, memory, root, top, iova);
    CHECK(walked.end == WalkEnd::malformed);
    CHECK(walked.level == level);
    entry = (good & ~rw) | reserved;
    CHECK(walk(format, memory, root, top, iova).end == WalkEnd::absent);
    if (level == 0) continue;
    constexpr std::uint64_t nowhere = 0x40000000;
    entry = nowhere | rw;
    walked = walk(format, memory, root, top, iova);
    CHECK(walked.end == WalkEnd::unreadable);
    CHECK(walked.level == level - 1);
    CHECK(walked.loads == top - level + 2);
  }
  const ArrayMemory memory = path(top, iova, 0, 0x7000);
  const Walk walked = walk(format, memory, Gpa{0x40000000}, top, iova);
  CHECK(walked.end == WalkEnd::top_unreadable);
  CHECK(walked.level == top);
  CHECK(walked.loads == 1);
}

TEST_CASE("the rights of a walk are what every entry grants", "[walkers][Access Rights][RVM-7]") {
  constexpr unsigned top = 3;
  const Iova iova = iova_of(top);
  for (unsigned combination = 0; combination < 81; ++combination) {  // three kinds of rights for each of four entries
    ArrayMemory memory = path(top, iova, 0, 0x7000);
    Rights expected = read_write;
    unsigned rest = combination;
    for (unsigned level = 0; level <= top; ++level, rest /= 3) {
      const std::uint64_t bits = 1 + rest % 3;
      std::uint64_t& entry = memory[slot_at(top, iova, level)];
      entry = (entry & ~rw) | bits;
      expected = expected & Rights{(bits & 1) != 0, (bits & 2) != 0};
    }
    const Walk walked = walk(format, memory, root, top, iova);
    REQUIRE(walked.end == WalkEnd::leaf);  // also when no right is left: that is judged later
    REQUIRE(walked.rights == expected);
  }
}

TEST_CASE("tables that point at themselves end the walk at its last level", "[walkers][SEC-4][SEC-7]") {
  const unsigned top = GENERATE(2U, 3U, 4U);
  ArrayMemory memory{2};
  for (std::uint64_t slot = 0; slot < 512; ++slot) memory[root.value + 8 * slot] = root.value | rw;
  test::Random random{1};
  for (unsigned i = 0; i < 200; ++i) {
    memory.loads.clear();
    const Walk walked = walk(format, memory, root, top, {random.next()});
    REQUIRE(walked.end == WalkEnd::leaf);
    REQUIRE(walked.level == 0);
    REQUIRE(walked.loads == top + 1);
    REQUIRE(memory.loads.size() == top + 1);
    REQUIRE(walked.frame == root);
  }
}

TEST_CASE("whatever the tables hold, a walk takes at most one load a level, each of another word",
          "[walkers][SEC-2][SEC-4][F3]") {
  const unsigned rounds = test::run_whole() ? 3'000'000 : 30'000;
  test::Random random{2};
  ArrayMemory memory{8};
  for (std::uint64_t gpa = 0; gpa < 0x8000; gpa += 8) {
    const std::uint64_t table = random.below(9) << 12;  // the last is nowhere
    memory[gpa] = random.chance(1, 10) ? random.next() : table | random.below(4) | (random.chance(1, 8) ? large : 0);
  }
  for (unsigned i = 0; i < rounds; ++i) {
    memory.loads.clear();
    const auto top = static_cast<unsigned>(2 + random.below(3));
    const Gpa start{random.below(8) << 12};
    const Walk walked = walk(format, memory, start, top, {random.next() & low_bits(57)});
    REQUIRE(walked.loads <= top + 1);
    REQUIRE(memory.loads.size() == walked.loads);
    REQUIRE(walked.level + walked.loads == top + 1U);
    if (walked.end == WalkEnd::leaf) REQUIRE(walked.level <= 2);
  }
}

TEST_CASE("on a path of different tables no word is loaded twice", "[walkers][SEC-2]") {
  const unsigned top = GENERATE(2U, 3U, 4U);
  const Iova iova = iova_of(top);
  const ArrayMemory memory = path(top, iova, 0, 0x7000);
  static_cast<void>(walk(format, memory, root, top, iova));
  CHECK(std::set(memory.loads.begin(), memory.loads.end()).size() == memory.loads.size());
}

TEST_CASE("what a walk answers follows from the copies it loaded, however the memory changes", "[walkers][SEC-2][F5]") {
  // Another value at each load; the observer is shown the copy that was decided on.
  struct Adversary {
    test::Random* random;
    std::vector<std::optional<std::uint64_t>>* given;
    std::optional<std::uint64_t> load_u64(Gpa) const {
      std::optional<std::uint64_t> entry;
      if (!random->chance(1, 20)) entry = (random->next() & low_bits(52) & ~low_bits(11)) | random->below(256);
      given->push_back(entry);
      return entry;
    }
  };
  test::Random random{3};
  for (unsigned i = 0; i < 20'000; ++i) {
    std::vector<std::optional<std::uint64_t>> given;
    std::vector<WalkStep> steps;
    const auto top = static_cast<unsigned>(2 + random.below(3));
    const Iova iova{random.next() & low_bits(57)};
    const Walk walked = walk(format, Adversary{&random, &given}, root, top, iova,
                             [&steps](const WalkStep& step) { steps.push_back(step); });
    REQUIRE(given.size() == walked.loads);
    REQUIRE(steps.size() == given.size());
    Rights rights = read_write;
    std::uint64_t table = root.value;
    for (std::size_t at = 0; at < steps.size(); ++at) {
      REQUIRE(steps[at].entry == given[at]);
      REQUIRE(steps[at].level == top - at);
      REQUIRE(steps[at].slot == Gpa{table + 8 * index_of(iova, steps[at].level)});
      if (!given[at]) break;
      rights = rights & Rights{(*given[at] & 1) != 0, (*given[at] & 2) != 0};
      REQUIRE(steps[at].kind == format.classify(*given[at], steps[at].level));
      REQUIRE((steps[at].kind == EntryKind::table) == (at + 1 < steps.size()));
      table = *given[at] & low_bits(52) & ~low_bits(12);
    }
    REQUIRE(walked.rights == rights);
    const EntryKind last = steps.back().kind;
    if (!given.back()) {
      REQUIRE(walked.end == (steps.size() == 1 ? WalkEnd::top_unreadable : WalkEnd::unreadable));
    } else {
      REQUIRE(walked.end == (last == EntryKind::leaf     ? WalkEnd::leaf
                             : last == EntryKind::absent ? WalkEnd::absent
                                                         : WalkEnd::malformed));
    }
    if (walked.end == WalkEnd::leaf) REQUIRE(walked.frame.value == (table & ~low_bits(12U + 9U * walked.level)));
  }
}

TEST_CASE("a walk can be done by the compiler: it needs no memory of its own", "[walkers]") {
  struct Constant {
    constexpr std::optional<std::uint64_t> load_u64(Gpa gpa) const noexcept {
      if (gpa.value >= 0x4000) return std::nullopt;
      return (gpa.value & ~low_bits(12)) + 0x1000 + rw;
    }
  };
  constexpr Walk walked = walk(format, Constant{}, root, 2, Iova{0x1234567});
  STATIC_REQUIRE(walked.end == WalkEnd::leaf);
  STATIC_REQUIRE(walked.frame == Gpa{0x4000});
  STATIC_REQUIRE(walked.loads == 3);
  STATIC_REQUIRE(noexcept(walk(format, Constant{}, root, 2, Iova{})));
}

}  // namespace viommu::walkers
