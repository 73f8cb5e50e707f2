// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The arithmetic of lanes.hpp over xsimd's batches.
#pragma once

#include "walkers/simd/lanes.hpp"

#include <cstdint>
#include <xsimd/xsimd.hpp>

namespace viommu::walkers {

template <class Arch>
using Batch = xsimd::batch<std::uint64_t, Arch>;
template <class Arch>
using BatchMask = xsimd::batch_bool<std::uint64_t, Arch>;

template <class Arch>
struct Arithmetic<Batch<Arch>> {
  using Word = Batch<Arch>;
  using Mask = BatchMask<Arch>;

  [[nodiscard]] static Mask equal(const Word& a, const Word& b) noexcept { return a == b; }
  [[nodiscard]] static Word choose(const Mask& mask, const Word& yes, const Word& no) noexcept {
    return xsimd::select(mask, yes, no);
  }
  [[nodiscard]] static Mask both(const Mask& a, const Mask& b) noexcept { return a & b; }
  [[nodiscard]] static Mask either(const Mask& a, const Mask& b) noexcept { return a | b; }
  [[nodiscard]] static Mask without(const Mask& a, const Mask& b) noexcept { return a & ~b; }
};

}  // namespace viommu::walkers
