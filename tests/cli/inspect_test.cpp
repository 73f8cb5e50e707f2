// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/inspect_command.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/cli/tool.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

/// Source 0100 with a table of three levels: three pages in a row, two of them alike, a large page, a broken entry.
const std::string sample = lines({
    "# viommu-trace 1",
    "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42 haw=39",
    "ready ok",
    "m 10010 14001",  // root entry of bus 1
    "m 14008 701",    // 01:00.0, domain 7
    "m 14000 11001",
    "m 14018 702",  // 01:00.1 with a width that is not offered
    "m 14010 11001",
    "m 14020 9",  // 01:00.2 pass-through
    "m 14028 801",
    "m 14038 701",  // 01:00.3 with reserved bits, faults not recorded
    "m 14030 11073",
    "m 11000 13003",
    "m 11008 8000013003",  // 40000000: reserved bits above the host address width
    "m 13000 12003",
    "m 13008 40000083",  // 200000: 2 MiB
    "m 12008 200003",    // 1000
    "m 12010 201003",    // 2000: goes on
    "m 12018 202001",    // 3000: only readable
    "m 12020 203002",    // 4000: only writable
    "m 12030 300003",    // 6000 and 7000: neighbours that go elsewhere
    "m 12038 400003",
    "m 13010 15001",  // 400000: a table that may only be read
    "m 15000 500003",
    "W 20 8 10000",  // line 25
    "W 18 4 40000000",
    "W 20 8 99000",
    "W 18 4 80000000",  // line 28
    "T 100 - 5000 r fault 6 rec",
});

ToolRun look(const std::vector<std::string>& more, const std::string& line = "29", const std::string& text = sample) {
  std::vector<std::string> arguments{"inspect", "-", "--at", line};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_tool(arguments, text);
}

}  // namespace

TEST_CASE("A source is BB:DD.F or a hex id", "[inspect]") {
  std::optional<SourceId> source;
  CHECK(cli::parse_source("00:1f.2", source));
  CHECK(source == SourceId{0x00fa});
  CHECK(cli::parse_source("00:1F.2", source));
  CHECK(source == SourceId{0x00fa});
  CHECK(cli::parse_source("ff:00.7", source));
  CHECK(source == SourceId{0xff07});
  CHECK(cli::parse_source("100", source));
  CHECK(source == SourceId{0x0100});
  CHECK(cli::text_of(SourceId{0x00fa}) == "00:1f.2");
  for (const char* wrong : {"", "00:20.0", "00:00.8", "100:00.0", "1.2", "01:02", "00:1f.2x", "10000", "xyz", ":."})
    CHECK_FALSE(cli::parse_source(wrong, source));
  std::optional<Iova> iova;
  CHECK(cli::parse_address("0xfee00000", iova));
  CHECK(iova == Iova{0xfee00000});
  CHECK(cli::parse_address("ffffffffffffffff", iova));
  for (const char* wrong : {"", "0x", "1g", "1ffffffffffffffff", "-1"}) CHECK_FALSE(cli::parse_address(wrong, iova));
}

TEST_CASE("Root and context entries are shown field by field", "[inspect]") {
  const ToolRun run = look({"--source", "01:00.0"});
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  CHECK(contains(run.out, "at line 29: T 100 - 5000 r fault 6 rec"));
  CHECK(contains(run.out, "Source 01:00.0 (100)"));
  CHECK(contains(run.out, "0000000000014001  P=1 CTP=14000"));
  CHECK(contains(run.out, "0000000000011001  P=1 FPD=0 TT=0 SSPTPTR=11000"));
  CHECK(contains(run.out, "AW=1 DID=7  translate, no ATS, 39 bit in 3 levels, domain 7"));
}

TEST_CASE("Registers are those in force at the line", "[inspect]") {
  const ToolRun run = look({});
  INFO(run.out);
  CHECK(contains(run.out, "RTPS TES"));
  CHECK(contains(run.out, "in force: 10000, legacy mode"));
  CHECK(contains(run.out, "01:00.0: no right to read"));
  // Before the second root table address was written, and before translation was on.
  const ToolRun before = look({}, "26");
  CHECK(contains(before.out, "translation is off"));
  CHECK_FALSE(contains(before.out, "in force: "));
  // Before the root table was latched.
  CHECK(contains(look({}, "25").out, "in force: 0, legacy mode"));
}

TEST_CASE("Without a source the present ones are listed, with what is wrong with them", "[inspect]") {
  const ToolRun run = look({});
  INFO(run.out);
  CHECK(contains(run.out, "01:00.0  100   tables at 11000"));
  CHECK(contains(run.out, "01:00.1  101   fault 3"));
  CHECK(contains(run.out, "01:00.2  102   -                         pass-through"));
  CHECK(contains(run.out, "01:00.3  103   fault b: reserved bits in the context entry, faults not recorded"));
  CHECK_FALSE(contains(run.out, "01:00.4"));
}

TEST_CASE("The walk of an address is shown level by level, with the reason where it stops", "[inspect]") {
  const auto walked = [](const std::string& iova) { return look({"--source", "100", "--iova", iova}).out; };
  const std::string page = walked("2345");
  INFO(page);
  CHECK(contains(page, "PDPE   at 11000         0000000000013003  R=1 W=1"));
  CHECK(contains(page, "PDE    at 13000"));
  CHECK(contains(page, "PTE    at 12010"));
  CHECK(contains(page, "=> readable and writable\n     2345 -> 201345 in a page of 4 KiB"));
  CHECK(contains(walked("3000"), "=> readable; a write is fault 5"));
  CHECK(contains(walked("4000"), "=> writable; a read is fault 6"));
  CHECK(contains(walked("400000"), "=> readable; a write is fault 5"));
  CHECK(contains(walked("5000"), "=> nothing mapped: a read is fault 6, a write fault 5"));
  CHECK(contains(walked("201234"), "201234 -> 40001234 in a page of 2 MiB"));
  CHECK(contains(walked("40000000"), "=> fault c: reserved bits in a page-table entry"));
  CHECK(contains(walked("40000000"), "ADDR[51:12]=8000013000 (must be 0)"));
  CHECK(contains(walked("8000000000"), "=> fault 4: address beyond the width"));
  CHECK(contains(look({"--source", "200", "--iova", "0"}).out, "=> fault 1: root entry not present"));
  CHECK(contains(look({"--source", "104", "--iova", "0"}).out, "=> fault 2: context entry not present"));
  CHECK(contains(look({"--source", "101", "--iova", "0"}).out, "=> fault 3: "));
  CHECK(contains(look({"--source", "103", "--iova", "0"}).out, "Rsvd[11:4]=7 (must be 0)"));
  CHECK(contains(look({"--source", "102", "--iova", "1234"}).out, "1234 -> 1234"));
}

TEST_CASE("Mapped ranges are joined where addresses and rights go on", "[inspect]") {
  const std::string all = look({"--source", "100"}).out;
  INFO(all);
  CHECK(contains(all, "1000         - 2fff         -> 200000       rw  8 KiB"));
  CHECK(contains(all, "3000         - 3fff         -> 202000       r-  4 KiB"));
  CHECK(contains(all, "4000         - 4fff         -> 203000       -w  4 KiB"));
  CHECK(contains(all, "200000       - 3fffff       -> 40000000     rw  2 MiB"));
  CHECK(contains(all, "6000         - 6fff         -> 300000       rw  4 KiB"));
  CHECK(contains(all, "7000         - 7fff         -> 400000       rw  4 KiB"));
  CHECK(contains(all, "400000       - 400fff       -> 500000       r-  4 KiB"));
  CHECK(contains(all, "7 ranges, 8 pages, 2076 KiB in all"));
  CHECK(contains(all, "1 entries with reserved bits"));
  const std::string two = look({"--source", "100", "--ranges", "2"}).out;
  CHECK(contains(two, "3000         - 3fff"));
  CHECK_FALSE(contains(two, "4000         - 4fff"));
  CHECK(contains(two, "and 5 more"));
}

TEST_CASE("Tables that point to themselves are listed in bounded time", "[inspect][SEC-7]") {
  std::vector<std::string> list{"# viommu-trace 1", "cfg vtd scenario=1 cap=80d2008c222f0606 ecap=f42 haw=48",
                                "ready ok",         "m 10010 14001",
                                "m 14008 702",      "m 14000 11001"};
  for (unsigned i = 0; i < 512; ++i) {
    std::string digits;
    for (unsigned value = 0x11000 + 8 * i; value != 0; value /= 16)
      digits.insert(digits.begin(), "0123456789abcdef"[value % 16]);
    list.push_back("m " + digits + " 11003");
  }
  list.insert(list.end(), {"W 20 8 10000", "W 18 4 40000000", "W 18 4 80000000"});
  const ToolRun run = look({"--source", "100"}, std::to_string(list.size()), lines(list));
  INFO(run.out);
  CHECK(run.code == 0);
  CHECK(contains(run.out, "the rest was not looked at"));
}

TEST_CASE("inspect --json gives the same as one object", "[inspect][json]") {
  const auto json = nlohmann::json::parse(look({"--source", "100", "--iova", "2345", "--json"}).out);
  REQUIRE(json.contains("source"));
  CHECK(json["line"] == 29);
  CHECK(json["translating"] == true);
  CHECK(json["source"]["source"] == "01:00.0");
  REQUIRE(json["source"]["entries"].size() == 4);
  CHECK(json["source"]["entries"][2]["fields"]["SSPTPTR"] == "11000");
  REQUIRE(json["walk"]["steps"].size() == 3);
  CHECK(json["walk"]["gpa"] == "201345");
  REQUIRE(json["mapped"]["ranges"].size() == 7);
  CHECK(json["mapped"]["ranges"][0]["last"] == "2fff");
  const auto sources = nlohmann::json::parse(look({"--json"}).out);
  CHECK(sources["sources"].size() == 4);
  CHECK(nlohmann::json::parse(look({"--json"}, "99").out)["error"]["line"] == 0);
}

TEST_CASE("A line that is not there, or before the unit, ends with exit code 2", "[inspect][damage]") {
  CHECK(contains(look({}, "30").err, "the trace has the lines 1 to 29"));
  CHECK(look({}, "30").code == 2);
  CHECK(look({}, "0").code == 2);
  CHECK(contains(look({}, "1").err, "no unit yet"));
  CHECK(look({}, "1").code == 2);
}

TEST_CASE("Colours are for terminals only", "[inspect]") {
  CHECK_FALSE(contains(look({"--source", "100"}).out, "\x1b"));
  CHECK(contains(run_tool({"inspect", "-", "--at", "29"}, sample, true).out, "\x1b[1m"));
}

TEST_CASE("A real guest's tables can be inspected", "[inspect][recording]") {
  const std::string file = (recordings_folder() / "vtd-sriov-k612.trace.zst").string();
  const ToolRun run = run_tool({"inspect", file, "--at", "2751"});
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  CHECK(contains(run.out, "01:00.0  100   tables at "));
  CHECK(contains(run.out, "04:10.0  480   tables at "));
}

namespace {

/// PASIDs 0 to 3 of source 0100: second stage, first stage, pass-through, nested; 4 has a reserved bit.
const std::string scalable = lines({
    "# viommu-trace 1", "cfg vtd scenario=1 cap=80d2008c22260206 ecap=1c99804000f42 haw=39",
    "ready ok",
    "m 10010 14001",  // root entry of bus 1, lower half
    "m 14000 16009",  // 01:00.0, with PASIDE
    "m 16000 17001",
    "m 17000 11085",  // PASID 0: second stage, three levels
    "m 17008 7",
    "m 17040 41",  // PASID 1: first stage, four levels
    "m 17048 800008",   "m 17050 21000",
    "m 17080 101",  // PASID 2: pass-through
    "m 17088 9",
    "m 170c0 110c5",  // PASID 3: nested
    "m 170c8 7",        "m 170d0 21000",
    "m 17100 121",  // PASID 4
    "m 11000 13003",    "m 13000 12003",
    "m 12008 200003",  // 1000
    "m 12010 201001",  // 2000: only readable
    "m 21000 22007",    "m 22000 23007",
    "m 23000 24007",
    "m 24008 300007",  // 1000
    "m 24010 301003",  // 2000: a supervisor's
    "m 24018 302005",  // 3000: only readable
    "m 21ff8 22007",   // the last of the upper half leads to the same tables
    "W 20 8 10400",     "W 18 4 40000000",
    "W 18 4 80000000",  // line 31
});

ToolRun look_at_pasid(const std::string& pasid, const std::string& iova) {
  std::vector<std::string> more{"--source", "100", "--iova", iova};
  if (!pasid.empty()) more.insert(more.end(), {"--pasid", pasid});
  return look(more, "31", scalable);
}

}  // namespace

TEST_CASE("Tables of scalable mode are shown down to the page, by PASID", "[inspect][scalable]") {
  CHECK(contains(look({}, "31", scalable).out, "01:00.0  100   tables at 11000"));
  // PASID 0 is that of requests without one, so nobody may name it.
  CHECK(contains(look_at_pasid("0", "1000").out, "=> fault 48"));
  const std::string second = look_at_pasid("", "1234").out;
  for (const char* part : {"scalable mode", "root entry, lower     at 10010", "context entry, low    at 14000",
                           "PASID directory entry at 16000", "PASID 0, word 0       at 17000", "PGTT=2",
                           "second stage, 3 levels, domain 7", "1234 -> 200234 in a page of 4 KiB"})
    CHECK(contains(second, part));
  CHECK(contains(look_at_pasid("", "2000").out, "readable; a write is fault 85"));
  CHECK(contains(look_at_pasid("", "3000").out, "=> fault 79"));
  CHECK(contains(look_at_pasid("", "8000000000").out, "=> fault 84"));
  const std::string first = look_at_pasid("1", "1234").out;
  for (const char* part :
       {"PASID 1, word 2       at 17050", "first stage, 4 levels, domain 8", "U/S=1",
        "1234 -> 300234 in a page of 4 KiB", "1000         - 1fff", "ffffff8000001000- ffffff8000001fff"})
    CHECK(contains(first, part));
  CHECK(contains(look_at_pasid("1", "2000").out, "=> fault 81"));
  CHECK(contains(look_at_pasid("1", "3000").out, "readable; a write is fault 85"));
  CHECK(contains(look_at_pasid("1", "4000").out, "=> fault 71"));
  CHECK(contains(look_at_pasid("1", "ffffff8000001000").out, "-> 300000"));
  CHECK(contains(look_at_pasid("1", "800000000000").out, "=> fault 80"));
  CHECK(contains(look_at_pasid("2", "1234").out, "passes through untranslated: readable and writable"));
  CHECK(contains(look_at_pasid("2", "8000000000").out, "=> fault 83"));
  CHECK(contains(look_at_pasid("3", "1234").out, "nested, first stage of 4 levels behind a second of 3 levels"));
  CHECK(contains(look_at_pasid("3", "1234").out, "=> fault 79"));  // nothing lies behind its first stage
  CHECK(contains(look_at_pasid("4", "1234").out, "=> fault 5a"));
  CHECK(contains(look_at_pasid("5", "1234").out, "=> fault 59"));
}

TEST_CASE("A PASID is a hex number of 20 bits, and needs a source", "[inspect][scalable]") {
  CHECK(contains(look({"--pasid", "5"}, "31", scalable).err, "--pasid needs --source"));
  CHECK(look({"--pasid", "5"}, "31", scalable).code == 2);
  CHECK(contains(look({"--source", "100", "--pasid", "100000"}, "31", scalable).err, "--pasid: not a hex number"));
  CHECK(contains(look({"--source", "100", "--pasid", "5"}).out, "=> fault 31"));  // legacy mode
}

TEST_CASE("A real guest's first stage can be inspected", "[inspect][recording][scalable]") {
  const std::string file = (recordings_folder() / "vtd-sm-fs-k612.trace.zst").string();
  const ToolRun run = run_tool({"inspect", file, "--at", "304", "--source", "01:00.0", "--iova", "ffffb0f8"});
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  CHECK(contains(run.out, "ffffb0f8 -> 10231c0f8 in a page of 4 KiB"));  // as line 304 says
}

namespace {

/// PASID 3 of source 0100: a first stage of four levels whose tables 21000 to 24000 lie at 31000 to 34000.
const std::string nested = lines({
    "# viommu-trace 1",   "cfg vtd scenario=1 cap=80d2008c22270206 ecap=1c99804000f42 haw=40",
    "ready ok",           "m 10010 14001",
    "m 14000 16009",      "m 16000 17001",
    "m 170c0 110c5",      "m 170c8 800007",
    "m 170d0 21000",
    "m 11000 13003",  // the second stage
    "m 13000 12003",
    "m 13008 40000083",  // 200000: 2 MiB
    "m 12108 31003",      "m 12110 32003",
    "m 12118 33003",
    "m 12120 34003",  // 24000
    "m 31000 22007",      "m 32000 23007",
    "m 33000 24007",
    "m 34008 300007",  // 1000
    "m 34010 301005",  // 2000: only readable
    "m 34018 500007",  // 3000: beyond what the second stage maps
    "m 34028 25007",   // 5000: only readable behind the second stage
    "m 12128 35001",
    "m 34030 8000021007",  // 6000: beyond the second stage's width
    "m 33008 200087",      // 200000: large in both
    "W 20 8 10400",       "W 18 4 40000000",
    "W 18 4 80000000",  // line 29
});

ToolRun look_behind(const std::string& iova, bool json = false) {
  std::vector<std::string> more{"--source", "100", "--pasid", "3", "--iova", iova};
  if (json) more.emplace_back("--json");
  return look(more, "29", nested);
}

}  // namespace

TEST_CASE("A nested walk shows where each first-stage table lies, and both stages of the page", "[inspect][scalable]") {
  const std::string page = look_behind("1234").out;
  INFO(page);
  for (const char* part :
       {"  second PDPE  at 11000", "  second PTE   at 12108         0000000000031003", "first PML4E    at 31000",
        "first PDPE     at 32000", "first PDE      at 33000", "first PTE      at 34008         0000000000300007",
        "second PDE     at 13008", "=> readable and writable", "1234 -> 40100234 in a page of 4 KiB"})
    CHECK(contains(page, part));
  CHECK(contains(look_behind("2000").out, "=> readable; a write is fault 85"));
  CHECK(contains(look_behind("3000").out, "=> fault 79"));
  CHECK(contains(look_behind("4000").out, "=> fault 71"));
  CHECK(contains(look_behind("5000").out, "=> readable; a write is fault 85"));
  CHECK(contains(look_behind("6000").out, "=> fault 74"));
  CHECK(contains(look_behind("212345").out, "212345 -> 40012345 in a page of 2 MiB"));
  const auto json = nlohmann::json::parse(look_behind("1234", true).out);
  REQUIRE(json["walk"]["steps"].size() == 4 * 3 + 4 + 2);
  CHECK(json["walk"]["steps"][0]["for_table"] == true);
  CHECK(json["walk"]["steps"][3]["stage"] == "first");
  CHECK(json["walk"]["steps"][17]["meaning"] == "page");
}

TEST_CASE("What nested tables map is listed by what both stages grant", "[inspect][scalable]") {
  const std::string page = look_behind("1234").out;
  INFO(page);
  CHECK(contains(page, "1000         - 1fff         -> 40100000     rw  4 KiB"));
  CHECK(contains(page, "2000         - 2fff         -> 40101000     r-  4 KiB"));
  CHECK(contains(page, "5000         - 5fff         -> 35000        r-  4 KiB"));
  CHECK(contains(page, "200000       - 3fffff       -> 40000000     rw  2 MiB"));
  CHECK(contains(page, "4 ranges, 4 pages, 2060 KiB in all"));
}

namespace {

/// Interrupt table at 30000 of 16 entries: 0 remapped, 2 posted, 3 with a reserved bit, 5 to many processors.
const std::string interrupts = lines({
    "# viommu-trace 1",
    "cfg vtd scenario=1 cap=88d2008c22260206 ecap=f5a haw=39",
    "ready ok",
    "m 30000 50000310001",
    "m 30008 400fa",
    "m 30020 123450400044c001",
    "m 30028 40100",
    "m 30030 1001",
    "m 30050 f0000220035",  // logical, redirected, level, lowest priority
    "m 30058 81020",
    "W b8 8 30003",
    "W 18 4 1000000",  // line 12
    "W b8 8 40803",    // not latched
    "W 18 4 2000000",
});

ToolRun look_at_interrupts(const std::vector<std::string>& more, const std::string& line = "14") {
  std::vector<std::string> arguments{"--interrupts"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return look(arguments, line, interrupts);
}

}  // namespace

TEST_CASE("Interrupt table entries that are present are decoded, remapped and posted ones", "[inspect][interrupts]") {
  const std::string all = look_at_interrupts({}).out;
  INFO(all);
  for (const char* part : {"Interrupt table at 30000, 16 entries", "entry 0, low      at 30000", "DST=5",
                           "=> remapped: vector 31 to 5, fixed, edge, from 00:1f.2",
                           "=> posted: vector 44 in the descriptor at 12345040, urgent, from 01:00.0",
                           "=> fault 24: reserved bits or values in the interrupt entry", "Rsvd[13:12]=1 (must be 0)",
                           "=> remapped: vector 22 to logical f, lowest priority, level, from bus 10 to 20"})
    CHECK(contains(all, part));
  CHECK_FALSE(contains(all, "entry 1,"));
}

TEST_CASE("A range of interrupt table entries is shown whole, up to the end of the table", "[inspect][interrupts]") {
  const std::string two = look_at_interrupts({"1-2"}).out;
  CHECK(contains(two, "entry 1, low      at 30010"));
  CHECK(contains(two, "=> fault 22: interrupt entry not present"));
  CHECK(contains(two, "=> posted: "));
  CHECK_FALSE(contains(two, "entry 0,"));
  CHECK(contains(look_at_interrupts({"2"}).out, "=> posted: "));
  CHECK_FALSE(contains(look_at_interrupts({"f-ffff"}).out, "entry 10,"));
  CHECK(contains(look_at_interrupts({}, "11").out, "Interrupt table at 0, 2 entries"));  // before SIRTP
  for (const char* wrong : {"x", "2-1", "-", "1-", "10000", "1-2-3"}) {
    CAPTURE(wrong);
    CHECK(look_at_interrupts({wrong}).code == 2);
    CHECK(contains(look_at_interrupts({wrong}).err, "--interrupts: not an index"));
  }
}

TEST_CASE("Interrupt table entries come as JSON too", "[inspect][interrupts][json]") {
  const auto json = nlohmann::json::parse(look_at_interrupts({"0-3", "--json"}).out);
  REQUIRE(json["interrupts"]["entries"].size() == 4);
  CHECK(json["interrupts"]["entries_in_all"] == 16);
  CHECK(json["interrupts"]["entries"][0]["low"]["fields"]["V"] == "31");
  CHECK(json["interrupts"]["entries"][1]["present"] == false);
  CHECK(json["interrupts"]["entries"][2]["posted"] == true);
  CHECK(json["interrupts"]["entries"][3]["verdict"]["reason"] == "24");
}

TEST_CASE("A real guest's interrupt table can be inspected", "[inspect][recording][interrupts]") {
  const std::string file = (recordings_folder() / "vtd-intremap-k612.trace.zst").string();
  const ToolRun run = run_tool({"inspect", file, "--at", "1000", "--interrupts"});
  INFO(run.out << run.err);
  CHECK(run.code == 0);
  CHECK(contains(run.out, "=> remapped: vector "));
}

}  // namespace viommu::test
