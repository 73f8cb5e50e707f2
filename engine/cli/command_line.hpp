// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The `viommu` command: what it is asked, and the exit code.
#pragma once

#include "engine/cli/streams.hpp"

namespace viommu::cli {

/// Runs one command line. 0 done (and all matched), 1 mismatches, 2 a wrong command line or a file that cannot be used.
[[nodiscard]] int run(int argc, const char* const* argv, Streams streams);

}  // namespace viommu::cli
