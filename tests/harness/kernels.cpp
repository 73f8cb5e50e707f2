// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of walkers/simd/select.cpp: the scalar kernels alone, whatever the CPU has.
#include "walkers/simd/kernels.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

const Kernels* select_kernels(std::string_view /*name*/) noexcept { return &scalar_kernels; }

}  // namespace viommu::walkers
