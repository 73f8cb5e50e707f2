// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translation requests and translated requests, in both modes: completions, what is recorded, what is cached.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/behaviour/scalable_machine.hpp"
#include "tests/capi/machine.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

constexpr std::uint8_t read = VIOMMU_READ;
constexpr std::uint8_t read_write = VIOMMU_READ | VIOMMU_WRITE;
constexpr std::uint64_t dt = bit(2);
constexpr std::uint64_t nwfs = bit(33);
constexpr std::uint64_t dte = 4;
constexpr std::uint64_t paside = 8;
constexpr std::uint64_t with_ats = everything | dt | nwfs;

/// `device` by RID_PASID 0 and by PASID 5 through one stage, whose context allows ATS.
struct World : Machine {
  explicit World(std::uint64_t type = second_stage, std::uint64_t ecap = with_ats) : Machine{capability, ecap} {
    attach(device, paside | dte);
    PasidEntry fields;
    fields.type = type;
    fields.tree = tree;
    fields.high = bit(23);  // PWSNP
    set_pasid(0, fields);
    set_pasid(5, fields);
    map(tree, iova, page_a);
  }
  viommu_ats_completion ats(std::uint64_t at = iova, std::uint8_t access = read_write, int by = -1,
                            std::uint8_t flags = 0) {
    return reader.ats_translate(asked(at, access, by, flags));
  }
  viommu_translation check(std::uint64_t gpa, std::uint8_t access = read, int by = -1) {
    return reader.ats_check(asked(gpa, access, by, 0));
  }
  Tree tree = tables.create_tree(4);

 private:
  static viommu_request asked(std::uint64_t at, std::uint8_t access, int by, std::uint8_t flags) {
    viommu_request made = request(device, at, access);
    made.flags = flags;
    if (by >= 0) {
      made.flags |= VIOMMU_HAS_PASID;
      made.pasid = static_cast<std::uint32_t>(by);
    }
    return made;
  }
};

}  // namespace

TEST_CASE("a translation request is answered with what is granted", "[ats][Address Translation Services][normative]") {
  const std::uint64_t type = GENERATE(second_stage, first_stage);
  const int by = GENERATE(-1, 5);
  World world{type};
  for (int pass = 0; pass < 2; ++pass) {
    const viommu_ats_completion found = world.ats(Machine::iova + 0x123, read_write, by);
    CHECK(found.status == VIOMMU_ATS_SUCCESS);
    CHECK(found.rights == read_write);
    CHECK(found.gpa == Machine::page_a + 0x123);
    CHECK(found.mask == 0xFFF);
    CHECK(found.flags == 0);
  }
  world.map(world.tree, Machine::iova + 0x1000, Machine::page_b, 5);  // may be read
  CHECK(world.ats(Machine::iova + 0x1000, read_write, by).rights == read);
  CHECK(world.ats(Machine::iova + 0x1000, read_write, by).gpa == Machine::page_b);
  CHECK(world.take_fault()[0] == 0);
}

TEST_CASE("a translation request that may write leaves the page dirty, one that may not does not",
          "[ats][Accessed, Extended Accessed, and Dirty Flags][normative]") {
  World world{first_stage};
  CHECK(world.ats(Machine::iova, read).rights == read);
  CHECK((world.word(world.tables.slot(world.tree, Machine::iova, 1)) & dirty) == 0);
  CHECK(world.ats().rights == read_write);
  CHECK((world.word(world.tables.slot(world.tree, Machine::iova, 1)) & dirty) != 0);
  World without{first_stage, with_ats & ~nwfs};  // NW does not count there
  CHECK(without.ats(Machine::iova, read).rights == read_write);
}

TEST_CASE("of a nested page a translation request is granted what both stages grant",
          "[ats][Address Translation Services][normative]") {
  World world{second_stage, with_ats | bit(26)};  // NEST
  PasidEntry fields;
  fields.type = nested;
  fields.high = bit(23);
  fields.tree = world.tree;
  fields.second = world.tables.create_tree(3);
  world.set_pasid(0, fields);
  world.map(fields.second, 0, 0, 7, 3);                      // 1 GiB where it is, which the tables lie in
  world.map(world.tree, Machine::iova, Machine::page_a, 5);  // may be read
  world.invalidate_all();
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(world.ats().status == VIOMMU_ATS_SUCCESS);
    CHECK(world.ats().rights == read);
    CHECK(world.ats().gpa == Machine::page_a);
  }
  world.map(fields.second, 0, 0, 2, 3);
  world.invalidate_all();
  CHECK(world.ats().rights == 0);
  CHECK(world.take_fault()[0] == 0);
}

TEST_CASE("a large page is answered whole", "[ats]") {
  World world;
  constexpr std::uint64_t large = 0x8000'0000;
  world.map(world.tree, large, 0, 7, 2);
  CHECK(world.ats(large + 0x1234).mask == 0x1F'FFFF);
  CHECK(world.ats(large + 0x1234).gpa == 0x1234);
  PasidEntry passing;
  passing.type = pass_through;
  world.set_pasid(5, passing);
  world.invalidate_all();
  CHECK(world.ats(0x1'0000'1234, read_write, 5).gpa == 0x1'0000'1234);
  CHECK(world.ats(0x1'0000'1234, read_write, 5).mask > 0x3FFF'FFFF);
}

TEST_CASE("a translation request with a PASID that passes through the interrupt range is granted, its use is not",
          "[ats][Fault Reason Encodings][normative]") {
  World world;
  PasidEntry passing;
  passing.type = pass_through;
  world.set_pasid(5, passing);
  for (int pass = 0; pass < 2; ++pass) {
    const viommu_ats_completion found = world.ats(0xFEE0'1234, read_write, 5);
    CHECK(found.status == VIOMMU_ATS_SUCCESS);
    CHECK(found.rights == read_write);
    CHECK(found.gpa == 0xFEE0'1234);
    CHECK(found.mask == 0xFFF);
  }
  CHECK(world.take_fault()[0] == 0);
  CHECK(world.check(0xFEE0'1234).reason == 0x87);
}

TEST_CASE("what a device can recover from is a success that grants nothing, and is not recorded",
          "[ats][Fault Reason Encodings][normative]") {
  struct Row {
    std::uint64_t type;
    unsigned level;
    std::uint64_t entry;
    std::uint64_t at;
    std::uint8_t status;
    std::uint8_t reason;
  };
  constexpr std::uint64_t in = Machine::iova;
  constexpr std::uint64_t nowhere = 0x3000'0000;
  constexpr std::uint8_t nothing = VIOMMU_ATS_SUCCESS;
  constexpr std::uint8_t ca = VIOMMU_ATS_COMPLETER_ABORT;
  const Row row =
      GENERATE(Row{second_stage, 1, 0, in, nothing, 0x79}, Row{second_stage, 1, 0, bit(48), nothing, 0x84},
               Row{second_stage, 1, Machine::page_a | 1 | bit(62), in, ca, 0x7A},
               Row{second_stage, 2, nowhere | 3, in, ca, 0x78}, Row{second_stage, 1, 0xFEE0'0003, in, ca, 0x87},
               Row{first_stage, 1, 0, in, nothing, 0x71}, Row{first_stage, 1, Machine::page_a | 3, in, nothing, 0x81},
               Row{first_stage, 1, 0, bit(47), nothing, 0x80},
               Row{first_stage, 1, Machine::page_a | 7 | bit(46), in, nothing, 0x72},
               Row{first_stage, 2, nowhere | 7, in, nothing, 0x70});
  World world{row.type};
  world.put(world.tables.slot(world.tree, in, row.level), row.entry);
  CAPTURE(row.type, row.level, row.entry);
  const viommu_ats_completion found = world.ats(row.at);
  CHECK(found.status == row.status);
  CHECK(found.reason == row.reason);
  CHECK(found.rights == 0);
  const std::uint64_t high = world.take_fault()[0];
  if (row.status == nothing) {
    CHECK(high == 0);
  } else {
    // AT 01; T1 and T2: an atomic, which is what asking to write comes to
    CHECK(high == (bit(63) | bit(62) | bit(28) | bit(60) | std::uint64_t{row.reason} << 32 | Machine::device));
  }
}

TEST_CASE("contexts decide who may ask for translations and use them",
          "[ats][Scalable-Mode Context Entry][normative]") {
  World world;
  const bool cached = GENERATE(false, true);
  CHECK(world.check(Machine::page_a + 5).kind == VIOMMU_IDENTITY);
  CHECK(world.check(Machine::page_a, read_write).gpa == Machine::page_a);
  CHECK(world.check(bit(46)).reason == 0x83);
  CHECK(world.check(0xFEE0'0000).reason == 0x87);
  CHECK(world.check(Machine::page_a, read, 5).reason == 0x49);  // EPTR is not offered
  world.attach(Machine::device, paside);                        // DTE clear
  world.invalidate_all();
  if (cached) {
    CHECK(world.ask().kind == VIOMMU_TRANSLATED);
    CHECK(world.ask_by_pasid(5).kind == VIOMMU_TRANSLATED);
  }
  CHECK(world.ats().status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
  CHECK(world.ats().reason == 0x44);
  CHECK(world.ats(Machine::iova, read, 5).reason == 0x44);
  CHECK(world.check(Machine::page_a).reason == 0x44);
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_EXECUTE).reason == 0x44);
}

TEST_CASE("where a context allows it translated requests may name a PASID",
          "[ats][Scalable-Mode Context Entry][normative]") {
  constexpr std::uint64_t ptrs = bit(56);
  constexpr std::uint64_t eptr = 0x40;
  World world{second_stage, with_ats | ptrs};
  CHECK(world.check(Machine::page_a, read, 5).reason == 0x49);
  world.attach(Machine::device, paside | dte | eptr);
  world.invalidate_all();
  CHECK(world.check(Machine::page_a, read, 5).kind == VIOMMU_IDENTITY);
  CHECK(world.check(Machine::page_a, read, 6).kind == VIOMMU_IDENTITY);  // its entry is not looked at
  CHECK(world.check(bit(46), read, 5).reason == 0x83);
  CHECK(world.check(0xFEE0'0000, read, 5).reason == 0x87);
  CHECK(world.check(Machine::page_a, read, 1 << 14).reason == 0x46);
  CHECK(world.check(Machine::page_a, read, 0).reason == 0x48);
  world.attach(Machine::device, dte | eptr);  // without PASIDE
  world.invalidate_all();
  CHECK(world.check(Machine::page_a, read, 5).reason == 0x43);
  CHECK(world.ats(Machine::iova, read, 5).reason == 0x45);
  CHECK(world.ats().reason == 0x43);
}

TEST_CASE("a translation request for a PASID tells that it was privileged", "[ats]") {
  World world{first_stage};
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_PRIVILEGED).reason == 0x5D);  // SRE is clear
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_PRIVILEGED).status == VIOMMU_ATS_SUCCESS);
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_PRIVILEGED).flags == VIOMMU_ATS_PRIVILEGED);
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_EXECUTE).reason == 0x5C);
  CHECK(world.ats(Machine::iova, read, 5, VIOMMU_EXECUTE).status == VIOMMU_ATS_SUCCESS);
  CHECK(world.ats(Machine::iova, read, 6).reason == 0x59);
  CHECK(world.ats(Machine::iova, read, 6).status == VIOMMU_ATS_SUCCESS);
  CHECK(world.ats(Machine::iova, read, 0).reason == 0x48);
  CHECK(world.ats(Machine::iova, read, 0).status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
}

TEST_CASE("the interrupt range is answered as one to be written untranslated", "[ats][Interrupt Address Range]") {
  World world;
  const viommu_ats_completion may_write = world.ats(0xFEE0'1000);
  CHECK(may_write.status == VIOMMU_ATS_SUCCESS);
  CHECK(may_write.rights == VIOMMU_WRITE);
  CHECK(may_write.flags == VIOMMU_ATS_UNTRANSLATED_ONLY);
  const viommu_ats_completion may_not = world.ats(0xFEE0'1000, read);
  CHECK(may_not.status == VIOMMU_ATS_SUCCESS);
  CHECK(may_not.rights == 0);
  CHECK(may_not.flags == 0);
}

TEST_CASE("while translation is off requests of ATS are unsupported and not recorded", "[ats]") {
  World world;
  world.enable_translation(false);
  CHECK(world.ats().status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
  CHECK(world.ats().recorded == VIOMMU_FAULT_NOT_REPORTED);
  CHECK(world.check(Machine::page_a).kind == VIOMMU_FAULT);
  CHECK(world.take_fault()[0] == 0);
  world.enable_translation(true);
  world.set_mode(3);
  CHECK(world.ats().status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
  CHECK(world.ats().reason == 0x33);
  world.set_mode(2);
  CHECK(world.ats().status == VIOMMU_ATS_COMPLETER_ABORT);
  CHECK(world.ats().reason == 0x30);
}

TEST_CASE("in legacy mode TT 01 alone allows ATS", "[ats][Context Entry][normative]") {
  viommu_vtd_options options = capi::default_options();
  options.extended_capability = 0xF07 | pt;  // C, QI, DT
  capi::Machine machine{options};
  machine.map(capi::base_iova, 0x10'5000);
  viommu_request asked = request(capi::device, capi::base_iova, read_write);
  CHECK(machine.reader.ats_translate(asked).reason == 0x0D);
  CHECK(machine.reader.ats_check(asked).reason == 0x0D);
  machine.tables.attach(capi::device, machine.tree, {1, 1, false});
  machine.invalidate_all();
  CHECK(machine.reader.ats_translate(asked).gpa == 0x10'5000);
  CHECK(machine.reader.ats_translate(asked).rights == read_write);
  asked.iova = 0x10'5000;
  CHECK(machine.reader.ats_check(asked).kind == VIOMMU_IDENTITY);
  asked.iova = ~std::uint64_t{0};
  CHECK(machine.reader.ats_check(asked).reason == 0x04);
  asked.iova = 0xFEE0'0000;
  CHECK(machine.reader.ats_check(asked).reason == 0x0E);
  asked = request(capi::device, capi::base_iova + 0x10'0000, read);
  CHECK(machine.reader.ats_translate(asked).status == VIOMMU_ATS_SUCCESS);
  CHECK(machine.reader.ats_translate(asked).rights == 0);
  asked.flags = VIOMMU_HAS_PASID;
  CHECK(machine.reader.ats_translate(asked).status == VIOMMU_ATS_UNSUPPORTED_REQUEST);
  CHECK(machine.reader.ats_translate(asked).reason == 0x31);
}

TEST_CASE("a translation given to a device is new after the invalidation that removed the old one", "[ats][P1]") {
  World world{first_stage};
  CHECK(world.ats(Machine::iova, read_write, 5).gpa == Machine::page_a);
  world.map(world.tree, Machine::iova, Machine::page_b);
  CHECK(world.ats(Machine::iova, read_write, 5).gpa == Machine::page_a);
  world.add(0x36 | 1U << 16 | 5ULL << 32, Machine::iova);
  world.submit();
  CHECK(world.ats(Machine::iova, read_write, 5).gpa == Machine::page_b);
}

}  // namespace viommu::test
