// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Devices behind one alias: a bridge that gives all their requests one id.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t bridge = 0x500;  // the alias of what is behind it

[[nodiscard]] viommu_device behind_bridge(std::uint16_t source, std::uint32_t flags = 0) {
  viommu_device device{};
  device.size = sizeof device;
  device.flags = VIOMMU_DEVICE_HAS_ALIAS | flags;
  device.alias = bridge;
  device.source = source;
  return device;
}
[[nodiscard]] std::uint32_t way_of(const VirtioMachine& machine, std::uint16_t id) {
  std::uint32_t way = 99;
  REQUIRE(viommu_device_way(machine.engine, id, &way) == VIOMMU_OK);
  return way;
}

}  // namespace

TEST_CASE("devices behind one alias are one endpoint while one of them is there", "[virtio][hosts][S2.17]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(behind_bridge(0x508)) == VIOMMU_OK);
  REQUIRE(machine.plug(behind_bridge(0x510)) == VIOMMU_OK);
  CHECK(machine.attach(1, 0x508) == st::no_entry);
  REQUIRE(machine.attach(1, bridge) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  machine.unplug(0x508);
  CHECK(machine.translate(bridge, 0x1000).gpa == 0x8000);
  machine.unplug(0x510);
  CHECK(machine.reason(bridge, 0x1000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
}

TEST_CASE("requests of an alias meet the strictest way of its devices", "[virtio][hosts][S2.17][S4.1][S4.3]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(behind_bridge(0x508, VIOMMU_DEVICE_BYPASSED)) == VIOMMU_OK);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_SYSTEM);
  constexpr std::uint32_t virtio = VIOMMU_DEVICE_VIRTIO | VIOMMU_DEVICE_OFFERS_PLATFORM;
  REQUIRE(machine.plug(behind_bridge(0x510, virtio)) == VIOMMU_OK);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_SYSTEM);  // its driver has not said
  CHECK(machine.translate(bridge, 0x1000).gpa == 0x1000);
  REQUIRE(viommu_driver_features(machine.engine, 0x510, 1, nullptr) == VIOMMU_OK);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_UNIT);
  CHECK(way_of(machine, 0x510) == VIOMMU_WAY_UNIT);  // no request carries it
  REQUIRE(machine.attach(1, bridge) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  CHECK(machine.translate(bridge, 0x1000).gpa == 0x8000);
  REQUIRE(machine.plug(behind_bridge(0x518, VIOMMU_DEVICE_BYPASSED)) == VIOMMU_OK);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_UNIT);
  machine.unplug(0x518);
  CHECK(viommu_driver_features(machine.engine, 0x510, 0, nullptr) == VIOMMU_E_REFUSED);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_BLOCKED);
  CHECK(machine.translate(bridge, 0x1000).kind == VIOMMU_FAULT);
  REQUIRE(viommu_driver_reset(machine.engine, 0x510) == VIOMMU_OK);
  CHECK(way_of(machine, bridge) == VIOMMU_WAY_SYSTEM);
  CHECK(machine.translate(bridge, 0x1000).gpa == 0x1000);
  REQUIRE(viommu_driver_features(machine.engine, 0x510, 1, nullptr) == VIOMMU_OK);
  CHECK(machine.translate(bridge, 0x1000).gpa == 0x8000);
  SECTION("those that go leave the way to those that stay") {
    machine.unplug(0x510);
    CHECK(way_of(machine, bridge) == VIOMMU_WAY_SYSTEM);
    CHECK(machine.translate(bridge, 0x1000).gpa == 0x1000);
    machine.unplug(0x508);
    CHECK(way_of(machine, bridge) == VIOMMU_WAY_UNIT);
    CHECK(machine.reason(bridge, 0x1000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
  }
  SECTION("the one that bypasses goes") {
    machine.unplug(0x508);
    CHECK(way_of(machine, bridge) == VIOMMU_WAY_UNIT);
    CHECK(machine.translate(bridge, 0x1000).gpa == 0x8000);
  }
}

TEST_CASE("a subscription for an alias lives as long as one of its devices", "[virtio][hosts][S2.17]") {
  VirtioMachine machine;
  constexpr std::uint64_t ram = 0x1'0000'0000;
  machine.add_region(ram, 0x10'0000, nullptr);
  machine.negotiate();
  REQUIRE(machine.plug(behind_bridge(0x508)) == VIOMMU_OK);
  REQUIRE(machine.plug(behind_bridge(0x510)) == VIOMMU_OK);
  REQUIRE(machine.attach(1, bridge) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, ram) == st::ok);
  MirrorModel mirror{VIOMMU_CONSUMER_LEAF};
  mirror.join(machine.engine, bridge);
  CHECK(mirror.extents().size() == 1);
  machine.unplug(0x508);
  CHECK(mirror.extents().size() == 1);
  REQUIRE(machine.map(1, 0x5000, 0x5FFF, ram + 0x5000) == st::ok);
  CHECK(mirror.extents().size() == 2);
  machine.unplug(0x510);
  CHECK(mirror.extents().empty());
}

}  // namespace viommu::test
