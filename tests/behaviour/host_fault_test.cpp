// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Faults that the host's IOMMU found, told to the guest as the unit's own.
#include <catch2/catch.hpp>

#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x100;

void add_device(Machine& machine) {
  viommu_device added{};
  added.size = sizeof added;
  added.source = device;
  REQUIRE(viommu_device_add(machine.engine.get(), &added, nullptr) == VIOMMU_OK);
}

}  // namespace

TEST_CASE("a fault of the host is recorded as the unit's own, under the same rules", "[behaviour][S5.3]") {
  Machine machine;
  std::uint8_t status = 0xFF;
  const viommu_request blocked = request(device, 0x5000, VIOMMU_READ);
  CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 6, &status) == VIOMMU_E_NOT_FOUND);
  add_device(machine);
  CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 6, &status) == VIOMMU_OK);
  CHECK(status == VIOMMU_FAULT_NOT_REPORTED);  // translation is off
  machine.attach(device, 7);
  machine.boot();
  machine.write(offset::fault_event_address, 0xFEE0'0000);
  machine.write(offset::fault_event_control, 0);
  machine.take_effects();
  CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 6, &status) == VIOMMU_OK);
  CHECK(status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.take_effects().size() == 1);
  CHECK(machine.driver.take_fault() == fault_record(device, 0x5000, VIOMMU_READ, 6));
  CHECK_FALSE(machine.driver.take_fault());
  SECTION("faults are disabled for the device") {
    const Tree tree = machine.tables.create_tree(4);
    machine.tables.attach(device, tree, {.domain_id = 7, .fault_disable = true});
    machine.driver.add_context_device(7, device);
    machine.driver.submit_and_wait();
    CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 6, &status) == VIOMMU_OK);
    CHECK(status == VIOMMU_FAULT_DISABLED);
    CHECK_FALSE(machine.driver.take_fault());
  }
  SECTION("a device that is gone") {
    REQUIRE(viommu_device_remove(machine.engine.get(), device) == VIOMMU_OK);
    CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 6, &status) == VIOMMU_E_NOT_FOUND);
    CHECK_FALSE(machine.driver.take_fault());
  }
  SECTION("nonsense") {
    CHECK(viommu_report_host_fault(nullptr, &blocked, 6, &status) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_report_host_fault(machine.engine.get(), nullptr, 6, &status) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 0, &status) == VIOMMU_E_ARGUMENT);
    for (unsigned reason = 0x20; reason < 0x29; ++reason)  // their records would have an index for an address
      CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, static_cast<std::uint8_t>(reason), &status) ==
            VIOMMU_E_ARGUMENT);
    CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 0x1F, &status) == VIOMMU_OK);
    CHECK(viommu_report_host_fault(machine.engine.get(), &blocked, 0x29, &status) == VIOMMU_OK);
  }
}

}  // namespace viommu::test
