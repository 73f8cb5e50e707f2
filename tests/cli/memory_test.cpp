// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/memory.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "tests/support/random.hpp"

namespace viommu::test {

using cli::Memory;

TEST_CASE("A word reads what was stored, and 0 where nothing was", "[replay][memory]") {
  Memory memory;
  CHECK(memory.load(0x1000) == 0u);
  CHECK_FALSE(memory.touched(0x1000));
  memory.store(0x1000, 5);
  CHECK(memory.load(0x1000) == 5u);
  CHECK(memory.load(0x1008) == 0u);
  CHECK(memory.touched(0x1ff8));
  memory.store(~std::uint64_t{7}, 6);
  CHECK(memory.load(~std::uint64_t{7}) == 6u);
  memory.store(0x2004, 0x1122334455667788);  // a word across two
  CHECK(memory.load(0x2000) == 0x5566778800000000u);
  CHECK(memory.load(0x2008) == 0x11223344u);
}

TEST_CASE("The memory agrees with a map of words", "[replay][memory][property]") {
  Memory memory;
  std::map<std::uint64_t, std::uint64_t> model;
  Random random{1};
  for (unsigned i = 0; i < 50'000; ++i) {
    // Few pages far apart and many near each other, so that the hash both collides and grows.
    const std::uint64_t gpa = random.below(4) * (std::uint64_t{1} << 40) + 8 * random.below(1 << 21);
    if (random.chance(1, 2)) {
      const std::uint64_t value = random.next();
      memory.store(gpa, value);
      model[gpa] = value;
    } else {
      const auto at = model.find(gpa);
      REQUIRE(memory.load(gpa) == (at == model.end() ? 0 : at->second));
    }
  }
  for (const auto& [gpa, value] : model) REQUIRE(memory.load(gpa) == value);
}

TEST_CASE("A write changes exactly its bytes", "[replay][memory]") {
  Memory memory;
  memory.store(0x1000, 0x1111111111111111);
  memory.store(0x1008, 0x2222222222222222);
  constexpr std::array bytes{std::byte{0xaa}, std::byte{0xbb}, std::byte{0xcc}, std::byte{0xdd}};
  CHECK(memory.write(0x1006, bytes));
  CHECK(memory.load(0x1000) == 0xbbaa111111111111u);
  CHECK(memory.load(0x1008) == 0x222222222222ddccu);
  std::array<std::byte, 4> back{};
  CHECK(memory.read(0x1006, back));
  CHECK(back == bytes);
}

TEST_CASE("A failed access fails until a store names the word", "[replay][memory]") {
  Memory memory;
  memory.store(0x1000, 5);
  memory.fail_reads(0x1000, 8);
  CHECK(memory.load(0x1000) == std::nullopt);
  CHECK(memory.load(0x1008) == 0u);
  std::array<std::byte, 16> both{};
  CHECK_FALSE(memory.read(0xff8, both));
  memory.store(0x1000, 6);
  CHECK(memory.load(0x1000) == 6u);

  memory.fail_writes(0x2004, 4);
  CHECK_FALSE(memory.write(0x2000, std::array{std::byte{1}}));
  CHECK(memory.load(0x2000) == 0u);
  memory.store(0x2000, 0);
  CHECK(memory.write(0x2000, std::array{std::byte{1}}));
}

TEST_CASE("Outside RAM nothing can be read, written or stored", "[replay][memory]") {
  Memory memory;
  memory.limit_ram(0, 0xffff);
  memory.store(0x10000, 5);
  CHECK(memory.load(0x10000) == std::nullopt);
  CHECK(memory.load(0xfff8) == 0u);
  CHECK_FALSE(memory.write(0xffff, std::array{std::byte{1}, std::byte{2}}));
  CHECK_FALSE(memory.writable(0x10000, 1));

  CHECK_FALSE(memory.add_ram(0xf000, 0x1ffff));  // some of it is there already
  CHECK(memory.add_ram(0x20000, 0x2ffff));
  CHECK(memory.load(0x10000) == std::nullopt);
  CHECK(memory.add_ram(0x10000, 0x1ffff));
  CHECK(memory.last_ram() == 0x2ffffu);
  CHECK(memory.write(0xffff, std::array{std::byte{1}, std::byte{2}}));  // across what were two extents

  memory.store(0x18000, 7);
  CHECK_FALSE(memory.remove_ram(0x18000, 0x30000));  // some of it is not there
  CHECK(memory.remove_ram(0x18000, 0x18fff));
  CHECK(memory.load(0x18000) == std::nullopt);
  CHECK(memory.load(0x17ff8) == 0u);
  CHECK(memory.load(0x19000) == 0u);
  CHECK(memory.add_ram(0x18000, 0x18fff));
  CHECK(memory.load(0x18000) == 0u);  // what came back is empty
  CHECK(memory.load(0xfff8) == 0x0100000000000000u);
}

TEST_CASE("RAM may reach to the last address", "[replay][memory]") {
  Memory memory;
  CHECK(memory.remove_ram(0, ~std::uint64_t{0}));
  CHECK(memory.last_ram() == std::nullopt);
  CHECK(memory.add_ram(0xfffffffffffff000, ~std::uint64_t{0}));
  memory.store(0xfffffffffffffff8, 3);
  CHECK(memory.load(0xfffffffffffffff8) == 3u);
  CHECK(memory.load(0) == std::nullopt);
}

}  // namespace viommu::test
