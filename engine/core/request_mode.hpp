// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What requests see besides their contexts, in one word, so that each is translated entirely under one mode. The front
// end sets it; the hot path asks one thing of it.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/bits.hpp"

namespace viommu::core {

/// The address of a table of 4 KiB, where the front end has one, with flags in the bits that this leaves free.
struct RequestMode {
  std::uint64_t word = 0;
  static constexpr std::uint64_t translating = 1;
  static constexpr std::uint64_t protecting = 2;
  static constexpr std::uint64_t invalid_table = 4;  ///< a mode that this unit does not have
  static constexpr std::uint64_t aborting = 8;
  static constexpr std::uint64_t scalable = 16;
  static constexpr std::uint64_t counting = 32;  ///< by device and domain: not what the hot path does
  static constexpr std::uint64_t logging = 64;   ///< what is written

  /// Whether each request without a PASID is translated, and that is all: by whatever context the cache has.
  [[nodiscard]] constexpr bool plain() const noexcept {
    return (word & (low_bits(page_shift) & ~scalable)) == translating;
  }
  [[nodiscard]] constexpr RequestMode uncounted() const noexcept { return {word & ~counting}; }
  [[nodiscard]] constexpr RequestMode unlogged() const noexcept { return {word & ~logging}; }
  /// Whether both have their contexts in the same tables.
  [[nodiscard]] constexpr bool same_tables(RequestMode other) const noexcept {
    constexpr std::uint64_t others = translating | protecting | logging;
    return (word & ~others) == (other.word & ~others);
  }
  [[nodiscard]] constexpr bool has(std::uint64_t bit) const noexcept { return (word & bit) != 0; }
  [[nodiscard]] constexpr Gpa root() const noexcept { return {word & ~low_bits(page_shift)}; }
};

/// The one in force. Threads: get() any; put() one at a time.
class ModeInForce {
 public:
  /// A request asks once.
  [[nodiscard, gnu::always_inline]] RequestMode get() const noexcept { return {word_.load(std::memory_order_acquire)}; }
  /// Requests that began earlier may still be under the old one.
  void put(RequestMode mode) noexcept { word_.store(mode.word, std::memory_order_release); }

 private:
  alignas(shared_line_bytes) Atomic<std::uint64_t> word_{0};
};

}  // namespace viommu::core
