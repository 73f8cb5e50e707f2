// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Eight lanes of AVX-512.
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

/// In mask registers, where a comparison takes the lanes it is about for nothing; xsimd and g++ 12 take masks through
/// other registers.
struct MaskRegisters {
  using Word = Batch<xsimd::avx512bw>;
  using Mask = __mmask8;

  static Mask every() noexcept { return 0xFF; }
  static Mask none() noexcept { return 0; }
  static Mask any_of(Mask among, const Word& word, const Word& bits) noexcept {
    return _mm512_mask_test_epi64_mask(among, word, bits);
  }
  static Mask none_of(Mask among, const Word& word, const Word& bits) noexcept {
    return _mm512_mask_testn_epi64_mask(among, word, bits);
  }
  static Mask equal(Mask among, const Word& a, const Word& b) noexcept {
    return _mm512_mask_cmpeq_epi64_mask(among, a, b);
  }
  static Mask differ(Mask among, const Word& a, const Word& b) noexcept {
    return _mm512_mask_cmpneq_epi64_mask(among, a, b);
  }
  static Mask within(Mask among, const Word& word, const Word& last) noexcept {
    return _mm512_mask_cmple_epi64_mask(among, word, last);
  }
  static Mask either(Mask a, Mask b) noexcept { return _kor_mask8(a, b); }
  static Mask without(Mask a, Mask b) noexcept { return _kandn_mask8(b, a); }
  static Word choose(Mask mask, const Word& yes, const Word& no) noexcept {
    return _mm512_mask_blend_epi64(mask, no, yes);
  }
};

template <bool gather>
struct Avx512 {
  using Word = Batch<xsimd::avx512bw>;
  using Mask = __mmask8;
  using Predicates = MaskRegisters;
  static constexpr std::size_t count = 8;
  static constexpr std::size_t worthwhile = 12;        ///< fewer walks are faster without vectors
  static constexpr std::size_t worthwhile_padded = 6;  ///< the same where a vector need not be full

  static Word load(const std::uint64_t* from) noexcept { return Word::load_aligned(from); }
  static void store(std::uint64_t* to, const Word& word) noexcept { word.store_aligned(to); }
  static std::uint64_t first(const Word& word) noexcept {
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(word)));
  }
  static unsigned bits(Mask mask) noexcept { return mask; }

  /// Masks of a line, of two lines, of four lines as bits in their order.
  using LineFlags = std::uint32_t;
  static LineFlags flags(const std::array<Mask, 1>& line) noexcept { return line[0]; }
  static LineFlags join(LineFlags first, LineFlags second) noexcept { return first | second << 8; }
  static std::uint32_t bits_of_lines(LineFlags first_two, LineFlags last_two) noexcept {
    return first_two | last_two << 16;
  }
  static unsigned top_bits(const Word& word) noexcept { return _mm512_movepi64_mask(word); }

  static Word shifted(const Word& word, const Word& by) noexcept { return _mm512_sllv_epi64(word, by); }
  static std::uint64_t any_lane(const Word& word) noexcept {
    return static_cast<std::uint64_t>(_mm512_reduce_or_epi64(word));
  }
  static std::uint64_t every_lane(const Word& word) noexcept {
    return static_cast<std::uint64_t>(_mm512_reduce_and_epi64(word));
  }
  static Word load_lanes(const std::uint64_t* addresses) noexcept {
    if constexpr (gather) {
      __m512i words;
      __mmask8 every = 0xFF;
      asm volatile("vpgatherqq (%2,%3), %0%{%1%}"
                   : "=&v"(words), "+Yk"(every)
                   : "r"(0L), "v"(load(addresses).data)
                   : "memory");
      return words;
    } else {
      const auto pair = [addresses](std::size_t i) {
        __m128i two;
        asm volatile("vmovq %1, %0" : "=v"(two) : "m"(word_at(addresses[i])));
        asm volatile("vmovhps %1, %0, %0" : "+v"(two) : "m"(word_at(addresses[i + 1])));
        return two;
      };
      const __m128i first = pair(0);
      const __m256i low = _mm256_set_m128i(pair(2), first);
      const __m128i third = pair(4);
      return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_set_m128i(pair(6), third), 1);
    }
  }
  static void load_line(const std::byte* host, std::array<Word, 1>& line) noexcept {
    __m512i whole;
    asm volatile("vmovdqa64 %1, %0" : "=v"(whole) : "m"(*reinterpret_cast<const __m512i*>(host)));
    line[0] = whole;
  }
  static void load_words(const std::byte* host, std::array<Word, 1>& line) noexcept {
    __m512i whole;
    asm volatile("vmovdqu64 %1, %0" : "=v"(whole) : "m"(*reinterpret_cast<const __m512i_u*>(host)));
    line[0] = whole;
  }
  static Word behind(const Word& before, const Word& word) noexcept { return _mm512_alignr_epi64(word, before, 7); }
  /// Not straight to memory: that is slow where it is done in microcode.
  static void pack(std::uint64_t* to, const Word& word, unsigned bits) noexcept {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), word));
  }
  static Word pick(const std::array<Word, 1>& line, std::uint64_t index) noexcept {
    return _mm512_permutexvar_epi64(_mm512_set1_epi64(static_cast<long long>(index)), line[0]);
  }
  static void store_first(std::uint64_t* to, const Word& word) noexcept {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(word));
  }

  static void load_requests(const void* from, Word& table, Word& iova, Word& rest) noexcept {
    const auto* const words = static_cast<const std::uint64_t*>(from);
    const __m512i a = _mm512_loadu_si512(words);
    const __m512i b = _mm512_loadu_si512(words + 8);
    const __m512i c = _mm512_loadu_si512(words + 16);
    const auto pick = [&](__m512i from_ab, __m512i from_c) {
      return _mm512_permutex2var_epi64(_mm512_permutex2var_epi64(a, from_ab, b), from_c, c);
    };
    table = pick(_mm512_setr_epi64(0, 3, 6, 9, 12, 15, 0, 0), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 8 + 2, 8 + 5));
    iova = pick(_mm512_setr_epi64(1, 4, 7, 10, 13, 0, 0, 0), _mm512_setr_epi64(0, 1, 2, 3, 4, 8 + 0, 8 + 3, 8 + 6));
    rest = pick(_mm512_setr_epi64(2, 5, 8, 11, 14, 0, 0, 0), _mm512_setr_epi64(0, 1, 2, 3, 4, 8 + 1, 8 + 4, 8 + 7));
  }
  static void store_answers(WalkAnswer* to, const Word& first, const Word& frame, const Word& table,
                            const Word& last) noexcept {
    const __m512i even = _mm512_unpacklo_epi64(first, frame);
    const __m512i odd = _mm512_unpackhi_epi64(first, frame);
    const __m512i even_end = _mm512_unpacklo_epi64(table, last);
    const __m512i odd_end = _mm512_unpackhi_epi64(table, last);
    // The quarters hold walks 0 2 4 6 and 1 3 5 7.
    const __m512i front = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i back = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    auto* const words = reinterpret_cast<__m256i*>(to);
    const auto two = [words](std::size_t at, __m512i walks) {
      _mm256_storeu_si256(words + at, _mm512_castsi512_si256(walks));
      _mm256_storeu_si256(words + at + 2, _mm512_extracti64x4_epi64(walks, 1));
    };
    two(0, _mm512_permutex2var_epi64(even, front, even_end));
    two(1, _mm512_permutex2var_epi64(odd, front, odd_end));
    two(4, _mm512_permutex2var_epi64(even, back, even_end));
    two(5, _mm512_permutex2var_epi64(odd, back, odd_end));
  }
  static void stream(std::uint64_t* to, const Word& word) noexcept {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), word);
  }
  static void store_events(std::uint64_t* to, const Word& iova, const Word& last, const Word& gpa, const Word& host,
                           const Word& tail) noexcept {
    const __m512i even = _mm512_unpacklo_epi64(iova, last);
    const __m512i odd = _mm512_unpackhi_epi64(iova, last);
    const __m512i even_end = _mm512_unpacklo_epi64(gpa, host);
    const __m512i odd_end = _mm512_unpackhi_epi64(gpa, host);
    const __m512i front = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i back = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const auto two = [to](std::size_t i, __m512i events) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * event_words), _mm512_castsi512_si256(events));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (i + 2) * event_words), _mm512_extracti64x4_epi64(events, 1));
    };
    two(0, _mm512_permutex2var_epi64(even, front, even_end));
    two(1, _mm512_permutex2var_epi64(odd, front, odd_end));
    two(4, _mm512_permutex2var_epi64(even, back, even_end));
    two(5, _mm512_permutex2var_epi64(odd, back, odd_end));
    const auto tails = [to](std::size_t i, __m128i pair) {
      _mm_storel_pd(reinterpret_cast<double*>(to + i * event_words + 4), _mm_castsi128_pd(pair));
      _mm_storeh_pd(reinterpret_cast<double*>(to + (i + 1) * event_words + 4), _mm_castsi128_pd(pair));
    };
    const __m256i upper = _mm512_extracti64x4_epi64(tail, 1);
    tails(0, _mm512_castsi512_si128(tail));
    tails(2, _mm256_extracti128_si256(_mm512_castsi512_si256(tail), 1));
    tails(4, _mm256_castsi256_si128(upper));
    tails(6, _mm256_extracti128_si256(upper, 1));
  }
};

}  // namespace

constinit const std::array<Kernels, 2> avx512_kernels{
    {{"avx512", walk_batch<Avx512<false>, SecondStageLanes>, walk_single<Avx512<false>, SecondStageLanes>,
      walk_first_stage_batch<Avx512<false>>, walk_second_stage_batch<Avx512<false>>, walk_nested_batch<Avx512<false>>,
      scan_table_in_lanes<Avx512<false>>, spread_runs_in_lanes<Avx512<false>>, stream_words_in_lanes<Avx512<false>>},
     {"avx512-gather", walk_batch<Avx512<true>, SecondStageLanes>, walk_single<Avx512<true>, SecondStageLanes>,
      walk_first_stage_batch<Avx512<true>>, walk_second_stage_batch<Avx512<true>>, walk_nested_batch<Avx512<true>>,
      scan_table_in_lanes<Avx512<false>>, spread_runs_in_lanes<Avx512<false>>, stream_words_in_lanes<Avx512<false>>}}};

}  // namespace viommu::walkers
