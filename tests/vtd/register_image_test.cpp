// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A register file as numbers, and which numbers cannot be those of one.
#include "engine/vtd/register_image.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

#include "engine/vtd/register_file.hpp"
#include "engine/vtd/register_map.hpp"
#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {
namespace {

/// Every feature that has registers of its own.
Capabilities with_all_registers() {
  return test::capable(test::cap_48 | mask_of(cap::plmr, cap::phmr),
                       test::ecap_remapping | mask_of(ecap::dt, ecap::smts, ecap::prs));
}

}  // namespace

TEST_CASE("a register of 32 bits with a bit beyond them is refused", "[vtd][state][S5.6]") {
  const Capabilities capabilities = with_all_registers();
  const RegisterImage good = RegisterFile{capabilities}.image();
  const std::array rows = register_rows(capabilities);
  REQUIRE(RegisterFile{capabilities}.adopt(good).words == nullptr);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(rows[i].name);
    for (unsigned bit = 32; !rows[i].is_64_bit && bit < 64; ++bit) {
      RegisterImage bad = good;
      bad.values[i] |= std::uint64_t{1} << bit;
      CHECK(RegisterFile{capabilities}.adopt(bad).words != nullptr);
    }
  }
}

}  // namespace viommu::vtd
