// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of the files simd/select.cpp: the scalar kernels alone, whatever the CPU has.
#include "walkers/simd/kernels.hpp"
#include "caches/batch_lookup.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

const Kernels* select_kernels(std::string_view /*name*/) noexcept { return &scalar_kernels; }

}  // namespace viommu::walkers

namespace viommu::caches {

const BatchLookup* select_batch_lookup(std::string_view /*kernel*/) noexcept { return nullptr; }

}  // namespace viommu::caches
