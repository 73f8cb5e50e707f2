// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a target counts besides executions: comparisons with its oracle.
#pragma once

#include <cstdint>

namespace viommu::fuzz {

inline std::uint64_t work_done = 0;
inline const char* work_name = "comparisons";

}  // namespace viommu::fuzz
