// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where each field stands; the offsets of whole structures are checked where they are written.
#include "engine/virtio_iommu/layouts.hpp"

#include <catch2/catch.hpp>

#include "engine/virtio_iommu/features.hpp"
#include "tests/support/layout_round_trip.hpp"

namespace viommu::virtio_iommu {

TEST_CASE("each field of requests, properties, faults and features goes in and comes out alone",
          "[virtio-iommu][layouts][B99]") {
  test::check_round_trips(attach_flags::rows);
  test::check_round_trips(map_flags::rows);
  test::check_round_trips(property_head::rows);
  test::check_round_trips(fault_flags::rows);
  test::check_round_trips(features::rows);
}

TEST_CASE("flags and features are the bits that the specification prints", "[virtio-iommu][layouts]") {
  CHECK(mask_of(attach_flags::bypass) == 1);
  CHECK(mask_of(map_flags::read) == 1);
  CHECK(mask_of(map_flags::write) == 2);
  CHECK(mask_of(map_flags::mmio) == 4);
  CHECK(mask_of(fault_flags::read) == 1);
  CHECK(mask_of(fault_flags::write) == 2);
  CHECK(mask_of(fault_flags::address) == 0x100);
  CHECK(mask_of(features::input_range, features::domain_range, features::map_unmap) == 7);
  CHECK(mask_of(features::bypass) == 1 << 3);
  CHECK(mask_of(features::probe) == 1 << 4);
  CHECK(mask_of(features::mmio) == 1 << 5);
  CHECK(mask_of(features::bypass_config) == 1 << 6);
  CHECK(mask_of(features::indirect) == 1ull << 28);
  CHECK(mask_of(features::event_index) == 1ull << 29);
  CHECK(mask_of(features::version_1) == 1ull << 32);
  CHECK(mask_of(features::platform) == 1ull << 33);
  CHECK(mask_of(features::packed) == 1ull << 34);
}

}  // namespace viommu::virtio_iommu
