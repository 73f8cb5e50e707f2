// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one symbol of each object of an instruction set. Which exist depends on the machine the build is for.
#pragma once

#include "caches/batch_lookup.hpp"

namespace viommu::caches {

extern const BatchLookup avx2_batch_lookup;
extern const BatchLookup avx512_batch_lookup;

}  // namespace viommu::caches
