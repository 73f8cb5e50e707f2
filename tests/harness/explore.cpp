// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <chrono>
#include <cstdlib>

#include "tests/harness/mutants.hpp"

namespace viommu::harness {
namespace {

[[nodiscard]] const char* name_of(Model model) { return model == Model::cxx ? "cxx" : "x86"; }

}  // namespace

bool long_run() { return std::getenv("VIOMMU_LONG") != nullptr; }

std::vector<Scenario> all_scenarios() {
  std::vector<Scenario> all;
  for (const std::span<const Scenario> some :
       {epoch_scenarios(), iotlb_scenarios(), tag_scenarios(), waist_scenarios(), drop_scenarios(), worker_scenarios(),
        mapping_scenarios(), consumer_scenarios()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

std::string execute(const Scenario& scenario, Model model, Schedule& schedule) {
  take_back_arena();
  simulator().clear_failure();
  void* const made = scenario.make();
  if (simulator().failed()) return simulator().failure();
  simulator().run({made, scenario.fibers, scenario.fiber}, model, schedule);
  if (!simulator().failed()) scenario.check(made);
  return simulator().failure();
}

Outcome run_random(const Scenario& scenario, std::uint64_t executions) {
  Outcome outcome;
  Schedule schedule;
  for (std::uint64_t seed = 0; seed < executions; ++seed) {
    // The weaker model finds more; the other one shows what can happen on the machine at hand.
    const Model model = seed % 4 == 3 ? Model::x86 : Model::cxx;
    schedule.begin_random(seed);
    outcome.failure = execute(scenario, model, schedule);
    ++outcome.executions;
    outcome.steps += simulator().steps();
    if (outcome.failure.empty()) continue;
    outcome.schedule = std::string{name_of(model)} + ":" + schedule.name();
    return outcome;
  }
  outcome.note = "holds";
  return outcome;
}

Outcome search_all(const Scenario& scenario) {
  const auto started = std::chrono::steady_clock::now();
  const std::chrono::milliseconds limit{long_run() ? 30'000 : 200};
  const unsigned bound = long_run() ? 3 : 2;
  Outcome outcome;
  for (const Model model : {Model::cxx, Model::x86}) {
    Schedule schedule;
    schedule.begin_search({bound, bound});
    bool more = true;
    while (more) {
      outcome.failure = execute(scenario, model, schedule);
      ++outcome.executions;
      outcome.steps += simulator().steps();
      if (!outcome.failure.empty()) {
        outcome.schedule = std::string{name_of(model)} + ":" + schedule.name();
        return outcome;
      }
      more = schedule.next();
      if (more && outcome.executions % 64 == 0 && std::chrono::steady_clock::now() - started > limit) {
        outcome.note = "holds, as far as the time went";
        return outcome;
      }
    }
  }
  outcome.note = "holds in all";
  return outcome;
}

}  // namespace viommu::harness
