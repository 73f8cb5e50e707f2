// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A line of a trace as it is written: its first field, and the others behind one space each.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/trace/event.hpp"
#include "engine/trace/text_out.hpp"

namespace viommu::trace {

/// A TextOut that puts the one space before each field.
class LineOut {
 public:
  LineOut(std::span<char> out, std::string_view first) noexcept : text_(out) { text_.word(first); }

  LineOut& hex(std::uint64_t value) noexcept {
    text_.word(" ").hex(value);
    return *this;
  }
  LineOut& decimal(std::uint64_t value) noexcept {
    text_.word(" ").decimal(value);
    return *this;
  }
  LineOut& bytes(Bytes bytes) noexcept {
    text_.word(" ");
    if (bytes.carry != 0) {
      text_.hex(bytes.carry);
      constexpr unsigned digits = 16;
      for (unsigned i = digits; i-- > 0;) text_.hex(bytes.low >> (4 * i) & 0xF);
    } else {
      text_.hex(bytes.low);
    }
    return *this;
  }
  LineOut& word(std::string_view word) noexcept {
    text_.word(" ").word(word);
    return *this;
  }
  /// Pairs of hex digits as they are.
  LineOut& byte_string(std::string_view digits) noexcept { return word(digits.empty() ? "-" : digits); }
  LineOut& pasid(std::uint32_t pasid) noexcept { return pasid == no_pasid ? word("-") : hex(pasid); }
  /// Nothing stands for 2^64, the one length that a 64-bit number cannot hold.
  LineOut& length(std::uint64_t first, std::uint64_t last) noexcept {
    const std::uint64_t length = last - first + 1;
    return length == 0 ? word("10000000000000000") : hex(length);
  }
  LineOut& access(const Access& access) noexcept {
    text_.word(" ").word(spelling(access.rights));
    if (access.plain()) return *this;
    text_.word("+");
    if (access.translation_request) text_.word("t");
    if (access.translated) text_.word("x");
    if (access.supervisor) text_.word("p");
    if (access.zero_length) text_.word("z");
    if (access.execute) text_.word("e");
    return *this;
  }
  /// Behind the last field, without a space.
  LineOut& append(std::string_view text) noexcept {
    text_.word(text);
    return *this;
  }
  LineOut& append_hex(std::uint64_t value) noexcept {
    text_.hex(value);
    return *this;
  }
  [[nodiscard]] std::string_view end() noexcept {
    text_.word("\n");
    return text_.fits() ? text_.view() : std::string_view{};
  }

 private:
  TextOut text_;
};

}  // namespace viommu::trace
