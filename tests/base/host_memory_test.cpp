// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/host_memory.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>

#include "tests/support/counting_allocator.hpp"

namespace viommu {
namespace {

using test::CountingAllocator;

/// Counts how many of its kind live.
struct Counted {
  Counted() noexcept { ++living; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --living; }
  static inline int living = 0;
};

struct alignas(256) Wide {
  std::uint64_t value = 7;
};

}  // namespace

TEST_CASE("the elements of an array are value-initialised whatever the host's memory held", "[base][host-memory]") {
  CountingAllocator host;
  HostArray<std::uint64_t> zeros;
  REQUIRE(zeros.reset(host.functions(), 100));
  CHECK(std::ranges::all_of(zeros, [](std::uint64_t value) { return value == 0; }));
  HostArray<Wide> sevens;
  REQUIRE(sevens.reset(host.functions(), 3));
  CHECK(std::ranges::all_of(sevens, [](const Wide& wide) { return wide.value == 7; }));
  CHECK(sevens.bytes() == 3 * sizeof(Wide));
}

TEST_CASE("an array begins on a cache line, or where its elements ask", "[base][host-memory]") {
  CountingAllocator host;
  HostArray<std::uint8_t> bytes;
  REQUIRE(bytes.reset(host.functions(), 1));
  CHECK(reinterpret_cast<std::uintptr_t>(bytes.begin()) % 64 == 0);
  HostArray<Wide> wide;
  REQUIRE(wide.reset(host.functions(), 2));
  CHECK(reinterpret_cast<std::uintptr_t>(wide.begin()) % 256 == 0);
}

TEST_CASE("an array gives back what it took, with the size and alignment it asked for", "[base][host-memory]") {
  CountingAllocator host;
  {
    HostArray<Counted> array;
    REQUIRE(array.reset(host.functions(), 5));
    CHECK(array.size() == 5);
    CHECK(array.bytes() == host.open_bytes());
    CHECK(Counted::living == 5);
    REQUIRE(array.reset(host.functions(), 2));
    CHECK(Counted::living == 2);
    REQUIRE(array.reset(host.functions(), 0));
    CHECK(host.open_bytes() != 0);  // a host may well answer null when it is asked for no bytes
    CHECK(Counted::living == 0);
    CHECK(array.begin() == array.end());
    REQUIRE(array.reset(host.functions(), 3));
  }
  CHECK(Counted::living == 0);
  CHECK(host.open_blocks() == 0);
  CHECK(host.mistakes() == 0);
}

TEST_CASE("an array is empty when the host had no memory for it", "[base][host-memory]") {
  CountingAllocator host;
  HostArray<Counted> array;
  REQUIRE(array.reset(host.functions(), 4));
  host.fail_at(1);
  CHECK_FALSE(array.reset(host.functions(), 8));
  CHECK(array.size() == 0);
  CHECK(array.begin() == array.end());
  CHECK(Counted::living == 0);
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("moving an array moves its elements and leaves nothing behind twice", "[base][host-memory]") {
  CountingAllocator host;
  CountingAllocator other;
  {
    HostArray<Counted> from;
    REQUIRE(from.reset(host.functions(), 3));
    const Counted* const elements = from.begin();
    HostArray<Counted> to{std::move(from)};
    CHECK(to.begin() == elements);
    CHECK(to.size() == 3);
    CHECK(from.size() == 0);  // NOLINT(bugprone-use-after-move): that it is empty is the promise
    CHECK(from.begin() == from.end());
    HostArray<Counted> third;
    REQUIRE(third.reset(other.functions(), 1));
    third = std::move(to);
    CHECK(third.begin() == elements);
    CHECK(third.size() == 3);
  }
  CHECK(Counted::living == 0);
  CHECK(host.open_blocks() + other.open_blocks() == 0);
  CHECK(host.mistakes() + other.mistakes() == 0);
}

TEST_CASE("without a host allocator the process's own is used", "[base][host-memory]") {
  const HostAllocator none;
  void* const memory = none.get(100, 128);
  REQUIRE(memory != nullptr);
  CHECK(reinterpret_cast<std::uintptr_t>(memory) % 128 == 0);
  none.put(memory, 100, 128);
  none.put(nullptr, 100, 128);
}

TEST_CASE("giving back nothing does not reach the host", "[base][host-memory]") {
  CountingAllocator host;
  host.functions().put(nullptr, 8, 8);
  CHECK(host.mistakes() == 0);
}

}  // namespace viommu
