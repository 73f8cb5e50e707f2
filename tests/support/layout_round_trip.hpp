// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Takes the rows of a layout and checks that each field goes in and comes out, and touches no bit of its neighbours.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>

#include "engine/base/bits.hpp"

namespace viommu::test {

template <class Layout, class Type>
void check_round_trip(const Field<Layout, Type>& field) {
  INFO("field " << std::string{field.name} << " at bit " << field.bits.low);
  constexpr std::array<std::uint64_t, 5> patterns{0, ~std::uint64_t{0}, 0x5A5A'5A5A'5A5A'5A5A, 0xA5A5'A5A5'A5A5'A5A5,
                                                  0x0123'4567'89AB'CDEF};
  const std::uint64_t mask = mask_of(field.bits);
  const unsigned shift = is_address<Type> ? 0 : field.bits.low;
  for (const std::uint64_t neighbours : patterns) {
    const Layout word{viommu::detail::narrowed<Word<Layout>>(neighbours)};
    CHECK(with(word, field, get(word, field)).raw == word.raw);
    for (const std::uint64_t pattern : patterns) {
      const std::uint64_t bits = pattern & mask;
      const auto value = viommu::detail::from_bits<Type>(bits >> shift);
      const Layout changed = with(word, field, value);
      CHECK(get(changed, field) == value);
      CHECK((changed.raw & mask) == bits);
      CHECK((changed.raw & ~mask) == (word.raw & ~mask));
      CHECK(mask_of(field) == mask);
    }
  }
}

/// Every field of a word.
template <class Layout, class... Types>
void check_round_trips(const Rows<Layout, Types...>& rows) {
  rows.for_each_field([](const auto& field) { check_round_trip(field); });
}

}  // namespace viommu::test
