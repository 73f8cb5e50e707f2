// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Bytes of guest memory at any address and of any number, in whole words.
#include "engine/base/guest_bytes.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/virtqueue/guest.hpp"

namespace viommu {
namespace {

using test::Reach;
using test::RingGuest;
using Access = RingGuest::Access;

constexpr std::uint64_t base = RingGuest::first + 0x1000;

std::vector<std::byte> numbered(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

TEST_CASE("bytes are loaded from any place, each word once", "[guest_bytes]") {
  for (const Reach reach : {Reach::mapped, Reach::callbacks}) {
    RingGuest guest{reach};
    const auto all = numbered(64);
    std::ranges::copy(all, guest.span(base, 64).begin());
    for (std::size_t offset = 0; offset < 16; ++offset)
      for (std::size_t size = 0; size <= 40; ++size) {
        guest.accesses.clear();
        std::vector<std::byte> bytes(size);
        REQUIRE(load_bytes(guest.memory().view(), {base + offset}, bytes));
        REQUIRE(std::equal(bytes.begin(), bytes.end(), all.begin() + static_cast<std::ptrdiff_t>(offset)));
        std::vector<Access> expected;
        for (std::uint64_t word = offset / 8; size != 0 && word <= (offset + size - 1) / 8; ++word)
          expected.push_back({false, base + 8 * word, 8});
        if (reach == Reach::callbacks) REQUIRE(guest.accesses == expected);
      }
  }
}

TEST_CASE("bytes are stored at any place, in aligned pieces, and nothing beside them", "[guest_bytes]") {
  for (const Reach reach : {Reach::mapped, Reach::callbacks})
    for (std::size_t offset = 0; offset < 16; ++offset)
      for (std::size_t size = 0; size <= 24; ++size) {
        RingGuest guest{reach};
        const auto bytes = numbered(size);
        REQUIRE(store_bytes(guest.memory(), {base + offset}, bytes));
        std::array<std::byte, 64> expected{};
        std::ranges::copy(bytes, expected.begin() + static_cast<std::ptrdiff_t>(offset));
        REQUIRE(std::ranges::equal(guest.span(base, 64), expected));
        for (const Access& access : guest.accesses) REQUIRE((access.write && access.gpa % access.size == 0));
        REQUIRE(guest.accesses.size() <= (reach == Reach::callbacks ? 8u : 0u));
      }
  RingGuest guest{Reach::callbacks};
  REQUIRE(store_bytes(guest.memory(), {base + 1}, numbered(15)));
  CHECK(guest.accesses == std::vector{Access{true, base + 1, 1}, Access{true, base + 2, 2}, Access{true, base + 4, 4},
                                      Access{true, base + 8, 8}});
}

TEST_CASE("bytes that are not memory are neither loaded nor stored", "[guest_bytes]") {
  for (const Reach reach : {Reach::mapped, Reach::callbacks}) {
    RingGuest guest{reach};
    std::array<std::byte, 4> bytes{};
    const MemoryView view = guest.memory().view();
    CHECK(load_bytes(view, {RingGuest::last - 3}, bytes));
    CHECK(store_bytes(guest.memory(), {RingGuest::last - 3}, bytes));
    CHECK_FALSE(load_bytes(view, {RingGuest::last - 2}, bytes));
    CHECK_FALSE(store_bytes(guest.memory(), {RingGuest::last - 2}, bytes));
    CHECK_FALSE(load_bytes(view, {RingGuest::first - 1}, bytes));
    CHECK_FALSE(store_bytes(guest.memory(), {RingGuest::first - 1}, bytes));
  }
}

}  // namespace
}  // namespace viommu
