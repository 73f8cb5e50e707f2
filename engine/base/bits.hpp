// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Bit layouts, written once and like the printed figure: a row per cell, low bits first.
//
//   struct ContextLow { std::uint64_t raw; };
//   namespace context_low {
//   inline constexpr Field<ContextLow, bool> present {"P",       { 0,  0}};
//   inline constexpr Field<ContextLow, Gpa>  root    {"SSPTPTR", {63, 12}, Rule::address};
//   inline constexpr auto rows = layout(present, ..., root);  // stops the build on an overlap or a gap
//   }
//
// `get` and `with` are the only ways in and out of a word; masks, printers and round-trip tests come from the rows.
// A word is 32 or 64 bits; a 128-bit structure is two words, low and high.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

#include "engine/base/address.hpp"

namespace viommu {

/// What a reader of the word has to check about a cell.
enum class Rule : std::uint8_t {
  value,     ///< carries a value; the layout itself forbids none
  reserved,  ///< must be zero
  ignored,   ///< anything may stand here and nothing follows from it
  address,   ///< an address; its bits from the host address width on must be zero
};

/// Inclusive, as specifications print it.
struct BitRange {
  unsigned high = 0;
  unsigned low = 0;

  friend constexpr bool operator==(BitRange, BitRange) = default;
};

[[nodiscard]] constexpr std::uint64_t mask_of(BitRange bits) noexcept {
  return low_bits(bits.high - bits.low + 1) << bits.low;
}

/// One cell of a layout. `Type` is bool, an unsigned integer, an enum, an id, or an address; an address field is read
/// and written in place (its low bits are zero), everything else as a number that starts at bit 0.
template <class Layout, class Type>
struct Field {
  std::string_view name;
  BitRange bits;
  Rule rule = Rule::value;
};

/// The integer a layout is laid over.
template <class Layout>
using Word = decltype(Layout::raw);

namespace detail {

template <class T>
struct IsAddress : std::false_type {};
template <class Kind>
struct IsAddress<Address<Kind>> : std::true_type {};

/// A cast where the types differ and nothing where they do not.
template <class To, class From>
[[nodiscard]] constexpr To narrowed(From from) noexcept {
  if constexpr (std::is_same_v<To, From>) {
    return from;
  } else {
    return static_cast<To>(from);
  }
}

template <class T>
[[nodiscard]] constexpr T from_bits(std::uint64_t bits) noexcept {
  if constexpr (std::is_same_v<T, bool>) {
    return bits != 0;
  } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    return narrowed<T>(bits);
  } else {
    return T{narrowed<decltype(T::value)>(bits)};
  }
}

template <class T>
[[nodiscard]] constexpr std::uint64_t to_bits(T value) noexcept {
  if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    return narrowed<std::uint64_t>(value);
  } else {
    return value.value;
  }
}

}  // namespace detail

template <class T>
inline constexpr bool is_address = detail::IsAddress<T>::value;

/// Reads one field.
template <class Layout, class Type>
[[nodiscard]] constexpr Type get(Layout word, const Field<Layout, Type>& field) noexcept {
  const std::uint64_t bits = word.raw & mask_of(field.bits);
  return detail::from_bits<Type>(is_address<Type> ? bits : bits >> field.bits.low);
}

/// The word with one field replaced. Bits of `value` that do not fit the field are dropped.
template <class Layout, class Type>
[[nodiscard]] constexpr Layout with(Layout word, const Field<Layout, Type>& field,
                                    std::type_identity_t<Type> value) noexcept {
  const std::uint64_t mask = mask_of(field.bits);
  const std::uint64_t bits = detail::to_bits(value);
  const std::uint64_t placed = (is_address<Type> ? bits : bits << field.bits.low) & mask;
  return {detail::narrowed<Word<Layout>>((word.raw & ~mask) | placed)};
}

/// The bits of one or several fields of one layout.
template <class Layout, class... Types>
[[nodiscard]] constexpr Word<Layout> mask_of(const Field<Layout, Types>&... fields) noexcept {
  return detail::narrowed<Word<Layout>>((mask_of(fields.bits) | ... | std::uint64_t{0}));
}

/// A cell without its types: what printers, dictionaries and tests iterate over.
struct Row {
  std::string_view name;
  BitRange bits;
  Rule rule = Rule::value;
  bool in_place = false;  ///< an address: shown where it stands, not shifted down

  [[nodiscard]] constexpr std::uint64_t mask() const noexcept { return mask_of(bits); }
  [[nodiscard]] constexpr std::uint64_t value_in(std::uint64_t raw) const noexcept {
    return in_place ? raw & mask() : (raw & mask()) >> bits.low;
  }
};

enum class LayoutProblem : std::uint8_t { none, outside_word, overlap, gap };

/// Whether the fields cover each bit of their word exactly once.
template <class Layout, class... Types>
[[nodiscard]] constexpr LayoutProblem layout_problem(const Field<Layout, Types>&... fields) noexcept {
  constexpr unsigned word_bits = 8 * sizeof(Word<Layout>);
  std::uint64_t seen = 0;
  for (const BitRange bits : {fields.bits...}) {
    if (bits.high < bits.low || bits.high >= word_bits) return LayoutProblem::outside_word;
    if ((seen & mask_of(bits)) != 0) return LayoutProblem::overlap;
    seen |= mask_of(bits);
  }
  return seen == low_bits(word_bits) ? LayoutProblem::none : LayoutProblem::gap;
}

/// All cells of one word. Iterates over them without their types: a tuple of typed ones would take a compiler longer
/// than all else that comes with it.
template <class Layout, class... Types>
struct Rows {
  std::array<Row, sizeof...(Types)> list;

  /// Calls use(field) for each with its type.
  template <class Use>
  constexpr void for_each_field(Use&& use) const {
    auto row = list.begin();
    ((use(Field<Layout, Types>{row->name, row->bits, row->rule}), ++row), ...);
  }

  [[nodiscard]] constexpr auto begin() const noexcept { return list.begin(); }
  [[nodiscard]] constexpr auto end() const noexcept { return list.end(); }
  [[nodiscard]] static constexpr std::size_t size() noexcept { return sizeof...(Types); }
};

namespace detail {
/// Not constexpr: reaching it while a layout is built is the compile error.
inline void rows_do_not_cover_each_bit_once() {}
}  // namespace detail

/// Builds the rows of a word, or does not compile.
template <class Layout, class... Types>
[[nodiscard]] consteval Rows<Layout, Types...> layout(const Field<Layout, Types>&... fields) {
  if (layout_problem(fields...) != LayoutProblem::none) detail::rows_do_not_cover_each_bit_once();
  return {{Row{fields.name, fields.bits, fields.rule, is_address<Types>}...}};
}

/// The bits of a word that must be zero on a machine whose addresses have `host_address_width` bits. The only place
/// that widens address fields. Bits that are reserved on some machines only are added by the layout's own header.
template <class Layout, class... Types>
[[nodiscard]] constexpr Word<Layout> reserved_mask(const Rows<Layout, Types...>& rows,
                                                   unsigned host_address_width = 64) noexcept {
  std::uint64_t mask = 0;
  for (const Row& row : rows) {
    if (row.rule == Rule::reserved) mask |= row.mask();
    if (row.rule == Rule::address) mask |= row.mask() & ~low_bits(host_address_width);
  }
  return detail::narrowed<Word<Layout>>(mask);
}

/// Calls `show(row, value)` for each cell that says something: all but the reserved and ignored ones, and of the
/// reserved ones those that are not zero.
template <class Layout, class... Types, class Show>
constexpr void for_each_row(Layout word, const Rows<Layout, Types...>& rows, Show show) {
  for (const Row& row : rows) {
    const std::uint64_t value = row.value_in(word.raw);
    if (row.rule == Rule::ignored || (row.rule == Rule::reserved && value == 0)) continue;
    show(row, value);
  }
}

[[nodiscard]] constexpr std::uint32_t low_half(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value & low_bits(32));
}
[[nodiscard]] constexpr std::uint32_t high_half(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 32);
}
[[nodiscard]] constexpr std::uint64_t joined(std::uint32_t low, std::uint32_t high) noexcept {
  return (std::uint64_t{high} << 32) | low;
}
/// The bits of `count` bytes of a word, from byte `first` on. At most 8 bytes in all.
[[nodiscard]] constexpr std::uint64_t byte_lanes(unsigned first, unsigned count) noexcept {
  return low_bits(8 * count) << (8 * first);
}
/// `value` moved up so that it starts at byte `first`, and back down. `first` is below 8.
[[nodiscard]] constexpr std::uint64_t to_byte_lane(std::uint64_t value, unsigned first) noexcept {
  return value << (8 * first);
}
[[nodiscard]] constexpr std::uint64_t from_byte_lane(std::uint64_t value, unsigned first) noexcept {
  return value >> (8 * first);
}

}  // namespace viommu
