// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/bits.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/ids.hpp"
#include "tests/support/layout_round_trip.hpp"

namespace viommu::test {
namespace {

enum class Colour : std::uint8_t { red = 0, green = 1, blue = 2, none = 3 };

struct Sample {
  std::uint64_t raw = 0;
};
namespace sample {
// clang-format off
constexpr Field<Sample, bool>     present  {"P",    { 0,  0}};
constexpr Field<Sample, Colour>   colour   {"COL",  { 2,  1}};
constexpr Field<Sample, unsigned> free     {"Ign",  { 6,  3}, Rule::ignored};
constexpr Field<Sample, unsigned> reserved {"Rsvd", {11,  7}, Rule::reserved};
constexpr Field<Sample, Gpa>      address  {"ADDR", {47, 12}, Rule::address};
constexpr Field<Sample, SourceId> source   {"SID",  {63, 48}};
// clang-format on
constexpr auto rows = layout(present, colour, free, reserved, address, source);
}  // namespace sample

struct Half {
  std::uint32_t raw = 0;
};
constexpr Field<Half, unsigned> half_low{"LOW", {30, 0}};
constexpr Field<Half, bool> half_top{"TOP", {31, 31}};

// Everything works where a constant is wanted.
static_assert(get(Sample{0x3}, sample::colour) == Colour::green);
static_assert(with(Sample{}, sample::source, {0x0100}).raw == 0x0100'0000'0000'0000);
static_assert(layout(half_low, half_top).list.size() == 2);

}  // namespace

TEST_CASE("a layout covers each bit of its word exactly once", "[base][bits]") {
  constexpr Field<Half, unsigned> overlapping{"X", {31, 30}};
  constexpr Field<Half, unsigned> short_of_one{"X", {29, 0}};
  constexpr Field<Half, unsigned> too_high{"X", {32, 31}};
  constexpr Field<Half, unsigned> upside_down{"X", {0, 31}};
  CHECK(layout_problem(half_low, half_top) == LayoutProblem::none);
  CHECK(layout_problem(half_top, half_low) == LayoutProblem::none);
  CHECK(layout_problem(half_low, overlapping) == LayoutProblem::overlap);
  CHECK(layout_problem(short_of_one, half_top) == LayoutProblem::gap);
  CHECK(layout_problem(half_low) == LayoutProblem::gap);
  CHECK(layout_problem(half_low, too_high) == LayoutProblem::outside_word);
  CHECK(layout_problem(upside_down) == LayoutProblem::outside_word);
}

TEST_CASE("a field is read and written alone", "[base][bits]") {
  check_round_trips(sample::rows);
  check_round_trips(layout(half_low, half_top));
}

TEST_CASE("an address stands in place and a number starts at bit 0", "[base][bits]") {
  const Sample word{0xABCD'1234'5678'9004};
  CHECK(get(word, sample::address) == Gpa{0x1234'5678'9000});
  CHECK(get(word, sample::source) == SourceId{0xABCD});
  CHECK(get(word, sample::colour) == Colour::blue);
  CHECK(with(Sample{}, sample::address, {0x7FFF}).raw == 0x7000);
  CHECK(with(Sample{~std::uint64_t{0}}, sample::colour, Colour::red).raw == ~std::uint64_t{6});
}

TEST_CASE("what does not fit a field is dropped", "[base][bits]") {
  CHECK(with(Sample{}, sample::free, 0xFFFF).raw == 0x78);
  CHECK(with(Half{}, half_low, ~0u).raw == 0x7FFF'FFFF);
}

TEST_CASE("the reserved mask takes in address bits from the host address width on", "[base][bits][S2.10]") {
  CHECK(reserved_mask(sample::rows) == 0xF80);
  CHECK(reserved_mask(sample::rows, 48) == 0xF80);
  CHECK(reserved_mask(sample::rows, 39) == 0x0000'FF80'0000'0F80);
  CHECK(reserved_mask(sample::rows, 12) == 0x0000'FFFF'FFFF'FF80);
  CHECK(reserved_mask(sample::rows, 0) == 0x0000'FFFF'FFFF'FF80);
}

TEST_CASE("rows name what a word says and leave out what it does not", "[base][bits]") {
  const auto shown = [](std::uint64_t raw) {
    std::vector<std::string> lines;
    for_each_row(Sample{raw}, sample::rows, [&](const Row& row, std::uint64_t value) {
      lines.push_back(std::string{row.name} + "=" + std::to_string(value));
    });
    return lines;
  };
  CHECK(shown(0x0001'0000'0000'107D) == std::vector<std::string>{"P=1", "COL=2", "ADDR=4096", "SID=1"});
  CHECK(shown(0x0000'0000'0000'0080) == std::vector<std::string>{"P=0", "COL=0", "Rsvd=1", "ADDR=0", "SID=0"});
}

TEST_CASE("words are cut into dwords and bytes and put together again", "[base][bits]") {
  constexpr std::uint64_t word = 0x0123'4567'89AB'CDEF;
  CHECK(low_half(word) == 0x89AB'CDEF);
  CHECK(high_half(word) == 0x0123'4567);
  CHECK(joined(low_half(word), high_half(word)) == word);
  CHECK(byte_lanes(0, 4) == 0xFFFF'FFFF);
  CHECK(byte_lanes(3, 1) == 0xFF00'0000);
  CHECK(byte_lanes(0, 8) == ~std::uint64_t{0});
  CHECK(from_byte_lane(to_byte_lane(0xAB, 7), 7) == 0xAB);
}

}  // namespace viommu::test
