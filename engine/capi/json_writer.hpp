// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One JSON document, written as it comes to a sink: a buffer of some hundred bytes and no memory beside it. Numbers of
// 64 bits that are addresses, words or handles are strings of hexadecimal digits, "0x1f", because JSON readers lose
// digits of large numbers; counts are numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

namespace viommu::capi {

/// For one thread. What is opened is closed by the same code, at most 31 deep. `key` is empty inside an array.
class JsonWriter {
 public:
  using Sink = void (*)(void* opaque, const char* text, std::size_t length);

  JsonWriter(Sink sink, void* opaque) noexcept : sink_{sink}, opaque_{opaque} {}
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;
  ~JsonWriter() { flush(); }

  void open_object(std::string_view key = {}) noexcept { open(key, '{'); }
  void close_object() noexcept { close('}'); }
  void open_array(std::string_view key = {}) noexcept { open(key, '['); }
  void close_array() noexcept { close(']'); }

  void text(std::string_view key, std::string_view value) noexcept {
    begin(key);
    quoted(value);
  }
  void number(std::string_view key, std::uint64_t value) noexcept {
    begin(key);
    std::array<char, 20> digits{};
    std::size_t first = digits.size();
    do {  // at most 20 digits
      digits[--first] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    put({digits.data() + first, digits.size() - first});
  }
  void hex(std::string_view key, std::uint64_t value) noexcept {
    begin(key);
    std::array<char, 16> digits{};
    std::size_t first = digits.size();
    do {  // at most 16 digits
      digits[--first] = "0123456789abcdef"[value & low_bits(4)];
      value >>= 4;
    } while (value != 0);
    put("\"0x");
    put({digits.data() + first, digits.size() - first});
    put("\"");
  }
  void boolean(std::string_view key, bool value) noexcept {
    begin(key);
    put(value ? "true" : "false");
  }
  void null(std::string_view key) noexcept {
    begin(key);
    put("null");
  }
  void flush() noexcept {
    if (used_ != 0) sink_(opaque_, buffer_.data(), used_);
    used_ = 0;
  }

 private:
  void open(std::string_view key, char bracket) noexcept {
    begin(key);
    put({&bracket, 1});
    ++depth_;
    begun_ &= ~(1U << depth_);
  }
  void close(char bracket) noexcept {
    --depth_;
    put({&bracket, 1});
  }
  void begin(std::string_view key) noexcept {
    if ((begun_ >> depth_ & 1) != 0) put(",");
    begun_ |= 1U << depth_;
    if (key.empty()) return;
    quoted(key);
    put(":");
  }
  void quoted(std::string_view value) noexcept {
    put("\"");
    for (const char c : value) {
      // Only what our own names are made of goes through; there is nothing else, and if there were it would do no harm.
      const bool is_plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
      put(is_plain ? std::string_view{&c, 1} : std::string_view{"?"});
    }
    put("\"");
  }
  void put(std::string_view piece) noexcept {
    if (piece.size() > buffer_.size() - used_) flush();  // a piece is shorter than the buffer
    std::memcpy(buffer_.data() + used_, piece.data(), piece.size());
    used_ += piece.size();
  }

  Sink sink_;
  void* opaque_;
  std::array<char, 1024> buffer_;
  std::size_t used_ = 0;
  unsigned depth_ = 0;
  std::uint32_t begun_ = 0;  ///< by depth: something stands there already
};

}  // namespace viommu::capi
