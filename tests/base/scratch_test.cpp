// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/scratch.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace viommu {
namespace {

/// Larger than its parts, and not a power of two.
struct Element {
  std::uint64_t first = 1;
  std::uint64_t second = 2;
  std::uint8_t third = 3;
  friend bool operator==(const Element&, const Element&) = default;
};

struct alignas(128) Aligned {
  std::uint8_t value;
};

constexpr std::size_t count = 5;

}  // namespace

TEST_CASE("a place holds what was put there last, and its neighbours what was put into them", "[base][scratch]") {
  Scratch<Element, count> scratch;
  std::array<Element, count> expected{};
  const auto check = [&] {
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(scratch[i] == expected.at(i));
      CHECK(&scratch[i] == scratch.data() + i);
      CHECK(&std::as_const(scratch)[i] == std::as_const(scratch).data() + i);
    }
  };
  for (const std::size_t place : {4U, 0U, 2U, 1U, 3U}) {
    expected.at(place) = {place * 100, place * 100 + 1, static_cast<std::uint8_t>(place)};
    scratch.put(place, expected.at(place));
  }
  check();
  for (const std::size_t place : {3U, 0U, 4U, 1U}) {
    Element& element = scratch.emplace(place);
    CHECK(&element == &scratch[place]);
    element.second = 77 + place;
    expected.at(place) = {1, 77 + place, 3};
    check();
  }
}

TEST_CASE("every place is aligned as its element asks", "[base][scratch]") {
  Scratch<std::uint8_t, 1> in_front;
  Scratch<Aligned, 3> scratch;
  in_front.put(0, 9);
  for (std::size_t i = 0; i < 3; ++i) {
    scratch.put(i, {static_cast<std::uint8_t>(i)});
    CHECK(reinterpret_cast<std::uintptr_t>(&scratch[i]) % alignof(Aligned) == 0);
  }
  CHECK(in_front[0] == 9);
}

}  // namespace viommu
