// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The ways of all source ids, for who answers requests.
//
// A plain request asks only where no context of its source is cached, and nothing is cached of a source whose way is
// not through the unit: a hit costs nothing for it. Whoever changes a way puts it here first and forgets the source's
// contexts then (core::Waist::forget_sources); a walk that has looked here before does not fill after that, if it takes
// the version of the contexts first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/atomic.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/way.hpp"

namespace viommu::machine {

/// Two bits for each source id. Threads: put() and renumber() one at a time; of() any.
class Ways {
 public:
  [[nodiscard]] Way of(SourceId source) const noexcept {
    const std::uint64_t word = words_[source.value / per_word].load(std::memory_order_relaxed);  // Y2
    return static_cast<Way>(word >> source.value % per_word * bits & mask);
  }
  /// What of() says from now on, to who has taken a version of the contexts that is newer.
  void put(SourceId source, Way way) noexcept {
    Atomic<std::uint64_t>& word = words_[source.value / per_word];
    const unsigned at = source.value % per_word * bits;
    const std::uint64_t others = word.load(std::memory_order_relaxed) & ~(mask << at);
    word.store(others | static_cast<std::uint64_t>(way) << at, std::memory_order_relaxed);  // Y1
  }
  /// Nothing is on `to`.
  void renumber(std::uint8_t from, std::uint8_t to) noexcept {
    if (from == to) return;
    for (std::size_t i = 0; i < words_of_bus; ++i) {
      words_[to * words_of_bus + i].store(words_[from * words_of_bus + i].load(std::memory_order_relaxed),
                                          std::memory_order_relaxed);       // Y1
      words_[from * words_of_bus + i].store(0, std::memory_order_relaxed);  // Y1
    }
  }

 private:
  static constexpr unsigned bits = 2;
  static constexpr std::uint64_t mask = 3;
  static constexpr unsigned per_word = 64 / bits;
  static constexpr std::size_t words_of_bus = 256 / per_word;
  static_assert(static_cast<unsigned>(Way::unit) == 0 && static_cast<unsigned>(Way::blocked) <= mask);
  std::array<Atomic<std::uint64_t>, 0x10000 / per_word> words_{};
};

}  // namespace viommu::machine
