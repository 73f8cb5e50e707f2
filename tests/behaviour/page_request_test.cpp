// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Page requests: the queue, its status and event, overflow, who may ask, and the guest's answers.
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/behaviour/page_request_world.hpp"
#include "tests/support/explained.hpp"

namespace viommu::test {
namespace {

using namespace page_requests;
using namespace scalable;

}  // namespace

TEST_CASE("a page request reaches the guest's queue and its answer goes back once", "[pages][S5.4][RVM-12]") {
  World world;
  CHECK(world.ask_page(World::page(3, true, 5, 0x6000 + 0x123)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.word(world.queue) == (1 | bit(8) | std::uint64_t{Machine::device} << 16 | 5ULL << 32));
  CHECK(world.word(world.queue + 8) == (2 | 4 | 3 << 3 | 0x6000));
  CHECK(world.word(world.queue + 16) == 0);
  CHECK(world.word(world.queue + 24) == 0);
  CHECK(world.reg(pqt) == 32);
  CHECK(world.reg(prs_register) == ppr);
  CHECK(world.messages == std::vector<std::uint32_t>{0x77});
  CHECK(world.responses.empty());
  world.respond(3, 0);
  CHECK(world.responses == std::vector<Response>{{Machine::device, 5, 3, VIOMMU_PAGE_SUCCESS}});
  world.respond(3, 0);  // a second one
  world.respond(4, 0);  // of nobody
  world.respond(3, 1, 6);
  CHECK(world.responses.size() == 1);
  CHECK(world.engine.statistics().page_responses_dropped == 3);
}

TEST_CASE("groups are answered in the guest's order, each once", "[pages][S5.4]") {
  World world;
  for (std::uint16_t group = 1; group <= 3; ++group)
    CHECK(world.ask_page(World::page(group, true)) == VIOMMU_PAGE_QUEUED);
  for (const std::uint64_t group : {1U, 3U, 2U, 1U}) world.respond(group, 0);
  CHECK(world.responses == std::vector<Response>{{Machine::device, 5, 1, VIOMMU_PAGE_SUCCESS},
                                                 {Machine::device, 5, 3, VIOMMU_PAGE_SUCCESS},
                                                 {Machine::device, 5, 2, VIOMMU_PAGE_SUCCESS}});
  CHECK(world.engine.statistics().page_responses_dropped == 1);
}

TEST_CASE("each field of a page request has its place in the descriptor",
          "[pages][Page Request Descriptor][normative]") {
  World world;
  viommu_page_request asked = World::page(511, false, -1, 0xFFFF'8000'1234'5678);
  asked.access = VIOMMU_READ;
  CHECK(world.ask_page(asked) == VIOMMU_PAGE_QUEUED);
  CHECK(world.word(world.queue) == (1 | std::uint64_t{Machine::device} << 16));
  CHECK(world.word(world.queue + 8) == (1 | 511 << 3 | 0xFFFF'8000'1234'5000));
  World supervised;
  PasidEntry fields;
  fields.type = first_stage;
  fields.tree = supervised.tree;
  fields.third = 1;  // SRE
  supervised.set_pasid(9, fields);
  asked = World::page(0, false, 9);
  asked.flags |= VIOMMU_PRIVILEGED;
  CHECK(supervised.ask_page(asked) == VIOMMU_PAGE_QUEUED);
  CHECK((supervised.word(supervised.queue) >> 52 & 3) == 2);  // PMR
}

TEST_CASE("who may not ask for pages is answered invalid, and the fault is recorded",
          "[pages][Fault Reason Encodings][normative]") {
  World world;
  const auto blocked = [&](const viommu_page_request& asked, unsigned reason) {
    CHECK(world.ask_page(asked) == (asked.last != 0 ? VIOMMU_PAGE_ANSWERED : VIOMMU_PAGE_DROPPED));
    if (asked.last != 0) CHECK(world.code == VIOMMU_PAGE_INVALID);
    const auto [high, low] = world.take_fault();
    CHECK((high >> 32 & 0xFF) == reason);
    CHECK((high & (bit(62) | bit(28))) == bit(28));  // T1, T2: a page request
    CHECK(world.reg(pqt) == 0);
  };
  world.attach(Machine::device, 4 | 8);
  blocked(World::page(1, true), 0x47);
  blocked(World::page(1, false), 0x47);
  world.attach(Machine::device, 4 | 16);
  blocked(World::page(1, true), 0x45);
  world.attach(Machine::device, all_allowed);
  blocked(World::page(1, true, 6), 0x59);
  blocked(World::page(1, true, 0), 0x48);
  world.set_mode(3);
  blocked(World::page(1, true), 0x33);
  world.set_mode(2);
  blocked(World::page(1, true), 0x30);
  world.set_mode(0);
  blocked(World::page(1, true), 0x32);
  world.enable_translation(false);
  CHECK(world.ask_page(World::page(1, true)) == VIOMMU_PAGE_ANSWERED);
  CHECK(world.take_fault()[0] == 0);
}

TEST_CASE("a full page request queue overflows, and what comes meanwhile is answered with success",
          "[pages][Page Request Queue][normative][RVM-12]") {
  World world;
  for (std::uint16_t i = 0; i < 127; ++i) CHECK(world.ask_page(World::page(i, false)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.reg(pqt) == 127ULL * 32);
  CHECK(world.reg(prs_register) == ppr);
  CHECK(world.ask_page(World::page(200, true)) == VIOMMU_PAGE_ANSWERED);
  CHECK(world.code == VIOMMU_PAGE_SUCCESS);
  CHECK(world.reg(prs_register) == (ppr | pro));
  CHECK(world.ask_page(World::page(200, false)) == VIOMMU_PAGE_DROPPED);
  CHECK(world.messages.size() == 1);  // PPR was there already
  static_cast<void>(world.engine.mmio_write(pqh, 8, 127ULL * 32));
  CHECK(world.ask_page(World::page(200, true)) == VIOMMU_PAGE_ANSWERED);  // still overflowed
  static_cast<void>(world.engine.mmio_write(prs_register, 4, pro | ppr));
  CHECK(world.reg(prs_register) == 0);
  CHECK(world.ask_page(World::page(200, true)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.reg(pqt) == 0);  // behind the end
  CHECK(world.messages.size() == 2);
  CHECK(world.take_fault()[0] == 0);
}

TEST_CASE("a page request event waits behind its mask, and goes with its cause",
          "[pages][Page Request Events][normative]") {
  World world;
  static_cast<void>(world.engine.mmio_write(pectl, 4, 0x8000'0000));
  CHECK(world.ask_page(World::page(1, false)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.reg(pectl) == 0xC000'0000);
  CHECK(world.messages.empty());
  static_cast<void>(world.engine.mmio_write(pectl, 4, 0));
  CHECK(world.messages.size() == 1);
  static_cast<void>(world.engine.mmio_write(prs_register, 4, ppr));
  static_cast<void>(world.engine.mmio_write(pectl, 4, 0x8000'0000));
  CHECK(world.ask_page(World::page(1, false)) == VIOMMU_PAGE_QUEUED);
  static_cast<void>(world.engine.mmio_write(prs_register, 4, ppr));
  CHECK(world.reg(pectl) == 0x8000'0000);
  static_cast<void>(world.engine.mmio_write(pectl, 4, 0));
  CHECK(world.messages.size() == 1);
}

TEST_CASE("a page request makes what is cached for its page be looked up again", "[pages][Page Requests][normative]") {
  World world;
  world.map(world.tree, Machine::iova, Machine::page_a);
  world.map(world.tree, Machine::iova + 0x1000, Machine::page_a);
  CHECK(world.ask_by_pasid(5).gpa == Machine::page_a);
  CHECK(world.ask_by_pasid(5, Machine::iova + 0x1000).gpa == Machine::page_a);
  world.map(world.tree, Machine::iova, Machine::page_b);
  world.map(world.tree, Machine::iova + 0x1000, Machine::page_b);
  CHECK(world.ask_page(World::page(1, false)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.ask_by_pasid(5).gpa == Machine::page_b);
  CHECK(world.ask_by_pasid(5, Machine::iova + 0x1000).gpa == Machine::page_a);
}

TEST_CASE("a queue that lies in no memory overflows, and the group is answered", "[pages][RVM-12]") {
  World world;
  static_cast<void>(world.engine.mmio_write(pqa, 8, 0x3000'0000));
  CHECK(world.ask_page(World::page(8, true)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.responses == std::vector<Response>{{Machine::device, 5, 8, VIOMMU_PAGE_SUCCESS}});
  CHECK(world.reg(prs_register) == pro);
  CHECK(world.reg(pqt) == 0);
}

TEST_CASE("groups that wait when the unit is reset are answered with failure", "[pages][S5.4]") {
  World world;
  CHECK(world.ask_page(World::page(8, true)) == VIOMMU_PAGE_QUEUED);
  CHECK(world.ask_page(World::page(9, true, -1)) == VIOMMU_PAGE_QUEUED);
  REQUIRE(world.engine.reset() == VIOMMU_OK);
  CHECK(world.responses == std::vector<Response>{{Machine::device, no_pasid, 9, VIOMMU_PAGE_FAILURE},
                                                 {Machine::device, 5, 8, VIOMMU_PAGE_FAILURE}});
  CHECK(world.reg(pqt) == 0);
  CHECK(world.reg(pectl) == 0x8000'0000);
}

TEST_CASE("so many groups may wait and no more", "[pages][P6]") {
  World world;
  for (unsigned i = 0; i < 512; ++i) {
    CHECK(world.ask_page(World::page(static_cast<std::uint16_t>(i), true)) == VIOMMU_PAGE_QUEUED);
    static_cast<void>(world.engine.mmio_write(pqh, 8, world.reg(pqt)));
  }
  CHECK(world.ask_page(World::page(0, true, -1)) == VIOMMU_PAGE_ANSWERED);
  CHECK(world.code == VIOMMU_PAGE_SUCCESS);
  CHECK((world.reg(prs_register) & pro) != 0);
  static_cast<void>(world.engine.mmio_write(prs_register, 4, pro | ppr));
  world.respond(17, 0);
  CHECK(world.ask_page(World::page(0, true, -1)) == VIOMMU_PAGE_QUEUED);
}

TEST_CASE("a unit without page requests has no such registers and takes none", "[pages]") {
  World world{everything | dt};
  CHECK(world.ask_page(World::page(0, true)) == VIOMMU_E_UNSUPPORTED);
  for (const std::uint64_t offset : {pqh, pqt, pqa}) CHECK(world.reg(offset) == 0);
  CHECK(world.reg(pectl) == 0);
  viommu_page_request asked = World::page(512, true);
  CHECK(world.ask_page(asked) == VIOMMU_E_ARGUMENT);
  asked = World::page(0, true, -1);
  asked.flags = VIOMMU_PRIVILEGED;
  CHECK(world.ask_page(asked) == VIOMMU_E_ARGUMENT);
}

TEST_CASE("a page request with a PASID is told of a context that allows translated ones alone",
          "[pages][Scalable-Mode Context Entry]") {
  constexpr std::uint64_t ptrs = bit(56);
  World world{everything | dt | prs | pds | ptrs};
  world.attach(Machine::device, 0x40 | 4 | 16);  // EPTR, DTE, PRE, but not PASIDE
  world.invalidate_all();
  CHECK(world.ask_page(World::page(1, true)) == VIOMMU_PAGE_ANSWERED);
  CHECK(world.code == VIOMMU_PAGE_INVALID);
  CHECK((world.take_fault()[0] >> 32 & 0xFF) == 0x43);
}

TEST_CASE("a dump tells how many groups of page requests wait for their answer", "[pages][dump]") {
  World world;
  const auto waiting = [&] { return dumped(world.engine, VIOMMU_DUMP_WORK)["work"]["page_requests"]; };
  CHECK(waiting()["groups_waiting"] == 0);
  REQUIRE(world.ask_page(World::page(7, true)) == VIOMMU_OK);
  REQUIRE(world.ask_page(World::page(8, true)) == VIOMMU_OK);
  CHECK(waiting()["groups_waiting"] == 2);
  CHECK(waiting()["posted"] == 0);
  world.respond(7, 0);
  CHECK(waiting()["groups_waiting"] == 1);
}

}  // namespace viommu::test
