// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The tracepoints in the built library are those of the document, with as many arguments.
#include "engine/base/tracepoint.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/elf_notes.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

/// By name: how many arguments the table says there are.
std::map<std::string, std::size_t> documented() {
  std::ifstream file{source_folder() / "engine/docs/tracepoints.md"};
  REQUIRE(file);
  static const std::regex row{R"(^\| `([a-z_]+)` \| ([^|]+) \|.*)"};
  std::map<std::string, std::size_t> probes;
  for (std::string line; std::getline(file, line);) {
    std::smatch parts;
    if (!std::regex_match(line, parts, row)) continue;
    std::string arguments = parts[2];
    arguments = std::regex_replace(arguments, std::regex{R"(\([^)]*\))"}, "");  // what they mean
    probes[parts[1]] = 1 + static_cast<std::size_t>(std::ranges::count(arguments, ','));
  }
  return probes;
}

#if defined(VIOMMU_TRACEPOINTS)
constexpr bool built_in = true;
#else
constexpr bool built_in = false;
#endif

}  // namespace

TEST_CASE("the library has the tracepoints that are documented, and no others", "[tracepoints][docs]") {
  const auto table = documented();
  CHECK(table.size() == 18);
  const auto probes = probes_of(shared_library(), "viommu");
  if (!built_in) {
    CHECK(probes.empty());
    return;
  }
  for (const auto& [name, arguments] : table) {
    CAPTURE(name);
    CHECK(probes.contains(name));
  }
  for (const auto& [name, places] : probes) {
    CAPTURE(name);
    REQUIRE(table.contains(name));
    for (const std::size_t arguments : places) CHECK(arguments == table.at(name));
  }
}

TEST_CASE("another provider's tracepoints are not taken for ours", "[tracepoints]") {
  CHECK(probes_of(shared_library(), "libc").empty());
}

}  // namespace viommu::test
