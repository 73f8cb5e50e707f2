// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Nested walks against the literal reading of the specification: on tables such as no driver writes them, and while the
// guest changes them.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/nested_oracle.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/guest_at_work.hpp"
#include "tests/walkers/logged_memory.hpp"
#include "tests/walkers/nested_world.hpp"
#include "walkers/nested_walk.hpp"

namespace viommu::walkers {
namespace {

using test::Guest;
using test::LoggedMemory;
using test::MemoryAccess;
using test::Random;
using World = test::NestedWorld;

void require_same(const NestedAnswer& answer, const oracle::NestedAnswer& right,
                  const oracle::FirstStageRequest& request, unsigned levels, bool second_flags) {
  REQUIRE(test::code_of(answer.end) == right.reason);
  REQUIRE(answer.rights == Rights{right.read, right.write});
  if (!right.at_page) REQUIRE(answer.level == (right.level == 0 ? levels : right.level) - 1);
  if (right.reason != 0) return;
  const std::uint64_t page_mask = low_bits(FirstStage::page_shift(answer.level));
  REQUIRE(right.page_mask == page_mask);
  REQUIRE((answer.frame.value & page_mask) == 0);
  REQUIRE(answer.frame.value + (request.address & page_mask) == right.gpa);
  REQUIRE(answer.dirty == (right.first_dirty && (right.second_dirty || !second_flags)));
}

/// What holds of every walk, whoever changes the tables: an exchange is based on the copy loaded just before it, adds
/// flags of one stage alone, and D of the first one for a write alone.
void require_sound(const std::vector<MemoryAccess>& log, const NestedAnswer& answer,
                   const oracle::FirstStageRequest& request, bool second_flags) {
  std::size_t updates = 0;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const MemoryAccess& access = log[i];
    if (access.kind == MemoryAccess::load) continue;
    REQUIRE(i > 0);
    REQUIRE(log[i - 1].kind == MemoryAccess::load);
    REQUIRE(log[i - 1].gpa == access.gpa);
    REQUIRE(log[i - 1].value == access.expected);
    const std::uint64_t added = access.value.value() & ~access.expected;
    REQUIRE((access.value.value() & access.expected) == access.expected);
    REQUIRE(added != 0);
    const bool is_first = (added & ~std::uint64_t{0x460}) == 0;
    REQUIRE((is_first || (second_flags && (added & ~std::uint64_t{0x300}) == 0)));
    if ((added & 0x40) != 0) REQUIRE(request.write);
    if (access.outcome == Exchange::done) ++updates;
  }
  REQUIRE(answer.updates == updates);
  REQUIRE(answer.loads <= 480);
  REQUIRE(answer.exchanges <= 480);
}

}  // namespace

TEST_CASE("nested walk and oracle give the same answer by the same accesses",
          "[walkers][nested][oracle][B24][B30][B31][B35][B37][RVM-7][SEC-2][SEC-4][F3][F5]") {
  const Guest guest = GENERATE(Guest::sleeps, Guest::interferes, Guest::persists, Guest::lies);
  const unsigned worlds = test::run_whole() ? 30'000 : 1'500;
  std::map<unsigned, unsigned> seen;
  std::map<unsigned, unsigned> seen_at_page;
  std::set<std::array<unsigned, 4>> sizes;  // depths of both stages, and sizes of both pages as the oracle's masks say
  unsigned restarts = 0;
  for (unsigned seed = 0; seed < worlds; ++seed) {
    World world{seed * 4 + static_cast<unsigned>(guest)};
    const NestedStages stages = world.stages();
    LoggedMemory mine = world.memory();
    LoggedMemory theirs = world.memory();
    Random my_guest{seed};
    Random their_guest{seed};
    world.let_in(guest, mine, my_guest);
    world.let_in(guest, theirs, their_guest);
    for (unsigned i = 0; i < 40; ++i) {  // one after the other on the same tables: flags accumulate
      const oracle::FirstStageRequest request = world.request();
      mine.read_only = theirs.read_only = world.random().chance(1, 10);
      mine.log.clear();
      theirs.log.clear();
      const NestedAnswer answer = walk_nested(stages, mine,
                                              {{world.unit().pasid_entry_2},
                                               {request.address},
                                               {request.read, request.write},
                                               request.supervisor ? Privilege::supervisor : Privilege::user,
                                               request.execute});
      const oracle::NestedAnswer right =
          oracle::translate_nested(world.unit(), test::reader_of(theirs), test::exchanger_of(theirs), request);
      CAPTURE(seed, i, world.unit().pasid_entry_0, world.unit().pasid_entry_2, world.unit().haw, request.address,
              right.reason, right.level);
      require_same(answer, right, request, world.levels(), world.second_flags());
      REQUIRE(mine.log == theirs.log);  // and with the same accesses from the same words, the same tables
      REQUIRE(answer.loads == mine.count(MemoryAccess::load));
      REQUIRE(answer.exchanges == mine.count(MemoryAccess::exchange));
      require_sound(mine.log, answer, request, world.second_flags());
      ++(right.at_page ? seen_at_page : seen)[right.reason];
      if (right.reason == 0) sizes.insert({world.levels(), stages.second_top_level, right.level, right.second_level});
      if (answer.loads > world.levels() * (stages.second_top_level + 2) + 8) ++restarts;
    }
  }
  for (const unsigned reason : {0x5BU, 0x5CU, 0x5DU, 0x70U, 0x71U, 0x72U, 0x73U, 0x74U, 0x75U, 0x76U, 0x77U,
                                0x78U, 0x79U, 0x7AU, 0x7BU, 0x7CU, 0x7DU, 0x80U, 0x81U, 0x85U, 0x90U, 0x91U}) {
    CAPTURE(guest, reason);
    CHECK(seen[reason] > 5);
  }
  for (const unsigned reason : {0x00U, 0x78U, 0x79U, 0x7AU, 0x7CU, 0x7DU, 0x85U, 0x86U}) {
    CAPTURE(guest, reason);
    CHECK(seen_at_page[reason] > 2);
  }
  CHECK(sizes.size() == 54);  // 2 and 3 depths, 9 pairs of sizes
  if (guest == Guest::persists) CHECK(restarts > 20);
}

}  // namespace viommu::walkers
