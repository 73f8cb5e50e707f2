// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lookup of a batch with AVX2. Compiled with -mavx2; everything but the table at the end stays inside.
#include "caches/simd/batch_lookup_lanes.hpp"
#include "caches/simd/tables.hpp"

namespace viommu::caches {
namespace {

struct Avx2 {
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
};

}  // namespace

const BatchLookup avx2_batch_lookup{"avx2", &Lookup<Avx2>::all_plain, &Lookup<Avx2>::look_up};

}  // namespace viommu::caches
