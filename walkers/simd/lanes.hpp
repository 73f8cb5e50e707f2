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

/// What a kernel does with Words besides &, |, +, - and shifts by a number. Specialised for each kind of Word.
template <class Word>
struct Arithmetic;

/// One lane.
template <>
struct Arithmetic<std::uint64_t> {
  using Mask = bool;

  [[nodiscard]] static constexpr Mask equal(std::uint64_t a, std::uint64_t b) noexcept { return a == b; }
  /// a > b as signed numbers.
  [[nodiscard]] static constexpr Mask beyond(std::uint64_t a, std::uint64_t b) noexcept {
    return static_cast<std::int64_t>(a) > static_cast<std::int64_t>(b);
  }
  [[nodiscard]] static constexpr std::uint64_t choose(Mask mask, std::uint64_t yes, std::uint64_t no) noexcept {
    const std::uint64_t all = std::uint64_t{0} - static_cast<std::uint64_t>(mask);  // no branch on what a guest wrote
    return (yes & all) | (no & ~all);
  }
  [[nodiscard]] static constexpr Mask both(Mask a, Mask b) noexcept { return a & b; }
  [[nodiscard]] static constexpr Mask either(Mask a, Mask b) noexcept { return a | b; }
  [[nodiscard]] static constexpr Mask without(Mask a, Mask b) noexcept { return a & !b; }
};

}  // namespace viommu::walkers
