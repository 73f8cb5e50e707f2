// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/features.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

namespace viommu::virtio_iommu {
namespace {

constexpr std::uint64_t version_1 = std::uint64_t{1} << 32;
constexpr std::uint64_t bypass = 1 << 3;
constexpr std::uint64_t bypass_config = 1 << 6;
constexpr std::uint64_t everything = 0x5'3000'0077;  // all that is known, but BYPASS and ACCESS_PLATFORM

/// The options that the bits of `which` switch on.
FeatureOptions options_of(unsigned which) {
  const auto on = [&](unsigned bit) { return (which >> bit & 1) != 0; };
  return {on(0), on(1), on(2), on(3), on(4), on(5)};
}

TEST_CASE("BYPASS is never offered, and each option offers its bit", "[virtio-iommu][features][S4.11]") {
  CHECK(offered({}).raw == everything);
  for (unsigned which = 0; which < 64; ++which) {
    const std::uint64_t word = offered(options_of(which)).raw;
    const auto bit = [&](unsigned option, unsigned place) { return std::uint64_t{which >> option & 1} << place; };
    CHECK(word == (0x1'0000'0007 | bit(0, 4) | bit(1, 5) | bit(2, 6) | bit(3, 28) | bit(4, 29) | bit(5, 34)));
    CHECK((word & bypass) == 0);
    CHECK(may_offer({word}));
  }
}

TEST_CASE("a word that cannot be offered is known", "[virtio-iommu][features][S4.11]") {
  CHECK(may_offer({everything & ~bypass_config}));
  CHECK(may_offer({(everything & ~bypass_config) | bypass}));
  CHECK_FALSE(may_offer({everything | bypass}));
  CHECK_FALSE(may_offer({everything & ~version_1}));
  CHECK_FALSE(may_offer({everything & ~std::uint64_t{4}}));
  for (unsigned bit = 0; bit < 64; ++bit) {
    const bool known = (everything >> bit & 1) != 0;
    const std::uint64_t word = everything | std::uint64_t{1} << bit;
    CHECK(may_offer({word}) == known);
  }
}

TEST_CASE("FEATURES_OK needs VERSION_1 and nothing that was not offered", "[virtio-iommu][features][S4.11]") {
  const Features all = offered({});
  CHECK(acceptable(all, all));
  CHECK(acceptable(all, {version_1}));
  CHECK_FALSE(acceptable(all, {0}));
  CHECK_FALSE(acceptable(all, {all.raw & ~version_1}));
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t word = version_1 | std::uint64_t{1} << bit;
    CHECK(acceptable(all, {word}) == ((all.raw >> bit & 1) != 0));
    if (bit != 32) CHECK_FALSE(acceptable({all.raw & ~(std::uint64_t{1} << bit)}, {word}));
  }
}

TEST_CASE("the queues go by what was negotiated", "[virtio-iommu][features]") {
  CHECK(ring_features({everything}) == virtqueue::Features{true, true, true});
  CHECK(ring_features({1ull << 28}) == virtqueue::Features{true, false, false});
  CHECK(ring_features({1ull << 29}) == virtqueue::Features{false, true, false});
  CHECK(ring_features({1ull << 34}) == virtqueue::Features{false, false, true});
  CHECK(ring_features({~(7ull << 28 | 1ull << 34)}) == virtqueue::Features{});
}

TEST_CASE("endpoints without a domain bypass by the byte where it is offered, else by the old feature",
          "[virtio-iommu][features][S4.8][S4.9][A30]") {
  struct Row {
    std::uint64_t offered;
    std::uint64_t negotiated;
    bool byte;
    bool bypasses;
  };
  for (const Row& row : {Row{bypass_config, bypass_config, true, true}, Row{bypass_config, bypass_config, false, false},
                         Row{bypass_config, 0, true, true},  // it counts although nobody accepted it
                         Row{bypass_config, 0, false, false}, Row{bypass, bypass, false, true},
                         Row{bypass, 0, false, false}, Row{0, 0, false, false}, Row{0, 0, true, false}})
    CHECK(unattached_bypass({row.offered}, {row.negotiated}, row.byte) == row.bypasses);
}

}  // namespace
}  // namespace viommu::virtio_iommu
