// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory of the host: a guest that counts up everything it can name costs none, and all of it comes back.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

#include "tests/behaviour/counted_host.hpp"
#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/scalable_machine.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

using Unit = ScalableMachine;
constexpr std::uint32_t pasids = 1U << 20;
constexpr std::uint16_t sources = 64;
constexpr std::uint64_t largest_directory = 7ULL << 9;  // PDTS: 2^14 entries, of 64 PASIDs each

}  // namespace

TEST_CASE("a virtio-iommu gives back what waited for its readers", "[behaviour][virtio][SEC-8]") {
  const CountedHost host;
  VirtioMachine machine{virtio_options(), VirtioMachine::Records::no, CountedHost::functions()};
  HostIommu iommu;
  iommu.ranges = {{0, 0x7F'FFFF'FFFF}};
  const viommu_host_facts facts = iommu.facts();
  viommu_device device{};
  device.size = sizeof device;
  device.source = VirtioMachine::pf;
  device.kind = VIOMMU_DEVICE_HOST;
  device.facts = &facts;
  for (unsigned turn = 0; turn < 5; ++turn) {  // each time what a reader may look at is replaced
    REQUIRE(machine.plug(device) == VIOMMU_OK);
    REQUIRE(viommu_host_facts_unset(machine.engine, VirtioMachine::pf) == VIOMMU_OK);
  }
}

TEST_CASE("2^20 PASIDs of many sources, each with a domain of its own, take no memory",
          "[behaviour][vtd][PASID][SEC-8]") {
  const CountedHost host;
  const CountingAllocator& allocator = host.allocator;
  Unit unit{scalable::capability, scalable::everything, 0x30, CountedHost::functions()};
  const Tree tree = unit.tables.create_tree(4);
  unit.map(tree, Unit::iova, Unit::page_a);
  // One page of entries is all 2^14 tables, and 32 pages are the directory of all sources.
  const std::uint64_t table = unit.tables.allocate_page();
  for (unsigned i = 0; i < 64; ++i) {
    const std::uint64_t at = table + std::uint64_t{64} * i;
    unit.put(at + 16, tree.root);
    unit.put(at + 8, scalable::bit(23) | (i + 1));  // PWSNP: flags may be set
    unit.put(at, scalable::first_stage << 6 | 1);
  }
  const std::uint64_t directory = unit.tables.allocate_page();
  for (unsigned page = 1; page < 32; ++page)
    REQUIRE(unit.tables.allocate_page() == directory + std::uint64_t{0x1000} * page);
  for (std::uint64_t i = 0; i < pasids / 64; ++i) unit.put(directory + 8 * i, table | 1);
  for (std::uint16_t i = 0; i < sources; ++i) {
    unit.attach(i);
    unit.put(unit.context_entry(i), directory | largest_directory | 8 | 1);
  }
  const std::uint64_t calls = allocator.calls();
  const std::size_t bytes = allocator.open_bytes();
  std::uint64_t answered = 0;
  const std::uint32_t step = run_whole() ? 1 : 61;  // odd: each entry of a table, and each source, comes up
  for (std::uint32_t pasid = 1; pasid < pasids; pasid += step) {  // 0 is that of requests without one
    const auto source = static_cast<std::uint16_t>(pasid % sources);
    if (unit.ask_by_pasid(pasid, Unit::iova, VIOMMU_READ, 0, source).kind != VIOMMU_FAULT) ++answered;
  }
  CHECK(answered == (pasids - 2) / step + 1);
  CHECK(unit.walks() > 1000);
  unit.invalidate_all();
  CHECK(allocator.calls() == calls);
  CHECK(allocator.open_bytes() == bytes);
  CHECK(allocator.mistakes() == 0);
}

}  // namespace viommu::test
