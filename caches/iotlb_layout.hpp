// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The bits of an IOTLB entry, and where it lies. For one address, or for several: W is a word or a vector of words.
//
//   first   63:48 tag of the address space | 47:3 page number | 2:1 size code | 0 valid
//   second  63:56 pages of a block that are valid | 51:12 frame | 2 of a device | 1:0 rights (RightBits)
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/address.hpp"

namespace viommu::caches::iotlb_layout {

inline constexpr unsigned pages_per_block = 8;
inline constexpr unsigned block_shift = page_shift + 3;

inline constexpr unsigned tag_at = 48;
inline constexpr unsigned number_at = 3;
inline constexpr unsigned size_at = 1;
inline constexpr std::uint64_t valid = 1;
inline constexpr std::uint64_t block_code = 1;  ///< PageSize::kib32; that of 4 KiB is 0

inline constexpr unsigned pages_at = 56;
inline constexpr std::uint64_t frame_bits = low_bits(52) & ~low_bits(page_shift);

inline constexpr std::size_t ways = 4;
inline constexpr std::size_t set_bytes = 64;

/// First word of the 4 KiB page around an address of at most 57 bits. @param prefix  tag and valid bit
template <class W>
[[nodiscard, gnu::always_inline]] constexpr W page_word(W prefix, W iova) noexcept {
  return prefix | (iova >> page_shift) << number_at;
}
/// First word of the block. It is known by the number of its first page, so that the hash, which leaves the three low
/// bits of the number out, sends it to the group of its pages.
template <class W>
[[nodiscard, gnu::always_inline]] constexpr W block_word(W prefix, W iova) noexcept {
  return prefix | (iova >> block_shift) << (number_at + 3) | (block_code << size_at);
}
[[nodiscard, gnu::always_inline]] constexpr auto page_in_block(auto iova) noexcept {
  return iova >> page_shift & (pages_per_block - 1);
}
/// What is hashed of the first word of a small page or its block.
[[nodiscard, gnu::always_inline]] constexpr auto key_of(auto word) noexcept { return word >> (number_at + 3); }
/// The same of an address.
[[nodiscard, gnu::always_inline]] constexpr std::uint64_t small_key(std::uint64_t prefix, std::uint64_t iova) noexcept {
  static_assert(number_at + 3 < tag_at);
  return prefix >> (number_at + 3) ^ iova >> block_shift;
}
/// First word of a page of 2 MiB or more. @param shift  log2 of its size  @param code  PageSize
template <class W>
[[nodiscard, gnu::always_inline]] constexpr W large_word(W prefix, W iova, unsigned shift,
                                                         std::uint64_t code) noexcept {
  return prefix | (iova >> shift) << number_at | code << size_at;
}
/// Large pages get a place of their own: small numbers of both kinds would meet in the same groups.
[[nodiscard, gnu::always_inline]] constexpr auto large_key_of(auto word) noexcept {
  constexpr std::uint64_t is_large = std::uint64_t{2} << size_at;
  return key_of(word) ^ (word & is_large) << 40;
}
/// The set of a group, from the three low bits of the number.
[[nodiscard, gnu::always_inline]] constexpr auto place_in_group(auto word) noexcept {
  return word >> number_at & (pages_per_block - 1);
}
/// Multiplicative hashing spreads the contiguous pages that guests allocate better than random ones.
[[nodiscard, gnu::always_inline]] constexpr auto hash(auto key, std::uint64_t seed) noexcept {
  return (key ^ seed) * std::uint64_t{0x9E3779B97F4A7C15};
}

}  // namespace viommu::caches::iotlb_layout
