// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/reader.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <new>

namespace viommu::core {

TEST_CASE("a copy of counters has their values, stays as it is, and writes nothing beside itself", "[core][readers]") {
  Counters counters;
  for (std::size_t i = 0; i < counts; ++i) CHECK(counters.add(static_cast<Count>(i), 10 + i) == 10 + i);
  constexpr std::byte untouched{0xA5};
  alignas(Counters) std::array<std::byte, sizeof(Counters) + 64> memory;
  memory.fill(untouched);
  const Counters* const copy = new (memory.data()) Counters{counters};
  counters.add(Count::walks);
  for (std::size_t i = 0; i < counts; ++i) CHECK(copy->get(static_cast<Count>(i)) == 10 + i);
  CHECK(std::ranges::all_of(memory.begin() + sizeof(Counters), memory.end(),
                            [](std::byte byte) { return byte == untouched; }));
}

}  // namespace viommu::core
