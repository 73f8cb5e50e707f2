// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/role.hpp"

#include <catch2/catch.hpp>

namespace viommu::core {

TEST_CASE("a note that is left while somebody works brings one more turn", "[core][role]") {
  Role role;
  REQUIRE(role.enter());
  unsigned turns = 0;
  const WorkState left = role.run([&] {
    ++turns;
    if (turns < 4) CHECK_FALSE(role.enter());
    return turns < 4 ? WorkState::wait : WorkState::idle;
  });
  CHECK(left == WorkState::idle);
  CHECK(turns == 4);
  CHECK(role.try_enter());  // it was given back
}

TEST_CASE("a guest that rings without an end gets 16 turns, and then the rest later", "[core][role][SEC-5]") {
  Role role;
  REQUIRE(role.enter());
  unsigned turns = 0;
  const WorkState left = role.run([&] {
    ++turns;
    if (turns < 100) CHECK_FALSE(role.enter());
    return WorkState::idle;
  });
  CHECK(left == WorkState::more);
  CHECK(turns == 16);
  CHECK(role.try_enter());
}

TEST_CASE("work that has more to do is not turned to again for a note", "[core][role]") {
  Role role;
  REQUIRE(role.enter());
  unsigned turns = 0;
  const WorkState left = role.run([&] {
    ++turns;
    CHECK_FALSE(role.enter());
    return WorkState::more;
  });
  CHECK(left == WorkState::more);
  CHECK(turns == 1);
  CHECK(role.try_enter());
}

}  // namespace viommu::core
