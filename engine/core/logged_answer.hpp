// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Answers while writes to guest memory are logged. An answer stands for a block in which every address translates
// alike, and whoever has it may write there without asking again: so it is made no larger than what was asked for, and
// all of it is logged before it is given.
#pragma once

#include "engine/core/dirty_log.hpp"
#include "engine/core/dma_request.hpp"

namespace viommu::core {

/// The answer as it is given under RequestMode::logging. Inside the guard of the request.
[[nodiscard]] DmaAnswer logged(DirtyLog& log, const DmaRequest& request, DmaAnswer found) noexcept;

}  // namespace viommu::core
