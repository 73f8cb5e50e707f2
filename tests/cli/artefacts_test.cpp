// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/artefacts.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string_view>

namespace viommu::test {
namespace {

constexpr std::uint64_t capability = 0x80d2008c22260206;  // 39 bit, one fault record at 220

const cli::Artefact& row(std::string_view name) {
  for (const cli::Artefact& artefact : cli::recording_artefacts())
    if (artefact.name == name) return artefact;
  FAIL("no such row: " << name);
  return cli::recording_artefacts().front();
}

}  // namespace

TEST_CASE("Each row of the artefacts says why", "[replay][artefact]") {
  for (const cli::Artefact& artefact : cli::recording_artefacts()) {
    CHECK_FALSE(std::string_view{artefact.name}.empty());
    CHECK_FALSE(std::string_view{artefact.reason}.empty());
  }
}

TEST_CASE("PV is free only while PP is 0", "[replay][artefact]") {
  const cli::Artefact& pv = row("FRCD PV without PP");
  constexpr std::uint64_t pp = std::uint64_t{1} << 31;
  CHECK(freed_bits(pv, {capability, 0}, 12, 4) == 0x0fffff00);
  CHECK(freed_bits(pv, {capability, 0}, 8, 8) == 0x0fffff0000000000);
  CHECK(freed_bits(pv, {capability, 0}, 8, 4) == 0);
  CHECK(freed_bits(pv, {capability, 0}, 0, 8) == 0);
  CHECK(freed_bits(pv, {capability, pp}, 12, 4) == 0);
}

TEST_CASE("FI is free above the widest address that the unit supports", "[replay][artefact]") {
  const cli::Artefact& fi = row("FRCD FI above the width");
  CHECK(freed_bits(fi, {capability, 0}, 0, 8) == 0xffffff8000000000);
  CHECK(freed_bits(fi, {capability, 0}, 4, 4) == 0xffffff80);
  CHECK(freed_bits(fi, {0x80d2008c222f0606, 0}, 0, 8) == 0xffff000000000000);  // 39 and 48 bit
  CHECK(freed_bits(fi, {capability, 0}, 8, 8) == 0);
}

TEST_CASE("A register read is placed in its fault record", "[replay][artefact]") {
  constexpr std::uint64_t four_records = capability | std::uint64_t{3} << 40;
  CHECK_FALSE(cli::fault_record_at(capability, 0x21c, 4).inside);
  CHECK(cli::fault_record_at(capability, 0x220, 8).inside);
  CHECK(cli::fault_record_at(capability, 0x22c, 4).byte == 12);
  CHECK_FALSE(cli::fault_record_at(capability, 0x22c, 8).inside);
  CHECK_FALSE(cli::fault_record_at(capability, 0x230, 4).inside);
  CHECK(cli::fault_record_at(four_records, 0x258, 8).record_offset == 0x250);
  CHECK_FALSE(cli::fault_record_at(four_records, 0x260, 4).inside);
  CHECK_FALSE(cli::fault_record_at(capability, 0x1c, 4).inside);
}

}  // namespace viommu::test
