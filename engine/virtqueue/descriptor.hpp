// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One descriptor of 16 bytes: an address, and a word with everything else. The two rings agree in the flags' meaning
// and differ in where they stand.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

namespace viommu::virtqueue {

inline constexpr std::uint32_t descriptor_bytes = 16;

/// Virtio, "The Virtqueue Descriptor Table": the second word.
struct SplitDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace split_descriptor {
using High = SplitDescriptorHigh;
// clang-format off
inline constexpr Field<High, std::uint32_t> length        {"len",      {31,  0}};
inline constexpr Field<High, bool>          has_next      {"NEXT",     {32, 32}};
inline constexpr Field<High, bool>          device_writes {"WRITE",    {33, 33}};
inline constexpr Field<High, bool>          indirect      {"INDIRECT", {34, 34}};
inline constexpr Field<High, std::uint16_t> other_35      {"",         {47, 35}, Rule::ignored};
inline constexpr Field<High, std::uint16_t> next          {"next",     {63, 48}};
// clang-format on
inline constexpr auto rows = layout(length, has_next, device_writes, indirect, other_35, next);
}  // namespace split_descriptor

/// Virtio, "The Virtqueue Descriptor Ring": the second word.
struct PackedDescriptorHigh {
  std::uint64_t raw = 0;
};
namespace packed_descriptor {
using High = PackedDescriptorHigh;
// clang-format off
inline constexpr Field<High, std::uint32_t> length        {"len",      {31,  0}};
inline constexpr Field<High, std::uint16_t> id            {"id",       {47, 32}};
inline constexpr Field<High, bool>          has_next      {"NEXT",     {48, 48}};
inline constexpr Field<High, bool>          device_writes {"WRITE",    {49, 49}};
inline constexpr Field<High, bool>          indirect      {"INDIRECT", {50, 50}};
inline constexpr Field<High, std::uint16_t> other_51      {"",         {54, 51}, Rule::ignored};
inline constexpr Field<High, bool>          available     {"AVAIL",    {55, 55}};
inline constexpr Field<High, std::uint16_t> other_56      {"",         {62, 56}, Rule::ignored};
inline constexpr Field<High, bool>          used          {"USED",     {63, 63}};
// clang-format on
inline constexpr auto rows = layout(length, id, has_next, device_writes, indirect, other_51, available, other_56, used);
}  // namespace packed_descriptor

/// Virtio, "Event Suppression Structure Format".
struct EventSuppression {
  std::uint32_t raw = 0;
};
enum class EventFlags : std::uint8_t { enable = 0, disable = 1, at_descriptor = 2 };  // 3 is reserved
namespace event_suppression {
// clang-format off
inline constexpr Field<EventSuppression, std::uint16_t> offset   {"off",   {14,  0}};
inline constexpr Field<EventSuppression, bool>          wrap     {"wrap",  {15, 15}};
inline constexpr Field<EventSuppression, EventFlags>    flags    {"flags", {17, 16}};
inline constexpr Field<EventSuppression, std::uint16_t> other_18 {"",      {31, 18}, Rule::ignored};
// clang-format on
inline constexpr auto rows = layout(offset, wrap, flags, other_18);
}  // namespace event_suppression

/// The two words, as they were loaded.
struct DescriptorWords {
  Gpa address;
  std::uint64_t high = 0;
};

/// What a descriptor says in either ring.
struct Descriptor {
  Gpa address;
  std::uint32_t length = 0;
  bool has_next = false;
  bool device_writes = false;
  bool indirect = false;
  std::uint16_t link = 0;  ///< the next descriptor in a split ring, the buffer id in a packed one
};

[[nodiscard]] constexpr Descriptor split_descriptor_of(DescriptorWords words) noexcept {
  namespace d = split_descriptor;
  const SplitDescriptorHigh high{words.high};
  return {words.address,          get(high, d::length), get(high, d::has_next), get(high, d::device_writes),
          get(high, d::indirect), get(high, d::next)};
}
[[nodiscard]] constexpr Descriptor packed_descriptor_of(DescriptorWords words) noexcept {
  namespace d = packed_descriptor;
  const PackedDescriptorHigh high{words.high};
  return {words.address,          get(high, d::length), get(high, d::has_next), get(high, d::device_writes),
          get(high, d::indirect), get(high, d::id)};
}

}  // namespace viommu::virtqueue
