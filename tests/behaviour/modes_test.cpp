// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translation off, on, under another root table, after a reset.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;

}  // namespace

TEST_CASE("while translation is off addresses pass unchanged, no table is read and nothing is recorded",
          "[behaviour][vtd][DMA Remapping][B62][RVM-1][PR-5]") {
  Machine machine;
  machine.write(offset::root_table, 0xFFFF'FFFF'F000, 8);  // garbage, outside memory
  machine.command(command::root_pointer);
  for (const std::uint64_t iova : {std::uint64_t{0}, std::uint64_t{0x1234'5678}, ~std::uint64_t{0} - 0xFFF}) {
    for (const std::uint8_t access : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{3}}) {
      const viommu_translation answer = machine.ask(device, iova, access);
      CHECK(answer.kind == VIOMMU_IDENTITY);
      CHECK(answer.gpa == iova);
    }
  }
  CHECK(machine.loads == 0);
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("while translation is off the interrupt range passes unchanged, one page at a time",
          "[behaviour][vtd][Interrupt Address Range][RVM-1]") {
  Machine machine;
  for (const std::uint8_t access : {std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{3}}) {
    const viommu_translation answer = machine.ask(device, 0xFEE0'0040, access);
    CHECK(answer.kind == VIOMMU_IDENTITY);
    CHECK(answer.gpa == 0xFEE0'0040);
    CHECK(answer.mask == 0xFFF);
  }
  CHECK((machine.ask(device, 0xFED0'0000).mask | 0xFED0'0000) < 0xFEE0'0000);  // a block beside it keeps clear of it
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("turning translation off and on takes every cached translation along",
          "[behaviour][vtd][Global Command Register][B61]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  machine.driver.enable_translation(false);
  CHECK(machine.lands(device, 0x5000) == 0x5000);
  machine.tables.map(tree, 0x5000, 0x500000);
  machine.driver.enable_translation(true);
  CHECK(machine.lands(device, 0x5000) == 0x500000);
}

TEST_CASE("a new root table is in force as soon as RTPS says so, and not before SRTP",
          "[behaviour][vtd][Root Table Address Register][B61]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  GuestTables other{words_of(machine.memory), 0x200000};
  const Tree elsewhere = other.create_tree(4);
  other.map(elsewhere, 0x5000, 0x500000);
  other.attach(device, elsewhere, {.domain_id = 2});
  machine.write(offset::root_table, other.root_table(), 8);
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  machine.command(command::root_pointer);
  CHECK(machine.shows(command::root_pointer));
  CHECK(machine.lands(device, 0x5000) == 0x500000);
}

TEST_CASE("a reset forgets tables, caches and the queue, and leaves memory alone",
          "[behaviour][vtd][Reset][B61][B67][QVT-18]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  machine.command(command::interrupt_remapping);
  CHECK(machine.shows(command::interrupt_remapping));
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(machine.read(offset::global_status) == 0);
  CHECK(machine.lands(device, 0x5000) == 0x5000);
  // The same tables again, with another page: nothing of the first life is left.
  machine.tables.map(tree, 0x5000, 0x500000);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == 0x500000);
}

TEST_CASE("a reset while a wait is open forgets the wait", "[behaviour][vtd][Reset][B61]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  {
    const Guard guard = machine.reader.guard();
    CHECK(machine.lands(device, 0x5000).has_value());
    machine.driver.add_domain(1);
    CHECK_FALSE(machine.driver.completed(machine.driver.submit()));
    REQUIRE(machine.engine.reset() == VIOMMU_OK);
  }
  machine.effects.clear();
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.effects.empty());
  CHECK(machine.read(offset::queue_head, 8) == 0);
}

TEST_CASE("translation is never silently refused where a width is offered, nor accepted where none is",
          "[behaviour][vtd][Global Command Register][S0.10][S0.11]") {
  viommu_vtd_options options = usual_options();
  SECTION("with caching mode GSTS shows TES when the write returns") {
    options.capability |= cap_caching_mode;
    Machine machine{options};
    machine.write(offset::global_command, command::translation);
    CHECK(machine.shows(command::translation));
    CHECK(machine.blocked(device, 0x1000) != 0);
  }
  SECTION("without any width TES stays 0 and DMA goes on unchanged") {
    options.capability = 0x80D2'008C'222F'0006;
    Machine machine{options};
    machine.write(offset::global_command, command::translation);
    CHECK_FALSE(machine.shows(command::translation));
    CHECK(machine.lands(device, 0x1234) == 0x1234);
  }
}

TEST_CASE("protected memory blocks DMA whatever the tables say, without a record",
          "[behaviour][vtd][Protected Memory Regions]") {
  viommu_vtd_options options = usual_options();
  options.capability |= 0x60;  // PLMR, PHMR
  Machine machine{options};
  // Regions are aligned to 2 MiB: the low bits of a limit count as ones.
  machine.write(offset::protected_low_base, 0x0060'0000);
  machine.write(offset::protected_low_limit, 0x0060'0000);
  machine.write(offset::protected_high_base, 0x2'0000'0000, 8);
  machine.write(offset::protected_high_limit, 0x2'FFE0'0000, 8);
  CHECK(machine.lands(device, 0x60'0000).has_value());
  machine.write(offset::protected_memory_enable, 0x8000'0000);
  CHECK(machine.read(offset::protected_memory_enable) == 0x8000'0001);
  const auto check_low_region = [&](std::uint64_t shift) {
    CHECK(machine.lands(device, shift + 0x5F'FFFF).has_value());
    CHECK_FALSE(machine.lands(device, shift + 0x60'0000).has_value());
    CHECK(machine.ask(device, shift + 0x7F'FFFF).status == VIOMMU_FAULT_NOT_REPORTED);
    CHECK(machine.lands(device, shift + 0x80'0000).has_value());
    CHECK(machine.read(offset::fault_status) == 0);
  };
  SECTION("translation off: by the address itself") {
    check_low_region(0);
    CHECK_FALSE(machine.lands(device, 0x2'1234'5000).has_value());
    CHECK_FALSE(machine.lands(device, 0x2'FFFF'FFFF).has_value());
    CHECK(machine.lands(device, 0x3'0000'0000).has_value());
  }
  SECTION("translation on: by the address that comes out") {
    const Tree tree = machine.attach(device, 1);
    for (std::uint64_t gpa = 0x40'0000; gpa < 0xA0'0000; gpa += 0x20'0000)
      machine.tables.map(tree, 0x4000'0000 + gpa, gpa, entry_read_write, 2);
    machine.boot();
    for (int time = 0; time < 2; ++time) check_low_region(0x4000'0000);
  }
  SECTION("switched off again it blocks nothing") {
    machine.write(offset::protected_memory_enable, 0);
    CHECK(machine.read(offset::protected_memory_enable) == 0);
    CHECK(machine.lands(device, 0x60'0000).has_value());
  }
  SECTION("a limit below its base protects nothing") {
    machine.write(offset::protected_low_limit, 0x0040'0000);
    CHECK(machine.lands(device, 0x60'0000).has_value());
  }
}

TEST_CASE("the queue runs and registers invalidate while translation is off",
          "[behaviour][vtd][Queued Invalidation Interface]") {
  Machine machine;
  SECTION("through the queue") {
    Ring ring{machine};
    ring.enable();
    ring.put(descriptor::context_global);
    ring.put(descriptor::iotlb_global);
    ring.put_wait(descriptor::wait_status, 7);
    ring.go();
    CHECK(machine.word_at(Machine::status_word) == 7);
    CHECK(ring.head() == ring.tail());
  }
  SECTION("through the registers") {
    machine.driver.context_by_register(Granularity::global);
    machine.driver.iotlb_by_register(Granularity::global);
    CHECK((machine.read(offset::context_command, 8) >> 59 & 3) == 1);  // CAIG
    CHECK((machine.read(0xF8, 8) >> 57 & 3) == 1);                     // IAIG
  }
}

}  // namespace viommu::test
