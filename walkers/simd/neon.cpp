// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Two lanes of NEON, as every AArch64 CPU has them.
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

#include <arm_neon.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {
namespace {

struct Neon {
  using Word = Batch<xsimd::neon64>;
  using Mask = BatchMask<xsimd::neon64>;
  using Predicates = walkers::Predicates<xsimd::neon64>;
  static constexpr std::size_t count = 2;
  static constexpr std::size_t worthwhile = 4;         ///< fewer walks are faster without vectors
  static constexpr std::size_t worthwhile_padded = 4;  ///< the same where a vector need not be full

  static Word load(const std::uint64_t* from) noexcept { return vld1q_u64(from); }
  static void store(std::uint64_t* to, const Word& word) noexcept { vst1q_u64(to, word); }
  static void store_first(std::uint64_t* to, const Word& word) noexcept { *to = vgetq_lane_u64(word, 0); }
  static std::uint64_t first(const Word& word) noexcept { return vgetq_lane_u64(word, 0); }
  static unsigned bits(const Mask& mask) noexcept {
    return static_cast<unsigned>((vgetq_lane_u64(mask, 0) & 1) | (vgetq_lane_u64(mask, 1) & 2));
  }
  /// Masks of a line, of two lines, of four lines as bits in their order.
  using LineFlags = std::uint32_t;
  static LineFlags flags(const std::array<Mask, 4>& line) noexcept {
    return bits(line[0]) | bits(line[1]) << 2 | bits(line[2]) << 4 | bits(line[3]) << 6;
  }
  static LineFlags join(LineFlags first, LineFlags second) noexcept { return first | second << 8; }
  static std::uint32_t bits_of_lines(LineFlags first_two, LineFlags last_two) noexcept {
    return first_two | last_two << 16;
  }
  static unsigned top_bits(const Word& word) noexcept {
    return static_cast<unsigned>(vgetq_lane_u64(word, 0) >> 63 | vgetq_lane_u64(word, 1) >> 63 << 1);
  }
  static std::uint64_t any_lane(const Word& word) noexcept { return vgetq_lane_u64(word, 0) | vgetq_lane_u64(word, 1); }
  static std::uint64_t every_lane(const Word& word) noexcept {
    return vgetq_lane_u64(word, 0) & vgetq_lane_u64(word, 1);
  }
  static Word shifted(const Word& word, const Word& by) noexcept { return vshlq_u64(word, vreinterpretq_s64_u64(by)); }

  /// A load of one element is one access; the addresses depend on the words before them, which orders the loads.
  static Word load_lanes(const std::uint64_t* addresses) noexcept {
    uint64x1_t low;
    uint64x1_t high;
    asm volatile("ldr %d0, %1" : "=w"(low) : "m"(word_at(addresses[0])));
    asm volatile("ldr %d0, %1" : "=w"(high) : "m"(word_at(addresses[1])));
    return vcombine_u64(low, high);
  }
  /// A 16-byte load is two accesses of 8 bytes, each whole.
  static void load_line(const std::byte* host, std::array<Word, 4>& line) noexcept {
    for (std::size_t i = 0; i < line.size(); ++i) {
      uint64x2_t quarter;
      asm volatile("ldr %q0, %1" : "=w"(quarter) : "m"(reinterpret_cast<const uint64x2_t*>(host)[i]));
      line[i] = quarter;
    }
  }
  /// The same where it is aligned as words are.
  static void load_words(const std::byte* host, std::array<Word, 4>& line) noexcept { load_line(host, line); }
  static Word behind(const Word& before, const Word& word) noexcept { return vextq_u64(before, word, 1); }
  static void pack(std::uint64_t* to, const Word& word, unsigned bits) noexcept {
    to[0] = vgetq_lane_u64(word, 0);
    to[bits & 1] = vgetq_lane_u64(word, 1);
  }
  static Word pick(const std::array<Word, 4>& line, std::uint64_t index) noexcept {
    alignas(line_bytes) std::array<std::uint64_t, words_per_line> copy;
    for (std::size_t i = 0; i < line.size(); ++i) store(&copy[2 * i], line[i]);
    return vdupq_n_u64(copy[index]);
  }

  static void load_requests(const void* from, Word& table, Word& iova, Word& rest) noexcept {
    const uint64x2x3_t words = vld3q_u64(static_cast<const std::uint64_t*>(from));
    table = words.val[0];
    iova = words.val[1];
    rest = words.val[2];
  }
  static void store_answers(WalkAnswer* to, const Word& first, const Word& frame, const Word& table,
                            const Word& last) noexcept {
    const uint64x2x4_t words{{first, frame, table, last}};  // a name: vst4q_u64 is a macro to some compilers
    vst4q_u64(reinterpret_cast<std::uint64_t*>(to), words);
  }
  static void stream(std::uint64_t* to, const Word& word) noexcept { store(to, word); }
  static void store_events(std::uint64_t* to, const Word& iova, const Word& last, const Word& gpa, const Word& host,
                           const Word& tail) noexcept {
    vst1q_u64(to, vzip1q_u64(iova, last));
    vst1q_u64(to + 2, vzip1q_u64(gpa, host));
    to[4] = vgetq_lane_u64(tail, 0);
    vst1q_u64(to + 5, vzip2q_u64(iova, last));
    vst1q_u64(to + 7, vzip2q_u64(gpa, host));
    to[9] = vgetq_lane_u64(tail, 1);
  }
};

}  // namespace

constinit const Kernels neon_kernels{"neon",
                                     walk_batch<Neon, SecondStageLanes>,
                                     walk_single<Neon, SecondStageLanes>,
                                     walk_first_stage_batch<Neon>,
                                     walk_second_stage_batch<Neon>,
                                     walk_nested_batch<Neon>,
                                     scan_table_in_lanes<Neon>,
                                     spread_runs_in_lanes<Neon>,
                                     stream_words_in_lanes<Neon>};

}  // namespace viommu::walkers
