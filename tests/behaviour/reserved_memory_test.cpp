// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory that firmware wants mapped one to one: told in the DMAR table, and there before and after translation.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/behaviour/machine.hpp"
#include "tests/support/dmar_reader.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0010;     // 00:02.0
constexpr std::uint16_t neighbour = 0x0018;  // 00:03.0, without reserved memory
constexpr std::uint64_t first = 0x7F000000;
constexpr std::uint64_t last = 0x7F00FFFF;

/// The table that the VMM of `machine` gives its guest.
DmarTable table_of(const Machine& machine) {
  viommu_dmar_scope scope{};
  scope.kind = VIOMMU_SCOPE_ENDPOINT;
  scope.hops = 1;
  scope.path[0] = {device >> 3 & 31, device & 7};
  const viommu_dmar_unit unit{machine.engine.get(), 0xFED90000, 0, 0, VIOMMU_DMAR_INCLUDE_ALL, 0, nullptr};
  const viommu_dmar_rmrr rmrr{first, last, 0, 0, 1, &scope};
  viommu_dmar dmar{};
  dmar.size = sizeof dmar;
  dmar.unit_count = 1;
  dmar.units = &unit;
  dmar.rmrr_count = 1;
  dmar.rmrrs = &rmrr;
  std::vector<std::byte> bytes(1024);
  std::size_t length = 0;
  REQUIRE(viommu_dmar_write(&dmar, bytes.data(), bytes.size(), &length, nullptr) == VIOMMU_OK);
  const DmarRead read = read_dmar(std::span{bytes}.first(length));
  REQUIRE(read.problem.empty());
  return read.table;
}

/// What a guest does for each RMRR: the pages of it, one to one, for each device that it names.
void map_reserved_memory(Machine& machine, const DmarTable& table, const Tree& tree, std::uint16_t source) {
  for (const DmarStructure& rmrr : table.of_type(1))
    for (const DmarScope& scope : rmrr.scopes) {
      if ((scope.start_bus << 8 | scope.path[0].first << 3 | scope.path[0].second) != source) continue;
      for (std::uint64_t page = rmrr.base; page < rmrr.limit; page += 0x1000) machine.tables.map(tree, page, page);
    }
}

}  // namespace

TEST_CASE("reserved memory that the table tells is at its own addresses before translation and after",
          "[behaviour][vtd][topology][S4.17]") {
  Machine machine;
  machine.memory.add_ram(first, last + 1 - first);
  const DmarTable table = table_of(machine);
  REQUIRE(table.of_type(1).size() == 1);
  const Tree tree = machine.attach(device, 1);
  const Tree other = machine.attach(neighbour, 2);
  map_reserved_memory(machine, table, tree, device);
  map_reserved_memory(machine, table, other, neighbour);

  const std::array<std::uint64_t, 4> inside{first, first + 0x1234, last - 0x1003, last - 3};
  const auto check_dma = [&](std::uint32_t salt) {
    for (const std::uint64_t at : inside) {
      CAPTURE(at);
      CHECK(machine.lands(device, at) == at);
      CHECK(machine.lands(device, at, VIOMMU_WRITE) == at);
      CHECK(machine.dma_write(device, at, static_cast<std::uint32_t>(at) + salt));
      CHECK(machine.word_at(at) == static_cast<std::uint32_t>(at) + salt);
      CHECK(machine.dma_read(device, at) == static_cast<std::uint32_t>(at) + salt);
    }
  };
  check_dma(1);
  machine.boot();
  check_dma(2);
  CHECK(machine.blocked(device, first - 1) != 0);
  CHECK(machine.blocked(device, last + 1) != 0);
  CHECK(machine.blocked(neighbour, first) != 0);
  machine.driver.enable_translation(false);
  check_dma(3);
  machine.driver.enable_translation(true);
  check_dma(4);
}

TEST_CASE("reserved memory that the guest does not map is blocked like any other",
          "[behaviour][vtd][topology][S4.17]") {
  Machine machine;
  machine.memory.add_ram(first, last + 1 - first);
  const Tree tree = machine.attach(device, 1);
  map_reserved_memory(machine, table_of(machine), tree, device);
  machine.boot();
  CHECK(machine.lands(device, first) == first);
  machine.tables.unmap(tree, first);
  machine.driver.add_global();
  machine.driver.submit_and_wait();
  CHECK(machine.blocked(device, first) == 6);
  CHECK(machine.lands(device, first + 0x1000) == first + 0x1000);
}

TEST_CASE("reserved memory that is in no region is an error when the machine is to be ready",
          "[behaviour][admission][refusal][S4.17]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  const auto add_region = [&](std::uint64_t gpa, std::uint64_t length, std::uint64_t flags) {
    const viommu_region region{gpa, length, nullptr, flags};
    REQUIRE(viommu_region_add(engine, &region) == VIOMMU_OK);
  };
  const std::array<viommu_range, 2> reserved{{{0x1000, 0x1FFF}, {first, last}}};
  viommu_device added{};
  added.size = sizeof added;
  added.source = device;
  added.reserved_count = 2;
  added.reserved_memory = reserved.data();
  add_region(0, Machine::ram_bytes, VIOMMU_REGION_UNMAPPED);
  std::uint32_t count = 0;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  const auto refused_at = [&](std::uint64_t hole) {
    CHECK(viommu_ready(engine, &refusal, 1, &count) == VIOMMU_E_REFUSED);
    CHECK(count == 1);
    CHECK(refusal.code == VIOMMU_REFUSED_INVALID);
    CHECK(refusal.source == device);
    CHECK(refusal.expected == first);
    CHECK(refusal.found == hole);
    CHECK(std::string{refusal.field} == "reserved_memory");
  };
  SECTION("of a device that passes the unit") {
    REQUIRE(viommu_device_add(engine, &added, nullptr) == VIOMMU_OK);
    SECTION("all of it") { refused_at(first); }
    SECTION("all but its beginning") {
      add_region(first - 0x1000, 0x2000, VIOMMU_REGION_UNMAPPED);
      refused_at(first + 0x1000);
      add_region(first + 0x1000, last - first + 1 - 0x1000,
                 VIOMMU_REGION_READ_ONLY | VIOMMU_REGION_UNMAPPED);  // what was missing
      CHECK(viommu_ready(engine, nullptr, 0, nullptr) == VIOMMU_OK);
    }
    SECTION("but not once the device is gone") {
      REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
      CHECK(viommu_ready(engine, nullptr, 0, &count) == VIOMMU_OK);
      CHECK(count == 0);
    }
  }
  SECTION("but of a device that bypasses nobody is told") {
    added.flags = VIOMMU_DEVICE_BYPASSED;
    REQUIRE(viommu_device_add(engine, &added, nullptr) == VIOMMU_OK);
    CHECK(viommu_ready(engine, nullptr, 0, nullptr) == VIOMMU_OK);
  }
}

}  // namespace viommu::test
