// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Rights: what a request asks for and what a translation grants.
#pragma once

#include <cstdint>

namespace viommu {

/// The two low bits of a word, as page-table entries and the caches have them: 1 read, 2 write. For where each
/// instruction counts.
using RightBits = std::uint64_t;
inline constexpr RightBits all_right_bits = 3;
/// Beside them in an answer, and in the caches: it leads to a device's memory.
inline constexpr RightBits mmio_bit = 4;
inline constexpr RightBits answer_bits = all_right_bits | mmio_bit;

/// A set of rights. As a request it says what is asked (an atomic asks for both); as an answer, what may be done. One
/// byte, so that a struct with rights in it can be copied as soon as it is written.
class Rights {
 public:
  constexpr Rights() = default;
  constexpr Rights(bool read, bool write) noexcept
      : bits_{static_cast<std::uint8_t>((read ? 1U : 0U) | (write ? 2U : 0U))} {}
  /// From the two low bits of `word`.
  [[nodiscard]] static constexpr Rights in(RightBits word) noexcept {
    Rights rights;
    rights.bits_ = static_cast<std::uint8_t>(word & all_right_bits);
    return rights;
  }

  [[nodiscard]] constexpr bool read() const noexcept { return (bits_ & 1) != 0; }
  [[nodiscard]] constexpr bool write() const noexcept { return (bits_ & 2) != 0; }
  [[nodiscard]] constexpr RightBits bits() const noexcept { return bits_; }

  friend constexpr bool operator==(Rights, Rights) = default;
  [[nodiscard]] constexpr Rights operator&(Rights other) const noexcept { return in(bits_ & other.bits_); }
  [[nodiscard]] constexpr bool covers(Rights asked) const noexcept { return (asked.bits_ & ~bits_) == 0; }
  [[nodiscard]] constexpr bool none() const noexcept { return bits_ == 0; }

 private:
  std::uint8_t bits_ = 0;
};

inline constexpr Rights read_only{true, false};
inline constexpr Rights write_only{false, true};
inline constexpr Rights read_write{true, true};

}  // namespace viommu
