// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/way.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <iterator>
#include <optional>

#include "engine/machine/ways.hpp"
#include "tests/machine/front_ends.hpp"

namespace viommu::machine {

TEST_CASE("ability and wish give the way of a device, in twelve rows", "[machine][S4.1][A32]") {
  struct Row {
    Ability ability;
    Wish wish;
    UnknownPolicy policy;
    Decision decision;
  };
  constexpr auto closed = UnknownPolicy::closed;
  constexpr auto legacy = UnknownPolicy::legacy;
  constexpr Row rows[] = {
      {Ability::able, Wish::unset, closed, {Way::unit}},
      {Ability::able, Wish::translate, closed, {Way::unit}},
      {Ability::able, Wish::bypass, closed, {Way::system}},
      {Ability::not_able, Wish::unset, closed, {Way::system}},
      {Ability::not_able, Wish::translate, closed, {Way::system, true}},
      {Ability::not_able, Wish::bypass, closed, {Way::system}},
      {Ability::unknown, Wish::unset, closed, {Way::blocked, true}},
      {Ability::unknown, Wish::translate, closed, {Way::blocked, true}},
      {Ability::unknown, Wish::bypass, closed, {Way::blocked, true}},
      {Ability::unknown, Wish::unset, legacy, {Way::system}},
      {Ability::unknown, Wish::translate, legacy, {Way::system}},
      {Ability::unknown, Wish::bypass, legacy, {Way::system}},
  };
  static_assert(std::size(rows) == 12);
  for (const Row& row : rows) {
    CAPTURE(static_cast<int>(row.ability), static_cast<int>(row.wish), static_cast<int>(row.policy));
    CHECK(way_for(row.ability, row.wish, row.policy) == row.decision);
    // Who is known is decided alike under either policy.
    if (row.ability != Ability::unknown) CHECK(way_for(row.ability, row.wish, legacy) == row.decision);
  }
}

TEST_CASE("a driver that has not chosen leaves a device beside the unit, and one that refused stops it",
          "[machine][S4.2][S4.3]") {
  for (const Way way : {Way::unit, Way::system}) {
    CHECK(way_now(way, DriverState::none) == Way::system);
    CHECK(way_now(way, DriverState::agreed) == way);
    CHECK(way_now(way, DriverState::refused) == Way::blocked);
  }
  for (const DriverState driver : {DriverState::none, DriverState::agreed, DriverState::refused})
    CHECK(way_now(Way::blocked, driver) == Way::blocked);
}

TEST_CASE("each source id has a way of its own, and a bus takes those of its devices along", "[machine][S4.1][S4.7]") {
  Ways ways;
  ways.put({0x1234}, Way::blocked);
  ways.put({0x1235}, Way::system);
  for (std::uint32_t id = 0; id < 0x10000; ++id) {
    const Way expected = id == 0x1234 ? Way::blocked : id == 0x1235 ? Way::system : Way::unit;
    if (ways.of({static_cast<std::uint16_t>(id)}) != expected) FAIL("source id " << id);
  }
  ways.renumber(0x12, 0x40);
  CHECK(ways.of({0x1234}) == Way::unit);
  CHECK(ways.of({0x1235}) == Way::unit);
  CHECK(ways.of({0x4034}) == Way::blocked);
  CHECK(ways.of({0x4035}) == Way::system);
  ways.renumber(0x40, 0x40);
  CHECK(ways.of({0x4034}) == Way::blocked);
  ways.put({0x4034}, Way::unit);
  CHECK(ways.of({0x4034}) == Way::unit);
  CHECK(ways.of({0x4035}) == Way::system);
}

TEST_CASE("a virtual function is what its physical function is, unless it says otherwise", "[machine][S4.16]") {
  MockFrontEnd front_end;
  Machine machine{front_end.table(), {}, {}};
  Refusal why;
  const auto add = [&](std::uint16_t source, std::optional<std::uint16_t> physical, std::optional<Ability> ability,
                       Wish wish = Wish::unset) {
    Candidate candidate;
    candidate.source = {source};
    if (physical) candidate.physical = SourceId{*physical};
    candidate.ability = ability;
    candidate.wish = wish;
    return machine.add(candidate, why);
  };
  REQUIRE(add(0x0300, {}, Ability::not_able) == Admitted::yes);
  REQUIRE(add(0x0400, {}, Ability::able, Wish::bypass) == Admitted::yes);
  REQUIRE(add(0x0380, 0x0300, {}) == Admitted::yes);
  REQUIRE(add(0x0381, 0x0300, Ability::able) == Admitted::yes);
  REQUIRE(add(0x0480, 0x0400, {}) == Admitted::yes);
  REQUIRE(add(0x0481, 0x0400, {}, Wish::translate) == Admitted::yes);
  REQUIRE(add(0x0580, 0x0500, {}) == Admitted::yes);  // of one that is not there
  CHECK(machine.way_of({0x0380}) == Way::system);
  CHECK(machine.way_of({0x0381}) == Way::unit);
  CHECK(machine.way_of({0x0480}) == Way::system);
  CHECK(machine.way_of({0x0481}) == Way::unit);
  CHECK(machine.way_of({0x0580}) == Way::unit);
  CHECK(add(0x0382, 0x0300, {}, Wish::translate) == Admitted::refused);
  CHECK(why.code == RefusalCode::cannot_translate);
}

}  // namespace viommu::machine
