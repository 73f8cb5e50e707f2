// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The bytes of an ACPI table, whichever it is: numbers, identifiers, the header with its length and checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/machine/topology.hpp"

namespace viommu::machine {

/// Puts numbers one behind the other, least significant byte first; beyond the end it only counts.
class TableBytes {
 public:
  explicit TableBytes(std::span<std::byte> into) noexcept : into_{into} {}

  [[nodiscard]] std::size_t written() const noexcept { return at_; }
  void put(std::uint64_t value, std::size_t size) noexcept {
    set(at_, value, size);
    at_ += size;
  }
  void text(std::string_view characters) noexcept {
    for (const char one : characters) put(static_cast<unsigned char>(one), 1);
  }
  void zeros(std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) put(0, 1);
  }
  void set(std::size_t offset, std::uint64_t value, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i)
      if (offset + i < into_.size()) into_[offset + i] = static_cast<std::byte>(value >> 8 * i);
  }

  /// The header of a table, first.
  void header(std::string_view signature, std::uint8_t revision, const TableIdentity& from) noexcept {
    text(signature);
    zeros(4);
    put(revision, 1);
    zeros(1);
    text({from.oem_id.data(), from.oem_id.size()});
    text({from.oem_table_id.data(), from.oem_table_id.size()});
    put(from.oem_revision, 4);
    text({from.creator_id.data(), from.creator_id.size()});
    put(from.creator_revision, 4);
  }
  /// Length and checksum, last. @return the bytes of all of it; a table that does not fit is left without both
  std::size_t finish() noexcept {
    if (at_ > into_.size()) return at_;
    set(length_offset, at_, 4);
    unsigned sum = 0;
    for (const std::byte one : into_.first(at_)) sum += std::to_integer<unsigned>(one);
    set(checksum_offset, 0U - sum, 1);
    return at_;
  }

 private:
  static constexpr std::size_t length_offset = 4;
  static constexpr std::size_t checksum_offset = 9;

  std::span<std::byte> into_;
  std::size_t at_ = 0;
};

}  // namespace viommu::machine
