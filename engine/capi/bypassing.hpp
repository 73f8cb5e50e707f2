// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which devices of a unit do not pass it, for whoever describes the machine: any thread may ask, from anywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/atomic.hpp"
#include "engine/base/ids.hpp"

namespace viommu::capi {

/// One bit for each source id. Threads: put() and renumber() one at a time; for_each() any.
class Bypassing {
 public:
  void put(SourceId source, bool bypasses) noexcept {
    Atomic<std::uint64_t>& word = words_[source.value / bits];
    const std::uint64_t bit = std::uint64_t{1} << source.value % bits;
    const std::uint64_t others = word.load(std::memory_order_relaxed) & ~bit;
    word.store(bypasses ? others | bit : others, std::memory_order_relaxed);
  }
  /// Nothing is on `to`.
  void renumber(std::uint8_t from, std::uint8_t to) noexcept {
    if (from == to) return;
    for (std::size_t i = 0; i < words_of_bus; ++i) {
      words_[to * words_of_bus + i].store(words_[from * words_of_bus + i].load(std::memory_order_relaxed),
                                          std::memory_order_relaxed);
      words_[from * words_of_bus + i].store(0, std::memory_order_relaxed);
    }
  }
  [[nodiscard]] bool contains(SourceId source) const noexcept {
    return (words_[source.value / bits].load(std::memory_order_relaxed) >> source.value % bits & 1) != 0;
  }
  /// Calls use(first, last) for runs of them, ascending. Cost: a look at 1,024 words.
  template <class Use>
  void for_each(const Use& use) const {
    constexpr std::uint32_t ids = 0x10000;
    for (std::uint32_t at = 0; at < ids;) {  // ends: `at` grows
      const std::uint64_t left = words_[at / bits].load(std::memory_order_relaxed) >> at % bits;
      if (left == 0) {
        at = (at / bits + 1) * bits;
        continue;
      }
      while (!contains({static_cast<std::uint16_t>(at)})) ++at;
      const std::uint32_t first = at;
      while (at < ids && contains({static_cast<std::uint16_t>(at)})) ++at;
      use(SourceId{static_cast<std::uint16_t>(first)}, SourceId{static_cast<std::uint16_t>(at - 1)});
    }
  }

 private:
  static constexpr std::uint32_t bits = 64;
  static constexpr std::size_t words_of_bus = 256 / bits;
  std::array<Atomic<std::uint64_t>, 0x10000 / bits> words_{};
};

}  // namespace viommu::capi
