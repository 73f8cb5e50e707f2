// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Two words that are read and written as one value, where the CPU can.
//
// Aligned 16-byte vector loads and stores are single-copy atomic on every x86-64 CPU that has AVX, by the vendors'
// statement. 64-byte ones are not: a whole line may be compared for a hint, and then one pair decides. A
// std::atomic of 16 bytes is no choice: g++ turns its load into a library call that may write.
// Elsewhere, and for the thread sanitizer, the two words are atomic each, and the owner says when a pair is whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/atomic.hpp"
#include "engine/base/build.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace viommu {

struct Pair {
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  friend constexpr bool operator==(const Pair&, const Pair&) = default;
};

class alignas(16) AtomicPair {
 public:
  /// Whether load() and store() move both words as one value in this process.
  [[nodiscard]] static bool whole() noexcept {
#if defined(__x86_64__)
    return !thread_sanitizer && __builtin_cpu_supports("avx") != 0;
#else
    return false;
#endif
  }

  /// Relaxed where it is one load, acquire where it is two. The two words belong together if whole(). Who needs an
  /// order beyond the pair has a fence or a lock for it.
  [[nodiscard]] Pair load() const noexcept {
#if defined(__x86_64__)
    if constexpr (!thread_sanitizer) {
      __m128i value;
      // As assembler, because the compiler may split or repeat a plain vector load.
      asm volatile("movdqa %1, %0" : "=x"(value) : "m"(*this));
      return {static_cast<std::uint64_t>(_mm_cvtsi128_si64(value)),
              static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(value, value)))};
    }
#endif
    return {first_.load(std::memory_order_acquire), second_.load(std::memory_order_acquire)};
  }

  /// Release. Others see both words at once if whole().
  void store(Pair pair) noexcept {
#if defined(__x86_64__)
    if constexpr (!thread_sanitizer) {
      const __m128i value = _mm_set_epi64x(static_cast<long long>(pair.second), static_cast<long long>(pair.first));
      asm volatile("movdqa %1, %0" : "=m"(*this) : "x"(value) : "memory");
      return;
    }
#endif
    first_.store(pair.first, std::memory_order_release);
    second_.store(pair.second, std::memory_order_release);
  }

  /// The first word alone, relaxed: a hint that load() has to confirm.
  [[nodiscard]] std::uint64_t first() const noexcept { return first_.load(std::memory_order_relaxed); }

 private:
  Atomic<std::uint64_t> first_{0};
  Atomic<std::uint64_t> second_{0};
};
static_assert(sizeof(AtomicPair) == 16);

/// The one of four that begins with the word, or else any: a hint, which load() has to confirm. Without a branch, which
/// nobody could predict; in assembler, because compilers put one there, or take twice as many registers.
[[nodiscard, gnu::always_inline]] inline const AtomicPair& which_begins_with(const std::array<AtomicPair, 4>& pairs,
                                                                             std::uint64_t word) noexcept {
#if defined(__x86_64__)
  if constexpr (!thread_sanitizer) {
    const AtomicPair* found = pairs.data();
    const AtomicPair* next = nullptr;
    asm volatile(
        "leaq 16(%[pairs]), %[next]\n\t"
        "cmpq %[word], 16(%[pairs])\n\t"
        "cmoveq %[next], %[found]\n\t"
        "leaq 32(%[pairs]), %[next]\n\t"
        "cmpq %[word], 32(%[pairs])\n\t"
        "cmoveq %[next], %[found]\n\t"
        "leaq 48(%[pairs]), %[next]\n\t"
        "cmpq %[word], 48(%[pairs])\n\t"
        "cmoveq %[next], %[found]"
        : [found] "+&r"(found), [next] "=&r"(next)
        : [pairs] "r"(pairs.data()), [word] "r"(word), "m"(pairs)
        : "cc");
    return *found;
  }
#endif
  std::size_t way = 0;
  for (std::size_t i = 1; i < pairs.size(); ++i) way += pairs[i].first() == word ? i : 0;
  return pairs[way % pairs.size()];
}

}  // namespace viommu
