// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The tables as ACPICA's tool reads them: it finds nothing strange, and compiles what it read to the same bytes.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/machine/topology.hpp"
#include "tests/machine/topologies.hpp"

namespace viommu::machine {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "dmar.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  void write(const std::string& name, const std::vector<std::byte>& bytes) const {
    std::ofstream file{path_ / name, std::ios::binary};
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream file{path_ / name, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  /// Whether the command ends well, in this folder.
  [[nodiscard]] bool run(const std::string& command) const {
    // NOLINTNEXTLINE(cert-env33-c): constant commands, in a folder of our own
    return std::system(("cd '" + path_.string() + "' && " + command + " >log 2>&1").c_str()) == 0;
  }

 private:
  fs::path path_;
};

/// Disassembles and compiles again.
void check_with_iasl(const Topology& topology) {
  REQUIRE_FALSE(check(topology));
  const std::vector<std::byte> bytes = table_of(topology);
  const Folder folder;
  folder.write("dmar.aml", bytes);
  CHECK(folder.run("iasl -d dmar.aml"));
  INFO(folder.read("log"));
  const std::string source = folder.read("dmar.dsl");
  INFO(source);
  CHECK(source.find("\"DMAR\"") != std::string::npos);
  for (const char* complaint : {"****", "Unknown", "nvalid", "rror", "hecksum :  incorrect"})
    CHECK(source.find(complaint) == std::string::npos);
  CHECK(folder.read("log").find("ncorrect") == std::string::npos);
  CHECK(folder.run("iasl -p again dmar.dsl"));
  const std::string again = folder.read("again.aml");
  // The compiler puts itself in as the creator, which changes the checksum: all from the width on is the same.
  constexpr std::size_t behind_header = 36;
  const std::string ours{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  CHECK(again.substr(std::min(again.size(), behind_header)) == ours.substr(behind_header));
}

}  // namespace

TEST_CASE("iasl reads the tables without complaint, and compiles them to the same bytes",
          "[machine][topology][BIOS Considerations]") {
  if (!Folder{}.run("iasl -v")) {
    WARN("skipped: there is no iasl (Debian: acpica-tools)");
    return;
  }
  const std::vector<Scope> graphics{endpoint(0, 2)};
  const std::vector<Scope> rest{by_way(bridge(5, 1, 6, 7), 0, {{0x1C, 0}, {0, 0}}), endpoint(0, 3, 1),
                                scope(ScopeKind::ioapic, 0xF0, 0x1F, 0, 8), scope(ScopeKind::hpet, 0xF0, 0x0F, 7, 2),
                                scope(ScopeKind::named, 0, 0x15, 0, 1)};
  const std::vector<RemappingUnit> units{unit(0, false, graphics), unit(1, true, rest)};
  const std::vector<ReservedMemory> rmrrs{{0, {{0x7F00'0000}, {0x7F0F'FFFF}}, graphics}};
  const std::vector<Scope> root{bridge(0, 0x1C, 4, 7)};
  const std::vector<RootPortAts> atsrs{{0, false, root}, {1, true, {}}};
  const std::vector<UnitAffinity> rhsas{{{unit_base}, 3}};
  const std::vector<NamedDevice> andds{{1, "\\_SB.PCI0.I2C0"}};
  const std::vector<SourceRange> bypassed{{0, {0x1000}, {0x10FF}}};
  Topology topology = with_units(units);
  topology.interrupt_remapping = true;
  topology.named_devices = andds;
  check_with_iasl(topology);
  topology.reserved_memory = rmrrs;
  topology.root_ports = atsrs;
  topology.affinities = rhsas;
  topology.bypassed = bypassed;
  check_with_iasl(topology);
}

}  // namespace viommu::machine
