// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One buffer of a queue: what the driver lets the device read, then what it lets it write, in segments of guest memory.
// The device must not read meaning into where one descriptor ends and the next begins, so adjacent ones are one segment
// and bytes are asked for by their offset in either part.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/address.hpp"
#include "engine/virtqueue/memory.hpp"
#include "engine/virtqueue/problem.hpp"

namespace viommu::virtqueue {

/// What a used element names.
struct Token {
  std::uint16_t id = 0;     ///< split: the head; packed: the buffer id
  std::uint16_t slots = 1;  ///< entries of a packed ring that the chain takes

  friend constexpr bool operator==(Token, Token) = default;
};

struct Segment {
  Gpa gpa;
  std::uint64_t size_bytes = 0;

  friend constexpr bool operator==(Segment, Segment) = default;
};

/// Large, because a driver may split a request at every byte: to be made once and filled again and again. Its segments
/// hold addresses, not pointers, so it may outlive the guard in which it was taken.
class Chain {
 public:
  /// Of a chain, also before adjacent ones are joined; of a table that it refers to as many again. One with more is
  /// refused (Problem::too_long), whatever the size of the queue. QEMU's devices have the same limit.
  static constexpr std::uint32_t most_segments = 1024;

  Chain() = default;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  [[nodiscard]] Token token() const noexcept { return token_; }
  [[nodiscard]] std::span<const Segment> readable() const noexcept { return {segments_.data(), first_writable_}; }
  [[nodiscard]] std::span<const Segment> writable() const noexcept {
    return {segments_.data() + first_writable_, count_ - first_writable_};
  }
  [[nodiscard]] std::uint64_t readable_bytes() const noexcept { return readable_bytes_; }
  [[nodiscard]] std::uint64_t writable_bytes() const noexcept { return writable_bytes_; }

  /// Copies bytes of the readable part. @return false where they are not all there (any more)
  [[nodiscard]] bool read(const Memory& memory, std::uint64_t offset, std::span<std::byte> to) const noexcept;
  /// Writes bytes of the writable part. @return false where they do not all fit, or memory has gone; some of them may
  /// then be written
  [[nodiscard]] bool write(const Memory& memory, std::uint64_t offset, std::span<const std::byte> from) const noexcept;

  // For the rings.
  void begin() noexcept {
    count_ = first_writable_ = 0;
    readable_bytes_ = writable_bytes_ = 0;
  }
  /// One descriptor's buffer. One of no length is skipped.
  [[nodiscard]] Problem add(const Memory& memory, const Descriptor& descriptor) noexcept;
  void set_token(Token token) noexcept { token_ = token; }

 private:
  std::uint32_t count_ = 0;
  std::uint32_t first_writable_ = 0;
  std::uint64_t readable_bytes_ = 0;
  std::uint64_t writable_bytes_ = 0;
  Token token_;
  std::array<Segment, most_segments> segments_{};
};

}  // namespace viommu::virtqueue
