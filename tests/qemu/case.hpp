// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One case: a guest made of a seed, and what it does, step by step, to both sides.
#pragma once

#include <cstdint>

#include "tests/qemu/pair.hpp"

namespace viommu::qemu {

/// Throws Mismatch; pair.log() then tells the steps.
void run_case(Pair& pair, std::uint64_t seed);

}  // namespace viommu::qemu
