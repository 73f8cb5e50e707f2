// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a guest maps in a domain of a virtio-iommu: pages one after another, or pages anywhere below 2^48. Every page
// leads to a place of its own.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>

namespace viommu::bench {

enum class MapShape : std::uint8_t { dense, sparse };

class MappingSet {
 public:
  static constexpr std::uint64_t page_bytes = 4096;
  /// @param count  a power of two
  MappingSet(MapShape shape, std::uint64_t count)
      : shape_{shape}, slot_bits_{static_cast<unsigned>(std::countr_zero(count))} {}

  [[nodiscard]] std::uint64_t count() const noexcept { return std::uint64_t{1} << slot_bits_; }
  /// The `turn`-th slot in an order in which all come, and then all again.
  [[nodiscard]] std::uint64_t slot(std::uint64_t turn) const noexcept { return shuffled(turn, slot_bits_); }
  /// First address of what is in a slot for the `life`-th time. A sparse guest uses no address again.
  [[nodiscard]] std::uint64_t iova(std::uint64_t slot, std::uint64_t life) const noexcept {
    if (shape_ == MapShape::dense) return 0x100000000 + slot * page_bytes;
    return shuffled(slot + life * count(), sparse_bits) * page_bytes;
  }
  [[nodiscard]] static constexpr std::uint64_t gpa(std::uint64_t iova) noexcept {
    return (iova ^ 0x5555555000) + 0x4000000000;
  }

 private:
  static constexpr unsigned sparse_bits = 36;
  /// A permutation of the numbers of so many bits.
  [[nodiscard]] static constexpr std::uint64_t shuffled(std::uint64_t number, unsigned bits) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    number &= mask;
    for (const std::uint64_t odd : {0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB}) {
      number = (number * odd + 0x1234567) & mask;
      number ^= number >> (bits / 2);
    }
    return number;
  }

  MapShape shape_;
  unsigned slot_bits_;
};

}  // namespace viommu::bench
