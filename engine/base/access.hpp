// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Rights: what a request asks for and what a translation grants.
#pragma once

#include <cstdint>

namespace viommu {

/// A set of rights. As a request it says what is asked (an atomic asks for both); as an answer, what may be done.
struct Rights {
  bool read = false;
  bool write = false;

  friend constexpr bool operator==(Rights, Rights) = default;
  [[nodiscard]] constexpr Rights operator&(Rights other) const noexcept {
    return {read && other.read, write && other.write};
  }
  [[nodiscard]] constexpr bool covers(Rights asked) const noexcept {
    return (read || !asked.read) && (write || !asked.write);
  }
  [[nodiscard]] constexpr bool none() const noexcept { return !read && !write; }
};

/// The same in the two low bits of a word, as page-table entries and the caches have it: 1 read, 2 write. Where each
/// instruction counts a set of rights is not taken apart.
using RightBits = std::uint64_t;
inline constexpr RightBits all_right_bits = 3;

[[nodiscard]] constexpr RightBits bits_of(Rights rights) noexcept {
  return (rights.read ? 1U : 0U) | (rights.write ? 2U : 0U);
}
[[nodiscard]] constexpr Rights rights_in(RightBits word) noexcept { return {(word & 1) != 0, (word & 2) != 0}; }

inline constexpr Rights read_only{true, false};
inline constexpr Rights write_only{false, true};
inline constexpr Rights read_write{true, true};

}  // namespace viommu
