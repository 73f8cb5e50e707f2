// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a virtio driver hands to a device, without a ring around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace viommu::test {

/// One descriptor's worth.
struct Piece {
  std::uint64_t gpa = 0;
  std::uint32_t length = 0;
  bool device_writes = false;
};

/// The first `direct` pieces are descriptors of the ring, the others stand in a table of their own.
struct RingBuffer {
  std::vector<Piece> pieces;
  std::size_t direct = 0;
  std::uint64_t table = 0;  ///< where that table is to be; unused where all are direct

  [[nodiscard]] bool indirect() const { return direct != pieces.size(); }
  [[nodiscard]] std::size_t slots() const { return direct + (indirect() ? 1 : 0); }
};

[[nodiscard]] inline RingBuffer direct(std::vector<Piece> pieces) {
  const std::size_t count = pieces.size();
  return {std::move(pieces), count, 0};
}
[[nodiscard]] inline RingBuffer indirect(std::vector<Piece> pieces, std::uint64_t table, std::size_t direct = 0) {
  return {std::move(pieces), direct, table};
}

/// `count` pieces of one byte, `stride` apart; those from `first_writable` on are the device's to write.
[[nodiscard]] inline std::vector<Piece> single_bytes(std::uint64_t gpa, std::size_t count, std::uint64_t stride,
                                                     std::size_t first_writable) {
  std::vector<Piece> pieces(count);
  for (std::size_t i = 0; i < count; ++i) pieces[i] = {gpa + stride * i, 1, i >= first_writable};
  return pieces;
}

struct UsedBuffer {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
  friend bool operator==(const UsedBuffer&, const UsedBuffer&) = default;
};

}  // namespace viommu::test
