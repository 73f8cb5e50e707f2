// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The table of the main job, and what stands below it.
#pragma once

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "bench/support/round.hpp"
#include "engine/cli/report.hpp"

namespace viommu::bench {

struct Row {
  std::string name;
  cli::Report checked;
  Times times;
  bool timed = true;  ///< false: checked only, because the peer cannot be such a unit
  /// What is wrong with the library's answers, checked or timed, whichever found more.
  [[nodiscard]] std::uint64_t mismatches() const noexcept { return std::max(checked.mismatches, times.library_wrong); }
};

void print_table(std::ostream& out, const std::vector<Row>& rows, int rounds);

}  // namespace viommu::bench
