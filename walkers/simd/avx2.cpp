// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Four lanes of AVX2. Compiled with -mavx2; everything but the tables at the end stays inside.
#include "walkers/simd/first_stage_kernel.hpp"
#include "walkers/simd/kernels.hpp"
#include "walkers/simd/nested_kernel.hpp"
#include "walkers/simd/run_events_kernel.hpp"
#include "walkers/simd/second_stage_kernel.hpp"
#include "walkers/simd/second_stage_lanes.hpp"
#include "walkers/simd/stream_words_kernel.hpp"
#include "walkers/simd/table_scan_kernel.hpp"
#include "walkers/simd/walk_kernel.hpp"
#include "walkers/simd/xsimd_lanes.hpp"

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {
namespace {

/// By the lanes that are kept: the halves of words in the order they are then in.
alignas(32) constexpr std::array<std::array<std::uint32_t, 8>, 16> packed = [] {
  std::array<std::array<std::uint32_t, 8>, 16> orders{};
  for (std::uint32_t bits = 0; bits < orders.size(); ++bits) {
    std::size_t next = 0;
    for (std::uint32_t half = 0; half < 8; ++half)
      if ((bits >> half / 2 & 1) != 0) orders[bits][next++] = half;
  }
  return orders;
}();

template <bool gather>
struct Avx2 {
  using Word = Batch<xsimd::avx2>;
  using Mask = BatchMask<xsimd::avx2>;
  using Predicates = walkers::Predicates<xsimd::avx2>;
  static constexpr std::size_t count = 4;
  static constexpr std::size_t worthwhile = 12;        ///< fewer walks are faster without vectors
  static constexpr std::size_t worthwhile_padded = 5;  ///< the same where a vector need not be full

  static Word load(const std::uint64_t* from) noexcept { return Word::load_aligned(from); }
  static void store(std::uint64_t* to, const Word& word) noexcept { word.store_aligned(to); }
  static std::uint64_t first(const Word& word) noexcept {
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(word)));
  }
  static unsigned bits(const Mask& mask) noexcept {
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(mask)));
  }

  /// Masks of a line, of two lines, of four lines as bits in their order. In smaller and smaller words a line is
  /// 0 1 4 5 | 2 3 6 7 by halves of a register, until the last step takes pairs from both in turn.
  using LineFlags = Word;
  static LineFlags flags(const std::array<Mask, 2>& line) noexcept {
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(line[0]), _mm256_castsi256_ps(line[1]), 0x88));
  }
  static LineFlags join(const LineFlags& first, const LineFlags& second) noexcept {
    return _mm256_packs_epi32(first, second);
  }
  static std::uint32_t bits_of_lines(const LineFlags& first_two, const LineFlags& last_two) noexcept {
    const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi16(first_two, last_two), 0b11'01'10'00);
    const __m256i in_turn =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_shuffle_epi8(halves, in_turn)));
  }
  static unsigned top_bits(const Word& word) noexcept {
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(word)));
  }

  static Word shifted(const Word& word, const Word& by) noexcept { return _mm256_sllv_epi64(word, by); }
  static std::uint64_t any_lane(const Word& word) noexcept {
    const __m128i half = _mm_or_si128(_mm256_castsi256_si128(word), _mm256_extracti128_si256(word, 1));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(half) | _mm_extract_epi64(half, 1));
  }
  static std::uint64_t every_lane(const Word& word) noexcept {
    const __m128i half = _mm_and_si128(_mm256_castsi256_si128(word), _mm256_extracti128_si256(word, 1));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(half) & _mm_extract_epi64(half, 1));
  }
  static Word load_lanes(const std::uint64_t* addresses) noexcept {
    if constexpr (gather) {
      __m256i words;
      __m256i every = _mm256_set1_epi64x(-1);
      asm volatile("vpgatherqq %1, (%2,%3), %0"
                   : "=&x"(words), "+x"(every)
                   : "r"(0L), "x"(load(addresses).data)
                   : "memory");
      return words;
    } else {
      const auto pair = [addresses](std::size_t i) {
        __m128i two;
        asm volatile("vmovq %1, %0" : "=x"(two) : "m"(word_at(addresses[i])));
        asm volatile("vmovhps %1, %0, %0" : "+x"(two) : "m"(word_at(addresses[i + 1])));
        return two;
      };
      const __m128i low = pair(0);
      return _mm256_set_m128i(pair(2), low);
    }
  }
  static void load_line(const std::byte* host, std::array<Word, 2>& line) noexcept {
    for (std::size_t i = 0; i < 2; ++i) {
      __m256i half;
      asm volatile("vmovdqa %1, %0" : "=x"(half) : "m"(reinterpret_cast<const __m256i*>(host)[i]));
      line[i] = half;
    }
  }
  static void load_words(const std::byte* host, std::array<Word, 2>& line) noexcept {
    for (std::size_t i = 0; i < 2; ++i) {
      __m256i half;
      asm volatile("vmovdqu %1, %0" : "=x"(half) : "m"(reinterpret_cast<const __m256i_u*>(host)[i]));
      line[i] = half;
    }
  }
  static Word behind(const Word& before, const Word& word) noexcept {
    return _mm256_alignr_epi8(word, _mm256_permute2x128_si256(before, word, 0x21), 8);
  }
  static void pack(std::uint64_t* to, const Word& word, unsigned bits) noexcept {
    const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(packed[bits].data()));
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to), _mm256_permutevar8x32_epi32(word, order));
  }
  static Word pick(const std::array<Word, 2>& line, std::uint64_t index) noexcept {
    alignas(line_bytes) std::array<std::uint64_t, words_per_line> copy;
    store(copy.data(), line[0]);
    store(&copy[4], line[1]);
    return copy[index];
  }
  static void store_first(std::uint64_t* to, const Word& word) noexcept {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(word));
  }

  static void load_requests(const void* from, Word& table, Word& iova, Word& rest) noexcept {
    const auto* const words = static_cast<const __m256i*>(from);
    const __m256i a = _mm256_loadu_si256(words);                                         // t0 i0 r0 t1
    const __m256i b = _mm256_loadu_si256(words + 1);                                     // i1 r1 t2 i2
    const __m256i c = _mm256_loadu_si256(words + 2);                                     // r2 t3 i3 r3
    const __m256i tables = _mm256_blend_epi32(_mm256_blend_epi32(a, b, 0x30), c, 0x0C);  // t0 t3 t2 t1
    const __m256i iovas = _mm256_blend_epi32(_mm256_blend_epi32(b, a, 0x0C), c, 0x30);   // i1 i0 i3 i2
    const __m256i rests = _mm256_blend_epi32(_mm256_blend_epi32(c, b, 0x0C), a, 0x30);   // r2 r1 r0 r3
    table = _mm256_permute4x64_epi64(tables, 0b01'10'11'00);
    iova = _mm256_permute4x64_epi64(iovas, 0b10'11'00'01);
    rest = _mm256_permute4x64_epi64(rests, 0b11'00'01'10);
  }
  static void store_answers(WalkAnswer* to, const Word& first, const Word& frame, const Word& table,
                            const Word& last) noexcept {
    const __m256i even = _mm256_unpacklo_epi64(first, frame);     // f0 p0 | f2 p2
    const __m256i odd = _mm256_unpackhi_epi64(first, frame);      // f1 p1 | f3 p3
    const __m256i even_end = _mm256_unpacklo_epi64(table, last);  // t0 l0 | t2 l2
    const __m256i odd_end = _mm256_unpackhi_epi64(table, last);
    auto* const words = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(words, _mm256_permute2x128_si256(even, even_end, 0x20));
    _mm256_storeu_si256(words + 1, _mm256_permute2x128_si256(odd, odd_end, 0x20));
    _mm256_storeu_si256(words + 2, _mm256_permute2x128_si256(even, even_end, 0x31));
    _mm256_storeu_si256(words + 3, _mm256_permute2x128_si256(odd, odd_end, 0x31));
  }
  static void stream(std::uint64_t* to, const Word& word) noexcept {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), word);
  }
  static void store_events(std::uint64_t* to, const Word& iova, const Word& last, const Word& gpa, const Word& host,
                           const Word& tail) noexcept {
    const __m256i i0l0_i2l2 = _mm256_unpacklo_epi64(iova, last);
    const __m256i i1l1_i3l3 = _mm256_unpackhi_epi64(iova, last);
    const __m256i g0h0_g2h2 = _mm256_unpacklo_epi64(gpa, host);
    const __m256i g1h1_g3h3 = _mm256_unpackhi_epi64(gpa, host);
    const __m256i t0i1_t2i3 = _mm256_unpacklo_epi64(tail, i1l1_i3l3);
    const __m256i l1g1_l3g3 = _mm256_alignr_epi8(g1h1_g3h3, i1l1_i3l3, 8);
    const __m256i h1t1_h3t3 = _mm256_unpackhi_epi64(g1h1_g3h3, tail);
    auto* const words = reinterpret_cast<__m256i_u*>(to);
    _mm256_storeu_si256(words, _mm256_permute2x128_si256(i0l0_i2l2, g0h0_g2h2, 0x20));
    _mm256_storeu_si256(words + 1, _mm256_permute2x128_si256(t0i1_t2i3, l1g1_l3g3, 0x20));
    _mm256_storeu_si256(words + 2, _mm256_blend_epi32(h1t1_h3t3, i0l0_i2l2, 0xF0));
    _mm256_storeu_si256(words + 3, _mm256_permute2x128_si256(g0h0_g2h2, t0i1_t2i3, 0x31));
    _mm256_storeu_si256(words + 4, _mm256_permute2x128_si256(l1g1_l3g3, h1t1_h3t3, 0x31));
  }
};

}  // namespace

constinit const std::array<Kernels, 2> avx2_kernels{
    {{"avx2", walk_batch<Avx2<false>, SecondStageLanes>, walk_single<Avx2<false>, SecondStageLanes>,
      walk_first_stage_batch<Avx2<false>>, walk_second_stage_batch<Avx2<false>>, walk_nested_batch<Avx2<false>>,
      scan_table_in_lanes<Avx2<false>>, spread_runs_in_lanes<Avx2<false>>, stream_words_in_lanes<Avx2<false>>},
     {"avx2-gather", walk_batch<Avx2<true>, SecondStageLanes>, walk_single<Avx2<true>, SecondStageLanes>,
      walk_first_stage_batch<Avx2<true>>, walk_second_stage_batch<Avx2<true>>, walk_nested_batch<Avx2<true>>,
      scan_table_in_lanes<Avx2<false>>, spread_runs_in_lanes<Avx2<false>>, stream_words_in_lanes<Avx2<false>>}}};

}  // namespace viommu::walkers
