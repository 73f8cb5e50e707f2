// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/address.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "engine/base/access.hpp"
#include "engine/base/ids.hpp"
#include "tests/support/random.hpp"

namespace viommu {
namespace {

constexpr std::uint64_t last_address = ~std::uint64_t{0};

/// size - 1 of the largest aligned block around `address` without a byte of the interrupt window, by trying them all.
std::uint64_t largest_block_mask(std::uint64_t address) {
  std::uint64_t largest = 0;
  for (unsigned bits = 0; bits <= 64; ++bits) {
    const std::uint64_t mask = low_bits(bits);
    const Range<std::uint64_t> block{address & ~mask, address | mask};
    if (!block.overlaps(interrupt_window)) largest = mask;
  }
  return largest;
}

}  // namespace

TEST_CASE("low_bits counts bits from 0 to all of them", "[base][GPT-1]") {
  std::uint64_t expected = 0;
  for (unsigned count = 0; count <= 64; ++count) {
    CHECK(low_bits(count) == expected);
    expected = expected << 1 | 1;
  }
  CHECK(low_bits(65) == last_address);
}

TEST_CASE("a range holds both of its ends and may end at the last address", "[base][B49]") {
  constexpr IovaRange range{{0x1000}, {0x1FFF}};
  CHECK_FALSE(range.contains({0xFFF}));
  CHECK(range.contains({0x1000}));
  CHECK(range.contains({0x1FFF}));
  CHECK_FALSE(range.contains({0x2000}));

  constexpr IovaRange top{{last_address - 0xFFF}, {last_address}};
  CHECK(top.contains({last_address}));
  CHECK_FALSE(top.contains({0}));
  CHECK(all_iovas.contains({0}));
  CHECK(Iova{0x1000} + 0x10 == Iova{0x1010});
  CHECK(all_iovas.contains({last_address}));
}

TEST_CASE("two ranges overlap when one address is in both", "[base]") {
  constexpr IovaRange range{{10}, {19}};
  CHECK(range.overlaps({{19}, {20}}));
  CHECK(range.overlaps({{0}, {10}}));
  CHECK(range.overlaps({{12}, {13}}));
  CHECK(range.overlaps({{0}, {last_address}}));
  CHECK(range.overlaps({{10}, {19}}));
  CHECK_FALSE(range.overlaps({{20}, {last_address}}));
  CHECK_FALSE(range.overlaps({{0}, {9}}));
  CHECK(IovaRange{{last_address}, {last_address}}.overlaps(all_iovas));
}

TEST_CASE("the interrupt range is FEEx_xxxx", "[base][B28]") {
  CHECK_FALSE(interrupt_window.contains(0xFEDFFFFF));
  CHECK(interrupt_window.contains(0xFEE00000));
  CHECK(interrupt_window.contains(0xFEEFFFFF));
  CHECK_FALSE(interrupt_window.contains(0xFEF00000));
}

TEST_CASE("the block around an address is the largest that keeps clear of the interrupt window", "[base][B28]") {
  std::vector<std::uint64_t> addresses{0,          0xFEDFFFFF, 0xFEF00000,  0xFEF00001, 0xFEC00000,
                                       0xFE000000, 0xFF000000, 0x100000000, 0x80000000, last_address};
  for (unsigned bit = 0; bit < 64; ++bit) addresses.push_back(std::uint64_t{1} << bit);
  test::Random random{1};
  for (unsigned i = 0; i < 2000; ++i) addresses.push_back(random.next() >> random.below(64));
  for (unsigned i = 0; i < 2000; ++i) addresses.push_back(0xFE000000 + random.below(0x2000000));
  for (const std::uint64_t address : addresses) {
    if (interrupt_window.contains(address)) continue;
    CAPTURE(address);
    REQUIRE(mask_clear_of_interrupts(address) == largest_block_mask(address));
  }
}

TEST_CASE("a right that was not asked for need not be granted", "[base]") {
  CHECK(read_write.covers(read_only));
  CHECK(read_write.covers(read_write));
  CHECK(read_only.covers(Rights{}));
  CHECK_FALSE(read_only.covers(write_only));
  CHECK_FALSE(write_only.covers(read_write));
  CHECK((read_only & write_only).none());
  CHECK((read_write & write_only) == write_only);
  CHECK_FALSE(write_only.none());
  CHECK_FALSE(read_only.none());
}

TEST_CASE("rights are the two low bits of a word: 1 read, 2 write", "[base]") {
  for (RightBits bits = 0; bits <= all_right_bits; ++bits) {
    const Rights rights = Rights::in(~all_right_bits | bits);
    CHECK(rights.bits() == bits);
    CHECK(rights.read() == ((bits & 1) != 0));
    CHECK(rights.write() == ((bits & 2) != 0));
    CHECK(rights == Rights{rights.read(), rights.write()});
    CHECK(rights.none() == (bits == 0));
  }
}

TEST_CASE("a source id is a bus and a device function", "[base][B01]") {
  constexpr SourceId id{0xAB'CD};
  CHECK(id.bus() == 0xAB);
  CHECK(id.devfn() == 0xCD);
}

}  // namespace viommu
