// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of the library's header of this name, in the harness. A pair is one value there when `pairs_are_whole` says
// so, else two words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/atomic.hpp"

namespace viommu {

struct Pair {
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  friend constexpr bool operator==(const Pair&, const Pair&) = default;
};

namespace harness {
/// Set by a scenario before it makes its objects.
inline bool pairs_are_whole = true;
}  // namespace harness

class alignas(16) AtomicPair {
  using Place = std::source_location;

 public:
  [[nodiscard]] static bool whole() noexcept { return harness::pairs_are_whole; }

  [[nodiscard]] Pair load(Place place = Place::current()) const noexcept {
    if (!whole()) {
      const std::uint64_t first = load_word(first_, std::memory_order_acquire, place);
      return {first, load_word(second_, std::memory_order_acquire, place)};
    }
    const harness::Value value = harness::simulator().load(this, bits(), std::memory_order_relaxed, place);
    return {value.low, value.high};
  }
  void store(Pair pair, Place place = Place::current()) noexcept {
    harness::Simulator& run = harness::simulator();
    if (!whole()) {
      if (run.store(&first_, {first_, 0}, {pair.first, 0}, std::memory_order_release, place)) first_ = pair.first;
      if (run.store(&second_, {second_, 0}, {pair.second, 0}, std::memory_order_release, place)) second_ = pair.second;
      return;
    }
    if (!run.store(this, bits(), {pair.first, pair.second}, std::memory_order_release, place)) return;
    first_ = pair.first;
    second_ = pair.second;
  }
  [[nodiscard]] std::uint64_t first(Place place = Place::current()) const noexcept {
    if (!whole()) return load_word(first_, std::memory_order_relaxed, place);
    return harness::simulator().load(this, bits(), std::memory_order_relaxed, place).low;
  }

 private:
  [[nodiscard]] harness::Value bits() const noexcept { return {first_, second_}; }
  [[nodiscard]] static std::uint64_t load_word(const std::uint64_t& word, std::memory_order order,
                                               const Place& place) noexcept {
    return harness::simulator().load(&word, {word, 0}, order, place).low;
  }

  std::uint64_t first_ = 0;
  std::uint64_t second_ = 0;
};
static_assert(sizeof(AtomicPair) == 16);

[[nodiscard]] inline const AtomicPair& which_begins_with(const std::array<AtomicPair, 4>& pairs, std::uint64_t word,
                                                         std::source_location place = std::source_location::current()) {
  std::size_t way = 0;
  for (std::size_t i = 1; i < pairs.size(); ++i) way += pairs[i].first(place) == word ? i : 0;
  return pairs[way % pairs.size()];
}

}  // namespace viommu
