// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The fault log under real faults: records in turn, overflow, events, and what a guest's handler finds.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t first_record = 0x220;
constexpr std::uint64_t fault_bit = std::uint64_t{1} << 63;

std::uint64_t record_high(Machine& machine, std::uint64_t index) {
  return machine.read(first_record + 16 * index + 8, 8);
}
void clear_record(Machine& machine, std::uint64_t index) { machine.write(first_record + 16 * index + 12, 0x8000'0000); }
std::uint32_t status_of(Machine& machine) { return static_cast<std::uint32_t>(machine.read(offset::fault_status)); }

}  // namespace

TEST_CASE("twice as many faults as records: overflow once, and a new life when all is cleared",
          "[behaviour][vtd][Primary Fault Logging][B78][RVM-4]") {
  Machine machine;
  machine.boot();
  machine.write(offset::fault_event_control, 0);
  constexpr std::uint64_t records = 8;
  for (unsigned round = 0; round < 3; ++round) {
    machine.effects.clear();
    for (std::uint64_t i = 0; i < 2 * records; ++i) {
      const viommu_translation answer = machine.ask(device, 0x1000 * (i + 1));
      CHECK(unsigned{answer.status} == (i < records    ? unsigned{VIOMMU_FAULT_RECORDED}
                                        : i == records ? unsigned{VIOMMU_FAULT_OVERFLOW_SET}
                                                       : unsigned{VIOMMU_FAULT_OVERFLOWED}));
    }
    CHECK(machine.effects.size() == 1);  // one event for all of them
    CHECK(status_of(machine) == (status::pending | status::overflow));
    for (std::uint64_t i = 0; i < records; ++i) {
      CHECK(machine.read(first_record + 16 * i, 8) == 0x1000 * (i + 1));
      CHECK(record_high(machine, i) == fault_record(device, 0, VIOMMU_READ, 0x1).high);
    }
    // A handler's way: every record from FRI on, then the overflow bit.
    for (std::uint64_t i = 0; i < records; ++i) clear_record(machine, i);
    CHECK(status_of(machine) == status::overflow);
    CHECK(machine.ask(device, 0x1000).status == VIOMMU_FAULT_OVERFLOWED);
    machine.write(offset::fault_status, status::overflow);
    CHECK(status_of(machine) == 0);
  }
}

TEST_CASE("clearing one record gives room for one fault, in turn", "[behaviour][vtd][Primary Fault Logging][RVM-4]") {
  Machine machine;
  machine.boot();
  for (std::uint64_t i = 0; i < 5; ++i) static_cast<void>(machine.ask(device, 0x1000 * (i + 1)));
  CHECK((status_of(machine) >> 8 & 0xFF) == 0);  // FRI
  for (std::uint64_t i = 0; i < 5; ++i) clear_record(machine, i);
  CHECK(status_of(machine) % 0x100 == 0);
  for (std::uint64_t i = 5; i < 13; ++i) CHECK(machine.ask(device, 0x1000 * (i + 1)).status == VIOMMU_FAULT_RECORDED);
  CHECK((status_of(machine) >> 8 & 0xFF) == 5);  // the first that pends
  CHECK(machine.ask(device, 0x1000).status == VIOMMU_FAULT_OVERFLOW_SET);
  CHECK(machine.read(first_record + 0x50, 8) == 0x6000);
  CHECK(machine.read(first_record + 0x40, 8) == 0xD000);
}

TEST_CASE("the record is whole before the event is sent", "[behaviour][vtd][Fault Events]") {
  Machine machine;
  machine.boot();
  machine.write(offset::fault_event_data, 0x51);
  machine.write(offset::fault_event_address, 0xFEE0'2000);
  machine.write(offset::fault_event_upper_address, 0x7);
  machine.write(offset::fault_event_control, 0);
  std::uint64_t high = 0;
  std::uint32_t seen_status = 0;
  machine.on_effect = [&](const Effect&) {
    elsewhere([&] {
      high = record_high(machine, 0);
      seen_status = status_of(machine);
    });
  };
  static_cast<void>(machine.ask(device, 0x1234, VIOMMU_WRITE));
  CHECK(machine.effects == std::vector<Effect>{{Effect::message, 0x7'FEE0'2000, 0x51}});
  CHECK(high == fault_record(device, 0, VIOMMU_WRITE, 0x1).high);
  CHECK(seen_status == status::pending);
}

TEST_CASE("messages that become due while one is being sent follow it in order, and the newest is never lost",
          "[behaviour][vtd][Fault Events]") {
  Machine machine;
  machine.boot();
  machine.write(offset::fault_event_address, 0xFEE0'2000);
  machine.write(offset::fault_event_control, 0);
  const std::uint32_t more = GENERATE(1U, 2U, 16U, 20U);
  const auto next_fault = [&](std::uint32_t i) {
    clear_record(machine, (i - 1) % 8);
    machine.write(offset::fault_event_data, i);
    CHECK(machine.engine.translate_once(request(device, 0x1000, VIOMMU_READ)).status == VIOMMU_FAULT_RECORDED);
  };
  machine.on_effect = [&](const Effect& effect) {
    if (effect.second != 0) return;
    elsewhere([&] {
      for (std::uint32_t i = 1; i <= more; ++i) next_fault(i);
      CHECK(machine.effects.size() == 1);  // one at a time
    });
  };
  CHECK(machine.engine.translate_once(request(device, 0x1000, VIOMMU_READ)).status == VIOMMU_FAULT_RECORDED);
  std::vector<Effect> expected{{Effect::message, 0xFEE0'2000, 0}};
  constexpr std::uint32_t room = 16;  // a host that does not come back from its function gets the first and the last
  for (std::uint32_t i = 1; i < std::min(more, room); ++i) expected.push_back({Effect::message, 0xFEE0'2000, i});
  expected.push_back({Effect::message, 0xFEE0'2000, more});
  CHECK(machine.effects == expected);
  machine.on_effect = {};
  next_fault(more + 1);
  CHECK(machine.effects.back() == Effect{Effect::message, 0xFEE0'2000, more + 1});
}

TEST_CASE("a reset forgets messages that were still to be sent", "[behaviour][vtd][Fault Events]") {
  Machine machine;
  machine.boot();
  machine.write(offset::fault_event_control, 0);
  unsigned messages = 0;
  machine.on_effect = [&](const Effect& effect) {
    if (effect.kind != Effect::message || ++messages != 1) return;
    elsewhere([&] {
      clear_record(machine, 0);
      CHECK(machine.engine.translate_once(request(device, 0x1000, VIOMMU_READ)).status == VIOMMU_FAULT_RECORDED);
      CHECK(machine.engine.reset() == VIOMMU_OK);
    });
  };
  CHECK(machine.engine.translate_once(request(device, 0x1000, VIOMMU_READ)).status == VIOMMU_FAULT_RECORDED);
  CHECK(messages == 1);
}

TEST_CASE("a masked event waits, is sent when unmasked, and is forgotten when its cause is cleared before",
          "[behaviour][vtd][Fault Event Control Register]") {
  Machine machine;
  machine.boot();
  static_cast<void>(machine.ask(device, 0x1000));
  CHECK(machine.effects.empty());
  CHECK(machine.read(offset::fault_event_control) == 0xC000'0000);
  SECTION("unmasked") {
    machine.write(offset::fault_event_control, 0);
    CHECK(machine.effects.size() == 1);
    CHECK(machine.read(offset::fault_event_control) == 0);
  }
  SECTION("cleared first") {
    clear_record(machine, 0);
    CHECK(machine.read(offset::fault_event_control) == 0x8000'0000);
    machine.write(offset::fault_event_control, 0);
    CHECK(machine.effects.empty());
  }
}

TEST_CASE("status bits of different causes are cleared one by one", "[behaviour][vtd][Fault Status Register][B81]") {
  viommu_vtd_options options = usual_options();
  options.capability &= ~(std::uint64_t{0xFF} << 40);  // one record
  Machine machine{options};
  machine.boot_without_queue();
  Ring ring{machine};
  ring.enable();
  ring.put(0xF);
  ring.go();
  static_cast<void>(machine.ask(device, 0x1000));
  static_cast<void>(machine.ask(device, 0x2000));
  CHECK(status_of(machine) == (status::queue_error | status::pending | status::overflow));
  machine.write(offset::fault_status, status::pending);  // read-only here: it follows the records
  CHECK(status_of(machine) == (status::queue_error | status::pending | status::overflow));
  machine.write(offset::fault_status, status::overflow);
  CHECK(status_of(machine) == (status::queue_error | status::pending));
  ring.repair_head(descriptor::iotlb_global);
  CHECK(status_of(machine) == status::pending);
  clear_record(machine, 0);
  CHECK(status_of(machine) == 0);
}

TEST_CASE("compression is an option: one pending fault of a source hides its others",
          "[behaviour][vtd][Primary Fault Logging]") {
  viommu_vtd_options options = usual_options();
  const bool compress = GENERATE(false, true);
  options.flags = compress ? VIOMMU_FAULT_COMPRESSION : 0;
  Machine machine{options};
  machine.boot();
  CHECK(machine.ask(device, 0x1000).status == VIOMMU_FAULT_RECORDED);
  CHECK(unsigned{machine.ask(device, 0x2000).status} ==
        (compress ? unsigned{VIOMMU_FAULT_COMPRESSED} : unsigned{VIOMMU_FAULT_RECORDED}));
  CHECK(machine.ask(device + 1, 0x2000).status == VIOMMU_FAULT_RECORDED);
  clear_record(machine, 0);
  clear_record(machine, 1);
  clear_record(machine, 2);
  CHECK(machine.ask(device, 0x3000).status == VIOMMU_FAULT_RECORDED);
}

TEST_CASE("a range or batch records each fault once, and an unreported one none",
          "[behaviour][vtd][Primary Fault Logging]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  std::vector<viommu_piece> pieces(4);
  const viommu_range_end quiet =
      machine.reader.translate_range(request(device, 0x5800, VIOMMU_READ, 0x2000, VIOMMU_NO_REPORT), pieces);
  CHECK(quiet.translated == 0x800);
  CHECK(status_of(machine) == 0);
  const viommu_range_end end = machine.reader.translate_range(request(device, 0x5800, VIOMMU_READ, 0x2000), pieces);
  CHECK(end.translated == 0x800);
  CHECK(unsigned{end.reason} == 0x6);
  CHECK(machine.driver.take_fault() == fault_record(device, 0x6000, VIOMMU_READ, 0x6));
  CHECK_FALSE(machine.driver.take_fault().has_value());
  const std::vector<viommu_request> asked{request(device, 0x5000, VIOMMU_READ), request(device, 0x8000, VIOMMU_WRITE),
                                          request(device, 0x9000, VIOMMU_READ, 0, VIOMMU_NO_REPORT)};
  std::vector<viommu_translation> answers(3);
  REQUIRE(machine.reader.translate_batch(asked, answers) == VIOMMU_OK);
  CHECK(machine.driver.take_fault() == fault_record(device, 0x8000, VIOMMU_WRITE, 0x5));
  CHECK_FALSE(machine.driver.take_fault().has_value());
}

TEST_CASE("the record index starts anew when both kinds of remapping are off",
          "[behaviour][vtd][Primary Fault Logging][RVM-4]") {
  Machine machine;
  machine.boot();
  for (std::uint64_t i = 0; i < 3; ++i) static_cast<void>(machine.ask(device, 0x1000 * (i + 1)));
  for (std::uint64_t i = 0; i < 3; ++i) clear_record(machine, i);
  machine.driver.enable_translation(false);
  machine.driver.enable_translation(true);
  static_cast<void>(machine.ask(device, 0x9000));
  CHECK(status_of(machine) == status::pending);
  CHECK((record_high(machine, 0) & fault_bit) != 0);
  CHECK(machine.read(first_record, 8) == 0x9000);
}

}  // namespace viommu::test
