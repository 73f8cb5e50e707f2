// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Copies past the caches, by every kernel that this machine can run.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/base/streaming.hpp"
#include "walkers/batch.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::walkers {

TEST_CASE("every kernel copies words past the caches, and writes no others", "[walkers][simd][streaming]") {
  constexpr std::size_t room = 48;
  constexpr std::uint64_t mark = 0x5AFE;
  std::array<std::uint64_t, room> from;
  for (std::size_t i = 0; i < room; ++i) from.at(i) = 1000 + i;
  for (const Kernels* const kernels : runnable_kernels()) {
    for (std::size_t at = 0; at < 10; ++at) {
      for (std::size_t source = 0; source < 9; ++source) {
        for (std::size_t count = 0; count <= 35; ++count) {
          alignas(64) std::array<std::uint64_t, room> to;
          to.fill(mark);
          kernels->stream_words(&to.at(at), &from.at(source), count);
          finish_streaming();
          CAPTURE(std::string{kernels->name}, at, source, count);
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
}

}  // namespace viommu::walkers
