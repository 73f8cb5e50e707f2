// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The topology through the C interface: what becomes of each field, what engines say, and what is no description.
#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/dmar_reader.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t base = 0xFED90000;
constexpr std::uint64_t ecap_interrupt_remapping = 0x8;

viommu_dmar_scope scope(unsigned kind, unsigned bus, unsigned device, unsigned function = 0, unsigned id = 0) {
  viommu_dmar_scope made{};
  made.kind = static_cast<std::uint8_t>(kind);
  made.id = static_cast<std::uint8_t>(id);
  made.start_bus = static_cast<std::uint8_t>(bus);
  made.hops = 1;
  made.path[0] = {static_cast<std::uint8_t>(device), static_cast<std::uint8_t>(function)};
  return made;
}

viommu_refusal empty_refusal() {
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  return refusal;
}

/// One of everything. A test changes what it is about.
struct Described {
  std::array<viommu_dmar_scope, 2> listed{scope(VIOMMU_SCOPE_ENDPOINT, 0, 2), scope(VIOMMU_SCOPE_BRIDGE, 0, 3, 1)};
  std::array<viommu_dmar_scope, 3> rest{scope(VIOMMU_SCOPE_IOAPIC, 0xF0, 0x1F, 0, 8),
                                        scope(VIOMMU_SCOPE_HPET, 0xF0, 0x0F, 0, 1),
                                        scope(VIOMMU_SCOPE_NAMED, 0, 0x15, 0, 4)};
  std::array<viommu_dmar_unit, 2> units{};
  viommu_dmar_rmrr rmrr{};
  viommu_dmar_atsr atsr{};
  viommu_dmar_rhsa rhsa{};
  viommu_dmar_andd andd{};
  viommu_dmar_satc satc{};
  viommu_dmar_bypass bypass{};
  viommu_dmar dmar{};

  Described() {
    listed[1].hops = 2;  // 01:03.1 behind 00:02.1, and buses 5 and 6 behind it
    listed[1].path[0] = {2, 1};
    listed[1].path[1] = {3, 1};
    listed[1].bus = 1;
    listed[1].secondary = 5;
    listed[1].subordinate = 6;
    units[0] = {nullptr, base, 0x4000, 7, 0, 2, listed.data()};
    units[1] = {nullptr, base + 0x4000, 0, 7, VIOMMU_DMAR_INCLUDE_ALL, 3, rest.data()};
    rmrr = {0x7F000000, 0x7F0FFFFF, 7, 0, 1, listed.data()};
    atsr = {7, 0, 1, &listed[1]};
    rhsa = {base + 0x4000, 9, 0};
    andd = {"\\_SB.I2C0", 4, {}};
    satc = {7, VIOMMU_DMAR_ATC_REQUIRED, 1, listed.data()};
    bypass = {7, 0x4000, 0x40FF, 0};
    dmar.size = sizeof dmar;
    dmar.host_address_width = 46;
    dmar.unit_count = 2;
    dmar.units = units.data();
    dmar.rmrr_count = dmar.atsr_count = dmar.rhsa_count = dmar.andd_count = dmar.satc_count = 1;
    dmar.rmrrs = &rmrr;
    dmar.atsrs = &atsr;
    dmar.rhsas = &rhsa;
    dmar.andds = &andd;
    dmar.satcs = &satc;
  }
  Described(const Described&) = delete;
  Described& operator=(const Described&) = delete;
  ~Described() = default;

  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::size_t length = 0;
    REQUIRE(viommu_dmar_write(&dmar, nullptr, 0, &length, nullptr) == VIOMMU_E_RANGE);
    std::vector<std::byte> table(length);
    REQUIRE(viommu_dmar_write(&dmar, table.data(), table.size(), &length, nullptr) == VIOMMU_OK);
    return table;
  }
  [[nodiscard]] test::DmarTable table() const {
    const test::DmarRead read = test::read_dmar(bytes());
    CHECK(read.problem.empty());
    return read.table;
  }
  /// What both functions answer; the refusal in `refusal`.
  viommu_result result() {
    std::size_t length = 0;
    std::uint32_t unit = 0;
    std::array<std::byte, 4096> table{};
    refusal = empty_refusal();
    const viommu_result written = viommu_dmar_write(&dmar, table.data(), table.size(), &length, &refusal);
    const viommu_result found = viommu_dmar_unit_of(&dmar, 7, 0x0010, VIOMMU_SCOPE_ENDPOINT, &unit, nullptr);
    CHECK((found == VIOMMU_E_NOT_FOUND ? VIOMMU_OK : found) == written);
    return written;
  }
  viommu_refusal refusal = empty_refusal();
};

/// A unit of that width, with interrupt remapping or without.
Engine engine_of(std::uint32_t width, bool remaps = true) {
  viommu_vtd_options options = default_options();
  options.host_address_width = width;
  options.extended_capability = 0xF0'0F43 | (remaps ? ecap_interrupt_remapping : 0);
  return create(options);
}

}  // namespace

TEST_CASE("each field of a description comes out at its place in the table", "[capi][topology][BIOS Considerations]") {
  Described described;
  const test::DmarTable table = described.table();
  const std::vector<test::DmarScope> first{{1, 0, 0, {{2, 0}}}};
  const test::DmarScope second{2, 0, 0, {{2, 1}, {3, 1}}};
  const std::vector<test::DmarStructure> expected{
      {0, 0, 2, 7, base, 0, 0, 0, "", {first[0], second}},
      {0,
       1,
       0,
       7,
       base + 0x4000,
       0,
       0,
       0,
       "",
       {{3, 8, 0xF0, {{31, 0}}}, {4, 1, 0xF0, {{15, 0}}}, {5, 4, 0, {{21, 0}}}}},
      {1, 0, 0, 7, 0x7F000000, 0x7F0FFFFF, 0, 0, "", first},
      {2, 0, 0, 7, 0, 0, 0, 0, "", {second}},
      {3, 0, 0, 0, base + 0x4000, 0, 9, 0, "", {}},
      {4, 0, 0, 0, 0, 0, 0, 4, "\\_SB.I2C0", {}},
      {5, 1, 0, 7, 0, 0, 0, 0, "", first},
  };
  REQUIRE(table.structures.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(table.structures[i] == expected[i]);
  }
  CHECK(table.width_byte == 45);
  CHECK(table.flags == 0);
  SECTION("flags") {
    described.atsr = {7, VIOMMU_DMAR_ALL_PORTS, 0, nullptr};
    described.satc.flags = 0;
    described.dmar.flags =
        VIOMMU_DMAR_INTERRUPT_REMAPPING | VIOMMU_DMAR_X2APIC_OPT_OUT | VIOMMU_DMAR_DMA_CONTROL_OPT_IN;
    const test::DmarTable flagged = described.table();
    CHECK(flagged.flags == 7);
    CHECK(flagged.of_type(2)[0].flags == 1);
    CHECK(flagged.of_type(5)[0].flags == 0);
    described.dmar.flags = VIOMMU_DMAR_DMA_CONTROL_OPT_IN;
    CHECK(described.table().flags == 4);
    described.dmar.flags = VIOMMU_DMAR_INTERRUPT_REMAPPING;
    CHECK(described.table().flags == 1);
  }
  SECTION("who made it") {
    CHECK(table.revision == 1);
    CHECK(table.oem_id == "VIOMMU");
    CHECK(table.oem_table_id == "VIOMMU  ");
    CHECK(table.creator_id == "VIOM");
    CHECK(table.oem_revision == 1);
    CHECK(table.creator_revision == 1);
    std::memcpy(described.dmar.oem_id, "ABCDEF", 6);
    std::memcpy(described.dmar.oem_table_id, "GHIJKLMN", 8);
    std::memcpy(described.dmar.creator_id, "OPQR", 4);
    described.dmar.oem_revision = 0x11223344;
    described.dmar.creator_revision = 0x55667788;
    const test::DmarTable named = described.table();
    CHECK(named.oem_id == "ABCDEF");
    CHECK(named.oem_table_id == "GHIJKLMN");
    CHECK(named.creator_id == "OPQR");
    CHECK(named.oem_revision == 0x11223344);
    CHECK(named.creator_revision == 0x55667788);
  }
  SECTION("what bypasses") {
    described.bypass = {7, 0x0010, 0x0010, 0};
    described.dmar.bypass_count = 1;
    described.dmar.bypassed = &described.bypass;
    described.dmar.unit_count = 1;
    described.dmar.rhsa_count = described.dmar.andd_count = 0;
    const test::DmarTable without = described.table();
    REQUIRE(without.structures.size() == 2);
    CHECK(without.structures[0].scopes == std::vector{second});
    CHECK(without.structures[1].type == 2);
  }
}

TEST_CASE("a table that does not fit is not begun", "[capi][topology]") {
  const Described described;
  std::vector<std::byte> bytes = described.bytes();
  const std::size_t whole = bytes.size();
  std::size_t length = 0;
  viommu_refusal refusal = empty_refusal();
  std::ranges::fill(bytes, std::byte{0xEE});
  CHECK(viommu_dmar_write(&described.dmar, bytes.data(), whole - 1, &length, &refusal) == VIOMMU_E_RANGE);
  CHECK(length == whole);
  CHECK(refusal.code == VIOMMU_REFUSED_NOTHING);
  CHECK(std::ranges::count(bytes, std::byte{0xEE}) == static_cast<std::ptrdiff_t>(whole));
  test::GuardedRegion edge{0, page_bytes};
  REQUIRE(viommu_dmar_write(&described.dmar, edge.data() + edge.length() - whole, whole, &length, &refusal) ==
          VIOMMU_OK);
}

TEST_CASE("the unit of a source id is told by its index", "[capi][topology][S4.5]") {
  Described described;
  const auto unit_of = [&described](unsigned segment, unsigned source, std::uint32_t kind = VIOMMU_SCOPE_ENDPOINT) {
    std::uint32_t unit = 99;
    const viommu_result result = viommu_dmar_unit_of(&described.dmar, static_cast<std::uint16_t>(segment),
                                                     static_cast<std::uint16_t>(source), kind, &unit, nullptr);
    CHECK((unit == 99) == (result != VIOMMU_OK));
    return result == VIOMMU_OK ? static_cast<int>(unit) : result;
  };
  CHECK(unit_of(7, 0x0010) == 0);
  CHECK(unit_of(7, 0x0119, VIOMMU_SCOPE_BRIDGE) == 0);
  CHECK(unit_of(7, 0x0612) == 0);
  CHECK(unit_of(7, 0x0712) == 1);
  CHECK(unit_of(0, 0x0010) == VIOMMU_E_NOT_FOUND);
  CHECK(unit_of(7, 0xF0F8, VIOMMU_SCOPE_IOAPIC) == 1);
  CHECK(unit_of(7, 0xF078, VIOMMU_SCOPE_HPET) == 1);
  CHECK(unit_of(7, 0x00A8, VIOMMU_SCOPE_NAMED) == 1);
  CHECK(unit_of(7, 0xF078, VIOMMU_SCOPE_IOAPIC) == VIOMMU_E_NOT_FOUND);
  described.bypass = {7, 0x0500, 0x06FF, 0};
  described.dmar.bypass_count = 1;
  described.dmar.bypassed = &described.bypass;
  described.rest[0] = scope(VIOMMU_SCOPE_ENDPOINT, 0, 9);
  CHECK(unit_of(7, 0x0010) == VIOMMU_E_REFUSED);  // part of what is behind the bridge
  described.listed[1].secondary = described.listed[1].subordinate = 0;
  CHECK(unit_of(7, 0x0612) == VIOMMU_E_NOT_FOUND);
  CHECK(unit_of(7, 0x0712) == VIOMMU_E_NOT_FOUND);
  CHECK(unit_of(7, 0x0048) == 1);
}

TEST_CASE("the width of the table is that of the units' engines", "[capi][topology][S2.11]") {
  for (const std::uint32_t width : {39U, 46U, 48U}) {
    const Engine engine = engine_of(width);
    Described described;
    described.units[0].engine = engine.get();
    described.dmar.host_address_width = 0;
    CHECK(described.table().width_byte == width - 1);
    described.dmar.host_address_width = width;
    CHECK(described.table().width_byte == width - 1);
    described.dmar.host_address_width = width + 1;
    CHECK(described.result() == VIOMMU_E_REFUSED);
    CHECK(described.refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(described.refusal.expected == width + 1);
    CHECK(described.refusal.found == width);
  }
  SECTION("which must agree") {
    const Engine narrow = engine_of(39);
    const Engine wide = engine_of(48);
    const Engine as_wide = engine_of(48);
    Described described;
    described.units[0].engine = wide.get();
    described.units[1].engine = narrow.get();
    described.dmar.host_address_width = 0;
    for (int i = 0; i < 2; ++i) {
      CHECK(described.result() == VIOMMU_E_REFUSED);
      CHECK(described.refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
      CHECK(described.refusal.field == std::string{"host_address_width"});
      CHECK(described.refusal.expected == 48);
      CHECK(described.refusal.found == 39);
      std::swap(described.units[0].engine, described.units[1].engine);
    }
    described.units[1].engine = as_wide.get();
    CHECK(described.table().width_byte == 47);
    described.units[1].engine = described.units[0].engine = wide.get();
    CHECK(described.result() == VIOMMU_E_REFUSED);
    CHECK(described.refusal.field == std::string{"drhd[1].engine"});
  }
  SECTION("or told, where there is no engine") {
    Described described;
    described.dmar.host_address_width = 0;
    CHECK(described.result() == VIOMMU_E_REFUSED);
    CHECK(described.refusal.code == VIOMMU_REFUSED_INVALID);
    CHECK(described.refusal.field == std::string{"host_address_width"});
  }
}

TEST_CASE("INTR_REMAP is set where every unit remaps interrupts", "[capi][topology][BIOS Considerations]") {
  const Engine remaps = engine_of(46);
  const Engine remaps_too = engine_of(46);
  const Engine does_not = engine_of(46, false);
  Described described;
  const auto flags = [&described](const Engine* first, const Engine* second) {
    described.units[0].engine = first != nullptr ? first->get() : nullptr;
    described.units[1].engine = second != nullptr ? second->get() : nullptr;
    return described.table().flags;
  };
  CHECK(flags(&remaps, &remaps_too) == 1);
  CHECK(flags(&remaps, &does_not) == 0);
  CHECK(flags(&does_not, &remaps) == 0);
  CHECK(flags(nullptr, &remaps) == 0);
  CHECK(flags(&remaps, nullptr) == 0);
  described.dmar.flags = VIOMMU_DMAR_INTERRUPT_REMAPPING;
  CHECK(flags(&remaps, nullptr) == 1);
  described.units[1].engine = does_not.get();
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
  CHECK(described.refusal.field == std::string{"IR"});
  described.dmar.flags = VIOMMU_DMAR_X2APIC_OPT_OUT;
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.field == std::string{"X2APIC_OPT_OUT"});
  described.units[1].engine = remaps_too.get();
  CHECK(described.table().flags == 3);
}

TEST_CASE("the register set of a unit holds its engine's window", "[capi][topology]") {
  const Engine engine = engine_of(46);
  const std::uint64_t window = viommu_mmio_size(engine.get());
  Described described;
  described.units[0].engine = engine.get();
  described.units[0].register_bytes = 0;
  unsigned pages_log2 = 0;
  while ((page_bytes << pages_log2) < window) ++pages_log2;
  CHECK(described.table().of_type(0)[0].size == pages_log2);
  described.units[0].register_bytes = window / 2;
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.field == std::string{"register_bytes"});
  CHECK(described.refusal.expected == window);
}

TEST_CASE("a refusal names the field by its place, and the device where there is one", "[capi][topology][refusal]") {
  Described described;
  described.listed[1].secondary = 1;
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.code == VIOMMU_REFUSED_INVALID);
  CHECK(described.refusal.source == 0x0119);
  CHECK(described.refusal.field == std::string{"drhd[0].scopes[1]"});
  CHECK(described.refusal.text == std::string{"01:03.1: drhd[0].scopes[1]: what is behind a bridge has a higher bus "
                                              "(expected 0x2, found 0x1)"});
  described.listed[1].secondary = 5;
  described.rmrr.limit = 0x7F100000;
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.text ==
        std::string{"rmrr[0].limit: not the end of a page (expected 0x1000, found 0x7f100000)"});
  described.rmrr.limit = 0x7F0FFFFF;
  const std::string name(300, '\\');
  described.andd.name = name.c_str();
  CHECK(described.result() == VIOMMU_E_REFUSED);
  CHECK(described.refusal.field == std::string{"andd[0].name"});
  CHECK(described.refusal.found == 256);  // what is behind is not looked at
  described.andd.name = "\\_SB";
  CHECK(described.result() == VIOMMU_OK);
  CHECK(described.refusal.code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("lists longer than what is taken are refused before they are looked at", "[capi][topology][P6]") {
  const auto field_after = [](auto change) {
    Described described;
    change(described);
    CHECK(described.result() == VIOMMU_E_REFUSED);
    return std::string{described.refusal.field};
  };
  constexpr std::uint32_t most = ~std::uint32_t{0};
  CHECK(field_after([](Described& d) { d.dmar.unit_count = most; }) == "units");
  CHECK(field_after([](Described& d) { d.dmar.rmrr_count = 1025; }) == "rmrr");
  CHECK(field_after([](Described& d) { d.dmar.atsr_count = most; }) == "atsr");
  CHECK(field_after([](Described& d) { d.dmar.rhsa_count = most; }) == "rhsa");
  CHECK(field_after([](Described& d) { d.dmar.andd_count = most; }) == "andd");
  CHECK(field_after([](Described& d) { d.dmar.satc_count = most; }) == "satc");
  CHECK(field_after([](Described& d) {
          d.dmar.bypass_count = 4097;
          d.dmar.bypassed = &d.bypass;
        }) == "bypassed");
  CHECK(field_after([](Described& d) { d.units[0].scope_count = most; }) == "scopes");
  CHECK(field_after([](Described& d) { d.rmrr.scope_count = most; }) == "scopes");
  CHECK(field_after([](Described& d) { d.atsr.scope_count = most; }) == "scopes");
  CHECK(field_after([](Described& d) { d.satc.scope_count = most; }) == "scopes");
}

TEST_CASE("what is no description is an argument error", "[capi][topology]") {
  Described described;
  std::size_t length = 0;
  std::uint32_t unit = 0;
  std::array<std::byte, 16> bytes{};
  CHECK(viommu_dmar_write(nullptr, bytes.data(), bytes.size(), &length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dmar_write(&described.dmar, nullptr, 1, &length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dmar_write(&described.dmar, bytes.data(), bytes.size(), nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dmar_unit_of(nullptr, 0, 0, VIOMMU_SCOPE_ENDPOINT, &unit, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dmar_unit_of(&described.dmar, 0, 0, VIOMMU_SCOPE_ENDPOINT, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  for (const std::uint32_t kind : {0U, 6U, 0x101U})
    CHECK(viommu_dmar_unit_of(&described.dmar, 0, 0, kind, &unit, nullptr) == VIOMMU_E_ARGUMENT);
  const auto after = [](auto change) {
    Described changed;
    change(changed);
    return changed.result();
  };
  CHECK(after([](Described&) {}) == VIOMMU_OK);
  CHECK(after([](Described& d) { d.dmar.flags = 8; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.units[1].flags = 3; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.listed[0].reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.rmrr.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.atsr.flags = 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.rhsa.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.andd.reserved[6] = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.andd.name = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.satc.flags = 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.units = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.rmrrs = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.atsrs = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.rhsas = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.andds = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.satcs = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.dmar.bypass_count = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) {
          d.bypass.reserved = 1;
          d.dmar.bypass_count = 1;
          d.dmar.bypassed = &d.bypass;
        }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.units[0].scopes = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.rmrr.scopes = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.atsr.scopes = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(after([](Described& d) { d.satc.scopes = nullptr; }) == VIOMMU_E_ARGUMENT);
}

TEST_CASE("a description of this version or a newer one is taken", "[capi][topology][sized]") {
  struct Newer {
    viommu_dmar dmar;
    std::uint64_t unknown;
  };
  const Described described;
  Newer newer{described.dmar, 0};
  std::array<std::byte, 1024> bytes{};
  std::size_t length = 0;
  const auto result = [&](std::size_t size) {
    newer.dmar.size = size;
    return viommu_dmar_write(&newer.dmar, bytes.data(), bytes.size(), &length, nullptr);
  };
  CHECK(result(sizeof newer) == VIOMMU_OK);
  newer.unknown = 1;
  CHECK(result(sizeof newer) == VIOMMU_E_UNSUPPORTED);
  CHECK(result(sizeof(viommu_dmar)) == VIOMMU_OK);
  for (const std::size_t size :
       {std::size_t{0}, sizeof(viommu_dmar) - 8, sizeof(viommu_dmar) + 4, std::size_t{1} << 40})
    CHECK(result(size) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::capi
