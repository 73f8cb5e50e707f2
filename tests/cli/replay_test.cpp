// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cli/replay_command.hpp"
#include "engine/cli/trace_file.hpp"
#include "tests/cli/tool.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

namespace fs = std::filesystem;

/// What every small trace here begins with: source 0100 in domain 7, page 1000 -> 200000 rw, page 2000 -> 208000 r.
const std::vector<std::string> tables{"m 10010 14001", "m 14008 701",    "m 14000 11001", "m 11000 13003",
                                      "m 13000 12003", "m 12008 200003", "m 12010 208001"};
const std::vector<std::string> enable{"W 88 8 0",     "W 90 8 20000",    "W 18 4 4000000",
                                      "W 20 8 10000", "W 18 4 44000000", "W 18 4 84000000"};
const std::vector<std::string> wait{"m 20000 100000025", "m 20008 7000"};  // status write of 1 to 7000

std::string trace_of(const std::string& cfg, std::vector<std::string> more, bool ready) {
  std::vector<std::string> all{"# viommu-trace 1", cfg};
  if (ready) all.emplace_back("ready ok");
  all.insert(all.end(), tables.begin(), tables.end());
  all.insert(all.end(), enable.begin(), enable.end());
  all.insert(all.end(), more.begin(), more.end());
  return lines(all);
}
std::string scenario(const std::vector<std::string>& more) {
  return trace_of("cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42 haw=39", more, true);
}
std::string recording(const std::vector<std::string>& more) {
  return trace_of("cfg vtd aw=39 cap=80d2008c22260206 ecap=f42 ver=10", more, false);
}
std::vector<std::string> operator+(std::vector<std::string> left, const std::vector<std::string>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

cli::Report replayed(const std::string& text) {
  cli::Report report = cli::replay_text(text);
  if (report.error) FAIL_CHECK("line " << report.error->line << ": " << report.error->text);
  for (const cli::Mismatch& m : report.first_mismatches)
    UNSCOPED_INFO("line " << m.line << ": " << m.event << "\n  expected " << m.expected << "\n  found " << m.found);
  return report;
}

/// One mismatch and no more, on the line that is `from_end` lines from the end, with these words.
void check_one_mismatch(const std::string& text, std::size_t from_end, const std::string& expected,
                        const std::string& found) {
  const cli::Report report = replayed(text);
  INFO(text);
  REQUIRE(report.mismatches == 1);
  const auto line_count = static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
  CHECK(report.first_mismatches[0].line == line_count - from_end);
  CHECK(contains(report.first_mismatches[0].expected, expected));
  CHECK(contains(report.first_mismatches[0].found, found));
  CHECK(report.exit_code() == 1);
}

}  // namespace

TEST_CASE("Every scenario of the project is answered as it says", "[replay][scenario]") {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator{source_folder() / "tests/scenarios"}) {
    if (entry.path().extension() != ".trace") continue;
    ++count;
    const ToolRun run = run_tool({"replay", entry.path().string()});
    INFO(run.out << run.err);
    CHECK(run.code == 0);
  }
  CHECK(count >= 10);
}

TEST_CASE("A wrong expectation of each kind is a mismatch on its own line", "[replay][scenario]") {
  check_one_mismatch(scenario({"R 1c 4 0"}), 0, "0", "c4000000");
  check_one_mismatch(scenario({"mem 12008 200001"}), 0, "200001", "200003");
  check_one_mismatch(scenario({"T 100 - 1000 r ok 201000 fff rw w"}), 0, "ok 201000", "ok 200000");
  check_one_mismatch(scenario({"T 100 - 2000 w ok 208000 fff rw w"}), 0, "ok 208000", "fault 5");
  check_one_mismatch(scenario({"T 100 - 1000 r fault 6 rec"}), 0, "fault 6", "ok 200000");
  check_one_mismatch(scenario({"T 100 - 3000 w fault 6 rec"}), 0, "fault 6", "fault 5");
  check_one_mismatch(scenario({"T 100 - 1000 r ok 203000 fff rw h"}), 0, "ok 203000", "ok 200000");
  check_one_mismatch(
      lines({"# viommu-trace 1", "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42", "ready 100:CachingModeRequired"}),
      0, "100:CachingModeRequired", "ok");
}

TEST_CASE("Interrupts are asked and compared, and what a route may have changed to is told",
          "[replay][scenario][Interrupt Remapping]") {
  const auto replayed_interrupts = [](std::vector<std::string> more, std::string cfg) {
    std::vector<std::string> all{"# viommu-trace 1", std::move(cfg), "m 40050 30000410001", "m 40058 40100"};
    if (contains(all[1], "scenario")) all.insert(all.begin() + 2, "ready ok");
    all.insert(all.end(), {"W b8 8 40007", "W 18 4 1000000", "W 18 4 2000000"});
    all.insert(all.end(), more.begin(), more.end());
    return lines(all);
  };
  const std::string recorded_cfg = "cfg vtd aw=39 cap=80d2008c22260206 ecap=f00f4a ver=10";
  const std::string scenario_cfg = "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f00f4a haw=39";
  const std::string told = "irte 0 100";
  for (const std::string letter : {"V w ", "V q "}) {
    CAPTURE(letter);
    CHECK(replayed(replayed_interrupts({letter + "100 fee000b0 0 ok fee03000 4041"}, recorded_cfg)).matches == 1);
    check_one_mismatch(replayed_interrupts({letter + "100 fee000b0 0 ok fee03000 4042"}, recorded_cfg), 0, "4042",
                       "ok fee03000 4041");
    check_one_mismatch(replayed_interrupts({letter + "100 fee000b0 0 ok fee04000 4041"}, recorded_cfg), 0, "fee04000",
                       "ok fee03000 4041");
    check_one_mismatch(replayed_interrupts({letter + "100 fee000b0 0 fault 26 rec"}, recorded_cfg), 0, "fault 26",
                       "ok fee03000 4041");
    check_one_mismatch(replayed_interrupts({letter + "108 fee000b0 0 fault 22 rec"}, recorded_cfg), 0, "fault 22",
                       "fault 26");
    check_one_mismatch(replayed_interrupts({letter + "108 fee000b0 0 ok fee03000 4041"}, recorded_cfg), 0,
                       "ok fee03000", "fault 26");
  }
  // A source that nobody knew is not verified.
  CHECK(replayed(replayed_interrupts({"V w ffff fee000b0 0 ok fee03000 4041"}, recorded_cfg)).mismatches == 0);
  // The request leaves a record and the question none; so does a request that was not reported.
  CHECK(replayed(replayed_interrupts({"V w 108 fee000b0 0 fault 26 rec", "R 34 4 2"}, recorded_cfg)).mismatches == 0);
  CHECK(replayed(replayed_interrupts({"V q 108 fee000b0 0 fault 26 none", "R 34 4 0"}, recorded_cfg)).mismatches == 0);
  CHECK(replayed(replayed_interrupts({"V w 108 fee000b0 0 fault 26 none", "R 34 4 0"}, recorded_cfg)).mismatches == 0);
  CHECK(replayed(replayed_interrupts({told, "V q 100 fee000b0 0 ok fee03000 4041"}, scenario_cfg)).mismatches == 0);
  check_one_mismatch(replayed_interrupts({}, scenario_cfg), 0, "no such line", "irte 0 100");
  check_one_mismatch(replayed_interrupts({"irte 0 80"}, scenario_cfg), 0, "irte 0 80", "irte 0 100");
  check_one_mismatch(replayed_interrupts({told, told}, scenario_cfg), 0, "irte 0 100", "the unit did not do it");
}

TEST_CASE("Memory that is not there is a mismatch of a mem line", "[replay][scenario]") {
  check_one_mismatch(lines({"# viommu-trace 1", "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42", "ram 0 1000",
                            "ready ok", "mem 1000 0"}),
                     0, "0", "no memory");
}

TEST_CASE("Effects are exhaustive and ordered: one too many, one missing, another value, another place",
          "[replay][scenario][Order]") {
  const std::vector<std::string> act = wait + std::vector<std::string>{"W 88 8 10"};
  CHECK(replayed(scenario(act + std::vector<std::string>{"w 7000 4 1"})).exit_code() == 0);
  // Missing from the trace: found out at the next line, told at the line that did it.
  check_one_mismatch(scenario(act), 0, "no such line", "w 7000 4 1");
  check_one_mismatch(scenario(act + std::vector<std::string>{"R 80 8 10"}), 1, "no such line", "w 7000 4 1");
  // Not done by the unit.
  check_one_mismatch(scenario({"W 88 8 0", "w 7000 4 1"}), 0, "w 7000 4 1", "did not do it");
  check_one_mismatch(scenario({"W 88 8 0", "I fee00000 21"}), 0, "I fee00000 21", "did not do it");
  // Another value, another address, another kind.
  check_one_mismatch(scenario(act + std::vector<std::string>{"w 7000 4 2"}), 0, "w 7000 4 2", "w 7000 4 1");
  check_one_mismatch(scenario(act + std::vector<std::string>{"w 7004 4 1"}), 0, "w 7004 4 1", "w 7000 4 1");
  check_one_mismatch(scenario(act + std::vector<std::string>{"I 7000 1"}), 0, "I 7000 1", "w 7000 4 1");
  // Behind another line it is too late: the effect has no line, and the line no effect.
  CHECK(replayed(scenario(act + std::vector<std::string>{"R 80 8 10", "w 7000 4 1"})).mismatches == 2);
  // Comments, markers and blank lines say nothing about effects.
  CHECK(replayed(scenario(act + std::vector<std::string>{"# why", "", "X now", "w 7000 4 1"})).exit_code() == 0);
}

TEST_CASE("In a scenario nothing below a W is read ahead, in a recording the words of its run are", "[replay][Order]") {
  // The descriptor stands behind the doorbell. What was there before is no descriptor: the queue stops.
  const std::vector<std::string> late = std::vector<std::string>{"W 88 8 10"} + wait;
  CHECK(replayed(scenario(late + std::vector<std::string>{"R 80 8 0", "R 34 4 10"})).exit_code() == 0);
  CHECK(replayed(recording(late + std::vector<std::string>{"w 7000 4 1", "R 80 8 10", "R 34 4 0"})).exit_code() == 0);
  // The run ends at the next R: a word behind it is too late.
  CHECK(replayed(recording(std::vector<std::string>{"W 88 8 10", "R 80 8 0"} + wait)).exit_code() == 0);
}

TEST_CASE("In a recording the effects of a write and the event of the next fault keep their places",
          "[replay][Order]") {
  const std::vector<std::string> event{"W 3c 4 21", "W 40 4 fee01004", "W 38 4 0"};
  const std::vector<std::string> both = event + std::vector<std::string>{"W 88 8 10"} + wait;
  CHECK(
      replayed(recording(both + std::vector<std::string>{"w 7000 4 1", "I fee01004 21", "T 100 - 3000 r fault 6 rec"}))
          .exit_code() == 0);
  CHECK(replayed(recording(both + std::vector<std::string>{"w 7000 4 1", "T 100 - 3000 r fault 6 rec"})).mismatches ==
        1);
  CHECK(replayed(recording(both + std::vector<std::string>{"w 7000 4 1", "I fee01004 21", "R 34 4 0"})).mismatches ==
        1);
}

TEST_CASE("A write of the unit that failed in the recording fails in the replay", "[replay]") {
  const std::vector<std::string> act = std::vector<std::string>{"W 88 8 10"} + wait;
  const cli::Report report = replayed(recording(act + std::vector<std::string>{"U 7000 4", "R 80 8 10"}));
  CHECK(report.exit_code() == 0);
  // Too late, it is a line without an effect, and the effect one without a line.
  CHECK(replayed(recording(act + std::vector<std::string>{"R 80 8 10", "U 7000 4"})).mismatches == 2);
  // A later write there is one that was possible again.
  const std::vector<std::string> again{"m 20010 200000025", "m 20018 7000", "w 7000 4 2", "R 80 8 20"};
  CHECK(replayed(recording(act + std::vector<std::string>{"U 7000 4", "W 88 8 20"} + again)).exit_code() == 0);
}

TEST_CASE("A read that failed in the recording fails in the replay until the word is named", "[replay]") {
  CHECK(replayed(recording({"u 12008 8", "T 100 - 1000 r fault 7 rec", "W 22c 4 80000000", "m 12008 200003",
                            "T 100 - 1000 r ok 200000 fff r w"}))
            .exit_code() == 0);
}

TEST_CASE("An answer from the recorded cache may be older than the tables: stale", "[replay][stale]") {
  // The page moved, and the engine (its caches dropped) already sees it.
  const cli::Report report = replayed(
      recording({"T 100 - 1000 r ok 200000 fff r w", "O", "m 12008 300003", "T 100 - 1000 r ok 200000 fff r h"}));
  CHECK(report.exit_code() == 0);
  CHECK(report.stale == 1);
  CHECK(report.matches == 1);
  // The same line as the answer of a walk is a mismatch.
  check_one_mismatch(recording({"O", "m 12008 300003", "T 100 - 1000 r ok 200000 fff r w"}), 0, "ok 200000",
                     "ok 300000");
  // A fault that was not reported leaves no record.
  const cli::Report gone = replayed(recording(
      {"T 100 - 1000 r ok 200000 fff r w", "O", "m 12008 0", "T 100 - 1000 r ok 200000 fff r h", "R 34 4 0"}));
  CHECK(gone.exit_code() == 0);
  CHECK(gone.stale == 1);
}

TEST_CASE("A cached answer without the right asked for is a dropped access", "[replay][dropped access]") {
  const cli::Report report =
      replayed(recording({"T 100 - 2000 r ok 208000 fff r w", "T 100 - 2000 w ok 208000 fff r h", "R 34 4 0"}));
  CHECK(report.exit_code() == 0);
  CHECK(report.dropped_access == 1);
  // A cached page that may only be written: the emulator says fault 0.
  const cli::Report write_only = replayed(
      recording({"m 12018 210002", "T 100 - 3000 w ok 210000 fff w w", "T 100 - 3000 r fault 0 none", "R 34 4 0"}));
  CHECK(write_only.exit_code() == 0);
  CHECK(write_only.dropped_access == 1);
}

TEST_CASE("A page larger than recorded is right when all of it translates alike", "[replay]") {
  const std::vector<std::string> large{"m 13008 40000083"};  // 200000: 2 MiB at 40000000
  CHECK(replayed(recording(large + std::vector<std::string>{"T 100 - 201234 w ok 40001000 fff rw w"})).exit_code() ==
        0);
  CHECK(replayed(recording(large + std::vector<std::string>{"T 100 - 201234 w ok 40000000 1fffff rw w"})).exit_code() ==
        0);
  // And one that is smaller than recorded, where it lies in the recorded one.
  CHECK(replayed(recording({"m 13008 40200083", "T 100 - 201234 w ok 40000000 3fffffff rw w"})).exit_code() == 0);
  check_one_mismatch(recording(large + std::vector<std::string>{"T 100 - 201234 w ok 40000000 fff rw w"}), 0,
                     "ok 40000234", "ok 40001234");
}

TEST_CASE("The artefacts of recordings are allowed where they stand and nowhere else", "[replay][artefact]") {
  const std::vector<std::string> fault{"T 100 - 3000 r fault 6 rec"};
  const auto with = [&](const std::string& line) { return fault + std::vector<std::string>{line}; };
  const cli::Report dword = replayed(recording(with("R 22c 4 c0ffff06")));
  CHECK(dword.exit_code() == 0);
  CHECK(dword.artefacts.at("FRCD PV without PP") == 1);
  CHECK(replayed(recording(with("R 228 8 c0ffff0600000100"))).artefacts.size() == 1);
  CHECK(replayed(recording(with("R 220 8 ffffff8000003000"))).artefacts.at("FRCD FI above the width") == 1);
  CHECK(replayed(recording(with("R 22c 4 c0000006"))).artefacts.empty());
  CHECK(replayed(recording(with("R 22c 4 c0ffff05"))).mismatches == 1);
  CHECK(replayed(recording(with("R 22c 4 c1000006"))).artefacts.empty() == false);  // PV has 20 bits
  CHECK(replayed(recording(with("R 22c 4 d0000006"))).mismatches == 1);
  CHECK(replayed(recording(with("R 220 8 7000003000"))).mismatches == 1);
  CHECK(replayed(recording(with("R 228 4 ffff0100"))).mismatches == 1);
  CHECK(replayed(recording(with("R 1c 4 c4ffff00"))).mismatches == 1);
  // A scenario says what the specification says.
  CHECK(replayed(scenario(with("R 22c 4 c0ffff06"))).mismatches == 1);
}

TEST_CASE("Letters that this build does not check are counted, by letter", "[replay]") {
  const cli::Report report =
      replayed(recording({"S 100 5 1", "N 100 devunmap 1000 fff 0 -", "Y something new", "Y again", "X phase"}));
  CHECK(report.exit_code() == 0);
  CHECK(report.skipped == std::map<std::string, std::uint64_t>{{"N", 1}, {"S", 1}, {"Y", 2}});
}

TEST_CASE("A recorded view is compared when the write before it has acted", "[replay][scenarios]") {
  CHECK(replayed(recording({"S 100 ffffffff 1"})).mismatches == 0);
  check_one_mismatch(recording({"S 100 ffffffff 0"}), 0, "memory as it is", "translated or blocked");
  // Blocked is not memory as it is either, and off again is.
  CHECK(replayed(recording({"S 101 ffffffff 1"})).mismatches == 0);
  CHECK(replayed(recording({"W 18 4 4000000", "S 100 ffffffff 0", "S 101 ffffffff 0"})).mismatches == 0);
}

TEST_CASE("What a recorded listener was told leads to what our consumer holds, whatever the events were",
          "[replay][scenarios]") {
  const auto listened = [](const std::vector<std::string>& more) {
    return trace_of("cfg vtd aw=39 cap=80d2008c22260286 ecap=f42 ver=10 notify=map", more, false);
  };
  const std::vector<std::string> asked{"P 100", "N 100 map 1000 fff 200000 rw", "N 100 map 2000 fff 208000 r"};
  CHECK(replayed(listened(asked)).mismatches == 0);
  CHECK(replayed(listened({"P 100", "N 100 map 2000 fff 208000 r", "N 100 map 1000 fff 200000 rw"})).mismatches == 0);
  const cli::Report wrong = replayed(listened({"P 100", asked[1], "N 100 map 2000 fff 209000 r"}));
  CHECK(wrong.mismatches == 1);
  CHECK(replayed(listened({"P 100", asked[1]})).mismatches == 1);
  CHECK(replayed(listened({"P 100", asked[1], "N 100 map 2000 fff 208000 rw"})).mismatches == 1);
  // A page that goes, told in one event or in two.
  const std::vector<std::string> gone{"W 88 8 10", "m 12008 0", "m 20000 700e2", "m 20008 0"};
  CHECK(replayed(listened(asked + gone + std::vector<std::string>{"N 100 unmap 1000 fff 0 -"})).mismatches == 0);
  CHECK(replayed(
            listened(asked + gone + std::vector<std::string>{"N 100 unmap 0 ffff 0 -", "N 100 map 2000 fff 208000 r"}))
            .mismatches == 0);
  CHECK(replayed(listened(asked + gone)).mismatches == 1);
}

TEST_CASE("The first ten mismatches are told, all are counted", "[replay]") {
  std::vector<std::string> wrong(25, "R 1c 4 1");
  const ToolRun run = run_tool({"replay", "-"}, scenario(wrong));
  CHECK(run.code == 1);
  CHECK(contains(run.out, "-: 25 mismatches"));
  CHECK(contains(run.out, "and 15 more"));
  std::size_t told = 0;
  for (std::size_t at = run.out.find("expected"); at != std::string::npos; at = run.out.find("expected", at + 1))
    ++told;
  CHECK(told == 10);
  CHECK(contains(run.out, "line 17: R 1c 4 1\n    expected  1\n    found     c4000000"));
}

TEST_CASE("replay --json gives one object a file with every count", "[replay][json]") {
  const fs::path recorded = recordings_folder() / "kut-intel-iommu.trace.zst";
  const ToolRun run = run_tool({"replay", "--json", recorded.string(), "-"}, scenario({"R 1c 4 1"}));
  CHECK(run.code == 1);
  const std::size_t end = run.out.find('\n');
  const auto first = nlohmann::json::parse(run.out.substr(0, end));
  const auto second = nlohmann::json::parse(run.out.substr(end + 1));
  CHECK(first["file"] == recorded.string());
  CHECK(first["result"] == "match");
  CHECK(first["translations"] == 2);
  CHECK(first["mismatches"] == 0);
  CHECK_FALSE(first["skipped"].contains("S"));
  CHECK_FALSE(first["skipped"].contains("V"));
  for (const char* key : {"events", "matches", "stale", "dropped_access", "artefacts", "deviations", "seconds",
                          "translations_per_second"})
    CHECK(first.contains(key));
  CHECK(second["result"] == "mismatch");
  REQUIRE(second["first_mismatches"].size() == 1);
  CHECK(second["first_mismatches"][0]["line"] == 17);
  CHECK(second["first_mismatches"][0]["expected"] == "1");
  CHECK(second["first_mismatches"][0]["found"] == "c4000000");
}

TEST_CASE("Colours and progress are for terminals only", "[replay]") {
  const std::string text = scenario({"R 1c 4 1"});
  CHECK_FALSE(contains(run_tool({"replay", "-"}, text).out, "\x1b"));
  CHECK(contains(run_tool({"replay", "-"}, text, true).out, "\x1b["));
  CHECK(run_tool({"replay", "-"}, text).err.empty());
  const std::string recorded = (recordings_folder() / "vtd-sriov-k612.trace.zst").string();
  CHECK(run_tool({"replay", recorded}).err.empty());
  CHECK(contains(run_tool({"replay", recorded}, {}, true).err, " %"));
}

TEST_CASE("A trace may be read from a file, plain or compressed, and from standard input", "[replay]") {
  const fs::path packed = recordings_folder() / "vtd-sriov-k612.trace.zst";
  std::ifstream file{packed, std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
  CHECK(run_tool({"replay", packed.string()}).code == 0);
  CHECK(run_tool({"replay", "-"}, bytes).code == 0);
  const fs::path plain = fs::temp_directory_path() / "viommu_replay_test.trace";
  std::ofstream{plain} << scenario({"R 1c 4 c4000000"});
  CHECK(run_tool({"replay", plain.string()}).code == 0);
  fs::remove(plain);
}

TEST_CASE("Events can be parsed beforehand", "[replay]") {
  const std::string text = scenario({"R 1c 4 c4000000"});
  const cli::ParsedTrace trace = cli::parse_trace(text);
  CHECK_FALSE(trace.error);
  REQUIRE(trace.events.size() == static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')));
  CHECK(trace.events.back().line == trace.events.size());
  CHECK(cli::parse_trace(text + "m 1\n").error->line == trace.events.size() + 1);
}

TEST_CASE("The small recordings are answered without a mismatch", "[replay][recording]") {
  for (const char* name : {"kut-intel-iommu", "kut-intel-iommu-cm", "vtd-sriov-k612"}) {
    const ToolRun run = run_tool({"replay", (recordings_folder() / (std::string{name} + ".trace.zst")).string()});
    INFO(run.out << run.err);
    CHECK(run.code == 0);
  }
}

TEST_CASE("The whole recordings of real guests are answered without a mismatch", "[replay][recording]") {
  for (const char* name :
       {"vtd-legacy-strict-k61", "vtd-cm-strict-k612", "vtd-intremap-k612", "vtd-sm-fs-k612", "vio-k612"}) {
    const ToolRun run = run_tool({"replay", (recordings_folder() / (std::string{name} + ".trace.zst")).string()});
    INFO(run.out << run.err);
    CHECK(run.code == 0);
  }
}

TEST_CASE("replay --dump writes what the trace leaves behind, of one trace only", "[replay][dump]") {
  const fs::path file = fs::temp_directory_path() / "viommu-replay-dump.json";
  fs::remove(file);
  const std::string text = scenario({"T 100 - 1000 r ok 200000 fff rw d"});
  const ToolRun run = run_tool({"replay", "-", "--dump", file.string()}, text);
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  std::ifstream in{file};
  const auto document = nlohmann::json::parse(in);
  CHECK(document["registers"]["GSTS_REG"]["fields"]["TES"] == "0x1");
  REQUIRE(document["contexts"]["by_source"].size() == 1);
  CHECK(document["contexts"]["by_source"][0]["domain"] == "0x7");
  CHECK(document["work"]["queue"]["head"] == "0x0");
  fs::remove(file);
  CHECK(run_tool({"replay", "-", "-", "--dump", file.string()}, text).code == 2);
  const ToolRun nowhere = run_tool({"replay", "-", "--dump", "/no/such/folder/file"}, text);
  CHECK(nowhere.code == 2);
  CHECK(contains(nowhere.out + nowhere.err, "cannot be written"));
  CHECK_FALSE(fs::exists(file));
}

}  // namespace viommu::test
