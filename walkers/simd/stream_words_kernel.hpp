// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Whole vectors past the caches; does what stream_words() does (engine/base/streaming.hpp), in fewer and wider stores.
#pragma once

#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

/// Kernels::stream_words. What is before and behind whole vectors is stored as usual.
template <class Lanes>
[[gnu::flatten]] void stream_words_in_lanes(std::uint64_t* to, const std::uint64_t* from, std::size_t count) noexcept {
  using Word = typename Lanes::Word;
  constexpr std::size_t vector_bytes = Lanes::count * sizeof(std::uint64_t);
  std::size_t i = 0;
  for (; i < count && reinterpret_cast<std::uintptr_t>(to + i) % vector_bytes != 0; ++i) to[i] = from[i];
  for (; i + Lanes::count <= count; i += Lanes::count) Lanes::stream(to + i, Word::load_unaligned(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

}  // namespace viommu::walkers
