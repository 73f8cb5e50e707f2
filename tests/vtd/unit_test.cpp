// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A unit whose work another thread is at.
#include "engine/vtd/unit.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/core/test_waist.hpp"
#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {

TEST_CASE("what the guest asks for while somebody has the unit to himself is done when he leaves", "[vtd][unit]") {
  constexpr std::uint32_t srtp = 0x4000'0000;
  test::TestWaist waist;
  Unit unit{test::capable(), {}, waist.waist, waist.marked, {}};
  const auto status = [&] { return unit.read(offset::global_status, 4).value; };
  const bool alone = unit.exclusively([&] {
    static_cast<void>(unit.write(offset::global_command, 4, srtp));
    CHECK(status() == 0);  // nobody else is at the unit's work meanwhile
    CHECK_FALSE(unit.exclusively([] { FAIL("two at once"); }));
  });
  CHECK(alone);
  CHECK(status() == srtp);
}

}  // namespace viommu::vtd
