// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What xsimd 8.1 does not have, and the same words for one lane. A kernel is written for a type that describes some
// 64-bit lanes (`Scalar` below, Avx2 in avx2.cpp and so on): Word and Mask, loads of many addresses, the transposes
// between arrays of structures and lanes.
#pragma once

#include "engine/base/memory_view.hpp"
#include "walkers/batch.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace viommu::walkers {

/// Guest words are read through addresses that vector code computed.
[[nodiscard]] inline std::byte* host_at(std::uint64_t address) noexcept {
  return reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr): made of a pointer, lane by lane
}

[[nodiscard]] inline const std::uint64_t& word_at(std::uint64_t address) noexcept {
  return *reinterpret_cast<const std::uint64_t*>(host_at(address));
}

}  // namespace viommu::walkers
