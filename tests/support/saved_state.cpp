// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/saved_state.hpp"

namespace viommu::test {
namespace {

constexpr std::size_t header_bytes = 24;
constexpr std::size_t checksum_bytes = 8;

/// Bit by bit, as the polynomial division is written down.
std::uint64_t checksum_of(const State& state, std::size_t length) {
  std::uint64_t rest = ~std::uint64_t{0};
  for (std::size_t i = 0; i < length; ++i) {
    rest ^= std::to_integer<std::uint64_t>(state[i]);
    for (unsigned bit = 0; bit < 8; ++bit) rest = rest % 2 != 0 ? rest / 2 ^ 0xC96C5795D7870F42 : rest / 2;
  }
  return ~rest;
}

}  // namespace

std::uint64_t number_at(const State& state, std::size_t at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(state.at(at + i));
  return value;
}

void put_number(State& state, std::size_t at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) state.at(at + i) = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}

void reseal(State& state) {
  put_number(state, 16, state.size(), 8);
  put_number(state, state.size() - checksum_bytes, checksum_of(state, state.size() - checksum_bytes), checksum_bytes);
}

std::size_t broken_states_taken(viommu_engine* engine, const State& good) {
  std::size_t taken = 0;
  const auto try_load = [&](const State& state) {
    const Loaded loaded = load(engine, state);
    const bool refused = loaded.result == VIOMMU_E_REFUSED && loaded.refusal.code == VIOMMU_REFUSED_BAD_STATE;
    if (!refused || loaded.field().empty()) ++taken;
  };
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    State flipped = good;
    flipped[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    try_load(flipped);
  }
  for (std::size_t length = 0; length < good.size(); ++length) {
    State cut{good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)};
    cut.reserve(length + 1);  // an address there is
    try_load(cut);
    if (length < 40) continue;
    reseal(cut);  // by somebody who knows the checksum
    try_load(cut);
  }
  State longer = good;
  longer.push_back(std::byte{});
  try_load(longer);
  return taken;
}

std::optional<std::size_t> section_at(const State& state, const std::string& name) {
  for (std::size_t at = header_bytes; at + checksum_bytes < state.size(); at += 8 + number_at(state, at + 4, 4)) {
    bool same = true;
    for (std::size_t i = 0; i < 4; ++i) same = same && static_cast<char>(state[at + i]) == name.at(i);
    if (same) return at + 8;
  }
  return std::nullopt;
}

std::size_t register_at(const State& state, std::uint32_t offset) {
  const std::size_t list = section_at(state, "REGS").value();
  for (std::size_t i = 0; i < number_at(state, list, 4); ++i)
    if (number_at(state, list + 4 + 12 * i, 4) == offset) return list + 8 + 12 * i;
  FAIL("no register at " << offset);
  return 0;
}

}  // namespace viommu::test
