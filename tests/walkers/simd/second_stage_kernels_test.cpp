// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Second-stage batches of scalable mode, of every kernel that this machine can run, against the specification and the
// single walk.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <ostream>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/guarded_region.hpp"
#include "tests/support/random.hpp"
#include "tests/support/second_stage_oracle.hpp"
#include "tests/walkers/second_stage_world.hpp"
#include "tests/walkers/simd/patchwork.hpp"
#include "walkers/batch.hpp"
#include "walkers/second_stage_walk.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

// As Catch2 shows them, and finds them equal.
static std::ostream& operator<<(std::ostream& out, const SecondStageAnswer& answer) {
  return out << std::hex << "end " << unsigned{static_cast<std::uint8_t>(answer.end)} << " level "
             << unsigned{answer.level} << " loads " << unsigned{answer.loads} << " exchanges "
             << unsigned{answer.exchanges} << " updates " << unsigned{answer.updates} << " wrote " << answer.wrote_dirty
             << " dirty " << answer.dirty << " rights " << answer.rights.bits() << " frame " << answer.frame.value;
}
static bool operator==(const SecondStageAnswer& a, const SecondStageAnswer& b) {
  return a.end == b.end && a.level == b.level && a.loads == b.loads && a.exchanges == b.exchanges &&
         a.updates == b.updates && a.wrote_dirty == b.wrote_dirty && a.dirty == b.dirty && a.rights == b.rights &&
         a.frame == b.frame;
}

namespace {

using test::Patchwork;
using test::Random;
using World = test::SecondStageWorld;

#if defined(SMALL_TESTS)  // for a run under an emulator
constexpr unsigned worlds = 10;
#else
constexpr unsigned worlds = 80;
#endif

/// The world's memory: behind callbacks, in one region, and in some of which lanes know two.
void lay_out(const World& world, unsigned regions, Random random, Patchwork& memory) {
  static constexpr std::array<std::uint64_t, 6> cuts{0x0000, 0x3000, 0x5000, 0x6000, 0x7000, 0x8000};
  static_assert(cuts.back() == World::pool_bytes);
  if (regions == 0) memory.add_behind_callbacks(World::pool, World::pool_bytes);
  for (unsigned i = 0; i < regions; ++i) {
    const std::uint64_t first = cuts.at(i);
    const std::uint64_t end = i + 1 == regions ? World::pool_bytes : cuts.at(i + 1);
    if (i == 2)
      memory.add_behind_callbacks(World::pool + first, end - first);
    else
      memory.add_region(World::pool + first, end - first, random.chance(1, 6));
  }
  for (const auto& [gpa, word] : world.words()) memory.store(gpa, word);
}

std::vector<SecondStageAnswer> walk_all(const Kernels& kernels, const SecondStage& format,
                                        const SecondStageControls& controls, const MemoryView& view,
                                        const std::vector<SecondStageRequest>& requests) {
  SecondStageAnswer untouched;
  untouched.level = 99;
  std::vector<SecondStageAnswer> answers(requests.size() + 2, untouched);  // one more at each end
  kernels.walk_second_stage(format, controls, view, requests.data(), answers.data() + 1, requests.size());
  REQUIRE(answers.front() == untouched);
  REQUIRE(answers.back() == untouched);
  return {answers.begin() + 1, answers.end() - 1};
}

}  // namespace

TEST_CASE("every kernel answers a second-stage batch as the specification and the single walk do, and writes the same",
          "[walkers][kernels][second stage][oracle][B24][B31][SEC-1][SEC-4][F3]") {
  for (const Kernels* const kernels : runnable_kernels()) {
    CAPTURE(kernels->name);
    std::map<unsigned, unsigned> seen;
    std::map<std::pair<unsigned, unsigned>, unsigned> pages;  // by depth and level
    unsigned earlier = 0;
    for (unsigned seed = 1; seed <= worlds; ++seed) {
      for (const unsigned regions : {0U, 1U, 2U, 3U, 5U}) {
        World world{seed, seed % 3 != 0};
        const SecondStage format = world.format();
        const SecondStageControls controls = world.controls();
        Patchwork memory;
        Patchwork for_walk;
        Patchwork for_oracle;
        for (Patchwork* const one : {&memory, &for_walk, &for_oracle}) lay_out(world, regions, Random{seed}, *one);
        for (std::size_t count = 0; count <= 140; count += 1 + world.random().below(30)) {
          std::vector<oracle::SecondStageRequest> asked(count);
          std::vector<SecondStageRequest> requests;
          for (oracle::SecondStageRequest& one : asked) {
            one = world.request();
            requests.push_back(
                {{world.unit().pasid_entry_0}, {one.address}, {one.read, one.write}, world.levels() - 1});
          }
          const std::vector<SecondStageAnswer> answers =
              walk_all(*kernels, format, controls, memory.memory().view(), requests);
          for (std::size_t i = 0; i < count; ++i) {
            SecondStageAnswer right = walk_second_stage(format, controls, for_walk.memory().view(), requests[i]);
            const oracle::SecondStageAnswer literal = oracle::translate_second_stage(
                world.unit(), test::reader_of(for_oracle), test::exchanger_of(for_oracle), asked[i]);
            const SecondStageAnswer& answer = answers[i];
            // What needs nothing written was answered before another one of the batch set D.
            if (answer.end == SecondStageEnd::leaf && !answer.dirty && right.dirty && !asked[i].write &&
                answer.exchanges == 0) {
              const auto before = answers.begin() + static_cast<std::ptrdiff_t>(i);
              REQUIRE(std::any_of(answers.begin(), before,
                                  [](const SecondStageAnswer& other) { return other.wrote_dirty; }));
              right.dirty = false;
              ++earlier;
            }
            if (!(answer == right))
              FAIL("seed " << seed << " regions " << regions << " request " << i << " of " << count << ": " << answer
                           << ", not " << right);
            REQUIRE(test::code_of(answer.end) == literal.reason);
            REQUIRE(answer.level + 1U == literal.level);
            REQUIRE(answer.rights == Rights{literal.read, literal.write});
            ++seen[literal.reason];
            if (literal.reason != 0) continue;
            REQUIRE(answer.frame.value + (requests[i].iova.value & literal.page_mask) == literal.gpa);
            ++pages[{world.levels(), answer.level}];
          }
          for (const auto& [gpa, word] : world.words()) {
            if (memory.word(gpa) != for_walk.word(gpa) || memory.word(gpa) != for_oracle.word(gpa))
              FAIL("seed " << seed << " regions " << regions << " writes something else to " << gpa);
          }
        }
      }
    }
    if (worlds <= 20) continue;
    for (const unsigned reason : {0x00U, 0x78U, 0x79U, 0x7AU, 0x7BU, 0x7CU, 0x7DU, 0x85U, 0x86U}) {
      CAPTURE(reason);
      CHECK(seen[reason] > worlds / 6);
    }
    CHECK(pages.size() == 9);
    CHECK((earlier > 0) == (std::string_view{kernels->name} != "scalar"));
  }
}

TEST_CASE("lanes answer every second-stage walk that has all it needs, and leave the others to the single walk",
          "[walkers][kernels][second stage]") {
  // Two spans of one address, as no view has them: a single walk looks into the first, lanes take the second.
  constexpr std::uint64_t base = 0x1000;
  test::GuardedRegion alone{base, 0x5000};
  test::GuardedRegion in_lanes{base, 0x5000};
  const std::array<MemorySpan, 2> spans{MemorySpan{{base}, 0x4FFF, alone.data()},
                                        MemorySpan{{base}, 0x4FFF, in_lanes.data()}};
  MemoryView view;
  view.spans = spans;
  const unsigned levels = GENERATE(3U, 4U, 5U);
  const unsigned leaf = GENERATE(0U, 1U, 2U);
  const SecondStageControls controls{.flags = GENERATE(false, true)};
  const SecondStage format{SecondStageRules{}};
  for (const Rights asked : {Rights{}, read_only, write_only, read_write}) {
    // What such a request needs of each entry, and of the leaf. Neither right asked: one of them, whichever.
    const std::uint64_t rights = asked.none() ? 2 : asked.bits();
    const std::uint64_t needs = rights | (controls.flags ? 0x100U : 0);
    const std::uint64_t leaf_needs = needs | (controls.flags && asked.write() ? 0x200U : 0) | (leaf > 0 ? 0x80U : 0);
    for (unsigned lacking = 0; lacking <= 64; ++lacking) {  // a bit that one entry lacks; 64: none does
      for (unsigned at = leaf; at < levels; ++at) {
        if (lacking < 64 && (((at == leaf ? leaf_needs & ~std::uint64_t{0x80} : needs) >> lacking) & 1) == 0) continue;
        for (unsigned level = leaf; level < levels; ++level) {
          std::uint64_t entry = level == leaf ? leaf_needs : needs | (base + std::uint64_t{levels - level} * 0x1000);
          if (level == at && lacking < 64) entry &= ~(std::uint64_t{1} << lacking);
          const std::uint64_t slot = base + std::uint64_t{levels - 1 - level} * 0x1000;
          alone.store_u64(slot, entry | (level == leaf ? 0x4000'0000U : 0));
          in_lanes.store_u64(slot, entry | (level == leaf ? 0x8000'0000U : 0));
        }
        std::vector<SecondStageRequest> requests(17, {{base}, {0}, asked, levels - 1});
        for (const Kernels* const kernels : runnable_kernels()) {
          const std::vector<SecondStageAnswer> answers = walk_all(*kernels, format, controls, view, requests);
          const SecondStageAnswer single = walk_second_stage(format, controls, view, requests.front());
          CAPTURE(kernels->name, lacking, at, asked.bits());
          REQUIRE((single.end == SecondStageEnd::leaf) == (lacking == 64));
          SecondStageAnswer right = single;
          if (lacking == 64 && std::string_view{kernels->name} != "scalar") right.frame = {0x8000'0000};
          REQUIRE(answers.front() == right);
          REQUIRE(answers.back() == right);  // in a vector that it does not fill
        }
      }
    }
  }
}

TEST_CASE("a second-stage walk of another height than the first one of its batch is done all the same",
          "[walkers][kernels][second stage]") {
  Patchwork memory;
  memory.add_region(0x1000, 0x1000, false);
  memory.store(0x1000, 0x1003);  // a table of every level
  std::vector<SecondStageRequest> requests(40, {{0x1000}, {0}, read_only, 3});
  for (std::size_t i = 1; i < requests.size(); i += 3) requests[i].top_level = i % 2 == 0 ? 2 : 4;
  for (const Kernels* const kernels : runnable_kernels()) {
    const std::vector<SecondStageAnswer> answers =
        walk_all(*kernels, SecondStage{SecondStageRules{}}, {}, memory.memory().view(), requests);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      REQUIRE(answers[i].end == SecondStageEnd::leaf);
      REQUIRE(answers[i].frame == Gpa{0x1000});
      REQUIRE(answers[i].loads == requests[i].top_level + 1);
    }
  }
}

TEST_CASE("a second-stage entry that flips under a kernel with flags is taken as it was or as it became",
          "[walkers][kernels][second stage][SEC-2][SEC-3]") {
  // A page that may be written and is dirty, another that may only be read, a larger one, nothing, and flags that go.
  constexpr unsigned rounds = worlds * 150;
  constexpr std::uint64_t at = 0x1000;
  test::GuardedRegion ram{at, 0x4000};
  for (std::uint64_t slot = 0; slot < 512; ++slot) {
    ram.store_u64(at + 8 * slot, (at + 0x1000) | 0x103);
    ram.store_u64(at + 0x1000 + 8 * slot, (at + 0x2000) | 0x103);
  }
  GuestMemory memory{MemoryCallbacks{}};
  RegionMap* const map = RegionMap::create({}, 1);
  REQUIRE(map != nullptr);
  map->assign_with(nullptr, {{{at}, {at + 0x3FFF}}, ram.data(), false});
  static_cast<void>(memory.publish(map));
  for (const Kernels* const kernels : runnable_kernels()) {
    for (std::uint64_t slot = 0; slot < 8; ++slot) {
      ram.store_u64(at + 0x2000 + 8 * slot, (at + 0x3000) | 0x103);
      ram.store_u64(at + 0x3000 + 8 * slot, 0x5000303 + (slot << 12));
    }
    std::atomic<bool> stop{false};
    std::thread guest{[&] {
      while (!stop) {
        for (const std::uint64_t value : {std::uint64_t{0x7000383}, (at + 0x3000) | 0x103})
          for (std::uint64_t slot = 0; slot < 8; ++slot) ram.store_u64(at + 0x2000 + 8 * slot, value);
        for (const std::uint64_t value :
             {std::uint64_t{0x9000101}, std::uint64_t{0}, std::uint64_t{0x5000003}, std::uint64_t{0x5000303}})
          for (std::uint64_t slot = 0; slot < 8; ++slot)
            ram.store_u64(at + 0x3000 + 8 * slot, value + (value == 0 ? 0 : slot << 12));
      }
    }};
    const char* complaint = nullptr;
    std::vector<SecondStageRequest> requests(64);
    for (std::size_t i = 0; i < requests.size(); ++i)
      requests[i] = {{at}, {i % 8 << 21 | (i / 8) << 12}, i % 3 == 0 ? read_write : read_only, 3};
    std::vector<SecondStageAnswer> answers(requests.size());
    const SecondStage format{SecondStageRules{}};
    for (unsigned round = 0; round < rounds && complaint == nullptr; ++round) {
      kernels->walk_second_stage(format, {.flags = true}, memory.view(), requests.data(), answers.data(),
                                 requests.size());
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const SecondStageAnswer& answer = answers[i];
        const bool writes = requests[i].asked.write();
        const std::uint64_t slot = i / 8;
        if (answer.end == SecondStageEnd::absent) {
          if (answer.level != 0) complaint = "absent";
        } else if (answer.end == SecondStageEnd::write_denied) {
          if (!writes || answer.rights != read_only || answer.level != 0) complaint = "denied";
        } else if (answer.end == SecondStageEnd::update_failed) {
          if (answer.exchanges < 8) complaint = "losses";
        } else if (answer.end != SecondStageEnd::leaf) {
          complaint = "end";
        } else if (answer.level == 1) {
          if (answer.frame.value != 0x7000000 || answer.rights != read_write || !answer.dirty) complaint = "large page";
        } else if (answer.frame.value == 0x5000000 + (slot << 12)) {
          if (answer.rights != read_write || (writes && !answer.dirty)) complaint = "first page";
        } else if (answer.frame.value != 0x9000000 + (slot << 12) || answer.rights != read_only || writes ||
                   answer.dirty) {
          complaint = "second page";
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
