// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Cuts a line into fields and reads numbers and words from them. The first thing that is wrong is kept; from then on
// every field reads as nothing, so that a caller takes all its fields first and looks at the error once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/trace/event.hpp"
#include "engine/trace/problem.hpp"
#include "engine/trace/vocabulary.hpp"

namespace viommu::trace {

class Fields {
 public:
  /// `rest` is the line behind its first field and the space that follows it; `more` is false when there is no space.
  constexpr Fields(std::string_view rest, bool more) noexcept : rest_(rest), more_(more) {}

  [[nodiscard]] constexpr const ParseError& error() const noexcept { return error_; }
  [[nodiscard]] constexpr bool more() const noexcept { return more_ && !error_; }

  /// The next field, never empty; an empty view once something is wrong.
  constexpr std::string_view take(std::string_view name) noexcept {
    if (error_) return {};
    ++index_;
    if (!more_) return fail(Problem::too_few_fields, name, {});
    const std::size_t space = rest_.find(' ');
    const std::string_view field = rest_.substr(0, space);
    more_ = space != std::string_view::npos;
    rest_ = more_ ? rest_.substr(space + 1) : std::string_view{};
    if (field.empty()) return fail(Problem::empty_field, name, {});
    return field;
  }

  /// Everything to the end of the line, spaces included; at least one character.
  constexpr std::string_view take_rest(std::string_view name) noexcept {
    if (error_) return {};
    ++index_;
    if (!more_ || rest_.empty()) return fail(Problem::too_few_fields, name, {});
    more_ = false;
    return rest_;
  }

  /// A lower-case hex number of at most `bits` bits, a multiple of 4 up to 64.
  constexpr std::uint64_t hex(std::string_view name, unsigned bits) noexcept { return hex_of(take(name), name, bits); }

  /// A decimal number.
  constexpr std::uint64_t decimal(std::string_view name, std::uint64_t largest, std::uint64_t smallest = 0) noexcept {
    const std::string_view field = take(name);
    std::uint64_t value = 0;
    for (const char c : field) {
      const auto digit = static_cast<std::uint64_t>(c - '0');
      if (c < '0' || c > '9') {
        fail(Problem::not_decimal, name, field);
        return 0;
      }
      if (value > (largest - std::min(digit, largest)) / 10 || digit > largest) {
        fail(Problem::too_large, name, field);
        return 0;
      }
      value = value * 10 + digit;
    }
    if (!error_ && value < smallest) fail(Problem::bad_range, name, field);
    return value;
  }

  /// A number of bytes: hex of up to 17 digits.
  constexpr Bytes bytes(std::string_view name) noexcept {
    constexpr std::size_t digits_of_64_bits = 16;
    const std::string_view field = take(name);
    if (field.size() != digits_of_64_bits + 1) return {hex_of(field, name, 64), 0};
    const std::uint64_t carry = hex_of(field.substr(0, 1), name, 64);
    return {hex_of(field.substr(1), name, 64), static_cast<std::uint8_t>(carry)};
  }

  /// `ok`, or an error's name with or without `:FIELD`.
  constexpr std::string_view result(std::string_view name) noexcept {
    const std::string_view field = take(name);
    if (!error_ && !is_result(field)) fail(Problem::bad_choice, name, field);
    return field;
  }

  /// Bytes as pairs of lower-case hex digits; an empty view for `-`, which stands for none.
  constexpr std::string_view byte_string(std::string_view name) noexcept {
    const std::string_view field = take(name);
    if (field == "-") return {};
    for (std::size_t i = 0; i < field.size() && !error_; i += 2) static_cast<void>(hex_of(field.substr(i, 2), name, 8));
    if (!error_ && field.size() % 2 != 0) fail(Problem::bad_size, name, field);
    return error_ ? std::string_view{} : field;
  }

  /// The value of a field `key=value`, which has no other key.
  constexpr std::string_view value_of(std::string_view key) noexcept {
    const std::string_view field = take(key);
    if (!error_ && !(field.size() > key.size() + 1 && field.starts_with(key) && field[key.size()] == '='))
      fail(Problem::not_a_pair, key, field);
    return error_ ? std::string_view{} : field.substr(key.size() + 1);
  }

  /// As hex(), and `-` stands for `absent`.
  constexpr std::uint64_t hex_or_dash(std::string_view name, unsigned bits, std::uint64_t absent) noexcept {
    const std::string_view field = take(name);
    return field == "-" ? absent : hex_of(field, name, bits);
  }

  /// The index of the field in `words`.
  template <std::size_t N>
  constexpr unsigned choice(std::string_view name, const std::string_view (&words)[N]) noexcept {
    const std::string_view field = take(name);
    if (error_) return 0;
    for (unsigned i = 0; i < N; ++i)
      if (field == words[i]) return i;
    fail(Problem::bad_choice, name, field);
    return 0;
  }

  constexpr Perm perm(std::string_view name) noexcept {
    const std::string_view field = take(name);
    if (error_) return {};
    return perm_of(field, name);
  }

  /// ACC. Recordings of this library may have the kinds of request behind a `+` as well.
  constexpr Access access(std::string_view name) noexcept {
    const std::string_view field = take(name);
    if (error_) return {};
    const std::size_t plus = field.find('+');
    Access access;
    access.rights = perm_of(field.substr(0, plus), name);
    if (plus == std::string_view::npos || error_) return access;
    const std::string_view letters = field.substr(plus + 1);
    if (letters.empty()) fail(Problem::bad_choice, name, field);
    for (const char letter : letters) {
      bool* flag = letter == 't'   ? &access.translation_request
                   : letter == 'x' ? &access.translated
                   : letter == 'p' ? &access.supervisor
                   : letter == 'z' ? &access.zero_length
                   : letter == 'e' ? &access.execute
                                   : nullptr;
      if (flag == nullptr || *flag) {
        fail(Problem::bad_choice, name, field);
        break;
      }
      *flag = true;
    }
    return access;
  }

  /// SIZE of an access and the VALUE behind it. `sizes` has bit n set when n bytes are possible.
  constexpr std::uint8_t size(std::uint32_t sizes) noexcept {
    const std::string_view field = take("SIZE");
    const std::uint64_t value = hex_of(field, "SIZE", 64);
    if (!error_ && (value > 8 || ((sizes >> value) & 1) == 0)) fail(Problem::bad_size, "SIZE", field);
    return static_cast<std::uint8_t>(value);
  }
  constexpr std::uint64_t value_of_size(std::uint8_t size) noexcept {
    const std::string_view field = take("VALUE");
    const std::uint64_t value = hex_of(field, "VALUE", 64);
    if (!error_ && size < 8 && (value >> (8 * size)) != 0) fail(Problem::wider_than_size, "VALUE", field);
    return value;
  }

  /// LEN of an access at `first`.
  constexpr std::uint64_t length(std::uint64_t first) noexcept { return length_of(take("LEN"), first); }

  /// LEN of a range at `first`, which may be 2^64 (17 digits); its last address.
  constexpr std::uint64_t last_of(std::uint64_t first) noexcept {
    const std::string_view field = take("LEN");
    if (field == "10000000000000000" && first == 0) return ~std::uint64_t{0};
    return first + (length_of(field, first) - 1);
  }

  /// Nothing may be left.
  constexpr void end() noexcept {
    if (error_ || !more_) return;
    ++index_;
    fail(rest_.empty() ? Problem::empty_field : Problem::too_many_fields, {}, rest_.substr(0, rest_.find(' ')));
  }

  constexpr std::string_view fail(Problem problem, std::string_view name, std::string_view text) noexcept {
    if (!error_) error_ = {problem, index_, name, text};
    return {};
  }

 private:
  constexpr std::uint64_t hex_of(std::string_view field, std::string_view name, unsigned bits) noexcept {
    if (error_) return 0;
    std::uint64_t value = 0;
    for (const char c : field) {
      const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a') + 10
                                                    : 16;
      if (digit == 16) {
        fail(c >= 'A' && c <= 'F' ? Problem::upper_case : Problem::not_hex, name, field);
        return 0;
      }
      value = value << 4 | digit;
    }
    if (field.size() > bits / 4) {
      fail(Problem::too_long, name, field);
      return 0;
    }
    return value;
  }

  constexpr std::uint64_t length_of(std::string_view field, std::uint64_t first) noexcept {
    const std::uint64_t length = hex_of(field, "LEN", 64);
    if (!error_ && (length == 0 || first + (length - 1) < first)) fail(Problem::bad_range, "LEN", field);
    return length;
  }

  constexpr Perm perm_of(std::string_view word, std::string_view name) noexcept {
    if (word == "rw") return {true, true};
    if (word == "r") return {true, false};
    if (word == "w") return {false, true};
    if (word != "-") fail(Problem::bad_choice, name, word);
    return {};
  }

  std::string_view rest_;
  bool more_;
  unsigned index_ = 0;
  ParseError error_;
};

}  // namespace viommu::trace
