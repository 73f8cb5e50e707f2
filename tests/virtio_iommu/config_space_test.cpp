// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/config_space.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>

namespace viommu::virtio_iommu {
namespace {

constexpr std::uint64_t bypass_offset = 0x24;
constexpr Features with_bypass{1ull << 32 | 1 << 6};
constexpr Features without{1ull << 32};

ConfigValues example() {
  ConfigValues values;
  values.page_size_mask = 0x8877665544332211;
  values.input = {{0x0807060504030201}, {0x1817161514131211}};
  values.domains = {{0x24232221}, {0x34333231}};
  values.probe_size = 0x44434241;
  values.bypass = true;
  return values;
}
// As the specification prints them, little endian.
constexpr std::array<std::uint8_t, 40> printed{
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,  // page_size_mask
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,  // input_range
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,  //
    0x21, 0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34,  // domain_range
    0x41, 0x42, 0x43, 0x44, 1,    0,    0,    0,     // probe_size, bypass
};

TEST_CASE("configuration space is 40 bytes, read in any size at any offset, and 0 behind its end",
          "[virtio-iommu][config][B99]") {
  const ConfigSpace config{example()};
  for (const unsigned size : {1u, 2u, 4u, 8u})
    for (std::uint64_t offset = 0; offset < 64; ++offset) {
      std::uint64_t expected = 0;
      for (unsigned i = size; i-- > 0;)
        expected = expected << 8 | (offset + i < printed.size() ? printed[offset + i] : 0u);
      CHECK(config.read(offset, size) == expected);
    }
  for (const unsigned size : {0u, 3u, 5u, 9u, 16u, ~0u}) CHECK(config.read(0, size) == 0);
  for (const std::uint64_t offset : {~std::uint64_t{0}, ~std::uint64_t{0} - 7, std::uint64_t{1} << 32})
    CHECK(config.read(offset, 8) == 0);
}

TEST_CASE("without a word about them ranges are all there is", "[virtio-iommu][config][VIO-1]") {
  ConfigValues values;
  values.page_size_mask = ~std::uint64_t{0xFFF};
  values.bypass = true;
  const ConfigSpace config{values};
  CHECK(config.read(0x08, 8) == 0);
  CHECK(config.read(0x10, 8) == ~std::uint64_t{0});
  CHECK(config.read(0x18, 4) == 0);
  CHECK(config.read(0x1C, 4) == 0xFFFFFFFF);
  CHECK(config.read(bypass_offset, 1) == 1);
  CHECK(config.granule() == 0x1000);
  CHECK(values.domains.contains({0}));
  CHECK(values.domains.contains({0xFFFFFFFF}));
}

TEST_CASE("a granule is the lowest bit of the mask, from one byte to all", "[virtio-iommu][config]") {
  for (unsigned bit = 0; bit < 64; ++bit)
    for (const std::uint64_t above : {std::uint64_t{0}, ~std::uint64_t{0}}) {
      ConfigSpace config{example()};
      config.set_page_size_mask(above << bit | std::uint64_t{1} << bit);
      CHECK(config.granule() == std::uint64_t{1} << bit);
      CHECK(config.read(0, 8) == config.values().page_size_mask);
    }
}

TEST_CASE("a driver writes bypass and nothing else", "[virtio-iommu][config][S4.9][A30]") {
  for (const unsigned size : {1u, 2u, 4u, 8u})
    for (std::uint64_t offset = 0; offset < 64; ++offset) {
      ConfigSpace config{example()};
      const bool reaches = offset <= bypass_offset && bypass_offset < offset + size;
      const ConfigWrite outcome = config.write(offset, size, 0, with_bypass);
      CHECK(outcome == (reaches ? ConfigWrite::bypass : ConfigWrite::nothing));
      CHECK(config.bypass() == !reaches);
      CHECK(config.read(bypass_offset, 4) == (reaches ? 0 : 1));
      for (std::uint64_t i = 0; i < bypass_offset; ++i) CHECK(config.read(i, 1) == printed[i]);
    }
  ConfigSpace config{example()};
  for (const unsigned size : {0u, 3u, 16u})
    CHECK(config.write(bypass_offset, size, 0, with_bypass) == ConfigWrite::nothing);
  CHECK(config.write(~std::uint64_t{0}, 8, 0, with_bypass) == ConfigWrite::nothing);
  CHECK(config.bypass());
}

TEST_CASE("bypass is 0 or 1, and what else is written leaves it", "[virtio-iommu][config][S4.9][A30]") {
  for (const bool old : {false, true})
    for (unsigned value = 2; value < 256; ++value) {
      ConfigSpace config{example()};
      config.load_bypass(old);
      CHECK(config.write(bypass_offset, 1, value, with_bypass) == ConfigWrite::driver_error);
      CHECK(config.bypass() == old);
    }
  ConfigSpace config{example()};
  CHECK(config.write(bypass_offset, 1, 1, with_bypass) == ConfigWrite::nothing);  // as it was
  CHECK(config.write(bypass_offset, 1, 0, with_bypass) == ConfigWrite::bypass);
  CHECK(config.write(bypass_offset, 1, 2, with_bypass) == ConfigWrite::driver_error);
  CHECK(config.read(bypass_offset, 1) == 0);
  CHECK(config.write(bypass_offset, 1, 0x101, with_bypass) == ConfigWrite::bypass);  // of one byte no more is written
  CHECK(config.write(bypass_offset - 1, 2, 0x00AA, with_bypass) == ConfigWrite::bypass);
  CHECK_FALSE(config.bypass());
}

TEST_CASE("bypass is not written without the feature", "[virtio-iommu][config][S4.9][A30]") {
  ConfigSpace config{example()};
  CHECK(config.write(bypass_offset, 1, 0, without) == ConfigWrite::driver_error);
  CHECK(config.write(bypass_offset, 1, 0, {}) == ConfigWrite::driver_error);
  CHECK(config.bypass());
}

TEST_CASE("a system reset brings back the bypass of the start", "[virtio-iommu][config][S3.16][A30]") {
  for (const bool start : {false, true}) {
    ConfigValues values = example();
    values.bypass = start;
    ConfigSpace config{values};
    CHECK(config.write(bypass_offset, 1, start ? 0 : 1, with_bypass) == ConfigWrite::bypass);
    CHECK(config.bypass() == !start);
    config.system_reset();
    CHECK(config.bypass() == start);
  }
}

}  // namespace
}  // namespace viommu::virtio_iommu
