// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lookup of a batch with AVX2. Compiled with -mavx2; everything but the table at the end stays inside.
#include "caches/simd/batch_lookup_lanes.hpp"
#include "caches/simd/tables.hpp"

namespace viommu::caches {
namespace {

struct Avx2 {
  static unsigned bits(Signs mask) noexcept {
    return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
  }
  static __m128i entry(const std::byte* line, std::uint64_t word) noexcept {
    return pair_at(line + way(ways_with(line, word)));
  }
  static __m128i entry(const std::byte* page, std::uint64_t word, const std::byte* block,
                       std::uint64_t block_word) noexcept {
    const unsigned in_page = ways_with(page, word);
    const unsigned in_block = ways_with(block, block_word);
    // Without a branch: which of the two it is, nobody can predict.
    const std::uintptr_t other = in_page != 0 ? 0 : ~std::uintptr_t{0};
    const std::uint64_t line = address(page) ^ ((address(page) ^ address(block)) & other);
    return pair_at(host(line) + way(in_page | (in_block & static_cast<unsigned>(other))));
  }

 private:
  /// A bit for each word of the line: the even ones are first words.
  static unsigned ways_with(const std::byte* line, std::uint64_t word) noexcept {
    const auto half = [&](std::size_t at) {
      __m256i same;
      asm volatile("vpcmpeqq %1, %2, %0"
                   : "=x"(same)
                   : "m"(*reinterpret_cast<const __m256i*>(line + at)), "x"(every(word)));
      return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(same)));
    };
    return (half(0) | half(32) << 4) & 0x55;
  }
  /// In bytes; the last where there is none.
  static std::size_t way(unsigned words) noexcept { return static_cast<std::size_t>(__builtin_ctz(words | 0x40)) * 8; }
};

}  // namespace

const BatchLookup avx2_batch_lookup{"avx2", &Lookup<Avx2>::all_plain, &Lookup<Avx2>::look_up};

}  // namespace viommu::caches
