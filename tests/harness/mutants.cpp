// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/harness/mutants.hpp"

#include <cstdio>
#include <string_view>

namespace viommu::harness {

int list_sites() {
  for (const Scenario& scenario : all_scenarios()) static_cast<void>(run_random(scenario, 100));
  for (const Site& site : simulator().sites()) std::printf("%s\n", site.text().c_str());
  return 0;
}

int run_mutants(std::span<char* const> /*arguments*/) { return 0; }

}  // namespace viommu::harness
