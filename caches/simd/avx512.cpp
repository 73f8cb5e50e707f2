// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The same with AVX-512: one comparison a set. Compiled with its flags; everything but the table stays inside.
#include "caches/simd/batch_lookup_lanes.hpp"
#include "caches/simd/tables.hpp"

namespace viommu::caches {
namespace {

struct Avx512 {
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
  static unsigned ways_with(const std::byte* line, std::uint64_t word) noexcept {
    __mmask8 same = 0;
    asm volatile("vpcmpeqq %1, %2, %0"
                 : "=k"(same)
                 : "m"(*reinterpret_cast<const __m512i*>(line)), "v"(_mm512_set1_epi64(static_cast<long long>(word))));
    return same & 0x55U;
  }
  static std::size_t way(unsigned words) noexcept { return static_cast<std::size_t>(__builtin_ctz(words | 0x40)) * 8; }
};

}  // namespace

const BatchLookup avx512_batch_lookup{"avx512", &Lookup<Avx512>::all_plain, &Lookup<Avx512>::look_up};

}  // namespace viommu::caches
