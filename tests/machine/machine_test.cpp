// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Admission as a question to any front end.
#include "engine/machine/machine.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/machine/front_ends.hpp"

namespace viommu::machine {
namespace {

constexpr SourceId here{0x0100};

[[nodiscard]] Candidate candidate_of(DeviceKind kind, const FactFunctions* facts) {
  Candidate candidate;
  candidate.source = here;
  candidate.kind = kind;
  candidate.facts = facts;
  return candidate;
}

[[nodiscard]] RefusalCode add(Machine& machine, MockHost host, SourceId source = here) {
  const FactFunctions facts = host.facts();
  Candidate candidate = candidate_of(DeviceKind::host, &facts);
  candidate.source = source;
  Refusal why;
  const Admitted admitted = machine.add(candidate, why);
  CHECK((admitted == Admitted::yes) == (why.code == RefusalCode::nothing));
  return why.code;
}
[[nodiscard]] bool ready(Machine& machine) {
  return machine.ready([](const Refusal&) {});
}

}  // namespace

TEST_CASE("whether a real device can be let in is the front end's to say, and no matter of its kind",
          "[machine][admission][S0.12]") {
  using Expected = RefusalCode;
  for (const auto& [ability, expected] :
       std::vector<std::pair<AnnounceAbility, Expected>>{{AnnounceAbility::guest_announces, Expected::nothing},
                                                         {AnnounceAbility::nested_hardware, Expected::nothing},
                                                         {AnnounceAbility::cannot_translate, Expected::nothing},
                                                         {AnnounceAbility::none, Expected::caching_mode}}) {
    CAPTURE(static_cast<int>(ability));
    MockFrontEnd front_end;
    front_end.ability = ability;
    SECTION("cold: told when the machine is ready") {
      Machine machine{front_end.table(), {}, {}};
      CHECK(add(machine, {}) == Expected::nothing);
      std::vector<Refusal> told;
      CHECK(machine.ready([&](const Refusal& why) { told.push_back(why); }) == (expected == Expected::nothing));
      CHECK(told.size() == (expected == Expected::nothing ? 0 : 1));
      CHECK(machine.phase() == (expected == Expected::nothing ? Phase::ready : Phase::building));
      for (const Refusal& why : told) {
        CHECK(why.code == expected);
        CHECK(why.source == here);
        CHECK(why.field == "announcing");
      }
      if (!told.empty()) {  // without its host it is no offender
        machine.unset_facts(here);
        CHECK(ready(machine));
      }
    }
    SECTION("hot: told at once") {
      Machine machine{front_end.table(), {}, {}};
      REQUIRE(ready(machine));
      CHECK(add(machine, {}) == expected);
      CHECK((machine.find(here) != nullptr) == (expected == Expected::nothing));
      Refusal why;
      for (const DeviceKind kind : {DeviceKind::emulated, DeviceKind::mediated}) {
        Candidate other = candidate_of(kind, nullptr);
        other.source = {static_cast<std::uint16_t>(0x0200 + static_cast<unsigned>(kind))};
        CHECK(machine.add(other, why) == Admitted::yes);
      }
    }
  }
}

TEST_CASE("what is asked and told is kept beside the device", "[machine][admission][S2.2]") {
  MockFrontEnd front_end;
  Machine machine{front_end.table(), {}, {}};
  MockHost host{52};
  FactFunctions facts = host.facts();
  facts.iova_ranges = [](void*, IovaRange* ranges, std::uint32_t capacity, std::uint32_t* count) -> std::int32_t {
    *count = 1;
    if (capacity != 0) *ranges = {{0x1000}, {0xFFFF}};
    return 0;
  };
  const GpaRange reserved{{0x7000}, {0x7FFF}};
  Candidate candidate = candidate_of(DeviceKind::host, &facts);
  candidate.alias = SourceId{0x0500};
  candidate.reserved_memory = &reserved;
  candidate.reserved_count = 1;
  Refusal why;
  REQUIRE(machine.add(candidate, why) == Admitted::yes);
  const Device* const device = machine.find(here);
  REQUIRE((device != nullptr && device->facts));
  CHECK(device->requester() == SourceId{0x0500});
  CHECK(device->facts->width == 52);
  CHECK(device->facts->kind == 9U);
  CHECK(device->facts->words == VendorWords{51, 0});
  CHECK_FALSE(device->facts->page_sizes);
  REQUIRE(device->facts->ranges.size() == 1);
  CHECK(device->facts->ranges[0] == IovaRange{{0x1000}, {0xFFFF}});
  REQUIRE(device->reserved_memory.size() == 1);
  CHECK(device->reserved_memory[0] == reserved);

  machine.unset_facts(here);
  CHECK_FALSE(device->facts);
  CHECK(machine.renumber(1, 2));
  CHECK(machine.find({0x0200}) == device);
  CHECK(machine.remove({0x0200}));
  CHECK_FALSE(machine.remove({0x0200}));
  CHECK(machine.size() == 0);
}

TEST_CASE("a device that finds no place with its front end leaves all as it was", "[machine][admission][S2.4]") {
  MockFrontEnd front_end;
  Policy policy;
  policy.sync = true;
  Machine machine{front_end.table(), policy, {}};
  const Placement full{nullptr, [](void*, const Device&) { return false; }};
  MockHost host{40};
  const FactFunctions facts = host.facts();
  const Candidate candidate = candidate_of(DeviceKind::host, &facts);
  Refusal why;
  CHECK(machine.add(candidate, why, full) == Admitted::unplaced);
  CHECK(machine.find(here) == nullptr);
  CHECK(front_end.applied.empty());
  CHECK_FALSE(machine.narrowed());
  REQUIRE(add(machine, {48}) == RefusalCode::nothing);
  machine.unset_facts(here);
  CHECK(machine.add(candidate, why, full) == Admitted::unplaced);
  const Device* const device = machine.find(here);
  REQUIRE(device != nullptr);
  CHECK_FALSE(device->facts);
  CHECK(front_end.applied.empty());
  CHECK(machine.add(candidate, why) == Admitted::yes);  // it is no duplicate
  CHECK(front_end.applied.size() == 1);
}

TEST_CASE("a narrowing is applied once all checks have passed, and never when it is frozen",
          "[machine][admission][S2.4][S2.5][S2.9]") {
  MockFrontEnd front_end;
  Policy policy;
  policy.sync = true;
  Machine machine{front_end.table(), policy, {}};
  SECTION("refused by the front end") {
    front_end.problem = "SET";
    CHECK(add(machine, {40}) == RefusalCode::field_mismatch);
    CHECK(front_end.applied.empty());
    CHECK_FALSE(machine.narrowed());
  }
  SECTION("applied") {
    CHECK(add(machine, {40}) == RefusalCode::nothing);
    CHECK(front_end.applied == std::vector<Widths>{{40, 39}});
    CHECK(machine.narrowed());
    CHECK(add(machine, {52}, {0x0200}) == RefusalCode::nothing);
    CHECK(add(machine, {39}, {0x0300}) == RefusalCode::nothing);
    CHECK(front_end.applied == std::vector<Widths>{{40, 39}, {39, 39}});
    REQUIRE(ready(machine));
    CHECK(add(machine, {38}, {0x0400}) == RefusalCode::width_too_small);
    CHECK(front_end.applied.size() == 2);
    CHECK(machine.remove(here));
    CHECK(machine.narrowed());
  }
  SECTION("not needed") {
    CHECK(add(machine, {48}) == RefusalCode::nothing);
    CHECK(front_end.applied.empty());
    CHECK_FALSE(machine.narrowed());
  }
  SECTION("below guest memory, where that ends at the last address there is") {
    policy.narrow_haw = true;
    Machine other{front_end.table(), policy, {}};
    front_end.end = Gpa{~std::uint64_t{0}};
    CHECK(add(other, {38}) == RefusalCode::narrows_haw);
    front_end.end = Gpa{low_bits(38)};
    CHECK(add(other, {38}) == RefusalCode::nothing);
    CHECK(front_end.applied == std::vector<Widths>{{38, 38}});
  }
}

}  // namespace viommu::machine
