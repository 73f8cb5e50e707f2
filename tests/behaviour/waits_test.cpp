// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The wait descriptor, the interrupts behind it, and what the VMM is told before it completes.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {

TEST_CASE("a wait shows the head, then writes its status, then interrupts",
          "[behaviour][vtd][Invalidation Wait Descriptor][B69][B81]") {
  const std::uint64_t flags = GENERATE(descriptor::wait_status | descriptor::wait_interrupt,
                                       descriptor::wait_status | descriptor::wait_interrupt | descriptor::wait_fence);
  Machine machine;
  Ring ring{machine};
  machine.write(offset::completion_event_data, 0x41);
  machine.write(offset::completion_event_address, 0xFEE0'1000);
  machine.write(offset::completion_event_control, 0);
  std::uint64_t head_at_store = 0;
  std::uint64_t complete_at_store = 2;
  std::uint32_t status_at_message = 0;
  std::uint64_t complete_at_message = 2;
  machine.on_effect = [&](const Effect& effect) {
    elsewhere([&] {
      if (effect.kind == Effect::store) head_at_store = machine.read(offset::queue_head, 8);
      if (effect.kind == Effect::store) complete_at_store = machine.read(offset::completion_status);
      if (effect.kind == Effect::message) status_at_message = machine.word_at(Machine::status_word);
      if (effect.kind == Effect::message) complete_at_message = machine.read(offset::completion_status);
    });
  };
  ring.enable();
  ring.put(descriptor::iotlb_global);
  ring.put_wait(flags, 0xCAFE);
  ring.go();
  CHECK(machine.effects ==
        std::vector<Effect>{{Effect::store, Machine::status_word, 0xCAFE}, {Effect::message, 0xFEE0'1000, 0x41}});
  CHECK(head_at_store == 32);
  CHECK(complete_at_store == 0);
  CHECK(status_at_message == 0xCAFE);
  CHECK(complete_at_message == 1);
  CHECK(machine.memory.load_u64(Machine::status_word) == 0xCAFE);  // four bytes and no more
}

TEST_CASE("the interrupt of a wait is sent before the next one completes",
          "[behaviour][vtd][Invalidation Wait Descriptor]") {
  Machine machine;
  Ring ring{machine};
  machine.write(offset::completion_event_control, 0);
  ring.enable();
  ring.put_wait(descriptor::wait_status | descriptor::wait_interrupt, 1);
  ring.put_wait(descriptor::wait_status, 2);
  ring.go();
  CHECK(machine.effects == std::vector<Effect>{{Effect::store, Machine::status_word, 1},
                                               {Effect::message, 0, 0},
                                               {Effect::store, Machine::status_word, 2}});
}

TEST_CASE("a wait that asks for nothing, or for a fence only, is done without a word",
          "[behaviour][vtd][Invalidation Wait Descriptor]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  ring.put(descriptor::wait(0));
  ring.put(descriptor::wait(descriptor::wait_fence));
  ring.go();
  CHECK(ring.error() == 0);
  CHECK(ring.head() == ring.tail());
  CHECK(machine.effects.empty());
}

TEST_CASE("the completion interrupt waits behind its mask, and one is enough until IWC is cleared",
          "[behaviour][vtd][Invalidation Event Control Register]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  const auto interrupt = [&] {
    ring.put_wait(descriptor::wait_interrupt);
    ring.go();
  };
  interrupt();  // masked since reset
  CHECK(machine.effects.empty());
  CHECK(machine.read(offset::completion_event_control) == 0xC000'0000);
  machine.write(offset::completion_event_control, 0);
  CHECK(machine.effects.size() == 1);
  CHECK(machine.read(offset::completion_event_control) == 0);
  interrupt();  // IWC is still set
  CHECK(machine.effects.size() == 1);
  machine.write(offset::completion_status, 1);
  interrupt();
  CHECK(machine.effects.size() == 2);
}

TEST_CASE("a status write that has no RAM to go to is dropped and the wait completes",
          "[behaviour][vtd][Invalidation Wait Descriptor][SEC-14][RVM-6]") {
  constexpr std::uint64_t window = 0xFED9'0000;  // where the VMM has put this unit's own registers
  Machine machine;
  Ring ring{machine};
  ring.enable();
  std::vector<std::byte> rom(0x2000);
  const std::size_t aligned = 0x1000 - reinterpret_cast<std::uintptr_t>(rom.data()) % 0x1000;
  constexpr std::uint64_t rom_gpa = Machine::ram_bytes * 8;
  REQUIRE(machine.engine.add_region(rom_gpa, std::span{rom}.subspan(aligned, 0x1000), VIOMMU_REGION_READ_ONLY) ==
          VIOMMU_OK);
  machine.memory.add_ram(window, 0x1000);  // so that only the refusal keeps a store away
  machine.refuses_write = [&](std::uint64_t gpa) { return gpa >= window && gpa < window + 0x1000; };
  const std::uint64_t address =
      GENERATE_COPY(as<std::uint64_t>{}, rom_gpa, window + offset::global_command, Machine::ram_bytes * 4);
  machine.write(offset::completion_event_control, 0);
  ring.put(descriptor::wait(descriptor::wait_status | descriptor::wait_interrupt, 0x1234), address);
  ring.go();
  CHECK(ring.error() == 0);
  CHECK(ring.head() == 16);
  CHECK(machine.effects == std::vector<Effect>{{Effect::message, 0, 0}});
  CHECK(machine.engine.statistics().status_writes_dropped == 1);
  CHECK(std::ranges::all_of(rom, [](std::byte byte) { return byte == std::byte{0}; }));
  CHECK(machine.memory.load_u64(window + offset::global_command) == 0);
  CHECK(machine.read(offset::global_status) == command::queue);
}

TEST_CASE("interrupt entry invalidations tell the VMM which routes may have changed, before the wait is done",
          "[behaviour][vtd][Interrupt Entry Cache Invalidate Descriptor][S5.1]") {
  Machine machine;
  Ring ring{machine};
  machine.write(offset::interrupt_table, 0x4'000B, 8);  // 4096 entries
  machine.command(command::interrupt_table);
  CHECK(machine.take_effects().empty());  // without ESIRTPS the old entries stay in use until they are invalidated
  machine.command(command::interrupt_remapping);
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::routes, 0, 4096}});
  ring.enable();
  ring.put(descriptor::interrupt_entries(5, 0));
  ring.put_wait(descriptor::wait_status, 1);
  ring.put(descriptor::interrupt_entries(18, 3));
  ring.put_wait(descriptor::wait_status, 2);
  ring.put(descriptor::interrupt_entries_global);
  ring.put_wait(descriptor::wait_status, 3);
  ring.put_wait(descriptor::wait_status, 4);  // nothing changed before this one
  ring.go();
  const auto done = [](std::uint32_t data) { return Effect{Effect::store, Machine::status_word, data}; };
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::routes, 5, 1},
                                                      done(1),
                                                      {Effect::routes, 16, 8},
                                                      done(2),
                                                      {Effect::routes, 0, 4096},
                                                      done(3),
                                                      done(4)});
  machine.command(0, command::interrupt_remapping);
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::routes, 0, 4096}});
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(machine.take_effects() == std::vector<Effect>{{Effect::routes, 0, 4096}});
}

}  // namespace viommu::test
