// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one symbol of each kernel object. Which of the objects exist depends on the machine the build is for.
#pragma once

#include "walkers/batch.hpp"

#include <array>

namespace viommu::walkers {

extern const Kernels scalar_kernels;
extern const std::array<Kernels, 2> avx2_kernels;    ///< plain, gather
extern const std::array<Kernels, 2> avx512_kernels;  ///< plain, gather
extern const Kernels neon_kernels;

}  // namespace viommu::walkers
