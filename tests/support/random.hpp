// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Random numbers of a fixed seed: the same sequence with every compiler and library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::test {

/// SplitMix64. Passes for random here, is one line, and a seed is its whole state.
class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) noexcept : state_{seed} {}

  constexpr std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// In [0, bound); bound is not 0. The bias of the remainder does not matter for bounds this small.
  constexpr std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }
  /// True `times` times out of `of`.
  constexpr bool chance(std::uint64_t times, std::uint64_t of) noexcept { return below(of) < times; }
  template <class T, std::size_t N>
  constexpr const T& pick(const std::array<T, N>& from) noexcept {
    return from[below(N)];
  }

 private:
  std::uint64_t state_;
};

}  // namespace viommu::test
