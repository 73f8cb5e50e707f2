// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a reader hit lately, kept in its own memory: replacement asks it, and a hit writes nothing that others read.
#pragma once

#include <array>
#include <cstdint>

namespace viommu::caches {

/// A sampled set of pages, by hash. Forgets all when half of it is used. Threads: one.
class Recent {
 public:
  /// Of so many hits one is remembered: what is hit often is remembered soon.
  static constexpr std::uint64_t sample = 16;

  void mark(std::uint64_t trace) noexcept {
    std::uint64_t& word = words_[index_of(trace) / 64];
    const std::uint64_t bit = std::uint64_t{1} << (index_of(trace) % 64);
    if ((word & bit) != 0) return;
    word |= bit;
    if (++used_ <= bits / 2) return;
    words_ = {};
    used_ = 0;
  }
  [[nodiscard]] bool contains(std::uint64_t trace) const noexcept {
    return (words_[index_of(trace) / 64] >> (index_of(trace) % 64) & 1) != 0;
  }

  /// A number that is another one each time, for a choice that must not fall on the same each time.
  [[nodiscard]] std::size_t next_turn() noexcept { return turn_++; }

 private:
  static constexpr std::size_t bits = 4096;
  [[nodiscard]] static constexpr std::size_t index_of(std::uint64_t trace) noexcept {
    return (trace * 0x9E3779B97F4A7C15) >> 52;
  }

  std::array<std::uint64_t, bits / 64> words_{};
  std::size_t used_ = 0;
  std::size_t turn_ = 0;
};

}  // namespace viommu::caches
