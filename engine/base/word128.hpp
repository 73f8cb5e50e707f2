// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// 16 bytes of mapped guest memory as one value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/atomic_pair.hpp"
#include "engine/base/memory_view.hpp"

namespace viommu {

/// 16 bytes of guest memory, little endian.
struct Word128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend constexpr bool operator==(const Word128&, const Word128&) = default;
};

/// At a 16-byte aligned address. One atomic load where the CPU has it, else low, high and low again until low stands
/// still, at most 4 times: the guest may write on, and a torn pair is then possible and harmless, because every
/// decision is taken on this copy.
[[nodiscard]] inline Word128 load_mapped_u128(std::byte* host) noexcept {
  static const bool whole = AtomicPair::whole();
  if (whole) {
    const Pair pair = reinterpret_cast<const AtomicPair*>(host)->load();
    compiler_fence();  // what is decided on the copy comes after it
    return {pair.first, pair.second};
  }
  const auto load = [](std::byte* from) { return load_mapped_u64(from, std::memory_order_acquire); };
  Word128 word{load(host), load(host + sizeof word.low)};
  for (int attempt = 1; attempt < 4; ++attempt) {
    const std::uint64_t again = load(host);
    if (again == word.low) break;
    word = {again, load(host + sizeof word.low)};
  }
  return word;
}

}  // namespace viommu
