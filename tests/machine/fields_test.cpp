// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/fields.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/machine_side.hpp"
#include "tests/machine/front_ends.hpp"

namespace viommu::machine {
namespace {

[[nodiscard]] std::string_view mismatch(CheckMode mode, const VendorWords& own, const VendorWords& host) {
  const CapabilityField* const field = first_mismatch(mock_fields, mode, own, host);
  return field == nullptr ? std::string_view{} : field->name;
}

}  // namespace

TEST_CASE("a rule says how a value of ours may stand beside the host's", "[machine][fields][S2.14]") {
  for (std::uint64_t own = 0; own < 16; ++own)
    for (std::uint64_t host = 0; host < 16; ++host) {
      CAPTURE(own, host);
      CHECK(obeys(FieldRule::ignore, own, host));
      CHECK(obeys(FieldRule::less_or_equal, own, host) == (own <= host));
      CHECK(obeys(FieldRule::subset, own, host) == ((own & host) == own));
      CHECK(obeys(FieldRule::exact, own, host) == (own == host));
    }
}

TEST_CASE("the first row that does not fit is told, by the rules of the mode", "[machine][fields][S2.14]") {
  constexpr auto second = CheckMode::second_stage;
  constexpr auto first = CheckMode::first_stage;
  const VendorWords own{0x0330, 0x4400};
  CHECK(mismatch(second, own, {0x0030, 0}).empty());
  CHECK(mismatch(second, own, {0x002F, 0}) == "WIDTH");
  CHECK(mismatch(first, own, {0x0330, 0x4401}).empty());
  CHECK(mismatch(first, own, {0x0730, 0x4401}).empty());
  CHECK(mismatch(first, own, {0x0130, 0x4401}) == "SET");
  CHECK(mismatch(first, own, {0x0330, 0x4400}) == "NESTS");
  CHECK(mismatch(first, own, {0x0330, 0x4501}) == "SAME");
  CHECK(mismatch(first, own, {0, 0}) == "WIDTH");
}

TEST_CASE("each bit of CAP and ECAP has one row, and of a second stage MGAW alone has a rule",
          "[machine][fields][vtd][S2.14]") {
  std::array<std::uint64_t, 2> covered{};
  for (const CapabilityField& field : vtd::capability_fields()) {
    CAPTURE(std::string{field.name});
    CHECK((covered[field.word] & mask_of(field.bits)) == 0);
    covered[field.word] |= mask_of(field.bits);
    CHECK((field.rule(CheckMode::second_stage) == FieldRule::less_or_equal) == (field.name == "MGAW"));
    if (field.name != "MGAW") CHECK(field.rule(CheckMode::second_stage) == FieldRule::ignore);
    if (field.name == "FS1GP") CHECK(field.rule(CheckMode::first_stage) == FieldRule::subset);
  }
  CHECK(covered == std::array<std::uint64_t, 2>{~std::uint64_t{0}, ~std::uint64_t{0}});
  CHECK(input_bits_field(vtd::capability_fields()).name == "MGAW");
}

TEST_CASE("narrowing cuts MGAW to the width, and SAGAW to the first table that reaches it", "[machine][vtd][S2.4]") {
  constexpr std::uint64_t cap_57 = 0x80D2'008C'2238'0E86;
  const vtd::Capabilities own = vtd::Capabilities::decode(0x10, cap_57, 0xF00F4A, 40);
  for (unsigned bits = 31; bits <= 57; ++bits) {
    CAPTURE(bits);
    const vtd::Capabilities left = vtd::narrowed_to(own, {bits, 39});
    CHECK(left.input_address_bits == bits);
    CHECK(left.host_address_width == 39);
    // SAGAW bits 1, 2, 3: 39, 48, 57.
    CHECK(left.address_widths == (bits <= 39 ? 0b0010U : bits <= 48 ? 0b0110U : 0b1110U));
    CHECK(left.ecap == own.ecap);
    constexpr std::uint64_t touched = 0x3F'1F00;
    CHECK((left.cap & ~touched) == (own.cap & ~touched));
  }
}

}  // namespace viommu::machine
