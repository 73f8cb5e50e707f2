// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Bytes as a trace has them: two digits each, in their order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace viommu::trace {

/// Writes into room of the caller's; what does not fit is left out.
class HexBytes {
 public:
  explicit HexBytes(std::span<char> room) noexcept : room_{room} {}
  void append(std::span<const std::byte> bytes) noexcept {
    constexpr std::string_view digits = "0123456789abcdef";
    for (const std::byte byte : bytes.first(std::min(bytes.size(), (room_.size() - length_) / 2))) {
      room_[length_++] = digits[std::to_integer<unsigned>(byte >> 4)];
      room_[length_++] = digits[std::to_integer<unsigned>(byte & std::byte{0xF})];
    }
  }
  void append_zeros(std::size_t count) noexcept {
    for (; count != 0; --count) append(std::array<std::byte, 1>{});
  }
  [[nodiscard]] std::string_view text() const noexcept { return {room_.data(), length_}; }
  /// What is left of the room.
  [[nodiscard]] std::span<char> rest() const noexcept { return room_.subspan(length_); }

 private:
  std::span<char> room_;
  std::size_t length_ = 0;
};

}  // namespace viommu::trace
