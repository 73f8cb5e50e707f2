// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Interrupt requests against an independent reading of the specification: random modes, entries and messages, right,
// wrong in one bit, or wrong altogether; and entries that change while they are read.
#include <array>
#include <atomic>

#include "engine/base/atomic_pair.hpp"
#include "tests/behaviour/interrupts.hpp"
#include "tests/support/random.hpp"
#include "tests/support/routed_answer.hpp"

namespace viommu::test {
namespace {

using interrupt_oracle::Answer;
using interrupt_oracle::Unit;

constexpr std::uint64_t bit(std::uint64_t number) { return std::uint64_t{1} << number; }

/// An entry as it may stand in a table.
InterruptEntry random_entry(Random& random) {
  if (random.chance(1, 8)) return {random.next(), random.next()};
  const auto source = static_cast<std::uint16_t>(random.chance(1, 2) ? 0x0100 : random.next());
  InterruptEntry entry{1 | random.below(256) << 16, random.below(16) << 16 | source};
  if (random.chance(1, 3)) {
    entry.low |= bit(15) | random.below(2) << 14 | random.below(1 << 10) << 38;  // posted, 32 KiB of addresses
    if (random.chance(1, 4)) entry.high |= random.next() << 32;
  } else {
    entry.low |= random.below(64) << 2 | random.below(256) << 40;
    if (random.chance(1, 3)) entry.low |= random.next() << 32;
  }
  if (random.chance(1, 4)) {
    const std::uint64_t wrong = random.below(128);
    (wrong < 64 ? entry.low : entry.high) ^= bit(wrong % 64);
  }
  if (random.chance(1, 4)) entry.low |= 2;
  return entry;
}

interrupt_oracle::Request random_request(Random& random, std::uint32_t entries) {
  const auto source = static_cast<std::uint16_t>(random.chance(3, 4) ? 0x0100 ^ random.below(8) : random.next());
  std::uint64_t address = remappable(static_cast<std::uint32_t>(random.below(entries)), random.chance(1, 2));
  if (random.chance(1, 8)) address = 0xFEE0'0000 | random.below(1 << 20);
  auto data = static_cast<std::uint32_t>(random.below(4));
  if (random.chance(1, 4)) data = static_cast<std::uint32_t>(random.next());
  return {source, random.chance(1, 8), address, data};
}

}  // namespace

TEST_CASE("unit and oracle give the same answer for any interrupt table", "[property][vtd][Interrupt Remapping]") {
  std::array<unsigned, 4> kinds{};
  std::array<unsigned, 0x2C> reasons{};
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random{seed};
    Unit unit;
    unit.posting = random.chance(1, 2);
    unit.extended_required = random.chance(1, 8);
    unit.required = random.chance(1, 8);
    unit.haw = random.chance(1, 2) ? 48 : 32;
    viommu_vtd_options options = interrupt_options(
        unit.posting ? cap_posting : 0, ecap_extended | (unit.extended_required ? ecap_extended_required : 0) |
                                            (unit.required ? ecap_remapping_required : 0));
    options.host_address_width = unit.haw;
    InterruptMachine machine{options};
    const auto size = random.below(6);
    std::uint64_t table = InterruptMachine::interrupt_table;
    if (random.chance(1, 8)) table = Machine::ram_bytes - 0x1000 + 0x1000 * random.below(2);
    unit.table = table | size | (random.chance(1, 2) ? InterruptMachine::extended : 0);
    machine.set_table(unit.table & 0xFFF, table);
    unit.remapping = random.chance(7, 8);
    unit.compatibility = random.chance(1, 2);
    machine.command((unit.remapping ? command::interrupt_remapping : 0) |
                    (unit.compatibility ? command::compatibility_format : 0));
    const std::uint32_t entries = 2U << size;
    for (std::uint32_t index = 0; index < entries + 4; ++index) {
      const InterruptEntry entry = random_entry(random);
      static_cast<void>(machine.memory.store_u64(table + std::uint64_t{16} * index, entry.low));
      static_cast<void>(machine.memory.store_u64(table + std::uint64_t{16} * index + 8, entry.high));
    }
    const auto load = [&](std::uint64_t gpa) { return machine.memory.load_u64(gpa); };
    for (unsigned round = 0; round < 200; ++round) {
      const interrupt_oracle::Request request = random_request(random, entries + 2);
      const std::uint16_t flags = request.any_source ? VIOMMU_MESSAGE_ANY_SOURCE : 0;
      Answer expected = interrupt_oracle::judge(unit, load, request);
      CAPTURE(seed, round, request.source, request.address, request.data);
      const Answer asked = answer_of(machine.route(request.source, request.address, request.data, flags));
      const bool suppressed = std::exchange(expected.suppressed, false);  // a question reports nothing
      CHECK(asked == expected);
      expected.suppressed = suppressed;
      ++kinds.at(expected.kind);
      ++reasons.at(expected.reason);
      if (expected.kind == Answer::posted) continue;  // see the tests of descriptors
      const std::uint64_t loads = machine.loads;
      CHECK(answer_of(machine.interrupt(request.source, request.address, request.data, flags)) == expected);
      CHECK(machine.loads - loads <= 1);
      for (std::uint64_t record = 0; record < 8; ++record) machine.write(0x22C + 16 * record, 0x8000'0000);
      machine.write(offset::fault_status, status::overflow);
    }
  }
  for (const unsigned count : kinds) CHECK(count > 100);
  for (const unsigned reason : {0x20U, 0x21U, 0x22U, 0x23U, 0x24U, 0x25U, 0x26U, 0x2AU, 0x2BU}) {
    CAPTURE(reason);
    CHECK(reasons.at(reason) > 100);
  }
}

TEST_CASE("only the one copy of an interrupt entry decides, though no two loads agree",
          "[property][vtd][Interrupt Remapping][SEC-3][P4]") {
  InterruptMachine machine;
  machine.remap();
  Random random{7};
  for (unsigned round = 0; round < 2000; ++round) {
    const InterruptEntry entry = random_entry(random);
    machine.put(5, entry);
    Unit unit;
    unit.table = InterruptMachine::interrupt_table | 7;
    unit.remapping = true;
    const interrupt_oracle::Request request{0x0100, false, remappable(5), 0};
    Answer expected =
        interrupt_oracle::judge(unit, [&](std::uint64_t gpa) { return machine.memory.load_u64(gpa); }, request);
    expected.suppressed = false;
    unsigned reads = 0;
    machine.on_read = [&](std::uint64_t) {
      if (++reads == 1) return;  // the read that is being answered
      machine.put(5, random_entry(random));
    };
    CHECK(answer_of(machine.route(0x0100, remappable(5))) == expected);
    CHECK(reads == 1);
    machine.on_read = {};
  }
}

TEST_CASE("an interrupt entry that is rewritten as a whole is seen as its old or its new value",
          "[property][vtd][Interrupt Remapping][SEC-3][threads]") {
  if (!AtomicPair::whole()) return;
  constexpr std::uint64_t table = Machine::ram_bytes * 2;
  alignas(4096) static std::array<AtomicPair, 256> entries;
  InterruptMachine machine;
  REQUIRE(machine.engine.add_region(table, std::as_writable_bytes(std::span{entries})) == VIOMMU_OK);
  machine.remap(7, table);
  const InterruptEntry ours = entry_for(0x0100, 0x41, 1);
  const InterruptEntry others = entry_for(0x0108, 0x42, 2);
  entries[5].store({ours.low, ours.high});
  std::atomic<bool> stop{false};
  std::thread guest{[&] {
    for (unsigned round = 0; !stop; ++round) {
      const InterruptEntry& entry = round % 2 == 0 ? others : ours;
      entries[5].store({entry.low, entry.high});
    }
  }};
  unsigned remapped = 0;
  unsigned blocked = 0;
  unsigned wrong = 0;
  constexpr unsigned most_rounds = 50'000'000;
  for (unsigned round = 0; round < most_rounds && (remapped < 20000 || blocked < 20000); ++round) {
    const viommu_routed routed = machine.route(0x0100, remappable(5));
    if (routed.kind == VIOMMU_ROUTE_REMAPPED && routed.data == 0x4041 && routed.address == 0xFEE0'1000)
      ++remapped;
    else if (routed.reason == 0x26)
      ++blocked;
    else
      ++wrong;
  }
  stop = true;
  guest.join();
  CHECK(wrong == 0);
  CHECK(remapped > 0);
  CHECK(blocked > 0);
}

}  // namespace viommu::test
