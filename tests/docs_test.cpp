// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the conformance table and the table of promises name exists: test titles, tags and files.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/paths.hpp"

namespace {

namespace fs = std::filesystem;
using viommu::test::source_folder;
using Lines = std::vector<std::string>;

/// Titles and tags of test cases.
struct Tests {
  std::set<std::string> titles;
  std::set<std::string> tags;

  void add(const std::string& source) {
    static const std::regex test_case{R"re(TEST_CASE\(\s*"([^"]*)"\s*,\s*"([^"]*)")re"};
    static const std::regex tag{R"(\[[^\]]+\])"};
    for (std::sregex_iterator at{source.begin(), source.end(), test_case}, end; at != end; ++at) {
      titles.insert((*at)[1]);
      const std::string all = (*at)[2];
      for (std::sregex_iterator one{all.begin(), all.end(), tag}; one != end; ++one) tags.insert(one->str());
    }
  }
};

std::string text_of(const fs::path& path) {
  std::ifstream file{path};
  REQUIRE(file);
  return {std::istreambuf_iterator<char>{file}, {}};
}

Tests all_tests() {
  Tests tests;
  for (const auto& entry : fs::recursive_directory_iterator{source_folder() / "tests"})
    if (entry.path().filename().string().ends_with("_test.cpp")) tests.add(text_of(entry.path()));
  return tests;
}

/// The parts of `line` that `pattern` captures.
Lines captured(const std::string& line, const std::regex& pattern) {
  Lines found;
  for (std::sregex_iterator at{line.begin(), line.end(), pattern}, end; at != end; ++at) found.push_back((*at)[1]);
  return found;
}

/// What a document names in its table rows and is not there; and rows that name no test and do not say why.
Lines missing(const std::string& document, const Tests& tests, const std::function<bool(const std::string&)>& exists) {
  static const std::regex title{"\"([^\"]*)\""};
  static const std::regex tag{R"(`(\[[^\]]+\])`)"};
  static const std::regex path{R"(`([a-z_]+/[A-Za-z0-9_./]+)`)"};
  Lines found;
  std::istringstream lines{document};
  for (std::string line; std::getline(lines, line);) {
    for (const std::string& name : captured(line, path))
      if (!exists(name)) found.push_back("no file " + name);
    for (const std::string& name : captured(line, tag))
      if (!tests.tags.contains(name)) found.push_back("no tag " + name);
    const Lines titles = captured(line, title);
    for (const std::string& name : titles)
      if (!tests.titles.contains(name)) found.push_back("no test \"" + name + '"');
    const auto columns = std::ranges::count(line, '|') - 1;
    const bool is_rule = columns == 4 && !line.starts_with("|---") && !line.starts_with("| rule |");
    if (is_rule && titles.empty() && line.find("*not done*") == std::string::npos)
      found.push_back("neither test nor reason: " + line);
  }
  return found;
}

}  // namespace

TEST_CASE("the check of the conformance table finds what is not there", "[docs]") {
  Tests tests;
  tests.add("TEST_CASE(\"a rule\", \"[one][two]\") {}\nTEST_CASE(\"another rule\",\n          \"[three]\") {}");
  const auto exists = [](const std::string& path) { return path == "engine/there.cpp"; };
  CHECK(tests.titles == std::set<std::string>{"a rule", "another rule"});
  CHECK(tests.tags == std::set<std::string>{"[one]", "[two]", "[three]"});
  CHECK(missing("| rule | section | code | test |\n|---|---|---|---|\n"
                "| R | S | `engine/there.cpp` | \"a rule\", \"another rule\" |\n"
                "| R | S | `engine/there.cpp` | *not done*: because |\n| `[two]` | W | \"a rule\" |\n",
                tests, exists)
            .empty());
  CHECK(missing("| R | S | `engine/gone.cpp` | \"a rule\" |", tests, exists) == Lines{"no file engine/gone.cpp"});
  CHECK(missing("| R | S | `engine/there.cpp` | \"no rule\" |", tests, exists) == Lines{"no test \"no rule\""});
  CHECK(missing("| `[four]` | W | \"a rule\" |", tests, exists) == Lines{"no tag [four]"});
  CHECK(missing("| R | S | `engine/there.cpp` | later |", tests, exists).size() == 1);
}

TEST_CASE("every test, tag and file that the conformance table names exists", "[docs]") {
  const Tests tests = all_tests();
  REQUIRE(tests.titles.size() > 100);
  const auto exists = [](const std::string& path) { return fs::exists(source_folder() / path); };
  CHECK(missing(text_of(source_folder() / "engine/docs/conformance.md"), tests, exists) == Lines{});
}

TEST_CASE("each security promise has a row with tests that exist", "[docs][security]") {
  const std::string document = text_of(source_folder() / "engine/docs/security.md");
  const Tests tests = all_tests();
  const auto exists = [](const std::string& path) { return fs::exists(source_folder() / path); };
  CHECK(missing(document, tests, exists) == Lines{});
  for (unsigned promise = 1; promise <= 15; ++promise) {
    const std::string begin = "| `[SEC-" + std::to_string(promise) + "]` ";
    INFO(begin);
    CHECK(document.find("\n" + begin) != std::string::npos);
  }
}

TEST_CASE("the README shows the C example that is compiled and run against the installed library", "[docs]") {
  const std::string readme = text_of(source_folder() / "README.md");
  const std::string example = text_of(source_folder() / "tests/install/example.c");
  const std::string shown = example.substr(example.find('\n') + 1);  // all but the licence line
  CHECK(readme.find("```c\n" + shown + "```\n") != std::string::npos);
}
