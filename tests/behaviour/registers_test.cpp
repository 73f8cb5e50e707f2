// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The register window of a living unit: no access of any size at any place does harm.
#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;

viommu_vtd_options rich_options() {
  viommu_vtd_options options = usual_options();
  options.capability |= 0x60;  // PLMR, PHMR
  options.extended_capability |= ecap_device_tlb;
  return options;
}

std::vector<std::uint64_t> image(Machine& machine) {
  std::vector<std::uint64_t> words;
  for (std::uint64_t where = 0; where < viommu_mmio_size(machine.engine.get()); where += 4)
    words.push_back(machine.read(where));
  return words;
}

}  // namespace

TEST_CASE("8-byte reads and writes at every dword leave a running unit as it was",
          "[behaviour][vtd][Register Descriptions][QVT-19][B70][B82][SEC-9]") {
  Machine machine{rich_options()};
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.boot();
  const std::vector<std::uint64_t> before = image(machine);
  const std::uint64_t size = viommu_mmio_size(machine.engine.get());
  for (std::uint64_t where = 0; where + 8 <= size; where += 4) {
    if (where == offset::global_command || where == offset::global_command - 4)
      continue;  // reads 0, which is a command
    const std::uint64_t value = machine.read(where, 8);
    machine.write(where, value, 8);
    INFO("at " << where);
    CHECK(image(machine) == before);
    CHECK(machine.lands(device, 0x5000) == 0x400000);
  }
  // GCMD_REG is write-only: what is read there is 0, and writing that turns everything off, as it should.
  machine.write(offset::global_command, machine.read(offset::global_command, 8), 8);
  CHECK(machine.read(offset::global_status) == command::root_pointer);
  CHECK(machine.lands(device, 0x5000) == 0x5000);
}

TEST_CASE("the last register and the end of the window are in bounds",
          "[behaviour][vtd][Register Descriptions][B82][RVM-13]") {
  Machine machine;
  const std::uint64_t window_end = viommu_mmio_size(machine.engine.get());
  std::uint64_t value = 1;
  CHECK(window_end % 4096 == 0);
  CHECK(machine.read(0x220 + 8 * 16 - 8, 8) == 0);
  CHECK(viommu_mmio_read(machine.engine.get(), window_end - 8, 8, &value) == VIOMMU_OK);
  CHECK(value == 0);
  for (const std::uint32_t bytes : {1u, 2u, 4u, 8u}) {
    value = 1;
    CHECK(viommu_mmio_read(machine.engine.get(), window_end, bytes, &value) == VIOMMU_E_RANGE);
    CHECK(value == 0);
    CHECK(viommu_mmio_write(machine.engine.get(), window_end, bytes, ~std::uint64_t{0}) == VIOMMU_E_RANGE);
    CHECK(viommu_mmio_read(machine.engine.get(), ~std::uint64_t{0} - bytes + 1, bytes, &value) == VIOMMU_E_RANGE);
  }
  CHECK(viommu_mmio_read(machine.engine.get(), window_end - 4, 8, &value) == VIOMMU_E_RANGE);
}

TEST_CASE("reset brings back every byte of the cold image", "[behaviour][vtd][Reset][QVT-18][B67][B68]") {
  Machine machine{rich_options()};
  const std::vector<std::uint64_t> cold = image(machine);
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.boot();
  machine.write(offset::interrupt_table, 0x4'000F, 8);
  machine.command(command::interrupt_table);
  machine.command(command::interrupt_remapping);
  CHECK(machine.read(offset::interrupt_table, 8) == 0x4'000F);
  CHECK(machine.read(offset::root_table, 8) == machine.tables.root_table());
  CHECK(machine.read(offset::queue_address, 8) == Machine::queue_page);
  machine.write(offset::fault_event_control, 0);
  machine.write(offset::fault_event_address, 0xFFFF'FFFF);
  static_cast<void>(machine.ask(device, 0x9000));
  CHECK(image(machine) != cold);
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(image(machine) == cold);
}

TEST_CASE("accesses of one byte and a word reach their part of a register and start nothing they do not hold",
          "[behaviour][vtd][Register Descriptions][RVM-13]") {
  Machine machine;
  machine.boot_without_queue();
  machine.write(offset::root_table + 5, 0x12, 1);
  CHECK(machine.read(offset::root_table + 5, 1) == 0x12);
  CHECK(machine.read(offset::root_table + 4, 2) == 0x1200);
  machine.write(offset::context_command + 4, 0xFF, 1);  // FM; the byte with ICC is not touched
  CHECK(machine.read(offset::context_command, 8) == 0);
  CHECK(machine.engine.statistics().context_invalidations == 0);
  machine.write(offset::context_command + 7, 0xA0, 1);  // ICC, global
  CHECK((machine.read(offset::context_command, 8) >> 59) == 0b00101);
  CHECK(machine.engine.statistics().context_invalidations == 1);
  machine.write(offset::global_command + 3, 0, 1);  // TE off
  CHECK_FALSE(machine.shows(command::translation));
}

TEST_CASE("commands through two halves are the same as through one write",
          "[behaviour][vtd][Register Descriptions][RVM-13]") {
  Machine machine;
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.write(offset::root_table, machine.tables.root_table() & 0xFFFF'FFFF);
  machine.write(offset::root_table + 4, machine.tables.root_table() >> 32);
  machine.command(command::root_pointer);
  machine.command(command::translation);
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  constexpr std::uint64_t iotlb = 0xF8;
  machine.write(iotlb, 0);
  CHECK(machine.engine.statistics().iotlb_global == 0);
  machine.write(iotlb + 4, 0x9000'0000);
  CHECK(machine.engine.statistics().iotlb_global == 1);
  CHECK((machine.read(iotlb, 8) >> 57 & 0b1000011) == 1);  // IVT clear, IAIG global
}

TEST_CASE("register invalidation is refused beside the queue, outside legacy mode and from major version 6",
          "[behaviour][vtd][Register-based Invalidation Interface]") {
  viommu_vtd_options options = usual_options();
  const auto check_refused = [](Machine& machine) {
    machine.write(offset::context_command, std::uint64_t{5} << 61, 8);
    CHECK((machine.read(offset::context_command, 8) >> 59 & 0b10011) == 0);  // ICC clear, CAIG 00
    machine.write(0xF8, std::uint64_t{9} << 60, 8);
    CHECK((machine.read(0xF8, 8) >> 57 & 0b1000011) == 0);  // IVT clear, IAIG 00
    CHECK(machine.engine.statistics().context_invalidations == 0);
    CHECK(machine.engine.statistics().iotlb_global == 0);
  };
  SECTION("the queue is on") {
    Machine machine{options};
    machine.boot();
    check_refused(machine);
  }
  SECTION("the table mode is not legacy") {
    Machine machine{options};
    machine.write(offset::root_table, 0x400, 8);
    machine.command(command::root_pointer);
    check_refused(machine);
  }
  SECTION("version 6") {
    options.version = 0x60;
    options.capability &= ~std::uint64_t{0x1F00};  // such a unit has no widths without scalable mode
    Machine machine{options};
    check_refused(machine);
  }
}

}  // namespace viommu::test
