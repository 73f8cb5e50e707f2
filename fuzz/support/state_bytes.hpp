// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Saved states in the hands of somebody who changes them, and knows their checksum.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "fuzz/support/require.hpp"

namespace viommu::fuzz {

using State = std::vector<std::uint8_t>;

/// CRC-64 of ECMA-182, reflected, a byte at a time.
[[nodiscard]] inline std::uint64_t checksum_of(const State& state, std::size_t length) {
  static const std::array<std::uint64_t, 256> table = [] {
    std::array<std::uint64_t, 256> made{};
    for (std::uint64_t i = 0; i < made.size(); ++i) {
      std::uint64_t rest = i;
      for (unsigned bit = 0; bit < 8; ++bit) rest = rest % 2 != 0 ? rest / 2 ^ 0xC96C'5795'D787'0F42 : rest / 2;
      made.at(i) = rest;
    }
    return made;
  }();
  std::uint64_t rest = ~std::uint64_t{0};
  for (std::size_t i = 0; i < length; ++i) rest = table.at((rest ^ state[i]) & 0xFF) ^ rest >> 8;
  return ~rest;
}
inline void put_number(State& state, std::size_t at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes && at + i < state.size(); ++i)
    state[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}
/// Length and checksum are right again.
inline void reseal(State& state) {
  if (state.size() < 32) return;
  put_number(state, 16, state.size(), 8);
  put_number(state, state.size() - 8, checksum_of(state, state.size() - 8), 8);
}
/// A number, a bit, some more bytes, or fewer. @param how  bits 6..4 what, bits 1..0 how many bytes a number has
inline void change_state(State& state, unsigned how, bool may_cut, std::uint16_t where, std::uint64_t value) {
  const std::size_t at = where % state.size();
  switch (how >> 4 & 7) {
    default: put_number(state, at, value, 1ULL << (how & 3)); break;
    case 5:  state[at] = static_cast<std::uint8_t>(state[at] ^ 1U << (value & 7)); break;
    case 6:
      if (may_cut) state.resize(std::max<std::size_t>(at, 1));
      break;
    case 7: state.insert(state.begin() + static_cast<std::ptrdiff_t>(at), value & 31, 0); break;
  }
}
[[nodiscard]] inline unsigned long long number_at(const State& state, std::size_t at) {
  unsigned long long number = 0;
  for (std::size_t i = 8; i-- != 0;) number = number << 8 | (at + i < state.size() ? state[at + i] : 0U);
  return number;
}
inline void require_same_state(const State& found, const State& right, const char* what) {
  if (found == right) return;
  const auto r = std::ranges::mismatch(found, right).in2;
  const auto at = static_cast<std::size_t>(r - right.begin());
  std::fprintf(
      stderr, "%zu bytes, not %zu; the first that differs is at %zu, in 8 bytes of them: %016llx, not %016llx\n",
      found.size(), right.size(), at, number_at(found, at & ~std::size_t{7}), number_at(right, at & ~std::size_t{7}));
  fail(what);
}

}  // namespace viommu::fuzz
