// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The DMAR table against bytes made by hand, what a description may not say, and who is under which unit.
#include "engine/machine/topology.hpp"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/machine/topologies.hpp"
#include "tests/support/dmar_reader.hpp"

namespace viommu::machine {
namespace {

constexpr auto endpoint_kind = ScopeKind::endpoint;
using Place = std::optional<std::size_t>;

/// "44 4D ..."
std::vector<std::byte> bytes_of(const std::string& text) {
  std::vector<std::byte> bytes;
  std::istringstream numbers{text};
  for (unsigned number = 0; numbers >> std::hex >> number;) bytes.push_back(static_cast<std::byte>(number));
  REQUIRE(numbers.eof());
  return bytes;
}

/// One of everything: three units in two segments, and each structure beside them.
struct Everything {
  std::vector<Scope> graphics{endpoint(0, 2)};
  std::vector<Scope> port{by_way(bridge(5, 1, 6, 7), 0, {{0x1C, 0}, {0, 0}}), endpoint(0, 3, 1)};
  std::vector<Scope> rest{scope(ScopeKind::ioapic, 0xF0, 0x1F, 0, 8), scope(ScopeKind::hpet, 0xF0, 0x0F, 7, 2),
                          scope(ScopeKind::named, 0, 0x15, 0, 1)};
  std::vector<RemappingUnit> units{unit(0, false, graphics), unit(1, false, port, 1), unit(2, true, rest)};
  std::vector<ReservedMemory> rmrrs{{0, {{0x7F00'0000}, {0x7F0F'FFFF}}, graphics}};
  std::vector<Scope> root{bridge(0, 0x1C, 4, 7)};
  std::vector<RootPortAts> atsrs{{1, false, root}, {0, true, {}}};
  std::vector<UnitAffinity> rhsas{{{unit_base}, 3}};
  std::vector<NamedDevice> andds{{1, "\\_SB.I2C0"}};
  std::vector<IntegratedAtc> satcs{{0, true, graphics}, {0, false, graphics}};
  std::vector<SourceRange> bypassed;

  Topology topology;

  Everything() {
    units[0].register_bytes = page_size_bytes;
    units[2].registers = {unit_base + 0x4000};
    units[2].register_bytes = 4 * page_size_bytes;
    collect();
  }
  void collect() {
    topology = with_units(units);
    topology.interrupt_remapping = true;
    topology.dma_control_opt_in = true;
    topology.oem_revision = 0x01020304;
    topology.creator_revision = 0x0A0B0C0D;
    topology.reserved_memory = rmrrs;
    topology.root_ports = atsrs;
    topology.affinities = rhsas;
    topology.named_devices = andds;
    topology.integrated_atcs = satcs;
    topology.bypassed = bypassed;
  }
};

/// "drhd[1].scopes[0]: words"
std::string text_of(const TopologyError& error) {
  if (!error) return {};
  std::string text;
  if (error.table[0] != '\0') text = std::string{error.table} + "[" + std::to_string(error.entry) + "].";
  text += error.field;
  if (error.element) text += "[" + std::to_string(*error.element) + "]";
  return text + ": " + error.words;
}

/// What check() says of all of it after `change`.
std::string after(const std::function<void(Everything&)>& change) {
  Everything all;
  change(all);
  all.collect();
  return text_of(check(all.topology));
}
/// Of changes that collect() would undo.
std::string after_in_header(const std::function<void(Topology&)>& change) {
  Everything all;
  change(all.topology);
  return text_of(check(all.topology));
}

}  // namespace

TEST_CASE("the DMAR table has the bytes of the figures", "[machine][topology][BIOS Considerations]") {
  const Everything all;
  REQUIRE(text_of(check(all.topology)).empty());
  const std::vector<std::byte> expected = bytes_of(
      "44 4D 41 52 12 01 00 00 01 7C 56 49 4F 4D 4D 55 "              // signature, length, revision, checksum, OEM id
      "54 41 42 4C 45 20 20 20 04 03 02 01 56 49 4F 4D 0D 0C 0B 0A "  // OEM table id and revision, creator
      "26 05 00 00 00 00 00 00 00 00 00 00 "                          // host address width, flags
      "00 00 18 00 00 00 00 00 00 00 D9 FE 00 00 00 00 "              // DRHD
      "01 08 00 00 00 00 02 00 "                                      //   endpoint 00:02.0
      "00 00 24 00 00 00 01 00 00 10 D9 FE 00 00 00 00 "              // DRHD of segment 1
      "02 0C 00 00 00 00 1C 00 00 00 01 00 "                          //   bridge, by three hops
      "01 08 00 00 00 00 03 01 "                                      //   endpoint 00:03.1
      "00 00 28 00 01 02 00 00 00 40 D9 FE 00 00 00 00 "              // DRHD, INCLUDE_ALL, four pages
      "03 08 00 00 08 F0 1F 00 "                                      //   I/O APIC 8
      "04 08 00 00 02 F0 0F 07 "                                      //   HPET 2
      "05 08 00 00 01 00 15 00 "                                      //   ACPI device 1
      "01 00 20 00 00 00 00 00 00 00 00 7F 00 00 00 00 FF FF 0F 7F 00 00 00 00 "  // RMRR
      "01 08 00 00 00 00 02 00 "                                                  //   endpoint 00:02.0
      "02 00 10 00 00 00 01 00 "                                                  // ATSR of segment 1
      "02 08 00 00 00 00 1C 00 "                                                  //   bridge 00:1c.0
      "02 00 08 00 01 00 00 00 "                                                  // ATSR, ALL_PORTS
      "03 00 14 00 00 00 00 00 00 00 D9 FE 00 00 00 00 03 00 00 00 "              // RHSA, domain 3
      "04 00 12 00 00 00 00 01 5C 5F 53 42 2E 49 32 43 30 00 "                    // ANDD
      "05 00 10 00 01 00 00 00 01 08 00 00 00 00 02 00 "                          // SATC, ATC_REQUIRED
      "05 00 10 00 00 00 00 00 01 08 00 00 00 00 02 00 "                          // SATC
  );
  const std::vector<std::byte> bytes = table_of(all.topology);
  REQUIRE(bytes.size() == expected.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CAPTURE(i);
    CHECK(std::to_integer<unsigned>(bytes[i]) == std::to_integer<unsigned>(expected[i]));
  }
  CHECK(test::read_dmar(bytes).problem.empty());
}

TEST_CASE("the table's host address width is one less than the width", "[machine][topology][S2.11]") {
  Everything all;
  for (const auto& [width, byte] : {std::pair{39U, 0x26U}, std::pair{48U, 0x2FU}, std::pair{46U, 0x2DU}}) {
    all.topology.host_address_width = width;
    REQUIRE(text_of(check(all.topology)).empty());
    CHECK(std::to_integer<unsigned>(table_of(all.topology)[36]) == byte);
  }
}

TEST_CASE("each flag of the table has its bit", "[machine][topology][BIOS Considerations]") {
  for (unsigned flags = 0; flags < 8; ++flags) {
    Everything all;
    all.topology.interrupt_remapping = (flags & 1) != 0;
    all.topology.x2apic_opt_out = (flags & 2) != 0;
    all.topology.dma_control_opt_in = (flags & 4) != 0;
    const bool is_legal = (flags & 3) != 2;
    CHECK(!check(all.topology) == is_legal);
    CHECK(std::to_integer<unsigned>(table_of(all.topology)[37]) == flags);
  }
}

TEST_CASE("a table that does not fit is not written beyond what there is", "[machine][topology]") {
  const Everything all;
  const std::vector<std::byte> whole = table_of(all.topology);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> some(size);
    CHECK(write_table(all.topology, some) == whole.size());
  }
}

TEST_CASE("a description says what no table may say, and is refused by the field", "[machine][topology][P8]") {
  const auto words = [](const std::string& text) { return text.substr(0, text.find(':')); };
  CHECK(after([](Everything&) {}).empty());
  SECTION("header") {
    CHECK(after_in_header([](Topology& t) { t.host_address_width = 31; }) ==
          "host_address_width: not a width that a unit can have");
    CHECK(words(after_in_header([](Topology& t) { t.host_address_width = 53; })) == "host_address_width");
    CHECK(after_in_header([](Topology& t) {
            t.interrupt_remapping = false;
            t.x2apic_opt_out = true;
          }) == "X2APIC_OPT_OUT: needs interrupt remapping");
    CHECK(after_in_header([](Topology& t) { t.oem_id[5] = '\n'; }) == "oem_id: not printable");
    CHECK(after_in_header([](Topology& t) { t.oem_table_id[0] = '\x80'; }) == "oem_table_id: not printable");
    CHECK(after_in_header([](Topology& t) { t.creator_id[1] = '\0'; }) == "creator_id: not printable");
    CHECK(after_in_header([](Topology& t) { t.creator_id[3] = '\0'; }).empty());
    CHECK(after_in_header([](Topology& t) { t.units = {}; }) == "units: a table has at least one");
  }
  SECTION("registers of a unit") {
    for (const std::uint64_t size : {0U, 1U, 0x800U, 0x3000U, 0x1000'0000U})
      CHECK(after([size](Everything& all) { all.units[0].register_bytes = size; }) ==
            "drhd[0].size: no power of two of pages");
    CHECK(after([](Everything& all) {
            all.units[2].registers = {0x1'0000'0000};
            all.units[2].register_bytes = 0x800'0000;
          }).empty());
    CHECK(after([](Everything& all) { all.units[1].registers = {0}; }) == "drhd[1].base: not aligned");
    CHECK(after([](Everything& all) { all.units[1].registers = {unit_base + 0x1800}; }) == "drhd[1].base: not aligned");
    for (const std::uint64_t base : {std::uint64_t{0x80'0000'0000} - 0x3000, ~std::uint64_t{0xFFF}})
      CHECK(after([base](Everything& all) { all.units[2].registers = {base}; }) ==
            "drhd[2].base: ends beyond the host address width");
    CHECK(after([](Everything& all) { all.units[2].registers = {0x7F'FFFF'C000}; }).empty());
    // The second begins with the first, in it, and ends in it.
    for (const std::uint64_t base : {unit_base + 0x4000, unit_base + 0x7000, unit_base + 0x1000})
      CHECK(after([base](Everything& all) {
              all.units[1].registers = {unit_base + 0x4000};
              all.units[1].register_bytes = 4 * page_size_bytes;
              all.units[2].registers = {base};
            }) == "drhd[2].base: its registers overlap those of another unit");
  }
  SECTION("INCLUDE_ALL") {
    CHECK(after([](Everything& all) { all.units[0].include_all = true; }) ==
          "drhd[2].flags: a second one with INCLUDE_ALL in its segment");
    CHECK(after([](Everything& all) { std::swap(all.units[0], all.units[2]); }) ==
          "drhd[2].flags: comes after the one with INCLUDE_ALL of its segment");
    CHECK(after([](Everything& all) { all.units[1].include_all = true; }).empty());  // of another segment
  }
  SECTION("a scope") {
    const auto scoped = [](const std::function<void(Scope&)>& change) {
      return after([&change](Everything& all) { change(all.port[0]); });
    };
    CHECK(scoped([](Scope& s) { s.kind = ScopeKind{0}; }) == "drhd[1].scopes[0]: no kind of scope");
    CHECK(scoped([](Scope& s) { s.kind = ScopeKind{6}; }) == "drhd[1].scopes[0]: no kind of scope");
    CHECK(scoped([](Scope& s) { s.hops = 0; }) == "drhd[1].scopes[0]: a way of no hop, or of too many");
    CHECK(scoped([](Scope& s) { s.hops = 17; }) == "drhd[1].scopes[0]: a way of no hop, or of too many");
    CHECK(scoped([](Scope& s) { s.hops = 16; }).empty());
    CHECK(scoped([](Scope& s) { s.path[0].device = 32; }) == "drhd[1].scopes[0]: no such device on a bus");
    CHECK(scoped([](Scope& s) { s.path[2].function = 8; }) == "drhd[1].scopes[0]: no such function of a device");
    CHECK(scoped([](Scope& s) { s.path[3].function = 8; }).empty());  // behind the last hop
    CHECK(scoped([](Scope& s) { s.hops = 1; }) == "drhd[1].scopes[0]: one hop leads to its own bus");
    CHECK(scoped([](Scope& s) { s.start_bus = 5; }) == "drhd[1].scopes[0]: a way through bridges ends on a higher bus");
    CHECK(scoped([](Scope& s) { s.id = 1; }) == "drhd[1].scopes[0]: a PCI device has no enumeration id");
    CHECK(scoped([](Scope& s) { s.kind = endpoint_kind; }) == "drhd[1].scopes[0]: only a bridge has buses behind it");
    CHECK(scoped([](Scope& s) {
            s.kind = endpoint_kind;
            s.secondary = 0;
          }) == "drhd[1].scopes[0]: only a bridge has buses behind it");
    CHECK(scoped([](Scope& s) { s.secondary = s.subordinate = 0; }).empty());
    CHECK(scoped([](Scope& s) { s.secondary = 5; }) == "drhd[1].scopes[0]: what is behind a bridge has a higher bus");
    CHECK(scoped([](Scope& s) { s.secondary = 0; }) == "drhd[1].scopes[0]: what is behind a bridge has a higher bus");
    CHECK(scoped([](Scope& s) { s.subordinate = 5; }) == "drhd[1].scopes[0]: the last bus is before the first");
  }
  SECTION("an enumeration id that is not one device's") {
    CHECK(after([](Everything& all) {
            all.port.push_back(scope(ScopeKind::ioapic, 1, 2, 0, 8));
            all.units[1].scopes = all.port;
          }) == "drhd[2].scopes[0]: its enumeration id is listed twice");
    CHECK(after([](Everything& all) {
            all.rest.push_back(scope(ScopeKind::hpet, 1, 2, 0, 2));
            all.units[2].scopes = all.rest;
          }) == "drhd[2].scopes[3]: its enumeration id is listed twice");
    CHECK(after([](Everything& all) {
            all.rest.push_back(scope(ScopeKind::named, 0, 0x15, 1, 1));  // a second source id of the same device
            all.units[2].scopes = all.rest;
          }).empty());
    CHECK(after([](Everything& all) { all.rest[2].id = 2; }) == "drhd[2].scopes[2]: no ANDD has its number");
  }
  SECTION("RMRR") {
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.first = {0x7F00'0800}; }) == "rmrr[0].base: not aligned");
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.last = {0x7F10'0000}; }) ==
          "rmrr[0].limit: not the end of a page");
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.last = {0x7EFF'FFFF}; }) ==
          "rmrr[0].limit: ends before it begins");
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.last = {0x80'0000'0FFF}; }) ==
          "rmrr[0].limit: ends beyond the host address width");
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.last = {~std::uint64_t{0}}; }) ==
          "rmrr[0].limit: ends beyond the host address width");
    CHECK(after([](Everything& all) { all.rmrrs[0].memory.last = {0x7F'FFFF'FFFF}; }).empty());
    CHECK(after([](Everything& all) { all.rmrrs[0].scopes = {}; }) == "rmrr[0].scopes: lists no device");
    CHECK(after([](Everything& all) { all.rmrrs[0].scopes = all.root; }) ==
          "rmrr[0].scopes[0]: not a kind for this structure");
    CHECK(after([](Everything& all) { all.rmrrs[0].segment = 1; }) == "rmrr[0].scopes[0]: its device is under no unit");
  }
  SECTION("ATSR") {
    CHECK(after([](Everything& all) { all.atsrs[0].scopes = {}; }) == "atsr[0].scopes: lists no device");
    CHECK(after([](Everything& all) { all.atsrs[0].scopes = all.graphics; }) ==
          "atsr[0].scopes[0]: not a kind for this structure");
    CHECK(after([](Everything& all) { all.atsrs[1].scopes = all.root; }) == "atsr[1].scopes: ALL_PORTS lists none");
    CHECK(after([](Everything& all) { all.root[0].path[0].device = 32; }) ==
          "atsr[0].scopes[0]: no such device on a bus");
  }
  SECTION("RHSA") {
    CHECK(after([](Everything& all) { all.rhsas[0].registers = {unit_base + 0x5000}; }) ==
          "rhsa[0].base: no unit has its registers there");
    CHECK(after([](Everything& all) { all.rhsas.push_back({{unit_base}, 1}); }) ==
          "rhsa[1].base: a second one of this unit");
  }
  SECTION("ANDD") {
    for (const char* name :
         {"", "_SB.I2C0", "\\", "\\_SB.", "\\.I2C0", "\\_SB..I2C0", "\\_SB.I2C00", "\\_SB.2C0", "\\_sb", "\\_SB.I2C0 "})
      CHECK(after([name](Everything& all) { all.andds[0].name = name; }) ==
            "andd[0].name: no path from the root of the name space");
    for (const char* name : {"\\A", "\\_SB", "\\_SB.PCI0.I2C0"})
      CHECK(after([name](Everything& all) { all.andds[0].name = name; }).empty());
    std::string longest = "\\";
    for (std::size_t i = 0; i < 50; ++i) longest += "_SB_.";
    longest += "ABCD";
    REQUIRE(longest.size() == 255);
    CHECK(after([&](Everything& all) { all.andds[0].name = longest; }).empty());
    longest += ".";
    CHECK(after([&](Everything& all) { all.andds[0].name = longest; }) == "andd[0].name: too long");
    CHECK(after([](Everything& all) { all.andds.push_back({1, "\\_SB"}); }) ==
          "andd[1].number: a second one of this number");
    CHECK(after([](Everything& all) { all.andds.push_back({2, "\\_SB"}); }) == "andd[1].number: no unit lists it");
  }
  SECTION("SATC") {
    CHECK(after([](Everything& all) { all.satcs[1].scopes = {}; }) == "satc[1].scopes: lists no device");
    CHECK(after([](Everything& all) { all.satcs[0].scopes = all.rest; }) ==
          "satc[0].scopes[0]: not a kind for this structure");
    CHECK(after([](Everything& all) { all.satcs[0].segment = 7; }) == "satc[0].scopes[0]: its device is under no unit");
  }
  SECTION("bypassed ranges") {
    const auto with = [](std::vector<SourceRange> ranges) {
      return after([&ranges](Everything& all) {
        all.bypassed = ranges;
        all.rest.push_back(endpoint(0, 9));
        all.units[2].scopes = all.rest;
      });
    };
    CHECK(with({{0, {0x1000}, {0x0FFF}}}) == "bypassed[0]: ends before it begins");
    CHECK(with({{0, {0x1000}, {0x10FF}}, {0, {0x10FF}, {0x1100}}}) == "bypassed[1]: not behind the range before it");
    CHECK(with({{1, {0x1000}, {0x10FF}}, {0, {0x2000}, {0x2000}}}) == "bypassed[1]: not behind the range before it");
    CHECK(with({{0, {0x1000}, {0x10FF}}, {0, {0x1100}, {0x1100}}, {1, {0x1000}, {0x1000}}}).empty());
  }
}

TEST_CASE("two units of a segment that claim one source id are refused", "[machine][topology][S4.5]") {
  const auto of = [](const Scope& one, const Scope& other, std::uint16_t segment_of_other = 0) {
    const std::vector<Scope> first{one};
    const std::vector<Scope> second{endpoint(0, 31), other};
    const std::vector<RemappingUnit> units{unit(0, false, first), unit(1, false, second, segment_of_other)};
    return text_of(check(with_units(units)));
  };
  const std::string refused = "drhd[1].scopes[1]: a unit before claims it too";
  CHECK(of(endpoint(0, 2), endpoint(0, 2)) == refused);
  CHECK(of(endpoint(0, 2), endpoint(0, 2), 1).empty());
  CHECK(of(endpoint(0, 2), endpoint(0, 2, 1)).empty());
  CHECK(of(bridge(0, 1, 4, 6), endpoint(0, 1)) == refused);  // the bridge itself
  for (const unsigned bus : {4U, 5U, 6U}) {
    CHECK(of(bridge(0, 1, 4, 6), endpoint(bus, 2)) == refused);
    CHECK(of(endpoint(bus, 2), bridge(0, 1, 4, 6)) == refused);
  }
  for (const unsigned bus : {3U, 7U}) CHECK(of(bridge(0, 1, 4, 6), endpoint(bus, 2)).empty());
  CHECK(of(bridge(0, 1, 0, 0), endpoint(4, 2)).empty());
  CHECK(of(bridge(0, 1, 4, 6), bridge(0, 2, 6, 8)) == refused);
  CHECK(of(bridge(0, 1, 4, 9), bridge(0, 2, 5, 6)) == refused);
  CHECK(of(bridge(0, 1, 4, 6), bridge(0, 2, 7, 8)).empty());
  CHECK(of(bridge(0, 1, 4, 6), scope(ScopeKind::ioapic, 5, 2, 0, 8)) == refused);
  SECTION("the refusal names both units, and the device") {
    const std::vector<Scope> scopes{endpoint(3, 2, 1)};
    const std::vector<RemappingUnit> units{unit(0, false, {}), unit(1, false, scopes), unit(2, false, scopes)};
    const TopologyError error = check(with_units(units));
    CHECK(error.expected == 1);
    CHECK(error.found == 2);
    CHECK(error.source == SourceId{0x0311});
  }
}

TEST_CASE("lists are bounded, each and the table as a whole", "[machine][topology][P6]") {
  std::vector<RemappingUnit> units;
  units.reserve(most_structures + 1);
  for (std::size_t i = 0; i < most_structures; ++i) units.push_back(unit(i, false, {}));
  CHECK(text_of(check(with_units(units))).empty());
  units.push_back(unit(most_structures, false, {}));
  CHECK(text_of(check(with_units(units))) == "units: more than are taken");
  std::vector<SourceRange> bypassed;
  for (std::size_t i = 0; i <= most_bypassed_ranges; ++i)
    bypassed.push_back({0, {static_cast<std::uint16_t>(2 * i)}, {static_cast<std::uint16_t>(2 * i)}});
  units.resize(1);
  Topology topology = with_units(units);
  topology.bypassed = bypassed;
  CHECK(text_of(check(topology)) == "bypassed: more than are taken");
  topology.bypassed = topology.bypassed.first(most_bypassed_ranges);
  CHECK(text_of(check(topology)).empty());

  std::vector<Scope> scopes;
  scopes.reserve(most_scopes + 1);
  for (std::size_t i = 0; i < most_scopes + 1; ++i)
    scopes.push_back(endpoint(static_cast<unsigned>(i >> 8), (i >> 3) % 32, i % 8));
  units[0].scopes = scopes;
  CHECK(text_of(check(with_units(units))) == "scopes: more than are taken");
  units[0].scopes = std::span{scopes}.first(most_scopes);
  const TopologyError longer = check(with_units(units));
  CHECK(text_of(longer) == "table: longer than is taken");
  CHECK(longer.found == most_table_bytes + 64);
  units[0].scopes = std::span{scopes}.first(most_scopes - 8);
  CHECK(text_of(check(with_units(units))).empty());
  CHECK(write_table(with_units(units), {}) == most_table_bytes);
  SECTION("and each other list") {
    constexpr std::size_t most = most_structures;
    CHECK(text_of(check(TopologyCounts{.reserved_memory = most + 1})) == "rmrr: more than are taken");
    CHECK(text_of(check(TopologyCounts{.root_ports = most + 1})) == "atsr: more than are taken");
    CHECK(text_of(check(TopologyCounts{.affinities = most + 1})) == "rhsa: more than are taken");
    CHECK(text_of(check(TopologyCounts{.named_devices = most + 1})) == "andd: more than are taken");
    CHECK(text_of(check(TopologyCounts{.integrated_atcs = most + 1})) == "satc: more than are taken");
    CHECK(
        text_of(check(TopologyCounts{most, most, most, most, most, most, most_bypassed_ranges, most_scopes})).empty());
  }
}

TEST_CASE("a source id goes to the unit that lists it, or a bridge before it, or the rest", "[machine][topology]") {
  const std::vector<Scope> first{endpoint(0, 2), bridge(0, 0x1C, 4, 6), scope(ScopeKind::ioapic, 0xF0, 0x1F, 0, 8)};
  const std::vector<Scope> second{by_way(endpoint(9, 3, 2), 0, {{0x1D, 0}}), scope(ScopeKind::named, 0, 0x15, 0, 1)};
  const std::vector<NamedDevice> named{{1, "\\_SB.I2C0"}};
  const std::vector<RemappingUnit> units{unit(0, false, first), unit(1, false, second), unit(2, true, {}),
                                         unit(3, false, first, 5)};
  std::vector<RemappingUnit> one_ioapic = units;
  const std::vector<Scope> elsewhere{endpoint(0, 2)};
  one_ioapic[3].scopes = elsewhere;
  Topology topology = with_units(one_ioapic);
  topology.named_devices = named;
  REQUIRE(text_of(check(topology)).empty());
  const auto unit_of_pci = [&](unsigned source, std::uint16_t segment = 0) {
    const Place place = unit_of(topology, segment, {static_cast<std::uint16_t>(source)}, endpoint_kind);
    CHECK(unit_of(topology, segment, {static_cast<std::uint16_t>(source)}, ScopeKind::bridge) == place);
    return place;
  };
  CHECK(unit_of_pci(0x0010) == Place{0});
  CHECK(unit_of_pci(0x0011) == Place{2});
  CHECK(unit_of_pci(0x00E0) == Place{0});  // the bridge itself
  CHECK(unit_of_pci(0x0400) == Place{0});
  CHECK(unit_of_pci(0x06FF) == Place{0});
  CHECK(unit_of_pci(0x03FF) == Place{2});
  CHECK(unit_of_pci(0x0700) == Place{2});
  CHECK(unit_of_pci(0x091A) == Place{1});
  CHECK(unit_of_pci(0x00E8) == Place{2});  // a bridge on the way to it
  CHECK(unit_of_pci(0x0010, 5) == Place{3});
  CHECK(unit_of_pci(0x0011, 5) == Place{});
  CHECK(unit_of_pci(0x0010, 1) == Place{});
  CHECK(unit_of(topology, 0, {0xF0F8}, ScopeKind::ioapic) == Place{0});
  CHECK(unit_of(topology, 0, {0xF0F9}, ScopeKind::ioapic) == Place{});  // INCLUDE_ALL is about PCI devices
  CHECK(unit_of(topology, 0, {0xF0F8}, ScopeKind::hpet) == Place{});
  CHECK(unit_of(topology, 0, {0x00A8}, ScopeKind::named) == Place{1});
  CHECK(unit_of(topology, 0, {0x00B0}, ScopeKind::named) == Place{});
}

TEST_CASE("what bypasses is in no scope, and INCLUDE_ALL is off where it would claim it", "[machine][topology][S4.5]") {
  const std::vector<Scope> all{endpoint(0x10, 1), endpoint(0x20, 1), bridge(0x20, 2, 0x21, 0x22),
                               scope(ScopeKind::ioapic, 0xFF, 0, 0, 1)};
  const std::vector<Scope> other{endpoint(0x10, 1)};
  const std::vector<RemappingUnit> units{unit(0, true, all), unit(1, true, other, 1)};
  Topology topology = with_units(units);
  const auto units_in_table = [&topology] {
    REQUIRE(text_of(check(topology)).empty());
    const test::DmarRead read = test::read_dmar(table_of(topology));
    REQUIRE(read.problem.empty());
    return read.table.of_type(0);
  };
  SECTION("nothing bypasses: the flag says it all, PCI devices are not listed beside it") {
    const auto written = units_in_table();
    CHECK(written[0].flags == 1);
    CHECK(written[0].scopes == std::vector<test::DmarScope>{{3, 1, 0xFF, {{0, 0}}}});
    CHECK(unit_of(topology, 0, {0x1008}, endpoint_kind) == Place{0});
    CHECK(unit_of(topology, 0, {0x3008}, endpoint_kind) == Place{0});
  }
  SECTION("a bus bypasses") {
    const std::vector<SourceRange> bus{{0, {0x1000}, {0x10FF}}};
    topology.bypassed = bus;
    const auto written = units_in_table();
    CHECK(written[0].flags == 0);
    CHECK(written[0].scopes ==
          std::vector<test::DmarScope>{{1, 0, 0x20, {{1, 0}}}, {2, 0, 0x20, {{2, 0}}}, {3, 1, 0xFF, {{0, 0}}}});
    CHECK(written[1].flags == 1);  // of a segment where nothing does
    CHECK(unit_of(topology, 0, {0x1008}, endpoint_kind) == Place{});
    CHECK(unit_of(topology, 0, {0x2008}, endpoint_kind) == Place{0});
    CHECK(unit_of(topology, 0, {0x2234}, endpoint_kind) == Place{0});
    CHECK(unit_of(topology, 0, {0x3008}, endpoint_kind) == Place{});  // nobody lists it
    CHECK(unit_of(topology, 1, {0x1008}, endpoint_kind) == Place{1});
    CHECK(unit_of(topology, 0, {0xFF00}, ScopeKind::ioapic) == Place{0});
  }
  SECTION("a bridge, with all that is behind it, in two ranges that touch") {
    const std::vector<SourceRange> behind{{0, {0x2010}, {0x2010}}, {0, {0x2100}, {0x21FF}}, {0, {0x2200}, {0x22FF}}};
    topology.bypassed = behind;
    CHECK(units_in_table()[0].scopes ==
          std::vector<test::DmarScope>{{1, 0, 0x10, {{1, 0}}}, {1, 0, 0x20, {{1, 0}}}, {3, 1, 0xFF, {{0, 0}}}});
  }
  SECTION("part of what is behind a bridge cannot be said by the bridge") {
    for (const SourceRange range : {SourceRange{0, {0x2208}, {0x2208}}, SourceRange{0, {0x2010}, {0x2010}},
                                    SourceRange{0, {0x2100}, {0x22FE}}, SourceRange{0, {0x2010}, {0x21FF}}}) {
      const std::vector<SourceRange> part{range};
      topology.bypassed = part;
      CHECK(text_of(check(topology)) == "drhd[0].scopes[2]: part of it bypasses: list what is behind it");
    }
  }
  SECTION("a unit with INCLUDE_ALL alone does not say who stays") {
    const std::vector<SourceRange> bus{{1, {0x1000}, {0x10FF}}};
    topology.bypassed = bus;
    CHECK(units_in_table()[1].scopes.empty());
    std::vector<RemappingUnit> alone = units;
    alone[1].scopes = {};
    topology.units = alone;
    CHECK(text_of(check(topology)) == "drhd[1].scopes: something bypasses: list what does not");
  }
  SECTION("an I/O APIC too") {
    const std::vector<SourceRange> apic{{0, {0xFF00}, {0xFF00}}};
    topology.bypassed = apic;
    CHECK(units_in_table()[0].scopes.size() == 3);
    CHECK(unit_of(topology, 0, {0xFF00}, ScopeKind::ioapic) == Place{});
  }
}

TEST_CASE("what is about bypassing devices alone is left out", "[machine][topology][S4.5][S4.17]") {
  Everything all;
  all.rest.insert(all.rest.end(), {endpoint(0, 9), bridge(0, 0x1D, 0x30, 0x30)});
  all.units[2].scopes = all.rest;
  const std::vector<Scope> both{endpoint(0, 2), endpoint(0, 9)};
  const std::vector<Scope> ports{bridge(0, 0x1C, 4, 7), bridge(0, 0x1D, 0x30, 0x30)};
  all.rmrrs.push_back({0, {{0x1000}, {0x1FFF}}, both});
  all.atsrs = {{0, false, ports}, {0, false, all.root}};
  all.bypassed = {{0, {0x0010}, {0x0010}}, {0, {0x00A8}, {0x00A8}}, {0, {0x00E0}, {0x00E7}}, {0, {0x0400}, {0x07FF}}};
  all.collect();
  REQUIRE(text_of(check(all.topology)).empty());
  const test::DmarRead read = test::read_dmar(table_of(all.topology));
  REQUIRE(read.problem.empty());
  CHECK(read.table.of_type(0)[0].scopes.empty());
  REQUIRE(read.table.of_type(1).size() == 1);
  CHECK(read.table.of_type(1)[0].scopes == std::vector<test::DmarScope>{{1, 0, 0, {{9, 0}}}});
  REQUIRE(read.table.of_type(2).size() == 1);
  CHECK(read.table.of_type(2)[0].scopes == std::vector<test::DmarScope>{{2, 0, 0, {{0x1D, 0}}}});
  CHECK(read.table.of_type(4).empty());
  CHECK(read.table.of_type(5).empty());
}

}  // namespace viommu::machine
