// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Commands of the register window, and removed memory, wait for the users of the old state as wait descriptors do.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t page_a = 0x400000;

}  // namespace

TEST_CASE("ICC and IVT stay set until guards and holds in scope have ended",
          "[behaviour][vtd][drain][Context Command Register]") {
  Machine machine;
  machine.tables.map(machine.attach(device, 1), 0x5000, page_a);
  machine.boot_without_queue();
  constexpr std::uint64_t top = std::uint64_t{1} << 63;
  constexpr std::uint64_t iotlb = 0xF8;
  viommu_enter(machine.reader.get());
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.write(offset::context_command, top | std::uint64_t{1} << 61, 8);
  machine.write(iotlb, top | std::uint64_t{2} << 60 | std::uint64_t{1} << 32, 8);
  CHECK((machine.read(offset::context_command, 8) & top) != 0);
  CHECK((machine.read(iotlb, 8) & top) != 0);
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  viommu_leave(machine.reader.get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK((machine.read(offset::context_command, 8) & top) == 0);
  CHECK((machine.read(iotlb, 8) & top) == 0);
  CHECK((machine.read(offset::context_command, 8) >> 59 & 3) == 1);
  CHECK((machine.read(iotlb, 8) >> 57 & 3) == 2);
  viommu_translation answer{};
  Hold hold = machine.reader.hold(request(device, 0x5000, VIOMMU_READ), 0, answer);
  machine.write(iotlb, top | std::uint64_t{2} << 60 | std::uint64_t{2} << 32, 8);  // another domain
  CHECK((machine.read(iotlb, 8) & top) == 0);
  machine.write(iotlb, top | std::uint64_t{2} << 60 | std::uint64_t{1} << 32, 8);
  CHECK((machine.read(iotlb, 8) & top) != 0);
  hold.release();
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK((machine.read(iotlb, 8) & top) == 0);
}

TEST_CASE("TES and RTPS and PRS follow when the last user of the old state has ended",
          "[behaviour][vtd][drain][Global Status Register][PR-5]") {
  viommu_vtd_options options = usual_options();
  options.capability |= 0x20;  // PLMR
  Machine machine{options};
  machine.tables.map(machine.attach(device, 1), 0x5000, page_a);
  machine.write(offset::root_table, machine.tables.root_table(), 8);
  const bool by_hold = GENERATE(false, true);
  Hold hold;
  const auto begin = [&] {
    viommu_translation answer{};
    if (by_hold) hold = machine.reader.hold(request(device, 0x5000, VIOMMU_READ), 0, answer);
    if (!by_hold) viommu_enter(machine.reader.get());
  };
  const auto end = [&] {
    if (by_hold) hold.release();
    if (!by_hold) viommu_leave(machine.reader.get());
    CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  };
  begin();
  machine.command(command::root_pointer);
  CHECK_FALSE(machine.shows(command::root_pointer));
  end();
  CHECK(machine.shows(command::root_pointer));
  begin();
  machine.command(command::translation);
  CHECK_FALSE(machine.shows(command::translation));
  CHECK(machine.lands(device, 0x5000) == page_a);  // new requests are under the new mode at once
  end();
  CHECK(machine.shows(command::translation));
  begin();
  machine.write(offset::protected_memory_enable, 0x8000'0000);
  CHECK(machine.read(offset::protected_memory_enable) == 0x8000'0000);
  end();
  CHECK(machine.read(offset::protected_memory_enable) == 0x8000'0001);
  begin();
  machine.command(0, command::translation);
  CHECK(machine.shows(command::translation));
  end();
  CHECK_FALSE(machine.shows(command::translation));
}

TEST_CASE("a removed region is gone only when no guard and no hold can reach it",
          "[behaviour][drain][memory hotplug][SEC-11][PR-9]") {
  Machine machine;
  machine.tables.map(machine.attach(device, 1), 0x5000, page_a);
  machine.boot();
  std::vector<std::byte> bytes(0x3000);
  const std::size_t aligned = 0x1000 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 0x1000;
  constexpr std::uint64_t gpa = Machine::ram_bytes * 2;
  REQUIRE(machine.engine.add_region(gpa, std::span{bytes}.subspan(aligned, 0x1000)) == VIOMMU_OK);
  viommu_enter(machine.reader.get());
  viommu_translation answer{};
  Hold hold = machine.reader.hold(request(device, 0x5000, VIOMMU_READ), 0, answer);
  REQUIRE(machine.engine.remove_region(gpa, 77) == VIOMMU_OK);
  CHECK(machine.engine.remove_region(gpa, 78) == VIOMMU_E_NOT_FOUND);
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(machine.effects.empty());
  viommu_leave(machine.reader.get());
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(machine.effects.empty());
  hold.release();
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.effects == std::vector<Effect>{{Effect::gone, 77, 0}});
}

}  // namespace viommu::test
