// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Stores past the caches.
#include "engine/base/streaming.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

namespace viommu {

TEST_CASE("words stored past the caches are those, and no others are written", "[base][streaming]") {
  constexpr std::size_t room = 40;
  constexpr std::uint64_t mark = 0x5AFE;
  std::array<std::uint64_t, room> from;
  for (std::size_t i = 0; i < room; ++i) from.at(i) = 1000 + i;
  for (std::size_t at = 0; at < 9; ++at) {
    for (std::size_t source = 0; source < 3; ++source) {
      for (std::size_t count = 0; count <= 25; ++count) {
        alignas(64) std::array<std::uint64_t, room> to;
        to.fill(mark);
        stream_words(&to.at(at), &from.at(source), count);
        finish_streaming();
        CAPTURE(at, source, count);
        bool right = true;
        for (std::size_t i = 0; i < room; ++i) {
          const bool written = i >= at && i < at + count;
          right = right && to.at(i) == (written ? from.at(source + i - at) : mark);
        }
        CHECK(right);
      }
    }
  }
}

}  // namespace viommu
