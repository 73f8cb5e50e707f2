// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The same with AVX-512: one comparison a set. Compiled with its flags; everything but the table stays inside.
#include "caches/simd/batch_lookup_lanes.hpp"
#include "caches/simd/tables.hpp"

namespace viommu::caches {
namespace {

struct Avx512 {
  static unsigned ways_with(const std::byte* line, std::uint64_t word) noexcept {
    __mmask8 same = 0;
    asm volatile("vpcmpeqq %1, %2, %0"
                 : "=k"(same)
                 : "m"(*reinterpret_cast<const __m512i*>(line)), "v"(_mm512_set1_epi64(static_cast<long long>(word))));
    return same & 0x55U;
  }
};

}  // namespace

const BatchLookup avx512_batch_lookup{"avx512", &Lookup<Avx512>::all_plain, &Lookup<Avx512>::look_up};

}  // namespace viommu::caches
