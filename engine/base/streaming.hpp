// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Stores past the caches, for much that is written once and not read soon: no line is read first to be overwritten, and
// none that is in use makes room. Elsewhere than on x86 they are usual ones.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <emmintrin.h>
#else
#include <algorithm>
#endif

namespace viommu {

/// Who stores sees them at once. Another thread does when finish_streaming() came before whatever lets it look: a
/// release alone does not order them.
inline void stream_words(std::uint64_t* to, const std::uint64_t* from, std::size_t count) noexcept {
#if defined(__x86_64__)
  const auto one = [&](std::size_t i) {
    _mm_stream_si64(reinterpret_cast<long long*>(to + i), static_cast<long long>(from[i]));
  };
  std::size_t i = 0;
  if (count != 0 && reinterpret_cast<std::uintptr_t>(to) % sizeof(__m128i) != 0) one(i++);
  for (; i + 2 <= count; i += 2)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
  if (i < count) one(i);
#else
  std::copy_n(from, count, to);
#endif
}

inline void finish_streaming() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace viommu
