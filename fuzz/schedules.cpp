// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: each scenario of the harness holds, whichever thread goes on at each step, and whichever of the stores that
// the memory model allows a load returns.
//
//   head: a scenario, a memory model     the rest: a choice a byte
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/support/input.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/harness/mutants.hpp"
#include "tests/harness/scenario.hpp"
#include "tests/harness/schedule.hpp"

namespace viommu::harness {
namespace {

constexpr std::size_t most_choices = 512;

void run(fuzz::Input input) {
  static const std::vector<Scenario> scenarios = all_scenarios();
  constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";
  const Scenario& scenario = scenarios[input.take<std::uint8_t>() % scenarios.size()];
  const Model model = input.flag() ? Model::x86 : Model::cxx;
  // As a failure of the harness is printed: the bounds of a search, as wide as they go, and each choice.
  std::string name = "szz";
  for (std::size_t i = 0; i < most_choices && !input.empty(); ++i)
    name += digits[input.take<std::uint8_t>() % digits.size()];
  Schedule schedule;
  fuzz::require(schedule.begin_replay(name), "a schedule that cannot be read");
  const std::string failure = execute(scenario, model, schedule);
  ++fuzz::work_done;
  if (failure.empty()) return;
  std::fprintf(stderr, "scenario %s; VIOMMU_SCHEDULE=%s:%s\n", scenario.name, model == Model::cxx ? "cxx" : "x86",
               name.c_str());
  fuzz::fail(failure.c_str());
}

}  // namespace
}  // namespace viommu::harness

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  viommu::fuzz::work_name = "schedules";
  viommu::harness::run(viommu::fuzz::Input{data, size});
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  static_cast<void>(seed);
  return LLVMFuzzerMutate(data, size, most);
}
