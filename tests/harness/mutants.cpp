// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Each atomic operation of the library that the scenarios reach is changed once, while the program runs: its order made
// relaxed, or acq_rel in place of seq_cst; the store, fence or barrier dropped; the compare-exchange made not to
// compare; a load made to return what its thread last knew. Some scenario has to fail. What survives stands with its
// reason in equivalent.txt, and nothing else does.
#include "tests/harness/mutants.hpp"

#include <unistd.h>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <string_view>

namespace viommu::harness {
namespace {

struct Candidate {
  Mutant mutant;
  std::vector<std::size_t> scenarios;  ///< that reach it, those that do little else first
};

[[nodiscard]] bool is_changed(const Site& site) {
  const bool ours = site.file.starts_with("caches/") || site.file.starts_with("engine/");
  // Statistics, and the mode words, for which there is no scenario.
  constexpr std::array left_out{"engine/core/reader.hpp",
                                "engine/core/log_limit.hpp",
                                "engine/vtd/worker.hpp",
                                "engine/core/request_mode.hpp",
                                "engine/vtd/dma.cpp",
                                "engine/vtd/fault_reporter.cpp",
                                "engine/vtd/fault_reporter.hpp",
                                "engine/vtd/interrupt_remapping.cpp"};
  return ours && std::ranges::find(left_out, site.file) == left_out.end();
}

[[nodiscard]] std::vector<Change> changes_of(const Site& site) {
  const bool ordered = site.order != std::memory_order_relaxed;
  const bool sequential = site.order == std::memory_order_seq_cst;
  std::vector<Change> changes;
  switch (site.operation) {
    case Operation::full_fence:
    case Operation::compiler_fence:
    case Operation::process_barrier: return {Change::dropped};
    case Operation::load:
      if (site.repeats) changes.push_back(Change::stale);
      break;
    case Operation::store:
    case Operation::modify:           changes.push_back(Change::dropped); break;
    case Operation::compare_exchange: changes.push_back(Change::unchecked); break;
  }
  if (ordered) changes.push_back(Change::relaxed);
  if (sequential) changes.push_back(Change::weaker);
  return changes;
}

/// Runs all scenarios unchanged. @return what they reach; nothing when one of them fails
[[nodiscard]] std::vector<Candidate> candidates(const std::vector<Scenario>& scenarios) {
  std::vector<std::map<std::size_t, double>> reached(scenarios.size());  // by site: in so many of its steps
  for (std::size_t i = 0; i < scenarios.size(); ++i) {
    for (Site& site : simulator().sites()) site.reached = 0;
    const Outcome outcome = run_random(scenarios[i], 60);
    if (!outcome.failure.empty()) {
      std::printf("%s fails without any change: %s\n", scenarios[i].name, outcome.failure.c_str());
      return {};
    }
    for (std::size_t site = 0; site < simulator().sites().size(); ++site)
      if (simulator().sites()[site].reached != 0)
        reached[i][site] = static_cast<double>(simulator().sites()[site].reached) / static_cast<double>(outcome.steps);
  }
  std::vector<Candidate> all;
  for (std::size_t site = 0; site < simulator().sites().size(); ++site) {
    if (!is_changed(simulator().sites()[site])) continue;
    Candidate candidate;
    for (std::size_t i = 0; i < scenarios.size(); ++i)
      if (reached[i].contains(site)) candidate.scenarios.push_back(i);
    std::ranges::sort(candidate.scenarios, std::greater{}, [&](std::size_t i) { return reached[i].at(site); });
    for (const Change change : changes_of(simulator().sites()[site])) {
      candidate.mutant = {site, change};
      all.push_back(candidate);
    }
  }
  // In the order of the source, whatever was reached first.
  std::ranges::sort(all, {}, [](const Candidate& candidate) {
    const Site& site = simulator().sites()[candidate.mutant.site];
    return std::tuple{site.file, site.line, site.column, candidate.mutant.change};
  });
  return all;
}

/// And the one before it, which may say which of several equal lines it is.
[[nodiscard]] std::string source_line(const Site& site, std::string* before = nullptr) {
  std::ifstream file{std::string{SOURCE_FOLDER} + "/" + site.file};
  std::string line;
  for (std::uint32_t i = 0; i < site.line; ++i) {
    if (before != nullptr) *before = line;
    std::getline(file, line);
  }
  const std::size_t start = line.find_first_not_of(' ');
  return start == std::string::npos ? line : line.substr(start);
}

/// A line of equivalent.txt: FILE | CHANGE | PART OF THE SOURCE LINE | REASON; "before: PART" is in the line above
struct Known {
  std::string file;
  std::string change;
  std::string part;
  bool rare = false;  ///< may be killed, too
};

[[nodiscard]] std::vector<Known> known_survivors() {
  std::vector<Known> all;
  std::ifstream file{std::string{SOURCE_FOLDER} + "/tests/harness/equivalent.txt"};
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.starts_with("#")) continue;
    std::array<std::string, 3> fields;
    std::string_view rest = line;
    for (std::string& field : fields) {
      const std::size_t bar = rest.find(" | ");
      field = rest.substr(0, bar);
      rest = bar == std::string_view::npos ? std::string_view{} : rest.substr(bar + 3);
    }
    all.push_back({fields[0], fields[1], fields[2], rest.starts_with("rare: ")});
  }
  return all;
}

[[nodiscard]] bool names(const Known& line, const Candidate& candidate) {
  const Site& site = simulator().sites()[candidate.mutant.site];
  if (line.file != site.file || line.change != name_of(candidate.mutant.change)) return false;
  constexpr std::string_view mark = "before: ";
  std::string before;
  const std::string here = source_line(site, &before);
  return line.part.starts_with(mark) ? before.find(line.part.substr(mark.size())) != std::string::npos
                                     : here.find(line.part) != std::string::npos;
}

/// @return the scenario that fails, and after how many executions in all
[[nodiscard]] std::string hunt(const Candidate& candidate, const std::vector<Scenario>& scenarios, bool is_listed) {
  simulator().set_mutant(candidate.mutant);
  std::uint64_t executions = 0;
  std::string killer;
  // A few of each, and then many: most changes are found out at once, and what hides may hide in one scenario alone.
  const std::uint64_t most = is_listed ? (long_run() ? 2'000 : 50) : long_run() ? 40'000 : 8'000;
  for (const std::uint64_t count : {std::uint64_t{50}, std::uint64_t{400}, most}) {
    if (count > most) continue;
    for (const std::size_t i : candidate.scenarios) {
      alarm(60);
      const Outcome outcome = run_random(scenarios[i], count);
      executions += outcome.executions;
      if (outcome.failure.empty()) continue;
      killer = std::string{scenarios[i].name} + " " + outcome.schedule + ", execution " + std::to_string(executions) +
               ": " + outcome.failure;
      break;
    }
    if (!killer.empty() || (count == 400 && !simulator().effective())) break;
  }
  alarm(0);
  return killer;
}

}  // namespace

void set_named_mutant(std::string_view name) {
  const std::size_t space = name.rfind(' ');
  const std::vector<Site>& sites = simulator().sites();
  for (std::size_t site = 0; site < sites.size(); ++site) {
    if (sites[site].text() != name.substr(0, space)) continue;
    for (const Change change : {Change::relaxed, Change::weaker, Change::dropped, Change::unchecked, Change::stale})
      if (name_of(change) == name.substr(space + 1)) simulator().set_mutant({site, change});
  }
}

int list_sites() {
  for (const Scenario& scenario : all_scenarios()) static_cast<void>(run_random(scenario, 100));
  for (const Site& site : simulator().sites()) std::printf("%s\n", site.text().c_str());
  return 0;
}

int run_mutants(std::span<char* const> arguments) {
  std::size_t shard = 0;
  std::size_t shards = 1;
  if (arguments.size() == 2 && std::string_view{arguments[0]} == "--shard") {
    const std::string_view which = arguments[1];
    const std::size_t slash = which.find('/');
    const char* const text = which.data();
    std::from_chars(text, text + slash, shard);
    std::from_chars(text + slash + 1, text + which.size(), shards);
  }
  const std::vector<Scenario> scenarios = all_scenarios();
  const std::vector<Candidate> all = candidates(scenarios);
  if (all.empty()) return 1;
  std::vector<Known> known = known_survivors();
  Simulator::catch_crashes();
  std::size_t killed = 0;
  std::size_t listed = 0;
  std::size_t wrong = 0;
  std::size_t idle = 0;
  for (const Known& line : known) {
    if (std::ranges::any_of(all, [&](const Candidate& candidate) { return names(line, candidate); })) continue;
    std::printf("WRONG: equivalent.txt names what is not there: %s | %s | %s\n", line.file.c_str(), line.change.c_str(),
                line.part.c_str());
    ++wrong;
  }
  for (std::size_t i = shard; i < all.size(); i += shards) {
    const Site& site = simulator().sites()[all[i].mutant.site];
    const char* const change = name_of(all[i].mutant.change);
    const std::string line = source_line(site);
    const auto on_list = std::ranges::find_if(known, [&](const Known& one) { return names(one, all[i]); });
    const auto started = std::chrono::steady_clock::now();
    const std::string killer = hunt(all[i], scenarios, on_list != known.end());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
    const bool effective = simulator().effective();
    simulator().set_mutant({});
    if (!effective) {
      ++idle;
      continue;
    }
    const bool survives = killer.empty();
    const bool is_known = on_list != known.end();
    const bool expected = survives == is_known || (is_known && on_list->rare);
    killed += survives ? 0 : 1;
    listed += survives && expected ? 1 : 0;
    wrong += expected ? 0 : 1;
    std::printf("%s %5.2f s %-9s %s\n    %s\n    %s\n", expected ? "ok   " : "WRONG", took.count(), change,
                site.text().c_str(), line.c_str(),
                survives ? (expected ? "survives, as listed" : "survives") : ("killed by " + killer).c_str());
  }
  std::printf("%zu mutants killed, %zu survive as listed, %zu wrong; %zu changed nothing in any execution\n", killed,
              listed, wrong, idle);
  return wrong == 0 ? 0 : 1;
}

}  // namespace viommu::harness
