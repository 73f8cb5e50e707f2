// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Text into a buffer of the caller's. What does not fit is left out, and fits() says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace viommu::trace {

class TextOut {
 public:
  constexpr explicit TextOut(std::span<char> out) noexcept : out_(out) {}

  [[nodiscard]] constexpr bool fits() const noexcept { return fits_; }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {out_.data(), length_}; }

  constexpr TextOut& word(std::string_view text) noexcept {
    if (text.size() > out_.size() - length_) {
      fits_ = false;
      return *this;
    }
    for (const char c : text) out_[length_++] = c;
    return *this;
  }
  /// Lower case, no prefix, no leading zeros.
  constexpr TextOut& hex(std::uint64_t value) noexcept { return number(value, 16); }
  constexpr TextOut& decimal(std::uint64_t value) noexcept { return number(value, 10); }

 private:
  constexpr TextOut& number(std::uint64_t value, unsigned base) noexcept {
    char digits[20] = {};
    std::size_t at = sizeof digits;
    do {
      digits[--at] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return word({digits + at, sizeof digits - at});
  }

  std::span<char> out_;
  std::size_t length_ = 0;
  bool fits_ = true;
};

}  // namespace viommu::trace
