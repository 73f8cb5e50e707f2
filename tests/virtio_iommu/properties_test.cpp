// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/properties.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace viommu::virtio_iommu {
namespace {

constexpr ReservedRegion msi{{{0xFEE00000}, {0xFEEFFFFF}}, ReservedMemoryKind::msi};
constexpr ReservedRegion hole{{{0x8000000000}, {~std::uint64_t{0}}}, ReservedMemoryKind::reserved};

std::vector<std::uint8_t> encoded(const std::vector<ReservedRegion>& regions, std::size_t size, bool fits = true) {
  std::vector<std::byte> bytes(size, std::byte{0xEE});
  CHECK(encode_properties(regions, bytes) == fits);
  std::vector<std::uint8_t> out(size);
  std::ranges::transform(bytes, out.begin(), [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  return out;
}

TEST_CASE("reserved memory is told back to back, and zeros behind it", "[virtio-iommu][PROBE][A26][S2.16]") {
  std::vector<std::uint8_t> expected{
      1, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0xE0, 0xFE, 0,    0, 0, 0, 0xFF, 0xFF, 0xEF, 0xFE, 0,    0,    0,    0,  //
      1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
  };
  expected.resize(512);
  CHECK(encoded({msi, hole}, 512) == expected);
  std::fill(expected.begin() + 24, expected.end(), std::uint8_t{0});
  CHECK(encoded({msi}, 512) == expected);
  CHECK(encoded({}, 512) == std::vector<std::uint8_t>(512));
}

TEST_CASE("properties that do not fit are none at all", "[virtio-iommu][PROBE][A26]") {
  const std::vector<std::uint8_t> full = encoded(std::vector(21, hole), 512);  // to the last that fits
  CHECK(std::count(full.begin(), full.end(), 20) == 21);
  CHECK(encoded(std::vector(22, hole), 512, false) == std::vector<std::uint8_t>(512));
  CHECK(encoded({msi}, 23, false) == std::vector<std::uint8_t>(23));
  CHECK(encoded({msi}, 24)[23] == 0);
  CHECK(encoded({msi}, 0, false).empty());
  CHECK(encoded({}, 0).empty());
}

}  // namespace
}  // namespace viommu::virtio_iommu
