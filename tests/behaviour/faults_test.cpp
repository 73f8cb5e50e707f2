// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Every legacy fault reason from its cause to its record, and what is checked before what.
#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0118;
constexpr std::uint64_t iova = 0x5000;
constexpr std::uint64_t outside_memory = Machine::ram_bytes + 0x10'0000;  // no memory, inside the address width

constexpr std::uint64_t bit(unsigned position) { return std::uint64_t{1} << position; }

/// Changes one word of memory for as long as it lives.
class Changed {
 public:
  Changed(Machine& machine, std::uint64_t gpa, std::uint64_t value)
      : machine_{machine}, gpa_{gpa}, before_{*machine.memory.load_u64(gpa)} {
    REQUIRE(machine.memory.store_u64(gpa, value));
    REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
  }
  Changed(const Changed&) = delete;
  Changed& operator=(const Changed&) = delete;
  ~Changed() {
    static_cast<void>(machine_.memory.store_u64(gpa_, before_));
    static_cast<void>(machine_.engine.drop_caches());
  }

 private:
  Machine& machine_;
  std::uint64_t gpa_;
  std::uint64_t before_;
};

/// One device with one mapped page, and the addresses of every entry on the way to it.
struct Guest {
  explicit Guest(const viommu_vtd_options& options = usual_options()) : machine{options} {
    machine.tables.map(tree, iova, 0x400000);
    machine.boot();
    REQUIRE(machine.lands(device, iova) == 0x400000);
  }
  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) const { return *machine.memory.load_u64(gpa); }

  Machine machine;
  Tree tree = machine.attach(device, 1);
  std::uint64_t root_entry = machine.tables.root_table() + std::uint64_t{16} * (device >> 8);
  std::uint64_t context_entry = machine.tables.context_entry(device);
};

}  // namespace

TEST_CASE("each cause has its reason, its record and no translation",
          "[behaviour][vtd][Fault Reason Encodings][B35][B75]") {
  Guest guest;
  Machine& machine = guest.machine;
  const auto check = [&](std::uint8_t reason, std::uint64_t address = iova, std::uint8_t access = VIOMMU_READ) {
    const viommu_translation answer = machine.ask(device, address, access);
    CHECK(answer.kind == VIOMMU_FAULT);
    CHECK(unsigned{answer.reason} == reason);
    CHECK(answer.status == VIOMMU_FAULT_RECORDED);
    const std::uint64_t page = address % bit(48) & ~std::uint64_t{0xFFF};  // no bit above the largest tables
    CHECK(machine.driver.take_fault() == fault_record(device, page, access, reason));
    CHECK_FALSE(machine.driver.take_fault().has_value());
  };
  const std::uint64_t leaf = machine.tables.slot(guest.tree, iova, 1);
  const std::uint64_t directory = machine.tables.slot(guest.tree, iova, 2);
  SECTION("01 the root entry is not present") {
    const Changed changed{machine, guest.root_entry, 0};
    check(0x01);
  }
  SECTION("08 the root table cannot be read") {
    machine.write(offset::root_table, outside_memory, 8);
    machine.command(command::root_pointer);
    check(0x08);
  }
  SECTION("0A a reserved bit of the root entry is set") {
    const Changed changed{machine, guest.root_entry + 8, 1};
    check(0x0A);
  }
  SECTION("02 the context entry is not present") {
    const Changed changed{machine, guest.context_entry, 0};
    check(0x02);
  }
  SECTION("09 the context table cannot be read") {
    const Changed changed{machine, guest.root_entry, outside_memory | 1};
    check(0x09);
  }
  SECTION("0B a reserved bit of the context entry is set") {
    const Changed changed{machine, guest.context_entry + 8, guest.load(guest.context_entry + 8) | bit(63)};
    check(0x0B);
  }
  SECTION("03 the width is not supported") {
    const Changed changed{machine, guest.context_entry + 8, 0x103};
    check(0x03);
  }
  SECTION("03 the translation type is not supported") {
    const Changed changed{machine, guest.context_entry, guest.load(guest.context_entry) | 0xC};
    check(0x03);
  }
  SECTION("03 the top table cannot be read") {
    const Changed changed{machine, guest.context_entry, outside_memory | 1};
    check(0x03);
  }
  SECTION("07 a lower table cannot be read") {
    const Changed changed{machine, directory, outside_memory | 3};
    check(0x07);
  }
  SECTION("0C a reserved bit of a page-table entry is set") {
    const Changed changed{machine, leaf, guest.load(leaf) | bit(62)};
    check(0x0C);
  }
  SECTION("04 the address is beyond the width of the tables") { check(0x04, bit(48)); }
  SECTION("05 the page may not be written") {
    const Changed changed{machine, leaf, guest.load(leaf) & ~bit(1)};
    check(0x05, iova + 0x123, VIOMMU_WRITE);
    check(0x05, iova, VIOMMU_READ | VIOMMU_WRITE);
  }
  SECTION("06 the page may not be read") {
    const Changed changed{machine, leaf, guest.load(leaf) & ~bit(0)};
    check(0x06);
  }
  SECTION("05 and 06 nothing is mapped") {
    check(0x06, 0x9000);
    check(0x05, 0x9000, VIOMMU_WRITE);
    check(0x05, 0x9000, VIOMMU_READ | VIOMMU_WRITE);
  }
  SECTION("0E the page lies in the interrupt address range") {
    const Changed changed{machine, leaf, 0xFEE0'1003};
    check(0x0E, iova, VIOMMU_WRITE);
  }
  SECTION("29 an access to the interrupt address range that is no message") {
    const viommu_translation answer = machine.ask(device, 0xFEE0'0000);
    CHECK(unsigned{answer.reason} == 0x29);
    const auto record = machine.driver.take_fault();
    REQUIRE(record.has_value());
    CHECK(record->high == fault_record(device, 0, VIOMMU_READ, 0x29).high);
  }
  SECTION("30 the table mode does not exist") {
    machine.write(offset::root_table, machine.tables.root_table() | 0x800, 8);
    machine.command(command::root_pointer);
    check(0x30);
  }
  SECTION("31 a request with a PASID") {
    viommu_request asked = request(device, iova, VIOMMU_READ, 0, VIOMMU_HAS_PASID);
    asked.pasid = 5;
    CHECK(unsigned{machine.reader.translate(asked).reason} == 0x31);
    // A unit without ECAP.PASID has no PASID fields in its records.
    CHECK(machine.driver.take_fault() == fault_record(device, iova, VIOMMU_READ, 0x31));
  }
}

TEST_CASE("a record holds no address bit that the largest table does not translate",
          "[behaviour][vtd][Fault Recording Registers]") {
  Guest guest;
  CHECK(unsigned{guest.machine.ask(device, ~std::uint64_t{0}).reason} == 0x4);
  CHECK(guest.machine.driver.take_fault() == fault_record(device, bit(48) - 0x1000, VIOMMU_READ, 0x4));
}

TEST_CASE("the first thing wrong on the way decides", "[behaviour][vtd][Fault Reason Encodings]") {
  // From the end of the way to its beginning: each cause hides those before it in this list.
  Guest guest;
  Machine& machine = guest.machine;
  const auto store = [&](std::uint64_t gpa, std::uint64_t value) {
    REQUIRE(machine.memory.store_u64(gpa, value));
    REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
  };
  const std::uint64_t leaf = machine.tables.slot(guest.tree, iova, 1);
  const std::uint64_t directory = machine.tables.slot(guest.tree, iova, 2);
  store(leaf, 0xFEE0'0003);
  CHECK(machine.blocked(device, iova) == 0x0E);
  store(leaf, 0xFEE0'0002);
  CHECK(machine.blocked(device, iova) == 0x06);
  store(leaf, 0xFEE0'0002 | bit(62));
  CHECK(machine.blocked(device, iova) == 0x0C);
  store(directory, outside_memory | 3);
  CHECK(machine.blocked(device, iova) == 0x07);
  store(directory, outside_memory | 2 | bit(62));
  CHECK(machine.blocked(device, iova) == 0x0C);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x04);
  store(guest.context_entry + 8, 0x105);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x03);
  store(guest.context_entry + 8, 0x105 | bit(7));
  CHECK(machine.blocked(device, bit(48) | iova) == 0x0B);
  store(guest.context_entry, guest.load(guest.context_entry) & ~bit(0));
  CHECK(machine.blocked(device, bit(48) | iova) == 0x02);
  store(guest.root_entry, outside_memory | 1);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x09);
  store(guest.root_entry + 8, 1);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x0A);
  store(guest.root_entry, outside_memory);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x01);
  machine.write(offset::root_table, outside_memory, 8);
  machine.command(command::root_pointer);
  CHECK(machine.blocked(device, bit(48) | iova) == 0x08);
  CHECK(machine.blocked(device, 0xFEE0'0000) == 0x29);
}

TEST_CASE("FPD suppresses the record of what it qualifies, present or not, and never the blocking",
          "[behaviour][vtd][Context Entry][Fault Processing Disable]") {
  Guest guest;
  Machine& machine = guest.machine;
  const std::uint64_t leaf = machine.tables.slot(guest.tree, iova, 1);
  const std::uint64_t low = guest.load(guest.context_entry) | 2;
  const Changed disabled{machine, guest.context_entry, low};
  const auto check = [&](unsigned reason, std::uint8_t status, std::uint64_t address = iova) {
    const viommu_translation answer = machine.ask(device, address);
    CHECK(unsigned{answer.reason} == reason);
    CHECK(answer.status == status);
    CHECK(machine.driver.take_fault().has_value() == (status == VIOMMU_FAULT_RECORDED));
  };
  SECTION("02, with P clear") {
    const Changed changed{machine, guest.context_entry, low & ~bit(0)};
    check(0x02, VIOMMU_FAULT_DISABLED);
  }
  SECTION("0B") {
    const Changed changed{machine, guest.context_entry, low | bit(4)};
    check(0x0B, VIOMMU_FAULT_DISABLED);
  }
  SECTION("03") {
    const Changed changed{machine, guest.context_entry, low | 0xC};
    check(0x03, VIOMMU_FAULT_DISABLED);
  }
  SECTION("03, top table") {
    const Changed changed{machine, guest.context_entry, outside_memory | 3};
    check(0x03, VIOMMU_FAULT_DISABLED);
  }
  SECTION("07") {
    const Changed changed{machine, machine.tables.slot(guest.tree, iova, 2), outside_memory | 3};
    check(0x07, VIOMMU_FAULT_DISABLED);
  }
  SECTION("0C") {
    const Changed changed{machine, leaf, guest.load(leaf) | bit(62)};
    check(0x0C, VIOMMU_FAULT_DISABLED);
  }
  SECTION("04") { check(0x04, VIOMMU_FAULT_DISABLED, bit(48)); }
  SECTION("06, before and after the context is cached") {
    for (int time = 0; time < 2; ++time) check(0x06, VIOMMU_FAULT_DISABLED, 0x9000);
  }
  SECTION("0E") {
    const Changed changed{machine, leaf, 0xFEE0'0003};
    check(0x0E, VIOMMU_FAULT_DISABLED);
  }
  SECTION("not those found before the context entry, nor 29") {
    const Changed changed{machine, guest.root_entry + 8, 1};
    check(0x0A, VIOMMU_FAULT_RECORDED);
    check(0x29, VIOMMU_FAULT_RECORDED, 0xFEE0'0000);
  }
}

TEST_CASE("a request that is not to be reported has the same answer and leaves no trace",
          "[behaviour][vtd][Primary Fault Logging]") {
  Guest guest;
  guest.machine.write(offset::fault_event_control, 0);
  const viommu_translation quiet = guest.machine.ask(device, 0x9000, VIOMMU_WRITE, VIOMMU_NO_REPORT);
  CHECK(guest.machine.read(offset::fault_status) == 0);
  CHECK(guest.machine.effects.empty());
  const viommu_translation told = guest.machine.ask(device, 0x9000, VIOMMU_WRITE);
  CHECK(quiet.status == VIOMMU_FAULT_NOT_REPORTED);
  CHECK(told.status == VIOMMU_FAULT_RECORDED);
  CHECK(quiet.kind == told.kind);
  CHECK(quiet.reason == told.reason);
  CHECK(guest.machine.effects == std::vector<Effect>{{Effect::message, 0, 0}});
}

}  // namespace viommu::test
