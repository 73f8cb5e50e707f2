// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one symbol of each kernel object. Which of them exist depends on the machine the build is for.
#pragma once

#include "walkers/batch.hpp"

namespace viommu::walkers {

extern const Kernels scalar_kernels;

}  // namespace viommu::walkers
