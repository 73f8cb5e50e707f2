// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/state_image.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/saved_state.hpp"

namespace viommu::machine {
namespace {

constexpr SectionName one = SectionName::of("ONE.");
constexpr SectionName two = SectionName::of("TWO.");
constexpr std::array names{one, two};

test::State written() {
  const auto write = [](std::span<std::byte> room) {
    StateWriter to{room};
    to.begin(one);
    to.put_u16(0x1234);
    to.put_u64(0x0102030405060708);
    to.end();
    to.begin(two);
    to.end();
    return to.finish();
  };
  test::State state(write({}));
  CHECK(write(state) == state.size());
  return state;
}
std::string problem_of(const test::State& state) {
  std::array<SectionReader, names.size()> sections;
  const auto problem = take_apart(state, names, sections);
  return problem ? std::string{problem->section.data()} : "";
}

}  // namespace

TEST_CASE("the checksum of a state is CRC-64/XZ", "[machine][state][S5.6]") {
  constexpr std::string_view digits = "123456789";
  CHECK(crc64(std::as_bytes(std::span{digits})) == 0x995D'C9BB'DF19'39FA);
  CHECK(crc64({}) == 0);
}

TEST_CASE("a state is read as it was written, byte by byte in little endian", "[machine][state][S5.6]") {
  const test::State state = written();
  CHECK(state.size() == 24 + 8 + 10 + 8 + 8);
  CHECK(test::number_at(state, 16, 8) == state.size());
  CHECK(test::section_at(state, "ONE.") == std::size_t{32});
  CHECK(std::to_integer<int>(state[32]) == 0x34);
  CHECK(std::to_integer<int>(state[34]) == 0x08);
  test::State again = state;
  test::reseal(again);
  CHECK(again == state);
  std::array<SectionReader, names.size()> sections;
  REQUIRE_FALSE(take_apart(state, names, sections));
  CHECK(sections[0].u16() == 0x1234);
  CHECK_FALSE(sections[0].complete());
  CHECK(sections[0].u64() == 0x0102030405060708);
  CHECK(sections[0].complete());
  CHECK(sections[0].u32() == 0);  // past its end
  CHECK_FALSE(sections[0].complete());
  CHECK(sections[1].complete());
}

TEST_CASE("a state with sections that are missing, unknown, twice or out of place is refused by name",
          "[machine][state][S5.6]") {
  const test::State good = written();
  const auto with_name = [&](std::size_t at, const std::string& name) {
    test::State state = good;
    for (std::size_t i = 0; i < 4; ++i) state[at + i] = static_cast<std::byte>(name[i]);
    test::reseal(state);
    return problem_of(state);
  };
  CHECK(problem_of(good).empty());
  CHECK(with_name(42, "NEW.") == "NEW.");
  CHECK(with_name(42, "ONE.") == "ONE.");
  CHECK(with_name(24, "TWO.") == "TWO.");
  CHECK(with_name(24, std::string{"\x01\xFF,;"}) == "??,;");
  test::State short_one{good.begin(), good.begin() + 42};
  short_one.resize(50);
  test::reseal(short_one);
  CHECK(problem_of(short_one) == "TWO.");
  test::State long_section = good;
  test::put_number(long_section, 28, 0xFFFFFFFF, 4);
  test::reseal(long_section);
  CHECK(problem_of(long_section) == "ONE.");
  test::State newer = good;
  test::put_number(newer, 8, 2, 4);
  CHECK(problem_of(newer) == "checksum");
  test::reseal(newer);
  CHECK(problem_of(newer) == "version");
  test::State trailing = good;
  trailing.insert(trailing.end() - 8, 3, std::byte{});
  test::reseal(trailing);
  CHECK(problem_of(trailing) == "header");
}

}  // namespace viommu::machine
