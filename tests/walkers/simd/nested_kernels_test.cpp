// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Nested batches of every kernel that this machine can run, against the specification and the single walk.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <ostream>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/guarded_region.hpp"
#include "tests/support/nested_oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/nested_world.hpp"
#include "tests/walkers/simd/patchwork.hpp"
#include "walkers/batch.hpp"
#include "walkers/nested_walk.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

// As Catch2 shows them, and finds them equal.
static std::ostream& operator<<(std::ostream& out, const NestedAnswer& answer) {
  return out << std::hex << "end " << unsigned{static_cast<std::uint8_t>(answer.end)} << " level "
             << unsigned{answer.level} << " loads " << answer.loads << " exchanges " << answer.exchanges << " updates "
             << answer.updates << " dirty " << answer.dirty << " rights " << answer.rights.bits() << " frame "
             << answer.frame.value;
}
static bool operator==(const NestedAnswer& a, const NestedAnswer& b) {
  return a.end == b.end && a.level == b.level && a.loads == b.loads && a.exchanges == b.exchanges &&
         a.updates == b.updates && a.dirty == b.dirty && a.rights == b.rights && a.frame == b.frame;
}

namespace {

using test::Patchwork;
using test::Random;
using World = test::NestedWorld;

#if defined(SMALL_TESTS)  // for a run under an emulator
constexpr unsigned worlds = 12;
#else
constexpr unsigned worlds = 120;
#endif

/// Where the tables of each stage lie: behind callbacks, in regions that lanes know, and in one that they do not.
enum class Place : std::uint8_t { nowhere_mapped, all_mapped, first_mapped, second_mapped, in_three };

void lay_out(const World& world, Place place, Random random, Patchwork& memory) {
  const auto put = [&](std::uint64_t gpa, std::uint64_t bytes, bool mapped) {
    if (mapped)
      memory.add_region(gpa, bytes, random.chance(1, 12));
    else
      memory.add_behind_callbacks(gpa, bytes);
  };
  // The largest regions are the ones that lanes know.
  const std::uint64_t some = place == Place::in_three ? 0x20'0000 : 0;
  if (some != 0) put(World::first_tables, some, true);
  put(World::first_tables + some, World::first_tables_bytes - some,
      place != Place::nowhere_mapped && place != Place::second_mapped);
  put(World::second_tables, World::second_tables_bytes, place != Place::nowhere_mapped && place != Place::first_mapped);
  for (const auto& [gpa, word] : world.words()) memory.store(gpa, word);
}

std::vector<NestedAnswer> walk_all(const Kernels& kernels, const NestedStages& stages, const MemoryView& view,
                                   const std::vector<FirstStageRequest>& requests) {
  NestedAnswer untouched;
  untouched.level = 99;
  std::vector<NestedAnswer> answers(requests.size() + 2, untouched);  // one more at each end
  kernels.walk_nested(stages, view, requests.data(), answers.data() + 1, requests.size());
  REQUIRE(answers.front() == untouched);
  REQUIRE(answers.back() == untouched);
  return {answers.begin() + 1, answers.end() - 1};
}

/// Loads that the single walk saves: it knows where the entry lies that it has just looked at, as a table that points
/// at itself has it look again. For a walk that comes to a page without writing.
unsigned saved_by_looking_twice(const NestedStages& stages, const MemoryView& memory,
                                const FirstStageRequest& request) {
  unsigned saved = 0;
  std::uint64_t last = 1;  // no entry
  Gpa table{request.root.value & ~low_bits(12)};
  for (unsigned level = stages.first.top_level();; --level) {
    const Gpa slot = FirstStage::slot(table, request.iova, level);
    const SecondStageAnswer place = walk_second_stage(stages.second, stages.second_controls, memory,
                                                      {stages.second_root,
                                                       {slot.value},
                                                       stages.second_controls.flags ? read_write : read_only,
                                                       stages.second_top_level});
    REQUIRE(place.end == SecondStageEnd::leaf);
    REQUIRE(place.exchanges == 0);
    if (slot.value == last) saved += place.loads;
    last = slot.value;
    const std::uint64_t offset = slot.value & low_bits(SecondStage::page_shift(place.level));
    const std::uint64_t entry = memory.load_u64({place.frame.value + offset}).value();
    if (stages.first.classify(entry, level) != EntryKind::table) return saved;
    table = FirstStage::next_table(entry);
  }
}

void require_as_specified(const NestedAnswer& answer, const oracle::NestedAnswer& literal,
                          const oracle::FirstStageRequest& asked, unsigned levels) {
  REQUIRE(test::code_of(answer.end) == literal.reason);
  REQUIRE(answer.rights == Rights{literal.read, literal.write});
  if (!literal.at_page) REQUIRE(answer.level == (literal.level == 0 ? levels : literal.level) - 1);
  if (literal.reason != 0) return;
  REQUIRE(low_bits(FirstStage::page_shift(answer.level)) == literal.page_mask);
  REQUIRE(answer.frame.value + (asked.address & literal.page_mask) == literal.gpa);
}

}  // namespace

TEST_CASE("every kernel answers a nested batch as the specification and the single walk do, and writes the same",
          "[walkers][kernels][nested][oracle][B24][B30][B31][B37][SEC-1][SEC-4][F3]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    std::map<unsigned, unsigned> seen;
    std::set<std::array<unsigned, 4>> sizes;  // depths of both stages, and sizes of both pages
    unsigned earlier = 0;
    unsigned twice = 0;
    for (unsigned seed = 1; seed <= worlds; ++seed) {
      for (const Place place :
           {Place::nowhere_mapped, Place::all_mapped, Place::first_mapped, Place::second_mapped, Place::in_three}) {
        World world{seed};
        const NestedStages stages = world.stages();
        Patchwork memory;
        Patchwork for_walk;
        Patchwork for_oracle;
        for (Patchwork* const one : {&memory, &for_walk, &for_oracle}) lay_out(world, place, Random{seed}, *one);
        for (std::size_t count = 0; count <= 140; count += 1 + world.random().below(40)) {
          std::vector<oracle::FirstStageRequest> asked(count);
          std::vector<FirstStageRequest> requests;
          for (oracle::FirstStageRequest& one : asked) {
            one = world.request();
            requests.push_back({{world.unit().pasid_entry_2},
                                {one.address},
                                {one.read, one.write},
                                one.supervisor ? Privilege::supervisor : Privilege::user,
                                one.execute});
          }
          const std::vector<NestedAnswer> answers = walk_all(*kernels, stages, memory.memory().view(), requests);
          for (std::size_t i = 0; i < count; ++i) {
            NestedAnswer right = walk_nested(stages, for_walk.memory().view(), requests[i]);
            const oracle::NestedAnswer literal = oracle::translate_nested(world.unit(), test::reader_of(for_oracle),
                                                                          test::exchanger_of(for_oracle), asked[i]);
            const NestedAnswer& answer = answers[i];
            // What needs nothing written was answered before another one of the batch set D.
            if (answer.end == NestedEnd::leaf && !answer.dirty && right.dirty && !asked[i].write &&
                answer.exchanges == 0) {
              const auto before = answers.begin() + static_cast<std::ptrdiff_t>(i);
              REQUIRE(
                  std::any_of(answers.begin(), before, [](const NestedAnswer& other) { return other.updates > 0; }));
              right.dirty = false;
              ++earlier;
            }
            if (answer.loads != right.loads && answer.end == NestedEnd::leaf && answer.exchanges == 0) {
              right.loads = static_cast<std::uint16_t>(
                  right.loads + saved_by_looking_twice(stages, for_walk.memory().view(), requests[i]));
              ++twice;
            }
            if (!(answer == right))
              FAIL("seed " << seed << " place " << static_cast<int>(place) << " request " << i << " of " << count
                           << ": " << answer << ", not " << right);
            require_as_specified(answer, literal, asked[i], world.levels());
            ++seen[literal.reason];
            if (literal.reason == 0)
              sizes.insert({world.levels(), stages.second_top_level, literal.level, literal.second_level});
          }
          for (const auto& [gpa, word] : world.words()) {
            if (memory.word(gpa) != for_walk.word(gpa) || memory.word(gpa) != for_oracle.word(gpa))
              FAIL("seed " << seed << " place " << static_cast<int>(place) << " writes something else to " << gpa);
          }
        }
      }
    }
    if (std::string_view{kernels->name} == "scalar") CHECK(twice == 0);
    if (worlds <= 20) continue;
    for (const unsigned reason : {0x00U, 0x5BU, 0x5CU, 0x5DU, 0x70U, 0x71U, 0x72U, 0x73U, 0x74U, 0x75U, 0x76U, 0x77U,
                                  0x78U, 0x79U, 0x7AU, 0x7BU, 0x7CU, 0x7DU, 0x80U, 0x81U, 0x85U, 0x86U, 0x90U, 0x91U}) {
      CAPTURE(reason);
      CHECK(seen[reason] > 5);
    }
    CHECK(sizes.size() == 54);  // 2 and 3 depths, 9 pairs of sizes
    CHECK((earlier > 0) == (std::string_view{kernels->name} != "scalar"));
  }
}

namespace {

/// One path through both stages, whose second stage maps tables here and the page there.
class NestedPath {
 public:
  struct Entry {
    std::uint64_t slot = 0;
    std::uint64_t value = 0;
    std::uint64_t needs = 0;  ///< of its bits: what a walk cannot do without
  };
  static constexpr std::uint64_t base = 0x1000;
  static constexpr std::uint64_t bytes = 0x10000;
  static constexpr std::uint64_t page = 0x4000'0000;  ///< of the first stage
  static constexpr std::uint64_t tables = 0x8000;     ///< of the first stage, as it calls them

  NestedPath(unsigned levels, unsigned leaf, unsigned second_levels, unsigned second_leaf, const NestedStages& stages,
             const FirstStageRequest& request) {
    const bool flags = stages.second_controls.flags;
    const bool writes = request.asked.write();
    const bool user = request.privilege == Privilege::user;
    const std::uint64_t first = 0x21U | (stages.first.controls().extended_accessed ? 0x400U : 0U) |
                                (writes && (user || stages.first.controls().write_protect) ? 2U : 0U) |
                                (user ? 4U : 0U);
    for (unsigned level = leaf; level < levels; ++level) {
      const std::uint64_t depth = levels - 1 - level;
      std::uint64_t needs = first;
      if (level == leaf && writes) needs |= 0x40;
      const std::uint64_t other = level == leaf ? page | (leaf > 0 ? 0x80U : 0U) : tables + (depth + 1) * 0x1000;
      entries_.push_back({base + depth * 0x1000, needs | other, needs});
    }
    // The second stage: root, and below it two ways that part at the table of level 2 or at the root.
    const std::uint64_t table_bits = flags ? 0x103 : 1;
    const std::uint64_t table_leaf = flags ? 0x303 : 1;
    const std::uint64_t rights = request.asked.none() ? 1 : request.asked.bits();
    const std::uint64_t page_bits = rights | (flags ? 0x100U : 0U);
    const std::uint64_t page_leaf = page_bits | (flags && writes ? 0x200U : 0U);
    std::uint64_t table = base + 0x5000;
    for (unsigned level = second_levels - 1; level > 2; --level) {
      entries_.push_back({table, (table + 0x1000) | table_bits | page_bits, table_bits | page_bits});
      table += 0x1000;
    }
    constexpr std::uint64_t for_tables = base + 0x8000;
    constexpr std::uint64_t for_page = base + 0xA000;
    entries_.push_back({table, for_tables | table_bits, table_bits});
    entries_.push_back({for_tables, (for_tables + 0x1000) | table_bits, table_bits});
    for (std::uint64_t depth = 0; depth < levels - leaf; ++depth)
      entries_.push_back(
          {for_tables + 0x1000 + (tables / 0x1000 + depth) * 8, (base + depth * 0x1000) | table_leaf, table_leaf});
    for (unsigned level = 2; level > second_leaf; --level) {
      const std::uint64_t next = for_page + std::uint64_t{2 - level} * 0x1000;
      entries_.push_back({level == 2 ? table + 8 : next - 0x1000, next | page_bits, page_bits});
    }
    leaf_slot_ = second_leaf == 2 ? table + 8 : for_page + std::uint64_t{1 - second_leaf} * 0x1000;
    entries_.push_back({leaf_slot_, page_leaf | (second_leaf > 0 ? 0x80U : 0U), page_leaf});
  }

  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// @param frame  where the page is
  void store(test::GuardedRegion& ram, std::uint64_t frame) const {
    for (const Entry& entry : entries_) ram.store_u64(entry.slot, entry.value | (entry.slot == leaf_slot_ ? frame : 0));
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t leaf_slot_ = 0;
};

}  // namespace

TEST_CASE("lanes answer every nested walk that has all it needs, and leave the others to the single walk",
          "[walkers][kernels][nested]") {
  // Two spans of one address, as no view has them: a single walk looks into the first, lanes take the second.
  test::GuardedRegion alone{NestedPath::base, NestedPath::bytes};
  test::GuardedRegion in_lanes{NestedPath::base, NestedPath::bytes};
  const std::array<MemorySpan, 2> spans{MemorySpan{{NestedPath::base}, NestedPath::bytes - 1, alone.data()},
                                        MemorySpan{{NestedPath::base}, NestedPath::bytes - 1, in_lanes.data()}};
  MemoryView view;
  view.spans = spans;
  const unsigned levels = GENERATE(4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const unsigned second_levels = GENERATE(3U, 4U, 5U);
  const unsigned second_leaf = GENERATE(0U, 1U, 2U);
  const bool flags = GENERATE(false, true);
  const bool write_protect = GENERATE(false, true);
  const NestedStages stages{
      FirstStage{{},
                 {.levels = levels, .supervisor = true, .write_protect = write_protect, .extended_accessed = flags}},
      SecondStage{SecondStageRules{}},
      {.flags = flags},
      {NestedPath::base + 0x5000},
      second_levels - 1,
      39};
  for (const Privilege privilege : {Privilege::user, Privilege::supervisor}) {
    for (const Rights asked : {Rights{}, read_only, write_only, read_write}) {
      const FirstStageRequest request{{NestedPath::tables}, {0x123}, asked, privilege, false};
      const NestedPath path{levels, leaf, second_levels, second_leaf, stages, request};
      const auto walk_and_compare = [&](bool has_all) {
        const std::vector<FirstStageRequest> requests(17, request);
        const NestedAnswer single = walk_nested(stages, view, request);
        REQUIRE((single.end == NestedEnd::leaf) == has_all);
        for (const Kernels* const kernels : runnable_kernels()) {
          CAPTURE(kernels->name);
          const std::vector<NestedAnswer> answers = walk_all(*kernels, stages, view, requests);
          NestedAnswer right = single;
          if (has_all && std::string_view{kernels->name} != "scalar") right.frame = {0x8000'0000};
          REQUIRE(answers.front() == right);
          REQUIRE(answers.back() == right);  // in a vector that it does not fill
        }
      };
      path.store(alone, 0x4000'0000);
      path.store(in_lanes, 0x8000'0000);
      walk_and_compare(true);
      for (const NestedPath::Entry& entry : path.entries()) {
        for (unsigned lacking = 0; lacking < 12; ++lacking) {
          if ((entry.needs >> lacking & 1) == 0) continue;
          const std::uint64_t before = in_lanes.load_u64(entry.slot).value();
          const std::uint64_t alone_before = alone.load_u64(entry.slot).value();
          CAPTURE(levels, leaf, second_levels, second_leaf, flags, asked.bits(), entry.slot, lacking);
          in_lanes.store_u64(entry.slot, before & ~(std::uint64_t{1} << lacking));
          alone.store_u64(entry.slot, alone_before & ~(std::uint64_t{1} << lacking));
          walk_and_compare(false);
          in_lanes.store_u64(entry.slot, before);
          alone.store_u64(entry.slot, alone_before);
        }
      }
    }
  }
}

TEST_CASE("walks of a nested batch whose tables lie in one page, and in many, come each to its own page",
          "[walkers][kernels][nested]") {
  // 64 leaf tables of the first stage, at most as many of them asked for; the second stage moves each of them.
  constexpr std::uint64_t base = 0x10'0000;
  constexpr std::uint64_t leaf_tables = 64;
  constexpr std::uint64_t guest_tables = 0x4000'0000;
  const std::uint64_t apart = GENERATE(0x1000U, 0x4'0000U);  // as guests lay them out, and all in the same place of 64
  test::GuardedRegion ram{base, 0x100'0000};
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{base}, {base + 0xFF'FFFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  std::uint64_t next = base + 0x1000;
  const auto second_slot = [&](std::uint64_t address) {
    std::uint64_t table = base;
    for (unsigned level = 3; level != 0; --level) {
      const std::uint64_t slot = SecondStage::slot({table}, {address}, level).value;
      if (ram.load_u64(slot) == 0U) {
        ram.store_u64(slot, next | 3);
        next += 0x1000;
      }
      table = ram.load_u64(slot).value() & ~low_bits(12);
    }
    return SecondStage::slot({table}, {address}, 0).value;
  };
  const auto put_table = [&](std::uint64_t address) {
    const std::uint64_t place = next;
    next += 0x1000;
    ram.store_u64(second_slot(address), place | 3);
    return place;
  };
  const std::uint64_t top = put_table(guest_tables);
  const std::uint64_t upper = put_table(guest_tables + 0x1000);
  const std::uint64_t lower = put_table(guest_tables + 0x2000);
  ram.store_u64(top, (guest_tables + 0x1000) | 0x27);
  ram.store_u64(upper, (guest_tables + 0x2000) | 0x27);
  const auto page_of = [](std::uint64_t table, std::uint64_t slot) { return 0x100'0000 + table * 8 + slot; };
  for (std::uint64_t table = 0; table < leaf_tables; ++table) {
    const std::uint64_t guest = guest_tables + 0x100'0000 + table * apart;
    const std::uint64_t place = put_table(guest);
    ram.store_u64(lower + 8 * table, guest | 0x27);
    for (std::uint64_t slot = 0; slot < 8; ++slot) {
      ram.store_u64(place + 8 * slot, page_of(table, slot) << 12 | 0x67);
      ram.store_u64(second_slot(page_of(table, slot) << 12), page_of(table, slot) << 13 | 3);
    }
  }
  const NestedStages stages{FirstStage{{}, {}}, SecondStage{SecondStageRules{}}, {}, {base}, 3, 48};
  Random random{7};
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    for (const std::uint64_t tables : {1U, 2U, 7U, 8U, 9U, 63U, 64U}) {
      for (std::size_t count = 1; count <= 130; ++count) {
        std::vector<FirstStageRequest> requests(count);
        std::vector<std::uint64_t> pages;
        for (std::size_t i = 0; i < count; ++i) {
          const std::uint64_t table = i < tables ? i : random.below(tables);
          const std::uint64_t slot = random.below(8);
          requests[i] = {{guest_tables}, {table << 21 | slot << 12}, read_write, Privilege::user, false};
          pages.push_back(page_of(table, slot));
        }
        const std::vector<NestedAnswer> answers = walk_all(*kernels, stages, memory.view(), requests);
        for (std::size_t i = 0; i < count; ++i) {
          REQUIRE(answers[i].end == NestedEnd::leaf);
          REQUIRE(answers[i].frame == Gpa{pages[i] << 13});
          REQUIRE(answers[i].loads == 24);
        }
      }
    }
  }
  RegionMap::destroy({}, memory.publish(nullptr));
}

TEST_CASE("entries of both stages that flip under a nested kernel are taken as they were or as they became",
          "[walkers][kernels][nested][SEC-2][SEC-3]") {
  // First stage: tables 0x1000, 0x2000, 0x3000, and a leaf table that the second stage has at one of two places, where
  // the same slots lead to different pages. Second stage: the pages move, and may be written or not.
  constexpr unsigned rounds = worlds * 250;
  constexpr std::uint64_t base = 0x1000;
  constexpr std::uint64_t second_root = 0x6000;
  test::GuardedRegion ram{base, 0xA000};
  const auto put = [&ram](std::uint64_t table, std::uint64_t slot, std::uint64_t entry) {
    ram.store_u64(table + 8 * slot, entry);
  };
  put(0x1000, 0, 0x2027);
  put(0x2000, 0, 0x3027);
  put(0x3000, 0, 0x4027);
  put(second_root, 0, 0x7103);
  put(0x7000, 0, 0x8103);
  put(0x8000, 0, 0x9103);
  put(0x8000, 1, 0xA103);                                                                // what the pages are in
  for (std::uint64_t slot = 1; slot < 4; ++slot) put(0x9000, slot, slot << 12 | 0x303);  // tables: where they say
  for (std::uint64_t slot = 0; slot < 8; ++slot) {
    put(0x4000, slot, (0x200 + slot) << 12 | 0x67);  // 8 pages that may be written, and 8 that may not
    put(0x5000, slot, (0x208 + slot) << 12 | 0x25);
  }
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{base}, {base + 0x9FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  NestedStages stages{FirstStage{{}, {}}, SecondStage{SecondStageRules{}}, {.flags = true}, {second_root}, 3, 48};
  std::vector<FirstStageRequest> requests(64);
  for (std::size_t i = 0; i < requests.size(); ++i)
    requests[i] = {{0x1000}, {i % 8 << 12}, i % 3 == 0 ? read_write : read_only, Privilege::user, false};
  for (const Kernels* const kernels : runnable_kernels()) {
    put(0x9000, 4, 0x4303);
    for (std::uint64_t slot = 0; slot < 16; ++slot) put(0xA000, slot, (0x1000 + slot) << 12 | 0x303);
    std::atomic<bool> stop{false};
    std::thread guest{[&] {
      while (!stop) {
        for (const std::uint64_t place : {0x5303U, 0x4303U, 0x4003U}) put(0x9000, 4, place);
        for (const std::uint64_t bits : {0x2000'101U, 0x2000'303U, 0U, 0x1000'303U, 0x1000'003U})
          for (std::uint64_t slot = 0; slot < 16; ++slot) put(0xA000, slot, bits == 0 ? 0 : bits + (slot << 12));
      }
    }};
    const char* complaint = nullptr;
    std::vector<NestedAnswer> answers(requests.size());
    for (unsigned round = 0; round < rounds && complaint == nullptr; ++round) {
      kernels->walk_nested(stages, memory.view(), requests.data(), answers.data(), requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const NestedAnswer& answer = answers[i];
        const bool writes = requests[i].asked.write();
        const std::uint64_t slot = answer.frame.value >> 12 & 0xF;
        if (answer.end == NestedEnd::second_absent || answer.end == NestedEnd::second_update_failed) continue;
        if (answer.end == NestedEnd::write_denied) {
          if (!writes) complaint = "denied";
        } else if (answer.end != NestedEnd::leaf) {
          complaint = "end";
        } else if (slot % 8 != i % 8) {
          complaint = "another's page";
        } else if (slot >= 8 && (writes || answer.rights != read_only)) {
          complaint = "what the second place has";
        } else if (writes && (answer.rights != read_write || !answer.dirty)) {
          complaint = "written";
        } else if ((answer.frame.value >> 16) != 0x100 && (answer.frame.value >> 16) != 0x200) {
          complaint = "no page of the second stage";
        }
      }
    }
    stop = true;
    guest.join();
    CAPTURE(kernels->name);
    if (complaint != nullptr) FAIL(complaint);
  }
  RegionMap::destroy({}, memory.publish(nullptr));
}

}  // namespace viommu::walkers
