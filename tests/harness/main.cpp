// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_harness: the library's own code under a deterministic scheduler.
//
//   viommu_harness litmus                    the checker checked
//   viommu_harness list                      scenarios and their rules
//   viommu_harness run [NAME...]             random schedules of the named scenarios, or of all
//   viommu_harness search [NAME...]          all schedules with a bounded number of preemptions, as many as time allows
//   viommu_harness sites                     the atomic operations that the scenarios reach
//   viommu_harness mutants [--shard I/N]     each of them changed once: some scenario must fail
//
// VIOMMU_LONG=1 runs more schedules. A failing schedule is printed as MODEL:SCHEDULE; with that in VIOMMU_SCHEDULE,
// `run NAME` replays it and prints each step. VIOMMU_MUTANT is an operation and its change, for `run`.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/harness/mutants.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

[[nodiscard]] std::vector<Scenario> named(std::span<char* const> names) {
  std::vector<Scenario> chosen;
  for (const Scenario& scenario : all_scenarios()) {
    bool wanted = names.empty();
    for (const std::string_view name : names) wanted = wanted || name == scenario.name;
    if (wanted) chosen.push_back(scenario);
  }
  return chosen;
}

[[nodiscard]] bool replay(const Scenario& scenario, std::string_view what) {
  const std::size_t colon = what.find(':');
  const Model model = what.substr(0, colon) == "x86" ? Model::x86 : Model::cxx;
  Schedule schedule;
  if (colon == std::string_view::npos || !schedule.begin_replay(what.substr(colon + 1))) {
    std::printf("VIOMMU_SCHEDULE is MODEL:SCHEDULE, as a failure prints it\n");
    return false;
  }
  simulator().set_trace(true);
  const std::string failure = execute(scenario, model, schedule);
  simulator().set_trace(false);
  std::printf("%s: %s\n", scenario.name, failure.empty() ? "holds" : failure.c_str());
  return failure.empty();
}

[[nodiscard]] bool run(std::span<char* const> names, bool search) {
  const char* const schedule = std::getenv("VIOMMU_SCHEDULE");
  bool right = true;
  const std::vector<Scenario> chosen = named(names);
  if (chosen.empty()) {
    std::printf("there is no such scenario\n");
    return false;
  }
  if (const char* const mutant = std::getenv("VIOMMU_MUTANT")) {
    for (const Scenario& scenario : chosen) static_cast<void>(run_random(scenario, 100));  // so that its site is known
    Simulator::catch_crashes();
    set_named_mutant(mutant);
  }
  for (const Scenario& scenario : chosen) {
    if (schedule != nullptr) {
      right = replay(scenario, schedule) && right;
      continue;
    }
    const auto started = std::chrono::steady_clock::now();
    const Outcome outcome =
        search ? search_all(scenario) : run_random(scenario, scenario.executions * (long_run() ? 100 : 1));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
    std::printf("%-28s %9llu executions %10llu steps %6.2f s  %s\n", scenario.name,
                static_cast<unsigned long long>(outcome.executions), static_cast<unsigned long long>(outcome.steps),
                took.count(), outcome.failure.empty() ? outcome.note.c_str() : "FAILED");
    if (outcome.failure.empty()) continue;
    right = false;
    std::printf("  rule: %s\n  %s\n  VIOMMU_SCHEDULE=%s\n", scenario.rule, outcome.failure.c_str(),
                outcome.schedule.c_str());
  }
  return right;
}

[[nodiscard]] int main_of(std::span<char* const> arguments) {
  const std::string_view command = arguments.empty() ? "" : arguments[0];
  if (command == "litmus") return run_litmus_tests() ? 0 : 1;
  if (command == "list") {
    for (const Scenario& scenario : all_scenarios()) std::printf("%-28s %s\n", scenario.name, scenario.rule);
    return 0;
  }
  if (command == "run" || command == "search") return run(arguments.subspan(1), command == "search") ? 0 : 1;
  if (command == "sites") return list_sites();
  if (command == "mutants") return run_mutants(arguments.subspan(1));
  std::printf("viommu_harness litmus | list | run [NAME...] | search [NAME...] | sites | mutants [--shard I/N]\n");
  return 2;
}

}  // namespace
}  // namespace viommu::harness

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  return viommu::harness::main_of(std::span{arguments, static_cast<std::size_t>(count)}.subspan(1));
}
