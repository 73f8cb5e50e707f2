// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// `viommu replay FILE...`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/cli/report.hpp"
#include "engine/cli/streams.hpp"

namespace viommu::cli {

struct ReplayCommand {
  std::vector<std::string> files;
  bool json = false;
  std::string dump;  // where the unit's state at the end of the (only) trace goes; empty: nowhere
};

/// Replays each file and prints what came out. The exit code: 0 all matched, 1 a mismatch, 2 a file that is wrong.
[[nodiscard]] int replay(const ReplayCommand& command, Streams streams);

/// Replays one trace that is in memory.
[[nodiscard]] Report replay_text(std::string_view text);

}  // namespace viommu::cli
