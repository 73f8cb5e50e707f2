// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The form of a saved state, whatever front end it is of. Little endian, byte by byte, no padding:
//
//   magic 8 | version 4 | zero 4 | length 8 | sections | checksum 8
//   a section:  name 4 (letters) | length 4 | that many bytes
//
// The length is that of all of it. The checksum is CRC-64 of everything before it: any change of up to 64 bits in a row
// is found, so a state that was cut or damaged anywhere is refused before anything in it is looked at. A later version
// adds sections or changes the number; what it does not know is refused by name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace viommu::machine {

/// CRC-64/XZ: ECMA-182, reflected, all ones before and after.
[[nodiscard]] std::uint64_t crc64(std::span<const std::byte> bytes) noexcept;

/// Four letters as they stand in the state, the first in the lowest byte.
struct SectionName {
  std::uint32_t value = 0;

  [[nodiscard]] static constexpr SectionName of(const char (&letters)[5]) noexcept {
    SectionName name;
    for (unsigned i = 0; i < 4; ++i) name.value |= std::uint32_t{static_cast<unsigned char>(letters[i])} << (8 * i);
    return name;
  }
  friend constexpr bool operator==(SectionName, SectionName) = default;
};

/// What is wrong with a state: where, and in a few words.
struct StateProblem {
  std::array<char, 12> section{};  ///< terminated
  const char* words = "";          ///< constant

  StateProblem(const char* where, const char* what) noexcept;
  StateProblem(SectionName where, const char* what) noexcept;
};

/// A field in which what was saved is another one than what it is to be loaded into.
struct FieldMismatch {
  std::string_view field;  ///< the specification's name
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

inline constexpr std::uint32_t state_version = 1;

/// Writes a state, or only counts: what does not fit is not written, and length() says what it would have taken.
class StateWriter {
 public:
  explicit StateWriter(std::span<std::byte> room) noexcept;

  void begin(SectionName name) noexcept;
  void end() noexcept;
  void put_u16(std::uint16_t value) noexcept { put(value, sizeof value); }
  void put_u32(std::uint32_t value) noexcept { put(value, sizeof value); }
  void put_u64(std::uint64_t value) noexcept { put(value, sizeof value); }
  /// Length and checksum. To be called once, last. @return the length of all of it
  std::size_t finish() noexcept;

 private:
  void put(std::uint64_t value, std::size_t bytes) noexcept;
  void patch(std::size_t at, std::uint64_t value, std::size_t bytes) noexcept;

  std::span<std::byte> room_;
  std::size_t length_ = 0;
  std::size_t section_ = 0;  ///< where the length of the open one stands
};

/// The bytes of one section, read in order. Reading past the end gives zeros, and spoils it.
class SectionReader {
 public:
  SectionReader() = default;
  explicit SectionReader(std::span<const std::byte> bytes) noexcept : bytes_{bytes} {}

  [[nodiscard]] std::uint16_t u16() noexcept { return static_cast<std::uint16_t>(take(2)); }
  [[nodiscard]] std::uint32_t u32() noexcept { return static_cast<std::uint32_t>(take(4)); }
  [[nodiscard]] std::uint64_t u64() noexcept { return take(8); }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size(); }
  /// Whether it was read to its end, and not beyond.
  [[nodiscard]] bool complete() const noexcept { return !spoiled_ && bytes_.empty(); }

 private:
  [[nodiscard]] std::uint64_t take(std::size_t count) noexcept;

  std::span<const std::byte> bytes_;
  bool spoiled_ = false;
};

/// Takes a state apart. `names` are the sections that there have to be, each once, in this order; `sections` receives
/// them, as many. Nothing is copied. @return what is wrong
[[nodiscard]] std::optional<StateProblem> take_apart(std::span<const std::byte> state,
                                                     std::span<const SectionName> names,
                                                     std::span<SectionReader> sections) noexcept;

}  // namespace viommu::machine
