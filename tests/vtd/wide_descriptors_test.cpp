// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The descriptors that only a queue of 256-bit ones holds, and what each asks the caches to drop.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <variant>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/descriptors.hpp"
#include "engine/vtd/scopes.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;  // MAMV 18
constexpr std::uint64_t ecap_scalable = 0xF0'0F4A | mask_of(ecap::dt, ecap::smts, ecap::pasid, ecap::prs, ecap::hpts);

Capabilities capable(std::uint64_t cap = cap_48, std::uint64_t ecap = ecap_scalable) {
  return Capabilities::decode(0x30, cap, ecap, 48);
}
Descriptor decode(std::uint64_t low, std::uint64_t high = 0, const Capabilities& capabilities = capable()) {
  return decode_descriptor({{low, high, 0, 0}}, TableMode::scalable, capabilities);
}
constexpr Descriptor bad_field = QueueErrorCode::reserved_field;

/// Domain ids of 8 bits.
Capabilities narrow() { return capable(with(CapabilityRegister{cap_48}, cap::nd, 2).raw); }

}  // namespace

TEST_CASE("PASID-based IOTLB invalidations", "[vtd][PASID-based IOTLB Invalidate Descriptor][normative]") {
  using enum PasidIotlbGranularity;
  CHECK(decode(0x0005'4321'0007'0026) == Descriptor{PasidIotlbInvalidation{pasid, {7}, {0x54321}, all_iovas, false}});
  CHECK(decode(0x0005'4321'0007'0036, 0x1234'5000) ==
        Descriptor{PasidIotlbInvalidation{page, {7}, {0x54321}, {{0x1234'5000}, {0x1234'5FFF}}, false}});
  SECTION("the address mask names an aligned block and the low address bits do not count") {
    CHECK(decode(0x0005'4321'0007'0036, 0x1234'5049) ==
          Descriptor{PasidIotlbInvalidation{page, {7}, {0x54321}, {{0x1220'0000}, {0x123F'FFFF}}, true}});
  }
  SECTION("address, mask and hint do not count for a whole PASID") {
    CHECK(decode(0x0005'4321'0007'0026, 0x1234'507F) ==
          Descriptor{PasidIotlbInvalidation{pasid, {7}, {0x54321}, all_iovas, false}});
  }
  SECTION("domain id bits above the width of ND do not count") {
    CHECK(decode(0x0005'4321'FF07'0026, 0, narrow()) ==
          Descriptor{PasidIotlbInvalidation{pasid, {7}, {0x54321}, all_iovas, false}});
  }
}

TEST_CASE("in a PASID every AM is legal, and from the width of its addresses on it means all of them",
          "[vtd][PASID-based IOTLB Invalidate Descriptor][normative][B09][SEC-5]") {
  constexpr std::uint64_t address = 0x0000'1234'5678'9000;
  const std::uint64_t cap = GENERATE(std::uint64_t{cap_48}, cap_48 | mask_of(cap::fs5lp));
  for (unsigned address_mask = 0; address_mask < 64; ++address_mask) {
    const Descriptor decoded = decode(0x36, address | address_mask, capable(cap));
    REQUIRE(std::holds_alternative<PasidIotlbInvalidation>(decoded));
    const IovaRange pages = std::get<PasidIotlbInvalidation>(decoded).pages;
    CAPTURE(address_mask);
    CHECK(pages.contains({address}));
    if (address_mask >= 36) {
      CHECK(pages == all_iovas);
    } else {
      const std::uint64_t bytes = std::uint64_t{0x1000} << address_mask;
      CHECK(pages.first.value % bytes == 0);
      CHECK(pages.last.value - pages.first.value == bytes - 1);
    }
  }
  SECTION("beside it AM of a domain's pages ends with MAMV") {
    CHECK(decode(0x32, 18) != bad_field);
    for (unsigned address_mask = 19; address_mask < 64; ++address_mask) CHECK(decode(0x32, address_mask) == bad_field);
  }
}

TEST_CASE("the address of a page in a PASID is made canonical", "[vtd][PASID-based IOTLB Invalidate Descriptor]") {
  const auto first = [](std::uint64_t address, std::uint64_t cap) {
    return std::get<PasidIotlbInvalidation>(decode(0x36, address, capable(cap))).pages.first.value;
  };
  CHECK(first(0x0000'7FFF'FFFF'F000, cap_48) == 0x0000'7FFF'FFFF'F000);
  CHECK(first(0xFFFF'8000'0000'0000, cap_48) == 0xFFFF'8000'0000'0000);
  CHECK(first(0x0000'8000'0000'0000, cap_48) == 0xFFFF'8000'0000'0000);
  CHECK(first(0xFFFF'7FFF'FFFF'F000, cap_48) == 0x0000'7FFF'FFFF'F000);
  SECTION("by the width of the widest first stage") {
    constexpr std::uint64_t cap_57 = cap_48 | mask_of(cap::fs5lp);
    CHECK(first(0x0000'8000'0000'0000, cap_57) == 0x0000'8000'0000'0000);
    CHECK(first(0x0100'0000'0000'0000, cap_57) == 0xFF00'0000'0000'0000);
    CHECK(first(0xFF00'0000'0000'0000, cap_57) == 0xFF00'0000'0000'0000);
    CHECK(first(0xFE80'0000'0000'0000, cap_57) == 0x0080'0000'0000'0000);
  }
  SECTION("a block around it too") {
    CHECK(decode(0x36, 0x0000'8000'0000'0000 | 9) ==
          Descriptor{PasidIotlbInvalidation{
              PasidIotlbGranularity::page, {}, {}, {{0xFFFF'8000'0000'0000}, {0xFFFF'8000'001F'FFFF}}, false}});
  }
}

TEST_CASE("PASID-cache invalidations", "[vtd][PASID-cache Invalidate Descriptor][normative]") {
  using enum PasidCacheGranularity;
  CHECK(decode(0x37) == Descriptor{PasidCacheInvalidation{global, {}, {}}});
  CHECK(decode(0x0000'0000'0007'0007) == Descriptor{PasidCacheInvalidation{domain, {7}, {}}});
  CHECK(decode(0x000F'4321'0007'0017) == Descriptor{PasidCacheInvalidation{pasid, {7}, {0xF4321}}});
  SECTION("domain id bits above the width of ND do not count") {
    CHECK(decode(0xFF07'0007, 0, narrow()) == Descriptor{PasidCacheInvalidation{domain, {7}, {}}});
  }
}

TEST_CASE("PASID-based device-TLB invalidations",
          "[vtd][PASID-based Device-TLB Invalidate Descriptor][normative][B18][B33]") {
  const auto with_pages = [](std::uint64_t first, std::uint64_t last) {
    return Descriptor{PasidDeviceTlbInvalidation{{0x0100}, {0}, 3, Pasid{0x54321}, {{first}, {last}}}};
  };
  constexpr std::uint64_t low = 0x0005'4321'0100'0038;
  CHECK(decode(low, 0x5000) == with_pages(0x5000, 0x5FFF));
  SECTION("with S the one bits from bit 12 on give the size") {
    CHECK(decode(low, 0x4800) == with_pages(0x4000, 0x5FFF));
    CHECK(decode(low, 0x5800) == with_pages(0x4000, 0x7FFF));
    CHECK(decode(low, 0x0000'0000'000F'F800) == with_pages(0, 0x1F'FFFF));
    CHECK(decode(low, 0x7FFF'FFFF'FFFF'F800) == with_pages(0, ~std::uint64_t{0}));
    CHECK(decode(low, 0xFFFF'FFFF'FFFF'F800) == with_pages(0, ~std::uint64_t{0}));
  }
  SECTION("with G it is of every PASID") {
    CHECK(decode(low, 0x5001) ==
          Descriptor{PasidDeviceTlbInvalidation{{0x0100}, {0}, 3, std::nullopt, {{0x5000}, {0x5FFF}}}});
  }
  SECTION("the throttling function is reserved without DIT") {
    constexpr std::uint64_t throttled = low | 0x0120'0000'0000'3000;
    CHECK(decode(throttled, 0x5000) == bad_field);
    CHECK(decode(throttled, 0x5000, capable(cap_48, ecap_scalable | mask_of(ecap::dit))) ==
          Descriptor{PasidDeviceTlbInvalidation{{0x0100}, {0x0123}, 3, Pasid{0x54321}, {{0x5000}, {0x5FFF}}}});
  }
}

TEST_CASE("page group responses", "[vtd][Page Group Response Descriptor][normative]") {
  CHECK(decode(0x000F'4321'0100'1019, 0xFF8) == Descriptor{PageGroupResponse{{0x0100}, Pasid{0xF4321}, 511, 1}});
  CHECK(decode(0x0005'4321'0100'F019, 0x8) == Descriptor{PageGroupResponse{{0x0100}, Pasid{0x54321}, 1, 15}});
  SECTION("without PP the PASID does not count") {
    CHECK(decode(0x0005'4321'0100'0009, 0x8) == Descriptor{PageGroupResponse{{0x0100}, std::nullopt, 1, 0}});
  }
  SECTION("what was the last-in-group bit says nothing") { CHECK(decode(0x09, 0xC) == decode(0x09, 0x8)); }
}

TEST_CASE("host permission table invalidations",
          "[vtd][Host Permission Table Cache Invalidate Descriptor][normative]") {
  using enum HostPermissionGranularity;
  constexpr GpaRange everywhere{{0}, {~std::uint64_t{0}}};
  CHECK(decode(0x1A) == Descriptor{HostPermissionInvalidation{global, {}, everywhere, 0}});
  CHECK(decode(0x0007'002A, 0x1234'50C9) == Descriptor{HostPermissionInvalidation{domain, {7}, everywhere, 0}});
  CHECK(decode(0x0007'003A, 0x1234'50C9) ==
        Descriptor{HostPermissionInvalidation{page, {7}, {{0x1220'0000}, {0x123F'FFFF}}, 3}});
  SECTION("all address bits count") {
    CHECK(decode(0x0007'003A, 0xABCD'0000'0000'1000) ==
          Descriptor{HostPermissionInvalidation{page, {7}, {{0xABCD'0000'0000'1000}, {0xABCD'0000'0000'1FFF}}, 0}});
  }
  SECTION("any AM is legal") {
    CHECK(decode(0x0007'003A, 0x3F) == Descriptor{HostPermissionInvalidation{page, {7}, everywhere, 0}});
  }
  SECTION("domain id bits above the width of ND do not count") {
    CHECK(decode(0xFF07'002A, 0, narrow()) == Descriptor{HostPermissionInvalidation{domain, {7}, everywhere, 0}});
  }
}

TEST_CASE("128-bit descriptors mean the same in a queue of 256-bit ones",
          "[vtd][Invalidation Descriptors][normative]") {
  for (const RawDescriptor raw :
       {RawDescriptor{{0x0002'0100'0007'0031, 0, 0, 0}}, RawDescriptor{{0x0007'00F2, 0x1234'5049, 0, 0}},
        RawDescriptor{{0x0000'0100'0003'0003, 0x5001, 0, 0}}, RawDescriptor{{0x0000'1235'2000'0014, 0, 0, 0}},
        RawDescriptor{{0xDEAD'BEEF'0000'0075, 0x7004, 0, 0}}}) {
    const Descriptor wide = decode_descriptor(raw, TableMode::scalable, capable());
    CHECK(wide.index() != 0);
    CHECK(wide == decode_descriptor(raw, TableMode::legacy, capable()));
    caches::PageScope pages;
    CHECK(decode_pages(raw, capable(), pages) == std::holds_alternative<IotlbInvalidation>(wide));
  }
  SECTION("and pages in line are judged by all four words too") {
    caches::PageScope pages;
    CHECK_FALSE(decode_pages({{0x0007'0032, 0x1000, 1, 0}}, capable(), pages));
    CHECK_FALSE(decode_pages({{0x0007'0032, 0x1000, 0, 1}}, capable(), pages));
  }
}

TEST_CASE("what each invalidation of PASIDs drops", "[vtd][Invalidation Granularity][normative]") {
  using Kind = caches::Scope::Kind;
  const auto entries = [](std::uint64_t low) { return scope_of(std::get<PasidCacheInvalidation>(decode(low))); };
  const auto translations = [](std::uint64_t low, std::uint64_t high = 0) {
    return caches::scope_of(page_scope_of(std::get<PasidIotlbInvalidation>(decode(low, high))));
  };
  CHECK(entries(0x37).kind == Kind::pasids);
  const caches::Scope domain = entries(0x0007'0007);
  CHECK(domain.kind == Kind::domain_pasids);
  CHECK(domain.domain == DomainId{7});
  const caches::Scope one = entries(0x0005'4321'0007'0017);
  CHECK(one.kind == Kind::pasid);
  CHECK(one.domain == DomainId{7});
  CHECK(one.pasid == Pasid{0x54321});
  const caches::Scope whole = translations(0x0005'4321'0007'0026);
  CHECK(whole.kind == Kind::pasid_translations);
  CHECK(whole.domain == DomainId{7});
  CHECK(whole.pasid == Pasid{0x54321});
  for (const bool leaf_only : {false, true}) {
    const caches::Scope page = translations(0x0005'4321'0007'0036, 0x1234'5000 | (leaf_only ? 0x40U : 0U));
    CHECK(page.kind == Kind::pasid_pages);
    CHECK(page.domain == DomainId{7});
    CHECK(page.pasid == Pasid{0x54321});
    CHECK(page.range == IovaRange{{0x1234'5000}, {0x1234'5FFF}});
    CHECK(page.keep_structures == leaf_only);
  }
}

}  // namespace viommu::vtd
