// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/state_image.hpp"

#include <algorithm>
#include <cstdio>

namespace viommu::machine {
namespace {

constexpr std::uint64_t magic = 0x5441'5453'4D4F'4956;  // "VIOMSTAT"
constexpr std::size_t length_at = 16;
constexpr std::size_t header_bytes = 24;
constexpr std::size_t checksum_bytes = 8;
constexpr std::size_t section_header_bytes = 8;

constexpr std::uint64_t polynomial = 0xC96C'5795'D787'0F42;  // of ECMA-182, the highest power in bit 0

constexpr std::array<std::uint64_t, 256> make_table() noexcept {
  std::array<std::uint64_t, 256> table{};
  for (std::uint64_t byte = 0; byte < table.size(); ++byte) {
    std::uint64_t rest = byte;
    for (unsigned bit = 0; bit < 8; ++bit) rest = (rest & 1) != 0 ? rest >> 1 ^ polynomial : rest >> 1;
    table[byte] = rest;
  }
  return table;
}
constexpr std::array table = make_table();

}  // namespace

std::uint64_t crc64(std::span<const std::byte> bytes) noexcept {
  std::uint64_t rest = ~std::uint64_t{0};
  for (const std::byte byte : bytes) rest = table[(rest ^ std::to_integer<std::uint64_t>(byte)) & 0xFF] ^ rest >> 8;
  return ~rest;
}

StateProblem::StateProblem(const char* where, const char* what) noexcept : words{what} {
  std::snprintf(section.data(), section.size(), "%s", where);
}

StateProblem::StateProblem(SectionName where, const char* what) noexcept : words{what} {
  constexpr unsigned char first_printable = 0x21;
  constexpr unsigned char last_printable = 0x7E;
  for (unsigned i = 0; i < 4; ++i) {
    const auto letter = static_cast<unsigned char>(where.value >> (8 * i) & 0xFF);
    section[i] = letter >= first_printable && letter <= last_printable ? static_cast<char>(letter) : '?';
  }
}

StateWriter::StateWriter(std::span<std::byte> room) noexcept : room_{room} {
  put_u64(magic);
  put_u32(state_version);
  put_u32(0);
  put_u64(0);  // finish() knows
}

void StateWriter::begin(SectionName name) noexcept {
  put_u32(name.value);
  section_ = length_;
  put_u32(0);
}

void StateWriter::end() noexcept { patch(section_, length_ - section_ - 4, 4); }

std::size_t StateWriter::finish() noexcept {
  patch(length_at, length_ + checksum_bytes, 8);
  put_u64(length_ <= room_.size() ? crc64(room_.first(length_)) : 0);
  return length_;
}

void StateWriter::put(std::uint64_t value, std::size_t bytes) noexcept {
  patch(length_, value, bytes);
  length_ += bytes;
}

void StateWriter::patch(std::size_t at, std::uint64_t value, std::size_t bytes) noexcept {
  if (at + bytes > room_.size()) return;
  for (std::size_t i = 0; i < bytes; ++i) room_[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}

std::uint64_t SectionReader::take(std::size_t count) noexcept {
  if (bytes_.size() < count) {
    spoiled_ = true;
    bytes_ = {};
    return 0;
  }
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value |= std::to_integer<std::uint64_t>(bytes_[i]) << (8 * i);
  bytes_ = bytes_.subspan(count);
  return value;
}

std::optional<StateProblem> take_apart(std::span<const std::byte> state, std::span<const SectionName> names,
                                       std::span<SectionReader> sections) noexcept {
  if (state.size() < header_bytes + checksum_bytes) return StateProblem{"header", "is cut short"};
  SectionReader header{state.first(header_bytes)};
  if (header.u64() != magic) return StateProblem{"header", "is no saved state"};
  const std::uint32_t version = header.u32();
  const std::uint32_t zero = header.u32();
  if (header.u64() != state.size()) return StateProblem{"header", "has another length"};
  const std::span inside = state.first(state.size() - checksum_bytes);
  if (SectionReader{state.last(checksum_bytes)}.u64() != crc64(inside))
    return StateProblem{"checksum", "does not agree with the bytes before it"};
  if (version == 0 || version > state_version || zero != 0) return StateProblem{"version", "is not known here"};

  std::span rest = inside.subspan(header_bytes);
  std::size_t found = 0;
  while (!rest.empty()) {  // ends: each round takes at least a section's header away
    if (rest.size() < section_header_bytes) return StateProblem{"header", "is followed by part of a section"};
    SectionReader section{rest.first(section_header_bytes)};
    const SectionName name{section.u32()};
    const std::uint32_t length = section.u32();
    rest = rest.subspan(section_header_bytes);
    if (length > rest.size()) return StateProblem{name, "is longer than the state"};
    if (found == names.size() || name != names[found]) {
      const bool known = std::ranges::find(names, name) != names.end();
      return StateProblem{name, known ? "is not in its place" : "is a section that is not known here"};
    }
    sections[found++] = SectionReader{rest.first(length)};
    rest = rest.subspan(length);
  }
  if (found != names.size()) return StateProblem{names[found], "is missing"};
  return std::nullopt;
}

}  // namespace viommu::machine
