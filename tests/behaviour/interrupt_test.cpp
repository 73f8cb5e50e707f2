// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Interrupt requests: what they become, why they are blocked, and what of it the guest sees.
#include <array>
#include <atomic>
#include <thread>

#include "tests/behaviour/interrupts.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0100;
constexpr std::uint16_t other_device = 0x0108;
constexpr std::uint64_t outside_memory = Machine::ram_bytes + 0x10'0000;  // inside the address width
constexpr std::uint32_t edge = 0x4000;                                    // L is set in what comes out

void check_message(const viommu_routed& routed, std::uint64_t address, std::uint32_t data) {
  CHECK(routed.kind == VIOMMU_ROUTE_REMAPPED);
  CHECK(routed.address == address);
  CHECK(routed.data == data);
  CHECK(routed.reason == 0);
  CHECK(routed.status == VIOMMU_FAULT_NOT_REPORTED);
}

void check_unchanged(const viommu_routed& routed, std::uint64_t address, std::uint32_t data) {
  CHECK(routed.kind == VIOMMU_ROUTE_UNCHANGED);
  CHECK(routed.address == address);
  CHECK(routed.data == data);
}

}  // namespace

TEST_CASE("an interrupt controller's entry in remappable format delivers its vector once",
          "[behaviour][vtd][Interrupt Remapping][KUT-10]") {
  InterruptMachine machine;
  constexpr std::uint16_t io_apic = 0x00F8;
  machine.put(1, entry_for(io_apic, 0xED, 0));
  machine.remap();
  // An RTE with index 1 and vector EDh: the controller writes its index into the address, its vector into the data.
  check_message(machine.interrupt(io_apic, remappable(1), 0xED), 0xFEE0'0000, edge | 0xED);
  check_message(machine.interrupt(0xFFFF, remappable(1), 0xED, VIOMMU_MESSAGE_ANY_SOURCE), 0xFEE0'0000, edge | 0xED);
  CHECK(machine.effects == std::vector<Effect>{{Effect::routes, 0, 256}});  // nothing but what IRE told
  CHECK(machine.read(offset::fault_status) == 0);
  CHECK(machine.engine.statistics().interrupts == 2);
  CHECK(machine.engine.statistics().interrupts_blocked == 0);
}

TEST_CASE("the index of a message is split over its address, and a subhandle is added",
          "[behaviour][vtd][Interrupt Requests][KUT-11]") {
  InterruptMachine machine;
  for (const std::uint32_t index : {0x0U, 0x2U, 0x7FFFU, 0x8000U, 0xFFFFU})
    machine.put(index, entry_for(device, static_cast<std::uint8_t>(0x30 + index % 7), 1));
  machine.remap(0xF);
  const auto vector = [](std::uint32_t index) { return edge | (0x30 + index % 7); };
  check_message(machine.interrupt(device, 0xFEE0'0050), 0xFEE0'1000, vector(2));
  check_message(machine.interrupt(device, 0xFEEF'FFF0), 0xFEE0'1000, vector(0x7FFF));
  check_message(machine.interrupt(device, 0xFEE0'0014), 0xFEE0'1000, vector(0x8000));
  check_message(machine.interrupt(device, 0xFEEF'FFF4), 0xFEE0'1000, vector(0xFFFF));
  CHECK(machine.interrupt(device, 0xFEEF'FFF4).index == 0xFFFF);
  // The two lowest address bits count for nothing, nor do data without SHV.
  check_message(machine.interrupt(device, 0xFEE0'0053, 0xFFFF'FFFF), 0xFEE0'1000, vector(2));
  SECTION("with SHV") {
    check_message(machine.interrupt(device, remappable(0, true), 2), 0xFEE0'1000, vector(2));
    check_message(machine.interrupt(device, remappable(0x7FFF, true), 0), 0xFEE0'1000, vector(0x7FFF));
    check_message(machine.interrupt(device, remappable(0x7FFF, true), 1), 0xFEE0'1000, vector(0x8000));
    check_message(machine.interrupt(device, remappable(0x8000, true), 0x7FFF), 0xFEE0'1000, vector(0xFFFF));
  }
  SECTION("with SHV, a sum beyond 16 bits is beyond every table and does not begin again at 0") {
    CHECK(machine.interrupt(device, remappable(0x8000, true), 0x8000).reason == 0x21);
    CHECK(machine.interrupt(device, remappable(0xFFFF, true), 1).index == 0x10000);
  }
}

TEST_CASE("every field of an entry comes out at its place in the message",
          "[behaviour][vtd][Interrupt Remapping Table Entry][normative]") {
  InterruptMachine machine{interrupt_options(0, ecap_extended)};
  const InterruptEntry plain = entry_for(device, 0x41, 0);
  struct Row {
    std::uint64_t low;
    std::uint64_t address;
    std::uint32_t data;
  };
  SECTION("EIME clear: 8 bits of destination") {
    machine.remap();
    for (const Row& row :
         {Row{0, 0, 0}, Row{std::uint64_t{0xA5} << 40, 0xA5 << 12, 0}, Row{1 << 2, 1 << 2, 0}, Row{1 << 3, 1 << 3, 0},
          Row{1 << 4, 0, 1 << 15}, Row{1 << 5, 0, 1 << 8}, Row{2 << 5, 0, 2 << 8}, Row{4 << 5, 0, 4 << 8},
          Row{5 << 5, 0, 5 << 8}, Row{7 << 5, 0, 7 << 8}, Row{0xF << 8, 0, 0}}) {
      CAPTURE(row.low);
      machine.put(3, {plain.low | row.low, plain.high});
      check_message(machine.interrupt(device, remappable(3)), 0xFEE0'0000 | row.address, edge | 0x41 | row.data);
    }
  }
  SECTION("EIME set: 32 bits, the upper ones above bit 40 of the address") {
    machine.remap(7 | InterruptMachine::extended);
    for (const Row& row : {Row{0, 0, 0}, Row{std::uint64_t{0xA5} << 32, 0xA5 << 12, 0},
                           Row{std::uint64_t{0x1234'5678} << 32, std::uint64_t{0x12'3456} << 40 | 0x78 << 12, 0},
                           Row{std::uint64_t{0xFFFF'FF00} << 32, std::uint64_t{0xFF'FFFF} << 40, 0}}) {
      CAPTURE(row.low);
      machine.put(3, {plain.low | row.low, plain.high});
      check_message(machine.interrupt(device, remappable(3)), 0xFEE0'0000 | row.address, edge | 0x41 | row.data);
    }
  }
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("each cause of a blocked interrupt has its reason, its record and no message",
          "[behaviour][vtd][Fault Reason Encodings][Interrupt Remapping]") {
  constexpr std::uint64_t fpd = 2;
  const auto check = [](InterruptMachine& machine, std::uint8_t reason, std::uint64_t address, std::uint32_t data,
                        std::uint32_t index) {
    const auto effects = machine.take_effects();
    const viommu_routed route = machine.route(device, address, data);
    CHECK(route.kind == VIOMMU_ROUTE_FAULT);
    CHECK(unsigned{route.reason} == reason);
    CHECK(route.status == VIOMMU_FAULT_NOT_REPORTED);
    CHECK_FALSE(machine.driver.take_fault().has_value());  // the question records nothing
    const viommu_routed routed = machine.interrupt(device, address, data);
    CHECK(routed.kind == VIOMMU_ROUTE_FAULT);
    CHECK(unsigned{routed.reason} == reason);
    CHECK(routed.status == VIOMMU_FAULT_RECORDED);
    CHECK(routed.address == 0);
    CHECK(routed.data == 0);
    CHECK(machine.driver.take_fault() == interrupt_record(device, index, reason));
    CHECK_FALSE(machine.driver.take_fault().has_value());
    CHECK(machine.take_effects().empty());
  };
  /// The same with FPD in the entry: blocked all the same, and no record.
  const auto check_suppressed = [](InterruptMachine& machine, std::uint8_t reason, std::uint32_t index) {
    const viommu_routed routed = machine.interrupt(device, remappable(index));
    CHECK(routed.kind == VIOMMU_ROUTE_FAULT);
    CHECK(unsigned{routed.reason} == reason);
    CHECK(routed.status == VIOMMU_FAULT_DISABLED);
    CHECK_FALSE(machine.driver.take_fault().has_value());
  };
  const InterruptEntry good = entry_for(device, 0x41, 3);
  SECTION("20 the upper half of the data is not zero with SHV") {
    InterruptMachine machine;
    machine.put(5, {good.low | fpd, good.high});
    machine.remap();
    const std::uint64_t loads = machine.loads;
    check(machine, 0x20, remappable(5, true), 0x1'0000, 0);
    check(machine, 0x20, remappable(5, true), 0x8000'0000, 0);
    check(machine, 0x20, remappable(0x7FFF, true), 0x1'0000, 0);  // whatever the index
    CHECK(machine.loads == loads);
    CHECK(machine.interrupt(device, remappable(5, true), 0).kind == VIOMMU_ROUTE_REMAPPED);
  }
  SECTION("21 the index is beyond the table, and nothing is read") {
    InterruptMachine machine;
    machine.put(255, good);
    machine.put(256, good);
    machine.put(257, good);
    machine.remap(7);
    CHECK(machine.interrupt(device, remappable(255)).kind == VIOMMU_ROUTE_REMAPPED);
    const std::uint64_t loads = machine.loads;
    check(machine, 0x21, remappable(256), 0, 256);
    check(machine, 0x21, remappable(257), 0, 257);
    check(machine, 0x21, remappable(0x8000), 0, 0x8000);
    check(machine, 0x21, remappable(255, true), 1, 256);
    check(machine, 0x21, remappable(0xFFFF, true), 0xFFFF, 0xFFFE);  // the lowest 16 bits of it
    CHECK(machine.loads == loads);
  }
  SECTION("21 the entry is beyond the host address width") {
    viommu_vtd_options options = interrupt_options();
    options.host_address_width = 39;
    InterruptMachine machine{options};
    constexpr std::uint64_t last_page = (std::uint64_t{1} << 39) - 0x1000;
    machine.remap(7 + 1, last_page);  // 512 entries are two pages
    check(machine, 0x21, remappable(256), 0, 256);
    check(machine, 0x23, remappable(255), 0, 255);
  }
  SECTION("22 the entry is not present, and no other bit of it counts but FPD") {
    InterruptMachine machine;
    machine.put(5, {~std::uint64_t{3}, ~std::uint64_t{0}});
    machine.put(6, {~std::uint64_t{1}, ~std::uint64_t{0}});
    machine.remap();
    check(machine, 0x22, remappable(5), 0, 5);
    check_suppressed(machine, 0x22, 6);
  }
  SECTION("23 the table cannot be read") {
    InterruptMachine machine;
    machine.remap(7, outside_memory);
    check(machine, 0x23, remappable(5), 0, 5);
  }
  SECTION("24 a reserved bit is set") {
    InterruptMachine machine;
    machine.put(5, {good.low | 1 << 12, good.high});
    machine.put(6, {good.low | 1 << 12 | fpd, good.high});
    machine.remap();
    check(machine, 0x24, remappable(5), 0, 5);
    check_suppressed(machine, 0x24, 6);
  }
  SECTION("25 compatibility format") {
    InterruptMachine machine{interrupt_options(0, ecap_extended)};
    machine.remap();
    check(machine, 0x25, 0xFEE0'3000, 0x41, 0);
    machine.command(command::compatibility_format);
    static_cast<void>(machine.take_effects());
    check_unchanged(machine.interrupt(device, 0xFEE0'3000, 0x41), 0xFEE0'3000, 0x41);
    machine.set_table(7 | InterruptMachine::extended);
    check(machine, 0x25, 0xFEE0'3000, 0x41, 0);
  }
  SECTION("26 another source") {
    InterruptMachine machine;
    const InterruptEntry others = entry_for(other_device, 0x41, 3);
    machine.put(5, others);
    machine.put(6, {others.low | fpd, others.high});
    machine.remap();
    check(machine, 0x26, remappable(5), 0, 5);
    check_suppressed(machine, 0x26, 6);
  }
  SECTION("2A only extended mode is offered, and it is off") {
    InterruptMachine machine{interrupt_options(0, ecap_extended | ecap_extended_required)};
    machine.put(5, {good.low & ~(std::uint64_t{0xFF} << 40), good.high});
    check_unchanged(machine.interrupt(device, 0xFEE0'3000, 0x41), 0xFEE0'3000, 0x41);  // remapping is off
    machine.remap();
    check(machine, 0x2A, remappable(5), 0, 0);
    check(machine, 0x2A, 0xFEE0'3000, 0x41, 0);
    machine.set_table(7 | InterruptMachine::extended);
    CHECK(machine.interrupt(device, remappable(5)).kind == VIOMMU_ROUTE_REMAPPED);
  }
  SECTION("2B remapping is required, and it is off") {
    InterruptMachine machine{interrupt_options(0, ecap_remapping_required)};
    machine.put(5, good);
    check(machine, 0x2B, remappable(5), 0, 0);
    check(machine, 0x2B, 0xFEE0'3000, 0x41, 0);
    machine.remap();
    CHECK(machine.interrupt(device, remappable(5)).kind == VIOMMU_ROUTE_REMAPPED);
  }
}

TEST_CASE("of several things wrong with an interrupt the first one counts",
          "[behaviour][vtd][Fault Reason Encodings][Interrupt Remapping][choice]") {
  InterruptMachine machine{interrupt_options(0, ecap_extended | ecap_extended_required)};
  const auto reason = [&](std::uint64_t address, std::uint32_t data = 0) {
    return unsigned{machine.interrupt(device, address, data).reason};
  };
  constexpr std::uint64_t reserved = 1 << 12;
  constexpr std::uint32_t bad_data = 0x1'0000;
  machine.put(0x80, {0, 0x40000 | other_device});
  machine.remap(7);
  CHECK(reason(0xFEE0'3000) == 0x2A);
  CHECK(reason(remappable(0x80, true), bad_data) == 0x2A);
  machine.set_table(7 | InterruptMachine::extended);
  CHECK(reason(0xFEE0'3008, bad_data) == 0x25);
  CHECK(reason(remappable(0x8000, true), bad_data) == 0x20);
  CHECK(reason(remappable(0x8000)) == 0x21);
  CHECK(reason(remappable(0x80)) == 0x22);
  machine.put(0x80, {1 | reserved, 0x40000 | other_device});
  CHECK(reason(remappable(0x80)) == 0x26);
  machine.put(0x80, {1 | reserved, 0x40000 | device});
  CHECK(reason(remappable(0x80)) == 0x24);
}

TEST_CASE("an entry verifies its source in each of the ways", "[behaviour][vtd][Source-id Validation][normative]") {
  InterruptMachine machine;
  machine.remap();
  const auto passes = [&](std::uint64_t verification, std::uint16_t entry_source, std::uint16_t source) {
    machine.put(9, {1, verification << 16 | entry_source});
    const viommu_routed routed = machine.route(source, remappable(9));
    if (routed.kind == VIOMMU_ROUTE_FAULT) CHECK(routed.reason == (verification >> 2 == 3 ? 0x24 : 0x26));
    return routed.kind == VIOMMU_ROUTE_REMAPPED;
  };
  constexpr std::uint64_t none = 0 << 2;
  constexpr std::uint64_t by_source = 1 << 2;
  constexpr std::uint64_t by_bus = 2 << 2;
  constexpr std::uint64_t reserved = 3 << 2;
  SECTION("SVT 0 takes everybody") {
    for (std::uint64_t qualifier = 0; qualifier < 4; ++qualifier) CHECK(passes(none | qualifier, 0x1234, 0xFFFF));
  }
  SECTION("SVT 1 compares the bits that SQ leaves") {
    constexpr std::uint16_t masks[] = {0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8};
    for (std::uint64_t qualifier = 0; qualifier < 4; ++qualifier) {
      CHECK(passes(by_source | qualifier, 0x1234, 0x1234));
      for (unsigned bit = 0; bit < 16; ++bit) {
        CAPTURE(qualifier, bit);
        const auto other = static_cast<std::uint16_t>(0x1234 ^ 1U << bit);
        CHECK(passes(by_source | qualifier, 0x1234, other) == ((masks[qualifier] >> bit & 1) == 0));
      }
    }
  }
  SECTION("SVT 2 compares the bus: first bus in the upper byte, last bus in the lower") {
    for (std::uint64_t qualifier = 0; qualifier < 4; ++qualifier) {
      CHECK_FALSE(passes(by_bus | qualifier, 0x1022, 0x0FFF));
      CHECK(passes(by_bus | qualifier, 0x1022, 0x1000));
      CHECK(passes(by_bus | qualifier, 0x1022, 0x1FFF));
      CHECK(passes(by_bus | qualifier, 0x1022, 0x22FF));
      CHECK_FALSE(passes(by_bus | qualifier, 0x1022, 0x2300));
    }
    CHECK(passes(by_bus, 0x1010, 0x10A5));
    CHECK_FALSE(passes(by_bus, 0x2210, 0x1800));  // first behind last: nobody
    CHECK_FALSE(passes(by_bus, 0x2210, 0x2200));
  }
  SECTION("SVT 3 is reserved") { CHECK_FALSE(passes(reserved, 0x1234, 0x1234)); }
  SECTION("a request whose source nobody knows is not verified, and is blocked by all else") {
    machine.put(9, {1, 0x40000 | 0x1234});
    CHECK(machine.route(0, remappable(9), 0, VIOMMU_MESSAGE_ANY_SOURCE).kind == VIOMMU_ROUTE_REMAPPED);
    machine.put(9, {1, 0xC0000 | 0x1234});
    CHECK(machine.route(0, remappable(9), 0, VIOMMU_MESSAGE_ANY_SOURCE).reason == 0x24);
    machine.put(9, {0, 0x40000 | 0x1234});
    CHECK(machine.route(0, remappable(9), 0, VIOMMU_MESSAGE_ANY_SOURCE).reason == 0x22);
  }
}

TEST_CASE("each bit of an entry that is reserved blocks alone, and no other does",
          "[behaviour][vtd][Interrupt Remapping Table Entry][normative]") {
  const bool posting = GENERATE(false, true);
  const bool extended = GENERATE(false, true);
  const bool posted = GENERATE(false, true);
  CAPTURE(posting, extended, posted);
  InterruptMachine machine{interrupt_options(posting ? cap_posting : 0, ecap_extended)};
  machine.remap(7 | (extended ? InterruptMachine::extended : 0));
  interrupt_oracle::Unit unit;
  unit.posting = posting;
  unit.table = InterruptMachine::interrupt_table | 7 | (extended ? InterruptMachine::extended : 0);
  unit.remapping = true;
  const auto load = [&](std::uint64_t gpa) { return machine.memory.load_u64(gpa); };
  for (unsigned bit = 0; bit < 128; ++bit) {
    CAPTURE(bit);
    InterruptEntry entry = entry_for(device, 0x41, 0);
    if (posted) entry.low |= 1 << 15;
    (bit < 64 ? entry.low : entry.high) ^= std::uint64_t{1} << bit % 64;
    machine.put(9, entry);
    const interrupt_oracle::Answer expected = interrupt_oracle::judge(unit, load, {device, false, remappable(9), 0});
    const viommu_routed found = machine.route(device, remappable(9));
    CHECK(found.kind == expected.kind);
    CHECK(found.reason == expected.reason);
    CHECK(found.address == expected.address);
    CHECK(found.data == expected.data);
    CHECK(found.descriptor == expected.descriptor);
  }
}

TEST_CASE("while remapping is off every message passes as it is, and nothing is read",
          "[behaviour][vtd][Interrupt Remapping][S5.2]") {
  InterruptMachine machine;
  machine.set_table();
  const std::uint64_t loads = machine.loads;
  for (const std::uint64_t address :
       {std::uint64_t{0xFEE0'00B0}, std::uint64_t{0xFEE0'3000}, std::uint64_t{0xFEEF'FFFF}}) {
    check_unchanged(machine.interrupt(device, address, 0x8041), address, 0x8041);
    check_unchanged(machine.route(device, address, 0x8041), address, 0x8041);
  }
  CHECK(machine.loads == loads);
}

TEST_CASE("a route is what the request becomes, and leaves no record", "[behaviour][vtd][Interrupt Remapping][S5.2]") {
  InterruptMachine machine;
  Ring ring{machine};
  machine.put(5, entry_for(0x0100, 0x41, 3));
  machine.remap();
  ring.enable();
  check_message(machine.route(0x0100, 0xFEE0'00B0), 0xFEE0'3000, edge | 0x41);
  CHECK(machine.route(0x0100, 0xFEE0'00B0).index == 5);
  machine.put(5, {0, 0});
  ring.put(descriptor::interrupt_entries(5, 0));
  ring.put_wait(descriptor::wait_status, 1);
  ring.go();
  CHECK(machine.route(0x0100, 0xFEE0'00B0).reason == 0x22);
  CHECK(machine.read(offset::fault_status) == 0);
  CHECK(machine.read(0x220, 8) == 0);
  CHECK(machine.read(0x228, 8) == 0);
  CHECK(machine.route(0x0100, 0xFEE0'3000).reason == 0x25);  // compatibility format with CFI 0
  machine.command(0, command::interrupt_remapping);
  check_unchanged(machine.route(0x0100, 0xFEE0'00B0), 0xFEE0'00B0, 0);
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("whoever is told of changed routes gets the new ones, before the guest sees the change completed",
          "[behaviour][vtd][Interrupt Entry Cache Invalidate Descriptor][S5.1][S5.2]") {
  InterruptMachine machine{interrupt_options(cap_table_invalidates)};
  Ring ring{machine};
  machine.put(5, entry_for(device, 0x41, 3));
  std::vector<viommu_routed> answers;
  std::vector<std::uint64_t> status;
  machine.on_effect = [&](const Effect& effect) {
    if (effect.kind != Effect::routes) return;
    answers.push_back(machine.route(device, remappable(5)));
    elsewhere([&] { status.push_back(machine.engine.mmio_read(offset::global_status, 4)); });
  };
  const auto last_answer = [&] {
    REQUIRE_FALSE(answers.empty());
    const viommu_routed answer = answers.back();
    answers.clear();
    return answer;
  };
  machine.set_table();
  check_unchanged(last_answer(), remappable(5), 0);
  CHECK((status.back() & command::interrupt_table) == 0);
  machine.command(command::interrupt_remapping);
  check_message(last_answer(), 0xFEE0'3000, edge | 0x41);
  CHECK((status.back() & command::interrupt_remapping) == 0);
  ring.enable();
  machine.put(5, entry_for(device, 0x42, 7));
  ring.put(descriptor::interrupt_entries(5, 0));
  ring.put_wait(descriptor::wait_status, 1);
  static_cast<void>(machine.take_effects());
  ring.go();
  check_message(last_answer(), 0xFEE0'7000, edge | 0x42);
  CHECK(machine.take_effects() ==
        std::vector<Effect>{{Effect::routes, 5, 1}, {Effect::store, Machine::status_word, 1}});
  constexpr std::uint64_t second_table = 0x6'0000;
  machine.put(5, entry_for(device, 0x43, 9), second_table);
  machine.set_table(7, second_table);
  check_message(last_answer(), 0xFEE0'9000, edge | 0x43);
  machine.command(0, command::interrupt_remapping);
  check_unchanged(last_answer(), remappable(5), 0);
  CHECK((status.back() & command::interrupt_remapping) != 0);
  machine.command(command::interrupt_remapping);
  check_message(last_answer(), 0xFEE0'9000, edge | 0x43);
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  check_unchanged(last_answer(), remappable(5), 0);
}

TEST_CASE("an entry that changed is told of by its invalidation alone, and a smaller table with the size of the larger",
          "[behaviour][vtd][Interrupt Entry Cache Invalidate Descriptor][S5.1]") {
  const bool invalidates = GENERATE(false, true);
  InterruptMachine machine{interrupt_options(invalidates ? cap_table_invalidates : 0)};
  const auto told = [](std::uint64_t count) { return std::vector<Effect>{{Effect::routes, 0, count}}; };
  const auto with_table_invalidation = [&](std::uint64_t count) {
    return invalidates ? told(count) : std::vector<Effect>{};
  };
  machine.set_table(7);
  CHECK(machine.take_effects() == with_table_invalidation(256));
  machine.command(command::interrupt_remapping);
  CHECK(machine.take_effects() == told(256));
  machine.put(5, entry_for(device, 0x41, 3));
  CHECK(machine.interrupt(device, remappable(5)).kind == VIOMMU_ROUTE_REMAPPED);
  CHECK(machine.take_effects().empty());
  machine.set_table(1);
  CHECK(machine.take_effects() == with_table_invalidation(256));
  machine.command(0, command::interrupt_remapping);
  CHECK(machine.take_effects() == told(invalidates ? 4 : 256));
  machine.command(command::compatibility_format);
  CHECK(machine.take_effects() == told(0));
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(machine.take_effects() == told(4));
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(machine.take_effects().empty());  // no route can have been kept since
}

TEST_CASE("after a reset messages pass unchanged", "[behaviour][vtd][Reset][B67]") {
  InterruptMachine machine;
  machine.remap();
  CHECK(machine.interrupt(device, 0xFEE0'3000, 0x41).reason == 0x25);
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  check_unchanged(machine.interrupt(device, 0xFEE0'3000, 0x41), 0xFEE0'3000, 0x41);
}

TEST_CASE("an index is checked against the table that is in force, to the entry",
          "[behaviour][vtd][Interrupt Remapping Table Address Register][B41]") {
  for (unsigned size = 0; size < 16; ++size) {
    CAPTURE(size);
    InterruptMachine machine;
    machine.remap(size);
    const std::uint32_t entries = 2U << size;
    CHECK(machine.route(device, remappable(entries - 1)).reason == 0x22);
    const std::uint64_t loads = machine.loads;
    CHECK(machine.route(device, remappable(entries % 0x10000, entries == 0x10000), 0).reason ==
          (entries == 0x10000 ? 0x22 : 0x21));
    if (entries != 0x10000) CHECK(machine.loads == loads);
    CHECK(machine.route(device, remappable(entries - 1, true), 1).reason == 0x21);
    // A table that was written and not taken over by SIRTP changes nothing.
    machine.write(offset::interrupt_table, InterruptMachine::interrupt_table | (15 - size), 8);
    CHECK(machine.route(device, remappable(entries - 1, true), 1).reason == 0x21);
  }
}

TEST_CASE("IRES, IRTPS, CFIS and waits behind entry invalidations follow when interrupts under way are delivered",
          "[behaviour][vtd][drain][Interrupt Remapping][Interrupt Entry Cache Invalidate Descriptor]") {
  InterruptMachine machine;
  Ring ring{machine};
  machine.put(5, entry_for(device, 0x41, 3));
  const auto while_under_way = [&](const std::function<void()>& action, const std::function<bool()>& shown) {
    {
      const Guard guard = machine.reader.guard();
      static_cast<void>(machine.interrupt(device, remappable(5)));
      action();
      CHECK_FALSE(shown());
      static_cast<void>(machine.engine.process());
      CHECK_FALSE(shown());
      machine.wakes = 0;
    }
    CHECK(machine.wakes == 1);
    static_cast<void>(machine.engine.process());
    CHECK(shown());
  };
  while_under_way([&] { machine.set_table(); }, [&] { return machine.shows(command::interrupt_table); });
  while_under_way([&] { machine.command(command::compatibility_format); },
                  [&] { return machine.shows(command::compatibility_format); });
  while_under_way([&] { machine.command(command::interrupt_remapping); },
                  [&] { return machine.shows(command::interrupt_remapping); });
  ring.enable();
  while_under_way(
      [&] {
        ring.put(descriptor::interrupt_entries(5, 0));
        ring.put_wait(descriptor::wait_status, 1);
        ring.go();
      },
      [&] { return machine.word_at(Machine::status_word) == 1; });
  while_under_way([&] { machine.command(0, command::interrupt_remapping); },
                  [&] { return !machine.shows(command::interrupt_remapping); });
}

TEST_CASE("blocked interrupts share records, compression, overflow and events with blocked DMA",
          "[behaviour][vtd][Primary Fault Logging][Interrupt Remapping]") {
  const bool compress = GENERATE(false, true);
  viommu_vtd_options options = interrupt_options();
  options.flags = compress ? VIOMMU_FAULT_COMPRESSION : 0;
  InterruptMachine machine{options};
  machine.boot();
  machine.remap();
  machine.write(offset::fault_event_data, 0x31);
  machine.write(offset::fault_event_address, 0xFEE0'1000);
  machine.write(offset::fault_event_control, 0);
  static_cast<void>(machine.take_effects());
  // The event comes with the first fault that pends, and only then.
  CHECK(machine.interrupt(device, remappable(5)).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::message, 0xFEE0'1000, 0x31}});
  CHECK(machine.interrupt(device, remappable(6)).status ==
        (compress ? VIOMMU_FAULT_COMPRESSED : VIOMMU_FAULT_RECORDED));
  CHECK(machine.ask(other_device, 0x5000).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.take_effects().empty());
  std::uint64_t record = 0x220;
  const auto take_record = [&] {
    const FaultRecord found{machine.read(record, 8), machine.read(record + 8, 8)};
    machine.write(record + 12, 0x8000'0000);
    record += 16;
    return found;
  };
  CHECK(take_record() == interrupt_record(device, 5, 0x22));
  if (!compress) CHECK(take_record() == interrupt_record(device, 6, 0x22));
  CHECK(take_record() == fault_record(other_device, 0x5000, VIOMMU_READ, 1));
  CHECK((machine.read(offset::fault_status) & status::pending) == 0);
  // Eight records, then the overflow, which stays until it is cleared.
  for (std::uint16_t source = 0; source < 8; ++source)
    CHECK(machine.interrupt(source, remappable(5)).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.interrupt(0x300, remappable(5)).status == VIOMMU_FAULT_OVERFLOW_SET);
  CHECK(machine.interrupt(0x301, remappable(5)).status == VIOMMU_FAULT_OVERFLOWED);
  CHECK((machine.read(offset::fault_status) & status::overflow) != 0);
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::message, 0xFEE0'1000, 0x31}});
  const viommu_statistics figures = machine.engine.statistics();
  CHECK(figures.interrupts == 12);
  CHECK(figures.interrupts_blocked == 12);
  CHECK(figures.faults_recorded == (compress ? 10 : 11));
  CHECK(figures.faults_overflowed == 2);
  CHECK(figures.faults == 1);  // of DMA
}

TEST_CASE("the fault log begins at its first record again when both kinds of remapping are off",
          "[behaviour][vtd][Primary Fault Logging]") {
  InterruptMachine machine;
  machine.remap();
  static_cast<void>(machine.interrupt(device, remappable(5)));
  REQUIRE(machine.driver.take_fault().has_value());
  machine.command(0, command::interrupt_remapping);
  machine.command(command::interrupt_remapping);
  static_cast<void>(machine.interrupt(device, remappable(6)));
  CHECK(machine.read(0x228, 8) == interrupt_record(device, 6, 0x22).high);
}

TEST_CASE("a message outside the interrupt range and flags that do not exist are refused, and nothing happens",
          "[behaviour][capi][Interrupt Requests]") {
  InterruptMachine machine;
  machine.remap();
  viommu_routed routed{};
  const auto asked = [&](std::uint64_t address, std::uint16_t flags) {
    const viommu_message message = interrupt_message(device, address, 0, flags);
    CHECK(viommu_interrupt(machine.reader.get(), &message, &routed) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_interrupt_once(machine.engine.get(), &message, &routed) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_route(machine.engine.get(), &message, &routed) == VIOMMU_E_ARGUMENT);
  };
  asked(0xFEDF'FFFF, 0);
  asked(0xFEF0'0000, 0);
  asked(0x1'FEE0'0010, 0);
  asked(0x10, 0);
  asked(0xFEE0'0010, 2);
  asked(0xFEE0'0010, 0x8000);
  CHECK(machine.engine.statistics().interrupts == 0);
  CHECK(machine.read(offset::fault_status) == 0);
  const viommu_message good = interrupt_message(device, 0xFEE0'0010, 0);
  CHECK(viommu_interrupt(nullptr, &good, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_interrupt(machine.reader.get(), nullptr, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_interrupt(machine.reader.get(), &good, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_interrupt_once(nullptr, &good, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_interrupt_once(machine.engine.get(), nullptr, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_interrupt_once(machine.engine.get(), &good, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_route(nullptr, &good, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_route(machine.engine.get(), nullptr, &routed) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_route(machine.engine.get(), &good, nullptr) == VIOMMU_E_ARGUMENT);
  SECTION("the three calls say the same of the same message") {
    machine.put(5, entry_for(device, 0x41, 3));
    const viommu_message message = interrupt_message(device, remappable(5), 0);
    for (const viommu_result result : {viommu_interrupt(machine.reader.get(), &message, &routed),
                                       viommu_interrupt_once(machine.engine.get(), &message, &routed),
                                       viommu_route(machine.engine.get(), &message, &routed)})
      CHECK(result == VIOMMU_OK);
    check_message(machine.engine.interrupt_once(message), 0xFEE0'3000, edge | 0x41);
    CHECK(viommu_interrupt_once(machine.engine.get(), &good, &routed) == VIOMMU_E_FAULT);
    CHECK(routed.status == VIOMMU_FAULT_RECORDED);
    CHECK(machine.driver.take_fault() == interrupt_record(device, 0, 0x22));
  }
}

TEST_CASE("sixty-four calls without a reader go on at a time, and the next is busy",
          "[behaviour][capi][Interrupt Requests][P5]") {
  InterruptMachine machine;
  machine.put(5, entry_for(device, 0x41, 3));
  machine.remap();
  const viommu_message message = interrupt_message(device, remappable(5), 0);
  const bool with_route = GENERATE(false, true);
  const auto ask = [&](viommu_routed& routed) {
    return with_route ? viommu_route(machine.engine.get(), &message, &routed)
                      : viommu_interrupt_once(machine.engine.get(), &message, &routed);
  };
  std::vector<viommu_result> results;
  machine.on_read = [&](std::uint64_t) {  // each call reads its entry, and asks again meanwhile
    if (results.size() > 70) return;
    viommu_routed routed{};
    const std::size_t place = results.size();
    results.push_back(VIOMMU_OK);
    results[place] = ask(routed);
  };
  viommu_routed routed{};
  CHECK(ask(routed) == VIOMMU_OK);
  machine.on_read = {};
  REQUIRE(results.size() == 64);
  CHECK(results.back() == VIOMMU_E_BUSY);
  CHECK(std::count(results.begin(), results.end(), VIOMMU_OK) == 63);
  CHECK(ask(routed) == VIOMMU_OK);
}

TEST_CASE("no answer is older than the last completed invalidation of its entry",
          "[behaviour][vtd][Interrupt Entry Cache Invalidate Descriptor][threads]") {
  constexpr std::uint64_t table = Machine::ram_bytes * 2;
  alignas(4096) static std::array<std::uint64_t, 512> words;
  words.fill(0);
  InterruptMachine machine;
  REQUIRE(machine.engine.add_region(table, std::as_writable_bytes(std::span{words})) == VIOMMU_OK);
  const std::atomic_ref<std::uint64_t> low{words[10]};  // of entry 5
  words[11] = 0x40000 | device;
  const auto retarget = [&](std::uint64_t number) {  // the number is split over destination and vector
    low.store(1 | (number & 0xFF) << 16 | (number >> 8 & 0xFF) << 40, std::memory_order_release);
  };
  retarget(0);
  machine.remap(7, table);
  Ring ring{machine};
  ring.enable();
  std::atomic<std::uint64_t> completed{0};
  std::atomic<bool> stop{false};
  std::atomic<unsigned> too_old{0};
  const auto check = [&](const auto& ask) {
    while (!stop) {
      const std::uint64_t least = completed;
      const viommu_routed routed = ask();
      if (((routed.address >> 12 & 0xFF) << 8 | (routed.data & 0xFF)) < least) ++too_old;
    }
  };
  Expected<Reader> other = machine.engine.reader();
  REQUIRE(other);
  const viommu_message message = interrupt_message(device, remappable(5), 0);
  std::thread with_reader{[&] {
    check([&] {
      const Guard guard = other->guard();
      return other->interrupt(message);
    });
  }};
  std::thread without_reader{[&] { check([&] { return machine.engine.route(message); }); }};

  for (std::uint64_t number = 1; number <= 3000; ++number) {
    retarget(number);
    ring.put(descriptor::interrupt_entries(5, 0));
    ring.put_wait(descriptor::wait_status, static_cast<std::uint32_t>(number));
    ring.go();
    constexpr unsigned patience = 10'000'000;
    for (unsigned round = 0; machine.word_at(Machine::status_word) != number && round < patience; ++round) {
      static_cast<void>(machine.engine.process());
      std::this_thread::yield();
    }
    REQUIRE(machine.word_at(Machine::status_word) == number);
    completed = number;
  }
  stop = true;
  with_reader.join();
  without_reader.join();
  CHECK(too_old == 0);
  CHECK(machine.read(offset::fault_status) == 0);
}

}  // namespace viommu::test
