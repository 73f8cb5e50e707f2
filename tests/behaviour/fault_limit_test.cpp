// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One device's faults do not keep another's from being recorded.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/capi/machine.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint16_t other = 0x0118;
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t start = 5 * second;

struct Clock {
  std::uint64_t now = start;
};

/// One fault record, `device` and `other` without any mapping, ten records a second.
struct World {
  explicit World(std::uint32_t limit = 10) : machine{options(limit), host(clock)} {
    machine.tables.attach(other, machine.tree);
    machine.invalidate_all();
  }
  static viommu_vtd_options options(std::uint32_t limit) {
    viommu_vtd_options options = default_options();
    options.capability = 0x80D2'0080'226F'0606;  // NFR 0
    options.extended_capability = 0xF43;
    options.fault_limit = limit;
    return options;
  }
  static viommu_host host(Clock& clock) {
    viommu_host host = empty_host();
    host.opaque = &clock;
    host.now_ns = [](void* opaque) { return static_cast<Clock*>(opaque)->now; };
    return host;
  }
  std::uint8_t fault(std::uint16_t source = device) { return machine.ask(base_iova, VIOMMU_READ, source).status; }
  /// The same, and the guest clears the record.
  std::uint8_t fault_and_clear(std::uint16_t source = device) {
    const std::uint8_t status = fault(source);
    static_cast<void>(machine.driver.take_fault());
    return status;
  }
  std::uint64_t limited(std::uint16_t source = device) const {
    std::uint64_t count = ~std::uint64_t{0};
    CHECK(viommu_faults_limited(machine.engine.get(), source, &count) == VIOMMU_OK);
    return count;
  }

  Clock clock;
  Machine machine;
};

}  // namespace

TEST_CASE("a source has so many records a second, and the others have theirs", "[faults][S5.10]") {
  World world;
  for (int i = 0; i < 10; ++i) CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  for (int i = 0; i < 7; ++i) CHECK(world.fault() == VIOMMU_FAULT_LIMITED);
  CHECK((world.machine.engine.mmio_read(0x34, 4) & 3) == 0);  // neither PFO nor PPF
  CHECK(world.fault(other) == VIOMMU_FAULT_RECORDED);
  CHECK(world.machine.driver.take_fault()->high % 0x10000 == other);
  CHECK(world.limited() == 7);
  CHECK(world.limited(other) == 0);
  CHECK(world.machine.engine.statistics().faults_limited == 7);
  world.clock.now += second - 1;
  CHECK(world.fault() == VIOMMU_FAULT_LIMITED);
  world.clock.now += 1;
  CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  CHECK(world.limited() == 8);
}

TEST_CASE("only records count against the limit of a source, in a second that begins with one", "[faults][S5.10]") {
  World world{2};
  CHECK(world.fault() == VIOMMU_FAULT_RECORDED);
  for (int i = 0; i < 5; ++i) CHECK(world.fault() == VIOMMU_FAULT_OVERFLOW_SET + (i == 0 ? 0 : 1));
  static_cast<void>(world.machine.driver.take_fault());
  static_cast<void>(world.machine.engine.mmio_write(0x34, 4, 1));
  world.clock.now += second / 2;
  CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  CHECK(world.fault() == VIOMMU_FAULT_LIMITED);
  world.clock.now += second / 2;
  CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  CHECK(world.fault() == VIOMMU_FAULT_LIMITED);
}

TEST_CASE("without a limit every fault is recorded that has a register", "[faults][S5.10]") {
  World world{0};
  for (int i = 0; i < 40; ++i) CHECK(world.fault_and_clear() == VIOMMU_FAULT_RECORDED);
  CHECK(world.limited() == 0);
}

}  // namespace viommu::capi
