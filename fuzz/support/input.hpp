// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// An input as a sequence of numbers. Behind its end there are zeros, so that every input means something.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace viommu::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept : bytes_{data, size} {}
  explicit Input(std::span<const std::uint8_t> bytes) noexcept : bytes_{bytes} {}

  [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size(); }

  /// Low byte first.
  template <std::unsigned_integral T>
  [[nodiscard]] T take() noexcept {
    std::uint64_t value = 0;
    const std::size_t count = std::min(sizeof(T), bytes_.size());
    for (std::size_t i = 0; i < count; ++i) value |= std::uint64_t{bytes_[i]} << (8 * i);
    bytes_ = bytes_.subspan(count);
    return static_cast<T>(value);
  }
  /// In [0, bound); bound is 1 to 256.
  [[nodiscard]] unsigned below(unsigned bound) noexcept { return take<std::uint8_t>() % bound; }
  [[nodiscard]] bool flag() noexcept { return (take<std::uint8_t>() & 1) != 0; }
  template <class T, std::size_t N>
  [[nodiscard]] const T& pick(const std::array<T, N>& from) noexcept {
    return from[take<std::uint8_t>() % N];
  }
  /// The next record, shorter at the end.
  [[nodiscard]] Input record(std::size_t size) noexcept {
    const std::span<const std::uint8_t> part = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(part.size());
    return Input{part};
  }
  [[nodiscard]] std::span<const std::uint8_t> rest() const noexcept { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace viommu::fuzz
