// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Bytes in and out of a chain, whatever its segments.
#include "engine/virtqueue/chain.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/support/random.hpp"
#include "tests/virtqueue/guest.hpp"

namespace viommu::virtqueue {
namespace {

using test::Reach;
using test::RingGuest;

constexpr std::uint64_t data = RingGuest::first + 0x1000;

Descriptor readable(std::uint64_t gpa, std::uint32_t length) { return {{gpa}, length, false, false, false, 0}; }
Descriptor writable(std::uint64_t gpa, std::uint32_t length) { return {{gpa}, length, false, true, false, 0}; }

TEST_CASE("a request may be split at every byte", "[virtqueue][chain][S3.18]") {
  for (const Reach reach : {Reach::mapped, Reach::callbacks}) {
    RingGuest guest{reach};
    const Memory memory{guest.memory()};
    Chain chain;
    std::array<std::byte, 40> sent{};
    for (std::size_t i = 0; i < sent.size(); ++i) {  // backwards, and with gaps
      sent[i] = static_cast<std::byte>(0x40 + i);
      const std::uint64_t where = data + 3 * (sent.size() - i);
      guest.put(where, sent[i]);
      REQUIRE(chain.add(memory, readable(where, 1)) == Problem::none);
    }
    for (std::size_t i = 0; i < 4; ++i) REQUIRE(chain.add(memory, writable(data + 0x100 - 3 * i, 1)) == Problem::none);
    CHECK(chain.readable().size() == sent.size());
    std::array<std::byte, 40> received{};
    REQUIRE(chain.read(memory, 0, received));
    CHECK(received == sent);
    std::array<std::byte, 5> middle{};
    REQUIRE(chain.read(memory, 17, middle));
    CHECK(std::equal(middle.begin(), middle.end(), sent.begin() + 17));
    REQUIRE(chain.write(memory, 1, std::span{sent}.first(3)));
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(guest.get<std::byte>(data + 0x100 - 3 * i) == (i == 0 ? std::byte{0} : sent[i - 1]));
  }
}

TEST_CASE("what a chain does not have is neither read nor written", "[virtqueue][chain]") {
  RingGuest guest{Reach::mapped};
  const Memory memory{guest.memory()};
  Chain chain;
  REQUIRE(chain.add(memory, readable(data, 8)) == Problem::none);
  REQUIRE(chain.add(memory, writable(data + 8, 8)) == Problem::none);
  std::array<std::byte, 9> bytes{};
  CHECK_FALSE(chain.read(memory, 0, bytes));
  CHECK_FALSE(chain.read(memory, 8, std::span{bytes}.first(1)));
  CHECK_FALSE(chain.write(memory, ~std::uint64_t{0}, std::span{bytes}.first(1)));
  CHECK(chain.read(memory, 8, {}));
  CHECK(chain.write(memory, 100, {}));
}

TEST_CASE("adjacent descriptors are one segment, never across the two parts", "[virtqueue][chain]") {
  RingGuest guest{Reach::mapped};
  const Memory memory{guest.memory()};
  Chain chain;
  for (std::uint64_t i = 0; i < 3; ++i) REQUIRE(chain.add(memory, readable(data + 4 * i, 4)) == Problem::none);
  REQUIRE(chain.add(memory, writable(data + 12, 4)) == Problem::none);
  REQUIRE(chain.add(memory, writable(data + 16, 4)) == Problem::none);
  REQUIRE(chain.add(memory, writable(data + 24, 4)) == Problem::none);
  REQUIRE(chain.readable().size() == 1);
  CHECK(chain.readable()[0] == Segment{{data}, 12});
  REQUIRE(chain.writable().size() == 2);
  CHECK(chain.writable()[0] == Segment{{data + 12}, 8});
  CHECK(chain.writable()[1] == Segment{{data + 24}, 4});
}

TEST_CASE("a chain is full at 1024 segments, and goes on where the last one ends", "[virtqueue][chain][SEC-8]") {
  RingGuest guest{Reach::mapped};
  const Memory memory{guest.memory()};
  Chain chain;
  for (std::uint64_t i = 0; i < Chain::most_segments; ++i)
    REQUIRE(chain.add(memory, writable(data + 2 * i, 1)) == Problem::none);
  CHECK(chain.add(memory, writable(data + 2 * std::uint64_t{Chain::most_segments} - 1, 1)) == Problem::none);
  CHECK(chain.add(memory, writable(data + 4096, 1)) == Problem::too_long);
  chain.begin();
  CHECK(chain.writable().empty());
  CHECK(chain.add(memory, readable(data, 1)) == Problem::none);
}

TEST_CASE("the parts of a chain may be larger than 4 GiB together", "[virtqueue][chain]") {
  RingGuest guest{Reach::callbacks};  // behind callbacks nobody is asked until it is read
  const Memory memory{guest.memory()};
  Chain chain;
  REQUIRE(chain.add(memory, readable(0, ~std::uint32_t{0})) == Problem::none);
  REQUIRE(chain.add(memory, readable(~std::uint32_t{0}, ~std::uint32_t{0})) == Problem::none);
  REQUIRE(chain.add(memory, readable(0x400000000, ~std::uint32_t{0})) == Problem::none);
  CHECK(chain.readable_bytes() == 3 * std::uint64_t{~std::uint32_t{0}});
  CHECK(chain.readable().size() == 2);
  REQUIRE(chain.add(memory, writable(~std::uint64_t{0}, 1)) == Problem::none);
  REQUIRE(chain.add(memory, writable(0, 1)) == Problem::none);  // behind the end is not the start
  CHECK(chain.writable().size() == 2);
}

TEST_CASE("writing stays inside the segments, whatever is written where", "[virtqueue][chain]") {
  test::Random random{1};
  for (const Reach reach : {Reach::mapped, Reach::callbacks})
    for (int round = 0; round < 200; ++round) {
      RingGuest guest{reach};
      const Memory memory{guest.memory()};
      Chain chain;
      std::vector<std::uint64_t> where;  // of each byte of the writable part
      std::uint64_t next = data;
      for (std::uint64_t i = 0; i <= random.below(6); ++i) {
        next += random.below(9);
        const auto length = static_cast<std::uint32_t>(random.below(20));
        REQUIRE(chain.add(memory, writable(next, length)) == Problem::none);
        for (std::uint32_t b = 0; b < length; ++b) where.push_back(next++);
      }
      const std::size_t offset = random.below(where.size() + 1);
      std::vector<std::byte> bytes(random.below(where.size() - offset + 1));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(1 + random.below(255));
      REQUIRE(chain.write(memory, offset, bytes));
      std::vector<std::byte> expected(next + 64 - data);
      for (std::size_t i = 0; i < bytes.size(); ++i) expected[where[offset + i] - data] = bytes[i];
      const auto found = guest.span(data, expected.size());
      REQUIRE(std::equal(expected.begin(), expected.end(), found.begin()));
    }
}

}  // namespace
}  // namespace viommu::virtqueue
