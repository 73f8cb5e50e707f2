// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/viot.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/viot_reader.hpp"

namespace viommu::machine {
namespace {

[[nodiscard]] EndpointRange range(std::uint16_t segment, std::uint16_t first, std::uint16_t last) {
  return {segment, {first}, {last}, std::uint32_t{segment} << 16 | first};
}
[[nodiscard]] VirtioUnit on_pci(std::uint16_t segment, std::uint16_t source, std::span<const EndpointRange> ranges) {
  VirtioUnit unit;
  unit.segment = segment;
  unit.source = {source};
  unit.ranges = ranges;
  return unit;
}
[[nodiscard]] VirtioUnit on_mmio(std::uint64_t base, std::span<const EndpointRange> ranges,
                                 std::span<const MmioEndpoint> endpoints = {}) {
  VirtioUnit unit;
  unit.is_pci = false;
  unit.base = {base};
  unit.ranges = ranges;
  unit.mmio_endpoints = endpoints;
  return unit;
}
[[nodiscard]] VirtioTopology with(std::span<const VirtioUnit> units, std::span<const SourceRange> bypassed = {}) {
  VirtioTopology topology;
  topology.oem_id = {'V', 'I', 'O', 'M', 'M', 'U'};
  topology.oem_table_id = {'T', 'A', 'B', 'L', 'E', ' ', ' ', ' '};
  topology.oem_revision = 3;
  topology.creator_id = {'V', 'I', 'O', 'M'};
  topology.creator_revision = 5;
  topology.units = units;
  topology.bypassed = bypassed;
  return topology;
}
[[nodiscard]] std::vector<std::byte> table_of(const VirtioTopology& topology) {
  std::vector<std::byte> bytes(write_viot(topology, {}));
  CHECK(write_viot(topology, bytes) == bytes.size());
  return bytes;
}
/// What is wrong with it: the field, and the element where there is one.
[[nodiscard]] std::string problem_of(const VirtioTopology& topology) {
  const TopologyError error = check(topology);
  if (!error) return {};
  std::string field = error.field;
  if (error.element) field += "[" + std::to_string(*error.element) + "]";
  return error.table[0] == '\0' ? field : std::string{error.table} + "[" + std::to_string(error.entry) + "]." + field;
}

/// The routing and the table about each source id of a segment.
[[nodiscard]] std::string difference(const VirtioTopology& topology, unsigned segment) {
  const test::ViotRead read = test::read_viot(table_of(topology));
  if (!read.problem.empty()) return read.problem;
  for (unsigned source = 0; source < 0x10000; ++source) {
    const auto in_table = read.find(segment, source);
    const auto routed =
        endpoint_of(topology, static_cast<std::uint16_t>(segment), {static_cast<std::uint16_t>(source)});
    if (in_table.size() > 1) return "two units claim " + std::to_string(source);
    if (routed.has_value() != !in_table.empty()) return "only one of them has " + std::to_string(source);
    if (routed && (routed->unit != in_table[0].unit || routed->id != in_table[0].endpoint))
      return "they differ about " + std::to_string(source);
  }
  return {};
}

}  // namespace

TEST_CASE("the VIOT table has the bytes of the figures", "[machine][topology][S4.5][VIOT]") {
  const std::vector<EndpointRange> first{{0, {0x0100}, {0x01FF}, 0x0100}};
  const std::vector<EndpointRange> second{{2, {0x0000}, {0xFFFF}, 0x20000}};
  const std::vector<MmioEndpoint> mmio{{{0x1'0A00'0000}, 0x30001}};
  const std::vector<VirtioUnit> units{on_pci(1, 0x0018, first), on_mmio(0xFE00'0000, second, mmio)};
  const std::vector<std::byte> bytes = table_of(with(units));
  const std::vector<unsigned> behind_header{
      5, 0, 48, 0, 0, 0, 0,    0, 0, 0, 0, 0,                                                 // 5 nodes from 48 on
      3, 0, 16, 0, 1, 0, 0x18, 0, 0, 0, 0, 0,    0, 0, 0,    0,                               // a unit on PCI
      4, 0, 16, 0, 0, 0, 0,    0, 0, 0, 0, 0xFE, 0, 0, 0,    0,                               // one on MMIO
      1, 0, 24, 0, 0, 1, 0,    0, 0, 0, 0, 0,    0, 1, 0xFF, 1,    48, 0, 0, 0, 0, 0, 0, 0,   // a PCI range
      1, 0, 24, 0, 0, 0, 2,    0, 2, 0, 2, 0,    0, 0, 0xFF, 0xFF, 64, 0, 0, 0, 0, 0, 0, 0,   // another
      2, 0, 24, 0, 1, 0, 3,    0, 0, 0, 0, 0x0A, 1, 0, 0,    0,    64, 0, 0, 0, 0, 0, 0, 0};  // an MMIO endpoint
  REQUIRE(bytes.size() == 36 + behind_header.size());
  for (std::size_t i = 0; i < behind_header.size(); ++i) {
    CAPTURE(i);
    CHECK(std::to_integer<unsigned>(bytes[36 + i]) == behind_header[i]);
  }
  const test::ViotRead read = test::read_viot(bytes);
  CHECK(read.problem.empty());
  CHECK(read.oem_id == "VIOMMU");
  CHECK(read.oem_table_id == "TABLE   ");
  CHECK(read.creator_id == "VIOM");
  std::vector<std::byte> short_by_one(bytes.size() - 1);
  CHECK(write_viot(with(units), short_by_one) == bytes.size());
}

TEST_CASE("what bypasses, and a unit itself, is no endpoint", "[machine][topology][S4.5][A32][VIOT]") {
  // Bus 10h bypasses, bus 20h does not.
  const std::vector<EndpointRange> ranges{range(0, 0, 0xFFFF)};
  const std::vector<SourceRange> bypassed{{0, {0x1000}, {0x10FF}}, {1, {0x2000}, {0x2000}}};
  std::vector<VirtioUnit> units{on_pci(0, 0x0008, ranges)};
  const std::vector<SourceRange> known{{7, {0x2000}, {0x2000}}, {7, {0x10F0}, {0x1107}}};
  const auto id = [&](std::uint16_t source) { return endpoint_of(with(units, bypassed), 0, {source}); };
  CHECK(id(0x2000) == Endpoint{0, 0x2000});
  CHECK(id(0x2008) == Endpoint{0, 0x2008});
  CHECK_FALSE(id(0x1000));
  CHECK_FALSE(id(0x10FF));
  CHECK(id(0x0FFF) == Endpoint{0, 0x0FFF});
  CHECK(id(0x1100) == Endpoint{0, 0x1100});
  CHECK_FALSE(id(0x0008));
  CHECK(id(0x0009) == Endpoint{0, 0x0009});
  CHECK_FALSE(endpoint_of(with(units, bypassed), 1, {0x3000}));
  CHECK(difference(with(units, bypassed), 0).empty());
  units[0].bypassed = known;
  CHECK_FALSE(id(0x2000));
  CHECK_FALSE(id(0x1107));
  CHECK(id(0x1108) == Endpoint{0, 0x1108});
  CHECK(difference(with(units, bypassed), 0).empty());
  SECTION("all of it") {
    const std::vector<SourceRange> all{{0, {0}, {0xFFFF}}};
    CHECK_FALSE(endpoint_of(with(units, all), 0, {0x2000}));
    CHECK(test::read_viot(table_of(with(units, all))).nodes.size() == 1);
    CHECK(difference(with(units, all), 0).empty());
  }
}

TEST_CASE("a description of endpoints says what no table may say, and is refused by the field",
          "[machine][topology][VIOT]") {
  const std::vector<EndpointRange> good{range(0, 0x0100, 0x01FF)};
  const std::vector<EndpointRange> other{{0, {0x0200}, {0x02FF}, 0x0200}};
  CHECK(problem_of(with({})) == "units");
  const std::vector<VirtioUnit> named{on_pci(0, 0x0008, {})};
  const auto called = [&](auto change) {
    VirtioTopology topology = with(named);
    change(topology);
    return problem_of(topology);
  };
  CHECK(called([](VirtioTopology&) {}).empty());
  CHECK(called([](VirtioTopology& t) { t.oem_id[5] = '\n'; }) == "oem_id");
  CHECK(called([](VirtioTopology& t) { t.oem_table_id[0] = '\x80'; }) == "oem_table_id");
  CHECK(called([](VirtioTopology& t) { t.creator_id[1] = '\0'; }) == "creator_id");
  CHECK(called([](VirtioTopology& t) { t.creator_id[3] = '\0'; }).empty());
  const auto one = [](const std::vector<EndpointRange>& ranges, const std::vector<MmioEndpoint>& mmio = {}) {
    const std::vector<VirtioUnit> units{on_mmio(0x1000, ranges, mmio)};
    return problem_of(with(units));
  };
  CHECK(one(good).empty());
  CHECK(one({}).empty());
  CHECK(one({{0, {2}, {1}, 0}}) == "viot[0].ranges[0]");
  CHECK(one({{0, {0}, {2}, 0xFFFF'FFFE}}) == "viot[0].ranges[0]");
  CHECK(one({{0, {0}, {1}, 0xFFFF'FFFE}}).empty());
  CHECK(one({good[0], range(0, 0x01FF, 0x0300)}) == "viot[0].ranges[1]");
  CHECK(one({good[0], {0, {0x0200}, {0x0201}, 0x01FF}}) == "viot[0].ranges[1]");  // its ids
  CHECK(one(good, {{{0x5000}, 0x0180}}) == "viot[0].mmio[0]");
  CHECK(one(good, {{{0x5000}, 0x0200}, {{0x5000}, 0x0201}}) == "viot[0].mmio[1]");
  CHECK(one(good, {{{0x5000}, 0x0200}, {{0x6000}, 0x0200}}) == "viot[0].mmio[1]");
  const auto two = [](const VirtioUnit& a, const VirtioUnit& b) {
    const std::vector<VirtioUnit> units{a, b};
    return problem_of(with(units));
  };
  CHECK(two(on_pci(0, 8, good), on_pci(0, 16, other)).empty());
  CHECK(two(on_pci(0, 8, good), on_pci(0, 16, good)) == "viot[1].ranges[0]");
  CHECK(two(on_pci(0, 8, good), on_pci(0, 8, other)) == "viot[1].source");
  CHECK(two(on_pci(0, 8, good), on_pci(1, 8, other)).empty());
  CHECK(two(on_mmio(0x1000, good), on_mmio(0x1000, other)) == "viot[1].base");
  CHECK(two(on_mmio(0, good), on_mmio(0x1000, other)) == "viot[0].base");
  const std::vector<VirtioUnit> unit{on_mmio(0x1000, good)};
  const std::vector<SourceRange> disorder{{0, {5}, {6}}, {0, {6}, {7}}};
  CHECK(problem_of(with(unit, disorder)) == "bypassed[1]");
  const std::vector<VirtioUnit> many(257, unit[0]);
  CHECK(problem_of(with(many)) == "units");
  const std::vector<EndpointRange> ranges(1025, good[0]);
  CHECK(one(ranges) == "ranges");
  const std::vector<MmioEndpoint> mmio(1025);
  CHECK(one(good, mmio) == "mmio");
  // 4,096 holes leave more nodes than a table may have.
  std::vector<SourceRange> holes;
  for (unsigned i = 0; i < 4096; ++i) {
    const auto id = static_cast<std::uint16_t>(2 * i);
    holes.push_back({0, {id}, {id}});
  }
  const std::vector<EndpointRange> whole{range(0, 0, 0xFFFF)};
  const std::vector<VirtioUnit> full{on_mmio(0x1000, whole)};
  CHECK(problem_of(with(full, holes)) == "table");
}

TEST_CASE("the table and the routing name the same endpoint for every source id of any machine",
          "[machine][topology][property][S4.5][VIOT]") {
  const std::uint64_t seeds = test::run_whole() ? 500 : 25;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    test::Random random{seed};
    // Cuts through the source ids of segment 0: between two of them a range, a hole, or nothing.
    std::set<unsigned> cuts{0, 0x10000};
    for (unsigned i = 0, count = static_cast<unsigned>(random.below(30)); i < count; ++i)
      cuts.insert(static_cast<unsigned>(random.below(0x10000)));
    std::vector<std::vector<EndpointRange>> ranges(1 + random.below(3));
    std::vector<SourceRange> bypassed;
    std::vector<std::vector<SourceRange>> known(ranges.size());
    auto id = static_cast<std::uint32_t>(random.below(0x1000));
    for (auto at = cuts.begin(); std::next(at) != cuts.end(); ++at) {
      const auto first = static_cast<std::uint16_t>(*at);
      const auto last = static_cast<std::uint16_t>(*std::next(at) - 1);
      if (random.chance(2, 3)) ranges[random.below(ranges.size())].push_back({0, {first}, {last}, id});
      id += 0x10000;
      if (random.chance(1, 4)) bypassed.push_back({0, {first}, {last}});
      if (random.chance(1, 4)) known[random.below(known.size())].push_back({9, {first}, {last}});
    }
    std::vector<VirtioUnit> units;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      units.push_back(random.chance(1, 2)
                          ? on_pci(0, static_cast<std::uint16_t>(0x100 * i + random.below(0x100)), ranges[i])
                          : on_mmio(0x1000 * (i + 1), ranges[i]));
      units.back().bypassed = known[i];
    }
    const VirtioTopology topology = with(units, bypassed);
    INFO("seed " << seed);
    REQUIRE(problem_of(topology).empty());
    REQUIRE(difference(topology, 0).empty());
  }
}

TEST_CASE("iasl reads the VIOT table without complaint, and compiles it to the same bytes",
          "[machine][topology][VIOT]") {
  namespace fs = std::filesystem;
  std::string name = (fs::temp_directory_path() / "viot.XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  const fs::path folder{name};
  const auto run = [&](const std::string& command) {
    // NOLINTNEXTLINE(cert-env33-c): constant commands, in a folder of our own
    return std::system(("cd '" + name + "' && " + command + " >log 2>&1").c_str()) == 0;
  };
  const auto read = [&](const char* file) {
    std::ifstream in{folder / file, std::ios::binary};
    return std::string{std::istreambuf_iterator<char>{in}, {}};
  };
  if (!run("iasl -v")) {
    WARN("skipped: there is no iasl (Debian: acpica-tools)");
    fs::remove_all(folder);
    return;
  }
  const std::vector<EndpointRange> ranges{range(0, 0, 0xFFFF), range(1, 0, 0xFFFF)};
  const std::vector<EndpointRange> others{range(2, 0x0100, 0x0107)};
  const std::vector<MmioEndpoint> mmio{{{0xFE01'0000}, 0x40000}};
  const std::vector<SourceRange> bypassed{{0, {0x1000}, {0x10FF}}};
  const std::vector<VirtioUnit> units{on_pci(0, 0x0018, ranges), on_mmio(0xFE00'0000, others, mmio)};
  const VirtioTopology topology = with(units, bypassed);
  REQUIRE_FALSE(check(topology));
  const std::vector<std::byte> bytes = table_of(topology);
  {
    std::ofstream file{folder / "viot.aml", std::ios::binary};
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  CHECK(run("iasl -d viot.aml"));
  INFO(read("log"));
  const std::string source = read("viot.dsl");
  INFO(source);
  if (source.find("Unknown ACPI table signature") != std::string::npos) {
    WARN("skipped: this iasl is older than the table, which it knows since 20210604");
    CHECK(read("log").find("ncorrect") == std::string::npos);  // of any table it checks length and checksum
    fs::remove_all(folder);
    return;
  }
  CHECK(source.find("\"VIOT\"") != std::string::npos);
  for (const char* complaint : {"****", "Unknown", "nvalid", "rror", "hecksum :  incorrect"})
    CHECK(source.find(complaint) == std::string::npos);
  CHECK(run("iasl -p again viot.dsl"));
  const std::string again = read("again.aml");
  constexpr std::size_t behind_header = 36;  // the compiler puts itself in as the creator
  const std::string ours{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  CHECK(again.substr(std::min(again.size(), behind_header)) == ours.substr(behind_header));
  fs::remove_all(folder);
}

}  // namespace viommu::machine
