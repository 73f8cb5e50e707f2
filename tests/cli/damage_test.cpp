// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Every kind of damage to a trace is told with the line it is on, and ends with exit code 2.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/cli/tool.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

namespace fs = std::filesystem;

const std::string header = "# viommu-trace 1";
const std::string recording = "cfg vtd aw=39 cap=80d2008c22260206 ecap=f42 ver=10";
const std::string scenario = "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42 haw=39";

struct Damage {
  std::string name;
  std::string text;
  std::string where;  // "line N", or nothing
  std::string said;   // part of the message
};

const std::vector<Damage> damages{
    {"empty file", "", "", "the file is empty"},
    {"no header", lines({recording, "Z"}), "line 1", "'# viommu-trace 1'"},
    {"other version", lines({"# viommu-trace 2", recording}), "line 1", "version 1"},
    {"only a header", lines({header}), "line 1", "without a cfg line"},
    {"binary garbage",
     std::string{"\x7f"
                 "ELF\x02\x01\x01\0\0\0",
                 10},
     "line 1", "'# viommu-trace 1'"},
    {"binary garbage inside", lines({header, recording, "\xff\xfe\x01 2"}), "line 3", "binary"},
    {"event before cfg", lines({header, "Z", recording}), "line 2", "before the cfg line"},
    {"cfg twice", lines({header, recording, "Z", recording}), "line 4", "second cfg"},
    {"cfg of nothing known", lines({header, "cfg smmu a=1"}), "line 2", "'smmu'"},
    {"cfg without a key", lines({header, "cfg vtd aw=39 cap=1"}), "line 2", "(ecap): a cfg key is missing"},
    {"cfg with an unknown key", lines({header, scenario + " colour=red"}), "line 2", "'colour=red'"},
    {"capabilities that contradict each other", lines({header, "cfg vtd aw=39 cap=80d2008c22260206 ecap=f48"}),
     "line 2", "the engine cannot be this unit"},
    {"a virtio-iommu that offers nothing", lines({header, "cfg virtio probe_size=200"}), "line 2", "(features)"},
    {"a scenario of a virtio-iommu with other features",
     lines({header, "cfg virtio scenario=1 features=10000007f page_size_mask=1000", "ready ok"}), "line 3",
     "offers features"},
    {"reserved regions that are missing", lines({header, "cfg virtio features=77 page_size_mask=1000 resv=1", "B 0"}),
     "line 3", "as many reserved regions"},
    {"upper-case hex", lines({header, recording, "m 1000 ABC"}), "line 3", "field 3 (VALUE)"},
    {"a prefix", lines({header, recording, "m 0x1000 1"}), "line 3", "field 2 (GPA): not a hex number: '0x1000'"},
    {"a field missing", lines({header, recording, "m 1000"}), "line 3", "field 3 (VALUE): a field is missing"},
    {"a field too many", lines({header, recording, "m 1000 1 2"}), "line 3", "too many fields"},
    {"two spaces", lines({header, recording, "m  1000 1"}), "line 3", "exactly one space"},
    {"an overlong number", lines({header, recording, "m 11112222333344445 1"}), "line 3", "too many digits"},
    {"a blank line in a recording", lines({header, recording, ""}), "line 3", "empty line"},
    {"carriage returns", lines({header + "\r", recording + "\r"}), "line 1", "'# viommu-trace 1'"},
    {"cut inside a line", lines({header, recording}) + "m 1000 12", "line 3", "cut off"},
    {"unknown letter in a scenario", lines({header, scenario, "Y 1"}), "line 3", "'Y'"},
    {"recorded letter in a scenario", lines({header, scenario, "", "S 100 ffffffff 1"}), "line 4", "only recordings"},
    {"a word of the other kind of unit", lines({header, scenario, "req 4 00 00"}), "line 3", "other kind of unit"},
    {"a letter of the other kind of unit", lines({header, scenario, "E 00"}), "line 3", "other kind of unit"},
    {"a driver before ready", lines({header, scenario, "plug 100 virtio ok", "driver 100 0 ok", "ready ok"}), "line 4",
     "before the machine is ready"},
    {"V before ready", lines({header, scenario, "V w 8 fee00030 0 fault 22 rec"}), "line 3",
     "before the machine is ready"},
    {"W before ready", lines({header, scenario, "W 18 4 0", "ready ok"}), "line 3", "before the machine is ready"},
    {"T before ready", lines({header, scenario, "T 100 - 0 r fault 1 rec"}), "line 3", "before the machine is ready"},
    {"reset before ready", lines({header, scenario, "reset system"}), "line 3", "before the machine is ready"},
    {"two ready lines", lines({header, scenario, "ready ok", "ready ok"}), "line 4", "a second ready"},
    {"no ready line", lines({header, scenario, "mem 0 0"}), "line 3", "no ready line"},
    {"a result that is none", lines({header, scenario, "ready maybe"}), "line 3", "SID:Error"},
    {"a reset of a device that VT-d has not", lines({header, scenario, "ready ok", "reset device"}), "line 4",
     "only a virtio-iommu"},
    {"RAM twice", lines({header, scenario, "ram 0 2000", "ram 1000 1000"}), "line 4", "RAM already"},
    {"no RAM to remove", lines({header, scenario, "ram 0 2000", "noram 1000 2000"}), "line 4", "not there"},
    {"a request that cannot be sent", lines({header, scenario, "ready ok", "T 100 - 0 r+tx ok 0 fff r d"}), "line 4",
     "cannot send"},
};

fs::path scratch(const std::string& name) {
  const fs::path folder = fs::temp_directory_path() / "viommu_damage_test";
  fs::create_directories(folder);
  return folder / name;
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

}  // namespace

TEST_CASE("Each kind of damage is told with its line and ends with exit code 2", "[replay][damage]") {
  for (const Damage& damage : damages) {
    const ToolRun run = run_tool({"replay", "-"}, damage.text);
    INFO(damage.name << ": " << run.err << run.out);
    CHECK(run.code == 2);
    CHECK(run.out.empty());
    CHECK(contains(run.err, "-: " + damage.where));
    CHECK(contains(run.err, damage.said));
    CHECK(run.err.ends_with('\n'));

    const ToolRun json = run_tool({"replay", "--json", "-"}, damage.text);
    CHECK(json.code == 2);
    CHECK(contains(json.out, R"("result":"error")"));
    CHECK(run_tool({"inspect", "-", "--at", "999"}, damage.text).code == 2);
  }
}

TEST_CASE("A recording cut off at any byte is an error, never a hang or a wrong success",
          "[replay][damage][property]") {
  const std::string whole = lines({header, recording, "Z", "R 1c 4 0", "m 1000 123456", "W 20 8 10000"});
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const ToolRun run = run_tool({"replay", "-"}, whole.substr(0, length));
    const bool whole_lines = length > 0 && whole[length - 1] == '\n';
    const bool configured = length > header.size() + 1 + recording.size();
    INFO(length << ": " << run.err);
    CHECK(run.code == (whole_lines && configured ? 0 : 2));
  }
}

TEST_CASE("A file that is missing, a folder, or cut compressed data is told and ends with exit code 2",
          "[replay][damage]") {
  const ToolRun missing = run_tool({"replay", scratch("not_there.trace").string()});
  CHECK(missing.code == 2);
  CHECK(contains(missing.err, "No such file"));

  const ToolRun folder = run_tool({"replay", fs::temp_directory_path().string()});
  CHECK(folder.code == 2);
  CHECK(contains(folder.err, "folder"));

  const std::string packed = bytes_of(recordings_folder() / "kut-intel-iommu.trace.zst");
  REQUIRE(packed.size() > 200);
  for (const std::size_t length : {packed.size() - 1, packed.size() / 2, std::size_t{5}}) {
    const ToolRun cut = run_tool({"replay", "-"}, packed.substr(0, length));
    INFO(length << ": " << cut.err);
    CHECK(cut.code == 2);
    CHECK(contains(cut.err, "zstd"));
  }
  std::string damaged = packed;
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 0x55);
  const ToolRun flipped = run_tool({"replay", "-"}, damaged);
  INFO(flipped.err);
  CHECK(flipped.code == 2);
}

TEST_CASE("A wrong file does not keep the others from being replayed, and decides the exit code", "[replay][damage]") {
  const std::string good = (recordings_folder() / "kut-intel-iommu.trace.zst").string();
  const ToolRun run = run_tool({"replay", "nowhere.trace", good});
  CHECK(run.code == 2);
  CHECK(contains(run.err, "nowhere.trace: "));
  CHECK(contains(run.out, good + ": 0 mismatches"));
}

TEST_CASE("A wrong command line ends with exit code 2, help with 0", "[replay][damage]") {
  CHECK(run_tool({}).code == 2);
  CHECK(run_tool({"replay"}).code == 2);
  CHECK(run_tool({"play", "x"}).code == 2);
  CHECK(run_tool({"replay", "--loud", "x"}).code == 2);
  CHECK(run_tool({"inspect", "x"}).code == 2);
  CHECK(run_tool({"inspect", "-", "--at", "1", "--source", "1:2:3"}).code == 2);
  CHECK(run_tool({"inspect", "-", "--at", "1", "--source", "00:20.0"}).code == 2);
  CHECK(run_tool({"inspect", "-", "--at", "1", "--iova", "1000"}).code == 2);
  CHECK(run_tool({"inspect", "-", "--at", "1", "--source", "00:1f.2", "--iova", "xyz"}).code == 2);
  CHECK(run_tool({"--help"}).code == 0);
  CHECK(contains(run_tool({"replay", "--help"}).out, "--json"));
  CHECK(run_tool({"--version"}).code == 0);
}

}  // namespace viommu::test
