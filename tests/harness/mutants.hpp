// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Executions of scenarios in bulk, and what becomes of them when one operation of the code is changed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/harness/scenario.hpp"

namespace viommu::harness {

struct Outcome {
  std::string failure;   ///< empty: every claim held
  std::string schedule;  ///< of the failure
  std::string note;
  std::uint64_t executions = 0;
  std::uint64_t steps = 0;
};

[[nodiscard]] bool long_run();
[[nodiscard]] std::vector<Scenario> all_scenarios();
/// One execution. @return what failed, empty for nothing
[[nodiscard]] std::string execute(const Scenario& scenario, Model model, Schedule& schedule);
/// So many of each model, or up to the first failure.
[[nodiscard]] Outcome run_random(const Scenario& scenario, std::uint64_t executions);
/// Two preemptions and two loads of old stores at most (three and three in a long run), as far as the time goes.
[[nodiscard]] Outcome search_all(const Scenario& scenario);

/// "FILE:LINE:COLUMN OPERATION ORDER CHANGE", as run_mutants() prints a site, and the change; the site has been
/// reached.
void set_named_mutant(std::string_view name);
[[nodiscard]] int list_sites();
[[nodiscard]] int run_mutants(std::span<char* const> arguments);

}  // namespace viommu::harness
