// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue's registers, fault status, and the two events.
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>

#include "engine/vtd/register_file.hpp"
#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {
namespace {

using test::capable;
using test::Registers;

constexpr std::uint32_t te = 0x8000'0000;
constexpr std::uint32_t qie = 0x0400'0000;
constexpr std::uint32_t ire = 0x0200'0000;
constexpr std::uint32_t masked = 0x8000'0000;
constexpr std::uint32_t masked_and_pending = 0xC000'0000;
constexpr EventMessage fault_message{0x1'FEE0'1004, 0x21};
constexpr EventMessage completion_message{0xFEE0'2000, 0x22};

Registers with_events(const Capabilities& capabilities, bool compress = false) {
  Registers registers{capabilities, {.compress_faults = compress}};
  registers.write32(offset::fault_event_data, fault_message.data);
  registers.write64(offset::fault_event_address, low_half(fault_message.address));
  registers.write32(offset::fault_event_upper_address, high_half(fault_message.address));
  registers.write32(offset::completion_event_data, completion_message.data);
  registers.write32(offset::completion_event_address, low_half(completion_message.address));
  return registers;
}
Registers unmasked(unsigned fault_records = 4) {
  Registers registers =
      with_events(capable(test::with_fault_records(fault_records), test::ecap_remapping | mask_of(ecap::dt)));
  registers.write32(offset::fault_event_control, 0);
  registers.write32(offset::completion_event_control, 0);
  return registers;
}
RecordedFault fault(Registers& registers, std::uint16_t source = 0x0100) {
  return registers.file.record_fault(test::read_fault(source));
}
std::uint32_t fault_status(const Registers& registers) { return registers.read32(offset::fault_status); }

}  // namespace

TEST_CASE("a tail may stand before the queue is enabled", "[vtd][Invalidation Queue][B74]") {
  Registers registers;
  CHECK(registers.write32(offset::queue_tail, 0x40).tail_written);
  CHECK_FALSE(registers.file.queue_may_run());
  registers.write64(offset::queue_address, 0x10'0000);
  CHECK(registers.command(qie).queue == true);
  CHECK(registers.file.queue_tail() == 0x40);
  CHECK(registers.file.queue_head() == 0);
  CHECK(registers.file.queue_may_run());
}

TEST_CASE("the ring is the one the queue was enabled with", "[vtd][Invalidation Queue Address Register]") {
  Registers registers;
  registers.write64(offset::queue_address, 0x10'0801);
  registers.command(qie);
  registers.write64(offset::queue_address, 0x20'0007);
  CHECK(registers.file.queue_geometry() == QueueGeometry{{0x10'0000}, 0x2000, 32});
  CHECK(registers.read64(offset::queue_address) == 0x20'0007);
  const Actions off = registers.write32(offset::global_command, 0);
  CHECK(off.queue == false);
  CHECK(registers.file.queue_geometry() == QueueGeometry{{0x10'0000}, 0x2000, 32});  // still running until it is off
  registers.file.complete_queue(false);
  registers.command(qie);
  CHECK(registers.file.queue_geometry() == QueueGeometry{{0x20'0000}, 0x8'0000, 16});
}

TEST_CASE("disabling the queue returns its head to 0", "[vtd][Invalidation Queue][normative][RVM-4]") {
  Registers registers;
  registers.command(qie);
  registers.file.set_queue_head(0x40);
  CHECK(registers.read64(offset::queue_head) == 0x40);
  registers.command(0);
  CHECK(registers.read64(offset::queue_head) == 0);
}

TEST_CASE("a queue error stops the queue until it is cleared", "[vtd][Invalidation Queue][normative]") {
  Registers registers = unmasked();
  registers.command(qie);
  registers.write32(offset::queue_tail, 0x40);
  CHECK(registers.file.raise_queue_error(QueueErrorCode::invalid_type) == fault_message);
  CHECK(fault_status(registers) == 0x10);
  CHECK(registers.read64(offset::queue_error_record) == 3);
  CHECK_FALSE(registers.file.queue_may_run());
  CHECK(registers.write32(offset::queue_tail, 0x50).tail_written);
  CHECK_FALSE(registers.file.queue_may_run());
  SECTION("a second error changes nothing") {
    CHECK_FALSE(registers.file.raise_queue_error(QueueErrorCode::fetch_failed));
    CHECK(registers.read64(offset::queue_error_record) == 3);
  }
  SECTION("clearing it restarts the queue without a tail write") {
    const Actions actions = registers.write32(offset::fault_status, 0x10);
    CHECK(actions.queue_restarted);
    CHECK_FALSE(actions.tail_written);
    CHECK(registers.file.queue_may_run());
    CHECK(fault_status(registers) == 0);
    CHECK_FALSE(registers.write32(offset::fault_status, 0x10).queue_restarted);
  }
  SECTION("with a time-out beside it both have to go") {
    CHECK_FALSE(registers.file.raise_timeout({0x0200}));
    CHECK_FALSE(registers.write32(offset::fault_status, 0x10).queue_restarted);
    CHECK_FALSE(registers.file.queue_may_run());
    CHECK(registers.write32(offset::fault_status, 0x40).queue_restarted);
    CHECK(registers.file.queue_may_run());
  }
}

TEST_CASE("device-TLB errors are recorded with their device", "[vtd][Invalidation Queue Error Record][normative]") {
  Registers registers = unmasked();
  CHECK(registers.file.raise_timeout({0x0200}) == fault_message);
  CHECK_FALSE(registers.file.raise_timeout({0x0300}));
  CHECK_FALSE(registers.file.raise_completion_error({0x0400}));
  CHECK_FALSE(registers.file.raise_completion_error({0x0500}));
  CHECK(fault_status(registers) == 0x60);
  CHECK(registers.read64(offset::queue_error_record) == 0x0400'0200'0000'0000);
  SECTION("a completion error does not stop the queue") {
    registers.command(qie);
    registers.write32(offset::queue_tail, 0x40);
    registers.write32(offset::fault_status, 0x40);
    CHECK(fault_status(registers) == 0x20);
    CHECK(registers.file.queue_may_run());
  }
}

TEST_CASE("a fault is recorded and announced", "[vtd][Primary Fault Logging][normative]") {
  Registers registers = unmasked();
  const RecordedFault recorded = fault(registers);
  CHECK(recorded.status == FaultStatus::recorded);
  CHECK(recorded.event == fault_message);
  CHECK(fault_status(registers) == 0x2);
  CHECK(registers.read32(0x22C) == 0xC000'0006);
  CHECK(registers.read32(0x228) == 0x0100);
  CHECK(registers.read64(0x220) == 0x1000);
  CHECK(registers.read32(offset::fault_event_control) == 0);
  SECTION("while it is pending a second one is recorded only") {
    CHECK_FALSE(fault(registers, 0x0200).event);
    CHECK(registers.read32(0x238) == 0x0200);
  }
  SECTION("F goes with a dword or a qword or a byte") {
    SECTION("dword") { registers.write32(0x22C, 0x8000'0000); }
    SECTION("qword") { registers.write64(0x228, 0x8000'0000'0000'0000); }
    SECTION("byte") { static_cast<void>(registers.file.write(0x22F, 1, 0x80)); }
    CHECK(registers.read32(0x22C) == 0x4000'0006);
    CHECK(fault_status(registers) == 0);
    CHECK(fault(registers, 0x0200).event == fault_message);
    CHECK(fault_status(registers) == 0x102);
  }
}

TEST_CASE("PPF is the or of all F", "[vtd][Fault Status Register][normative]") {
  Registers registers = unmasked(2);
  static_cast<void>(fault(registers));
  static_cast<void>(fault(registers));
  registers.write32(offset::fault_status, 0xFFFF'FFFF);
  CHECK(fault_status(registers) == 0x2);
  registers.write32(0x22C, 0x8000'0000);
  CHECK(fault_status(registers) == 0x2);
  registers.write32(0x23C, 0x8000'0000);
  CHECK(fault_status(registers) == 0);
}

TEST_CASE("overflow is set once and later faults are dropped", "[vtd][Primary Fault Logging][B78][RVM-4]") {
  Registers registers = unmasked(2);
  int events = 0;
  for (int i = 0; i < 2; ++i) events += fault(registers).event ? 1 : 0;
  CHECK(fault(registers).status == FaultStatus::overflow_set);
  CHECK(fault(registers).status == FaultStatus::overflowed);
  CHECK(events == 1);
  CHECK(fault_status(registers) == 0x3);
  SECTION("records that were freed stay empty while it is set") {
    registers.write32(0x22C, 0x8000'0000);
    registers.write32(0x23C, 0x8000'0000);
    CHECK(fault_status(registers) == 0x1);
    CHECK(fault(registers).status == FaultStatus::overflowed);
    CHECK(registers.write32(offset::fault_status, 0x1).fault_event == std::nullopt);
    CHECK(fault_status(registers) == 0);
    const RecordedFault again = fault(registers);
    CHECK(again.status == FaultStatus::recorded);
    CHECK(again.event == fault_message);
  }
  SECTION("cleared before the records are free it comes back") {
    registers.write32(offset::fault_status, 0x1);
    CHECK(fault_status(registers) == 0x2);
    CHECK(fault(registers).status == FaultStatus::overflow_set);
    CHECK(fault_status(registers) == 0x3);
  }
}

TEST_CASE("a status bit is cleared alone", "[vtd][Fault Status Register][normative][B81]") {
  Registers registers = unmasked(1);
  static_cast<void>(fault(registers));
  static_cast<void>(fault(registers));
  static_cast<void>(registers.file.raise_queue_error(QueueErrorCode::fetch_failed));
  static_cast<void>(registers.file.raise_completion_error({1}));
  CHECK(fault_status(registers) == 0x33);
  registers.write32(offset::fault_status, 0x10);
  CHECK(fault_status(registers) == 0x23);
  registers.write32(offset::fault_status, 0x1);
  CHECK(fault_status(registers) == 0x22);
  registers.write32(offset::fault_status, 0x0);
  CHECK(fault_status(registers) == 0x22);
  static_cast<void>(registers.file.write(offset::fault_status + 1, 1, 0xFF));
  CHECK(fault_status(registers) == 0x22);
}

TEST_CASE("compression is a choice", "[vtd][Primary Fault Logging]") {
  Registers registers = with_events(capable(test::with_fault_records(4)), true);
  CHECK(fault(registers).status == FaultStatus::recorded);
  CHECK(fault(registers).status == FaultStatus::compressed);
  CHECK(fault(registers, 0x0200).status == FaultStatus::recorded);
  CHECK(fault_status(registers) == 0x2);
}

TEST_CASE("the next record is the first one after remapping was off", "[vtd][Primary Fault Logging][RVM-4]") {
  Registers registers = unmasked(4);
  registers.command(te | ire);
  static_cast<void>(fault(registers));
  registers.command(ire);
  static_cast<void>(fault(registers, 0x0200));
  CHECK(registers.read32(0x238) == 0x0200);
  registers.command(0);
  registers.write32(0x22C, 0x8000'0000);
  registers.write32(0x23C, 0x8000'0000);
  static_cast<void>(fault(registers, 0x0300));
  CHECK(registers.read32(0x228) == 0x0300);
  CHECK(fault_status(registers) == 0x2);
}

TEST_CASE("a masked fault event waits for its mask", "[vtd][Fault Event Control Register][normative]") {
  Registers registers = with_events(capable());
  CHECK_FALSE(fault(registers).event);
  CHECK(registers.read32(offset::fault_event_control) == masked_and_pending);
  SECTION("and is sent when the mask goes") {
    CHECK(registers.write32(offset::fault_event_control, 0).fault_event == fault_message);
    CHECK(registers.read32(offset::fault_event_control) == 0);
    CHECK_FALSE(registers.write32(offset::fault_event_control, 0).fault_event);
  }
  SECTION("and is sent with the address and data of that moment") {
    registers.write32(offset::fault_event_data, 0x99);
    CHECK(registers.write32(offset::fault_event_control, 0).fault_event == EventMessage{fault_message.address, 0x99});
  }
  SECTION("and is gone when the last status bit goes") {
    registers.write32(0x22C, 0x8000'0000);
    CHECK(registers.read32(offset::fault_event_control) == masked);
    CHECK_FALSE(registers.write32(offset::fault_event_control, 0).fault_event);
  }
  SECTION("and is gone with the last F whichever record it is in") {
    registers = with_events(capable(test::with_fault_records(4)));
    static_cast<void>(fault(registers));
    registers.write32(0x22C, 0x8000'0000);
    static_cast<void>(fault(registers));
    CHECK(fault_status(registers) == 0x102);
    CHECK(registers.read32(offset::fault_event_control) == masked_and_pending);
    registers.write32(0x23C, 0x8000'0000);
    CHECK(registers.read32(offset::fault_event_control) == masked);
    CHECK_FALSE(registers.write32(offset::fault_event_control, 0).fault_event);
  }
  SECTION("and stays while another status bit is set") {
    static_cast<void>(registers.file.raise_queue_error(QueueErrorCode::fetch_failed));
    registers.write32(0x22C, 0x8000'0000);
    CHECK(registers.read32(offset::fault_event_control) == masked_and_pending);
    registers.write32(offset::fault_status, 0x10);
    CHECK(registers.read32(offset::fault_event_control) == masked);
  }
  SECTION("software cannot write the pending bit") {
    registers.write32(offset::fault_event_control, masked);
    CHECK(registers.read32(offset::fault_event_control) == masked_and_pending);
  }
}

TEST_CASE("a fault event is raised by the first status bit only", "[vtd][Fault Events][normative]") {
  Registers registers = unmasked();
  CHECK(registers.file.raise_queue_error(QueueErrorCode::fetch_failed) == fault_message);
  CHECK_FALSE(fault(registers).event);
  CHECK_FALSE(registers.file.raise_timeout({1}));
  registers.write32(offset::fault_status, 0x50);
  CHECK_FALSE(registers.file.raise_queue_error(QueueErrorCode::fetch_failed));
  registers.write32(offset::fault_status, 0x10);
  registers.write32(0x22C, 0x8000'0000);
  CHECK(registers.file.raise_queue_error(QueueErrorCode::fetch_failed) == fault_message);
}

TEST_CASE("a completion event follows IWC", "[vtd][Invalidation Completion Status Register][normative]") {
  SECTION("unmasked it is sent at once, and once until IWC is cleared") {
    Registers registers = unmasked();
    CHECK(registers.file.complete_wait_interrupt() == completion_message);
    CHECK(registers.read32(offset::completion_status) == 1);
    CHECK_FALSE(registers.file.complete_wait_interrupt());
    registers.write32(offset::completion_status, 1);
    CHECK(registers.read32(offset::completion_status) == 0);
    CHECK(registers.file.complete_wait_interrupt() == completion_message);
  }
  SECTION("masked it waits") {
    Registers registers = with_events(capable());
    CHECK_FALSE(registers.file.complete_wait_interrupt());
    CHECK(registers.read32(offset::completion_event_control) == masked_and_pending);
    CHECK(registers.write32(offset::completion_event_control, 0).completion_event == completion_message);
    CHECK(registers.read32(offset::completion_event_control) == 0);
  }
  SECTION("clearing IWC takes it back") {
    Registers registers = with_events(capable());
    static_cast<void>(registers.file.complete_wait_interrupt());
    registers.write32(offset::completion_status, 0);
    CHECK(registers.read32(offset::completion_event_control) == masked_and_pending);
    registers.write32(offset::completion_status, 1);
    CHECK(registers.read32(offset::completion_event_control) == masked);
    CHECK_FALSE(registers.write32(offset::completion_event_control, 0).completion_event);
  }
}

}  // namespace viommu::vtd
