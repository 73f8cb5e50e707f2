// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The stories and rows of the requirements as scenarios: each is answered as it says, and each kind of check in them
// can fail.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "engine/cli/replay_command.hpp"
#include "tests/cli/tool.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files() {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator{source_folder() / "tests/scenarios"})
    if (entry.path().extension() == ".trace") all.push_back(entry.path());
  std::ranges::sort(all);
  return all;
}

std::string text_of(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The ids that the comments of a scenario begin with: "A09, S1.5, S1.8: ...".
std::set<std::string> ids_of(const std::string& text) {
  std::set<std::string> ids;
  std::istringstream lines{text};
  std::string line;
  while (std::getline(lines, line) && line.starts_with('#')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::istringstream names{line.substr(2, colon - 2)};
    for (std::string name; std::getline(names, name, ',');) {
      name.erase(0, name.find_first_not_of(' '));
      if (name.find(' ') == std::string::npos) ids.insert(name);
    }
  }
  return ids;
}

std::string shown(const cli::Report& report) {
  std::string text;
  if (report.error) text += "line " + std::to_string(report.error->line) + ": " + report.error->text + "\n";
  for (const cli::Mismatch& m : report.first_mismatches)
    text += "line " + std::to_string(m.line) + ": " + m.event + "\n  expected " + m.expected + "\n  found    " +
            m.found + "\n";
  return text;
}

}  // namespace

namespace {

/// Every scenario that is about one of these is answered as it says; and there is one for each.
void check_stories(std::initializer_list<const char*> ids) {
  std::set<std::string> left{ids.begin(), ids.end()};
  for (const fs::path& file : files()) {
    const std::string text = text_of(file);
    const std::set<std::string> of_file = ids_of(text);
    if (std::ranges::none_of(ids, [&](const char* id) { return of_file.contains(id); })) continue;
    for (const std::string& id : of_file) left.erase(id);
    const cli::Report report = cli::replay_text(text);
    INFO(file.string() << "\n" << shown(report));
    CHECK(report.exit_code() == 0);
    CHECK(report.skipped.empty());
  }
  CHECK(left == std::set<std::string>{});
}

}  // namespace

TEST_CASE("Stories of who is let in are answered as they say",
          "[scenarios][S0.1][S0.2][S0.3][S0.4][S0.6][S0.7][S0.8][S0.9][S0.10][S0.11][S0.14][A01][A02][A04][A05]") {
  check_stories({"S0.1", "S0.2", "S0.3", "S0.4", "S0.6", "S0.7", "S0.8", "S0.9", "S0.10", "S0.11", "S0.14", "A01",
                 "A02", "A04", "A05"});
}

TEST_CASE("Stories of views and mappings are answered as they say",
          "[scenarios][S1.1][S1.2][S1.3][S1.4][S1.5][S1.6][S1.7][S1.8][S1.9][S1.10][A07][A08][A09][A10][A11]") {
  check_stories({"S1.1", "S1.2", "S1.3", "S1.4", "S1.5", "S1.6", "S1.7", "S1.8", "S1.9", "S1.10", "A07", "A08", "A09",
                 "A10", "A11"});
}

TEST_CASE("Stories of ranges, blocked devices and memory are answered as they say",
          "[scenarios][S1.11][S1.12][S1.13][S1.14][S1.15][S1.17][S1.20][S1.23][S1.24][S1.26][S5.8][A14]") {
  check_stories(
      {"S1.11", "S1.12", "S1.13", "S1.14", "S1.15", "S1.17", "S1.20", "S1.23", "S1.24", "S1.26", "S5.8", "A14"});
}

TEST_CASE("Stories of hosts and of what they can do are answered as they say",
          "[scenarios][S2.1][S2.3][S2.4][S2.5][S2.6][S2.7][S2.8][S2.9][S2.10][S2.11][S2.12][S2.13][S2.17][S2.19]") {
  check_stories({"S2.1", "S2.3", "S2.4", "S2.5", "S2.6", "S2.7", "S2.8", "S2.9", "S2.10", "S2.11", "S2.12", "S2.13",
                 "S2.17", "S2.19", "A20", "A21", "A22", "A24", "A25"});
}

TEST_CASE("Stories of shared pages, dirty pages, saved state and page requests are answered as they say",
          "[scenarios][S1.16][S1.18][S1.21][S1.25][S5.3][S5.4][S5.5][S5.10][A33][A34]") {
  check_stories({"S1.16", "S1.18", "S1.21", "S1.25", "S5.3", "S5.4", "S5.5", "S5.10", "A33", "A34"});
}

TEST_CASE("Stories of who passes the unit are answered as they say",
          "[scenarios][S4.1][S4.2][S4.3][S4.4][S4.5][S4.6][S4.15][S4.18][A32]") {
  check_stories({"S4.1", "S4.2", "S4.3", "S4.4", "S4.5", "S4.6", "S4.15", "S4.18", "A32"});
}

TEST_CASE(
    "Stories of a virtio-iommu are answered as they say",
    "[scenarios][virtio][S2.15][S2.16][S3.1][S3.7][S3.10][S3.12][S3.16][S3.18][S4.8][S4.12][A17][A26][A28][A29]") {
  check_stories({"S2.15", "S2.16", "S3.1",  "S3.2",  "S3.3",  "S3.4",  "S3.5",  "S3.6",  "S3.7",
                 "S3.8",  "S3.9",  "S3.10", "S3.12", "S3.13", "S3.15", "S3.16", "S3.17", "S3.18",
                 "S4.8",  "S4.9",  "S4.10", "S4.12", "A17",   "A26",   "A28",   "A29",   "A30"});
}

namespace {

// A device with a page and a large page, and one consumer that has both.
const std::vector<std::string> machine{"# viommu-trace 1", "cfg vtd scenario=1 cap=80d2008c22260286 ecap=f00f4a haw=39",
                                       "ram 0 80000000",   "plug 100 host backend=iommufd haw=48 ok",
                                       "ready ok",         "subscribe vfio 100 mu+leaf 0 7fffffffff ok",
                                       "m 10010 14001",    "m 14008 701",
                                       "m 14000 11001",    "m 11000 13003",
                                       "m 13000 12003",    "m 12008 200003",
                                       "m 13008 40000083", "W 88 8 0",
                                       "W 90 8 20000",     "W 18 4 4000000",
                                       "W 20 8 10000",     "W 18 4 44000000",
                                       "W 18 4 84000000"};

cli::Report replayed(std::vector<std::string> more) {
  more.insert(more.begin(), machine.begin(), machine.end());
  return cli::replay_text(lines(more));
}

}  // namespace

TEST_CASE("A wrong check of each kind is one mismatch, the right one none", "[scenarios]") {
  struct Checked {
    std::vector<std::string> before;
    std::vector<std::string> right;
    std::vector<std::string> wrong;
  };
  const std::vector<std::string> held{"x 1000 1000 200000 rw", "x 200000 200000 40000000 rw"};
  const std::vector<std::string> flush{"m 20000 700e2", "m 20008 0", "W 88 8 10"};
  for (const Checked& c : {
           Checked{{}, {"view 100 translated"}, {"view 100 system"}},
           {{}, {"caps 80d2008c22260286 f00f4a"}, {"caps 80d2008c22260206 f00f4a"}},
           {{}, {"caps 80d2008c22260286 f00f4a"}, {"caps 80d2008c22260286 f00f4b"}},
           {{}, {"dmar 26"}, {"dmar 27"}},
           {{}, {"blockers 0"}, {"blockers 1"}},
           {{}, {"pins 513"}, {"pins 512"}},
           {{}, {"shadow vfio 2", held[0], held[1]}, {"shadow vfio 1", held[0]}},
           {{}, {"shadow vfio 2", held[0], held[1]}, {"shadow vfio 2", held[0], "x 200000 200000 40000000 r"}},
           {{}, {"shadow vfio 2", held[0], held[1]}, {"shadow vfio 2", "x 1000 1000 201000 rw", held[1]}},
           {{}, {"shadow vfio 2", held[0], held[1]}, {"shadow vfio 2", "x 1000 2000 200000 rw", held[1]}},
           {{}, {"shadow vfio 2", held[0], held[1]}, {"shadow vfio 2", "x 1000 1000 200000 rw mmio", held[1]}},
           {{}, {"delta vfio 80201000 80000000"}, {"delta vfio 80201000 0"}},
           {{}, {"delta vfio 80201000 80000000"}, {"delta vfio 80200000 80000000"}},
           {{}, {"count vfio 3 1"}, {"count vfio 3 0"}},
           {{}, {"errors vfio 0"}, {"errors vfio 1"}},
           {{"failnext vfio unmap 1", "m 12008 0", flush[0], flush[1], flush[2]}, {"errors vfio 1"}, {"errors vfio 0"}},
           {{}, {"plug 100 host haw=48 AlreadyExists"}, {"plug 100 host haw=48 Busy"}},
           {{}, {"plug 108 host haw=48 ok"}, {"plug 108 host haw=48 NotSupported"}},
           {{}, {"plug 108 emulated wish=bypass bypassed"}, {"plug 108 emulated bypassed"}},
           {{"plug 300 virtio platform=1 ok"}, {"driver 300 1 ok"}, {"driver 300 1 Invalid"}},
           {{"plug 300 virtio platform=1 ok"}, {"driver 300 0 NotSupported"}, {"driver 300 0 ok"}},
           {{}, {"isolatable 100 1"}, {"isolatable 100 0"}},
           {{}, {"inscope 100 1"}, {"inscope 100 0"}},
           {{}, {"subscribe b 100 d 0 1 NotSupported"}, {"subscribe b 100 d 0 1 ok"}},
           {{}, {"hold h 100 - 1000 10 w ok"}, {"hold h 100 - 1000 10 w fault 6"}},
           {{}, {"hold h 100 - 5000 10 r fault 6"}, {"hold h 100 - 5000 10 r fault 5"}},
           {{}, {"hold h 100 - 5000 10 r fault 6"}, {"hold h 100 - 5000 10 r ok"}},
           {{"noram 0 80000000"}, {"gone 0 80000000 1"}, {"gone 0 80000000 0"}},
           {{"dirty on", "hold h 100 - 1000 10 w ok"}, {"bitmap 1", "g 200000 1000"}, {"bitmap 0"}},
           {{"dirty on", "hold h 100 - 1000 10 w ok"}, {"bitmap 1", "g 200000 1000"}, {"bitmap 1", "g 200000 2000"}},
           {{}, {"quiesce ok"}, {"quiesce Busy"}},
           {{}, {"save ok"}, {"save Busy"}},
           {{"save ok"}, {"load ok", "irte 0 2"}, {"load BadState", "irte 0 2"}},
           {{"save ok"}, {"load ok", "irte 0 2"}, {"load ok", "irte 0 4"}},
       }) {
    std::vector<std::string> right = c.before;
    right.insert(right.end(), c.right.begin(), c.right.end());
    const cli::Report fine = replayed(right);
    std::vector<std::string> wrong = c.before;
    wrong.insert(wrong.end(), c.wrong.begin(), c.wrong.end());
    const cli::Report bad = replayed(wrong);
    INFO(c.right[0] << ", " << c.wrong[0] << "\nright:\n" << shown(fine) << "wrong:\n" << shown(bad));
    CHECK(fine.exit_code() == 0);
    CHECK_FALSE(bad.error);
    CHECK(bad.mismatches == 1);
  }
}

TEST_CASE("What a list promises and what makes no sense is an error of the scenario", "[scenarios][damage]") {
  struct Wrong {
    std::vector<std::string> lines;
    std::string text;
  };
  for (const Wrong& wrong : {
           Wrong{{"shadow vfio 2", "x 1000 1000 200000 rw", "view 100 translated"}, "lines of the list above"},
           {{"shadow vfio 2", "x 1000 1000 200000 rw"}, "lines of the list above"},
           {{"x 1000 1000 200000 rw"}, "no list above"},
           {{"shadow vfio 1", "g 0 1000"}, "lines of the list above"},
           {{"g 0 1000"}, "no list above"},
           {{"shadow nobody 0"}, "no consumer of this name"},
           {{"subscribe vfio 100 mu 0 1 ok"}, "there is a consumer of this name"},
           {{"release h"}, "no hold of this name"},
           {{"load ok"}, "nothing was saved"},
           {{"gone 0 1000 0"}, "never removed"},
           {{"ram 1000 1000"}, "RAM already"},
           {{"ready ok"}, "a second ready line"},
       }) {
    const cli::Report report = replayed(wrong.lines);
    INFO(wrong.lines[0]);
    REQUIRE(report.error);
    CHECK(contains(report.error->text, wrong.text));
    CHECK(report.exit_code() == 2);
  }
}

}  // namespace viommu::test
