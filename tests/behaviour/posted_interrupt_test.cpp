// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Entries in posted form, from the request to the descriptor and the notification.
#include <array>

#include "tests/behaviour/interrupts.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0100;
constexpr std::uint64_t page_gpa = Machine::ram_bytes * 2;  // a region: posts need memory that can be exchanged
constexpr std::uint64_t posted_at = page_gpa + 0x80;
constexpr std::uint64_t posted = 1 << 15;
constexpr std::uint64_t urgent = 1 << 14;

[[nodiscard]] InterruptEntry posted_entry(std::uint8_t vector, std::uint64_t address = posted_at,
                                          std::uint64_t bits = 0) {
  return {1 | posted | bits | std::uint64_t{vector} << 16 | (address & 0xFFFF'FFFF) << 32,
          0x40000 | device | address >> 32 << 32};
}

struct Guest {
  explicit Guest(std::uint64_t cap = cap_posting) : machine{interrupt_options(cap, ecap_extended)} {
    REQUIRE(machine.engine.add_region(page_gpa, std::as_writable_bytes(std::span{words})) == VIOMMU_OK);
    word(4) = 0xF2 << 16 | std::uint64_t{5} << 40;
  }
  std::uint64_t& word(std::size_t index) { return words[16 + index]; }

  alignas(4096) std::array<std::uint64_t, 512> words{};
  InterruptMachine machine;
};

}  // namespace

TEST_CASE("an entry in posted form posts into its descriptor and asks for one notification",
          "[behaviour][vtd][Interrupt Posting][normative]") {
  Guest guest;
  InterruptMachine& machine = guest.machine;
  machine.put(5, posted_entry(0x41));
  machine.remap();
  const viommu_routed route = machine.route(device, remappable(5));
  CHECK(route.kind == VIOMMU_ROUTE_POSTED);
  CHECK(route.descriptor == posted_at);
  CHECK(route.vector == 0x41);
  CHECK(route.urgent == 0);
  CHECK(route.notify == 0);
  CHECK(guest.word(1) == 0);  // the question posts nothing
  const viommu_routed first = machine.interrupt(device, remappable(5));
  CHECK(first.kind == VIOMMU_ROUTE_POSTED);
  CHECK(first.descriptor == posted_at);
  CHECK(first.notify == 1);
  CHECK(first.address == 0xFEE0'5000);
  CHECK(first.data == 0x40F2);
  CHECK(guest.word(1) == 2);
  CHECK((guest.word(4) & 3) == 1);
  const viommu_routed second = machine.interrupt(device, remappable(5));
  CHECK(second.kind == VIOMMU_ROUTE_POSTED);
  CHECK(second.notify == 0);
  CHECK(second.address == 0);
  CHECK(second.data == 0);
  CHECK(machine.engine.statistics().interrupts == 2);
  CHECK(machine.engine.statistics().interrupts_posted == 2);
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("an urgent entry notifies a descriptor that suppresses notifications, another does not",
          "[behaviour][vtd][Interrupt Posting][normative]") {
  Guest guest;
  guest.word(4) |= 2;
  guest.machine.put(5, posted_entry(0x41));
  guest.machine.put(6, posted_entry(0x42, posted_at, urgent));
  guest.machine.remap();
  CHECK(guest.machine.interrupt(device, remappable(5)).notify == 0);
  CHECK(guest.machine.route(device, remappable(6)).urgent == 1);
  CHECK(guest.machine.interrupt(device, remappable(6)).notify == 1);
  CHECK(guest.word(1) == 6);
}

TEST_CASE("in extended mode the notification goes to a 32-bit destination", "[behaviour][vtd][Interrupt Posting]") {
  Guest guest;
  guest.word(4) = std::uint64_t{0x1234'5678} << 32 | 0xF2 << 16;
  guest.machine.put(5, posted_entry(0x41));
  guest.machine.remap(7 | InterruptMachine::extended);
  const viommu_routed routed = guest.machine.interrupt(device, remappable(5));
  CHECK(routed.address == (std::uint64_t{0x12'3456} << 40 | 0xFEE7'8000));
}

TEST_CASE("27h and 28h: a descriptor that cannot be used blocks the interrupt, and FPD keeps it out of the log",
          "[behaviour][vtd][Fault Reason Encodings][Interrupt Posting]") {
  Guest guest;
  InterruptMachine& machine = guest.machine;
  constexpr std::uint64_t nowhere = Machine::ram_bytes + 0x10'0040;
  constexpr std::uint64_t fpd = 2;
  machine.put(5, posted_entry(0x41, nowhere));
  machine.put(6, posted_entry(0x41, nowhere, fpd));
  machine.put(7, posted_entry(0x41));
  machine.put(8, posted_entry(0x41, posted_at, fpd));
  machine.remap();
  const auto check = [&](std::uint32_t index, std::uint8_t reason) {
    CHECK(machine.route(device, remappable(index)).kind == VIOMMU_ROUTE_POSTED);  // it does not look there
    const viommu_routed routed = machine.interrupt(device, remappable(index));
    CHECK(routed.kind == VIOMMU_ROUTE_FAULT);
    CHECK(routed.reason == reason);
    CHECK(routed.index == index);
    CHECK(routed.descriptor == 0);
    CHECK(machine.driver.take_fault() == interrupt_record(device, index, reason));
    const viommu_routed suppressed = machine.interrupt(device, remappable(index + 1));
    CHECK(suppressed.reason == reason);
    CHECK(suppressed.status == VIOMMU_FAULT_DISABLED);
    CHECK_FALSE(machine.driver.take_fault().has_value());
  };
  check(5, 0x27);
  guest.word(6) = 1;
  check(7, 0x28);
  CHECK(guest.word(1) == 0);
  CHECK(machine.engine.statistics().interrupts_blocked == 4);
  CHECK(machine.engine.statistics().interrupts_posted == 0);
}

TEST_CASE("without CAP.PI an entry in posted form is malformed, whatever it says",
          "[behaviour][vtd][Interrupt Posting][normative]") {
  Guest guest{0};
  guest.machine.put(5, posted_entry(0x41));
  guest.machine.put(6, {entry_for(device, 0x41, 3).low | posted, entry_for(device, 0x41, 3).high});
  guest.machine.remap();
  CHECK(guest.machine.interrupt(device, remappable(5)).reason == 0x24);
  CHECK(guest.machine.interrupt(device, remappable(6)).reason == 0x24);
  CHECK(guest.word(1) == 0);
}

TEST_CASE("a posted entry verifies its source, and its descriptor lies below the host address width",
          "[behaviour][vtd][Interrupt Posting][normative]") {
  Guest guest;
  guest.machine.put(5, posted_entry(0x41));
  guest.machine.put(6, posted_entry(0x41, std::uint64_t{1} << 47));
  guest.machine.put(7, posted_entry(0x41, std::uint64_t{1} << 48));
  guest.machine.put(8, posted_entry(0x41, std::uint64_t{1} << 63));
  guest.machine.remap();
  CHECK(guest.machine.interrupt(device + 1, remappable(5)).reason == 0x26);
  CHECK(guest.machine.route(device, remappable(6)).descriptor == std::uint64_t{1} << 47);
  CHECK(guest.machine.interrupt(device, remappable(6)).reason == 0x27);
  CHECK(guest.machine.interrupt(device, remappable(7)).reason == 0x24);
  CHECK(guest.machine.interrupt(device, remappable(8)).reason == 0x24);
}

}  // namespace viommu::test
