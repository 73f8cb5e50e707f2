// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the VMM's log is told, when, and how often at most.
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t no_memory = Machine::ram_bytes * 4;
constexpr std::uint64_t report_ns = 1'000'000'000;  // the default of hold_report_ns

struct Guest {
  Guest() {
    machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
    machine.boot_without_queue();
    ring.enable();
  }
  Hold hold(std::uint64_t cookie) {
    viommu_translation answer{};
    Hold held = machine.reader.hold(request(device, 0x5000, VIOMMU_READ), cookie, answer);
    REQUIRE(held);
    return held;
  }
  void invalidate_and_wait() {
    ring.put(descriptor::iotlb_global);
    ring.put_wait(descriptor::wait_status, ++waits);
    ring.go();
  }
  /// A completion of this much time ago is still not there.
  void later(std::uint64_t ns) {
    machine.now_ns += ns;
    static_cast<void>(machine.engine.process());
  }
  [[nodiscard]] std::vector<std::string> lines_with(const std::string& text) const {
    std::vector<std::string> found;
    std::ranges::copy_if(machine.log, std::back_inserter(found),
                         [&](const std::string& line) { return line.find(text) != std::string::npos; });
    return found;
  }

  Machine machine;
  Ring ring{machine};
  std::uint32_t waits = 0;
};

/// The count at the end of a line.
std::uint64_t count_in(const std::string& line) { return std::stoull(line.substr(line.rfind(' '))); }

std::vector<std::uint64_t> counts_in(const std::vector<std::string>& lines) {
  std::vector<std::uint64_t> counts;
  std::ranges::transform(lines, std::back_inserter(counts), count_in);
  return counts;
}

}  // namespace

TEST_CASE("a queue stopped by its descriptor is logged with cause, head and descriptor", "[capi][log]") {
  Guest guest;
  guest.ring.put(descriptor::iotlb_global);
  guest.ring.put(0xABCD000F, 0x1234);
  guest.ring.put(descriptor::iotlb_global);
  guest.ring.go();
  REQUIRE(guest.ring.error() == 3);
  CHECK(guest.machine.log ==
        std::vector<std::string>{"invalidation queue stopped: IQEI 3 (descriptor of an unknown type), head 0x10, "
                                 "tail 0x30, descriptor 0x00000000abcd000f 0x0000000000001234; stops so far: 1"});
}

TEST_CASE("a queue stopped by something else is logged without a descriptor", "[capi][log]") {
  Guest guest;
  SECTION("a tail beyond the ring") {
    guest.machine.write(offset::queue_tail, 0x2000, 8);
    REQUIRE(guest.ring.error() == 1);
    CHECK(guest.machine.log == std::vector<std::string>{"invalidation queue stopped: IQEI 1 (tail beyond the ring), "
                                                        "head 0x0, tail 0x2000; stops so far: 1"});
  }
  SECTION("a ring where there is no memory") {
    guest.machine.command(0, command::queue);
    guest.machine.write(offset::queue_address, no_memory, 8);
    guest.machine.command(command::queue);
    guest.machine.write(offset::queue_tail, 0x10, 8);
    REQUIRE(guest.ring.error() == 2);
    CHECK(guest.machine.log == std::vector<std::string>{"invalidation queue stopped: IQEI 2 (descriptor not "
                                                        "readable), head 0x0, tail 0x10; stops so far: 1"});
  }
}

TEST_CASE("a status write that meets no writable memory is logged with its address and data", "[capi][log]") {
  Guest guest;
  guest.ring.put(descriptor::wait(descriptor::wait_status, 0xABC), no_memory | 0x10);
  guest.ring.go();
  CHECK(guest.machine.engine.statistics().status_writes_dropped == 1);
  CHECK(guest.machine.log == std::vector<std::string>{"status write of an invalidation wait dropped: no writable "
                                                      "memory at 0x2000010, data 0xabc; dropped so far: 1"});
}

TEST_CASE("an overdue hold, and the completion it keeps back, are logged once each", "[capi][log]") {
  Guest guest;
  Hold hold = guest.hold(0x77);
  guest.invalidate_and_wait();
  guest.later(report_ns - 1);
  CHECK(guest.machine.log.empty());
  guest.later(1);
  REQUIRE(guest.machine.log.size() == 2);
  CHECK(guest.machine.log[0].find(" (cookie 0x77) has kept a completion back for 1000 ms; overdue holds so far: 1") !=
        std::string::npos);
  CHECK(guest.machine.log[1] ==
        "completion of an invalidation wait withheld for 1000 ms: an older guard or hold is still open; withheld so "
        "far: 1");
  guest.later(10 * report_ns);
  CHECK(guest.machine.log.size() == 2);
  CHECK(guest.machine.word_at(Machine::status_word) == 0);
}

TEST_CASE("a completion that a guard keeps back is logged once, whatever it completes", "[capi][log]") {
  Guest guest;
  Machine& machine = guest.machine;
  const auto is_logged_as = [&](const std::string& what, const auto& start) {
    {
      const Guard guard = machine.reader.guard();
      start();
      guest.later(report_ns - 1);
      CHECK(machine.log.empty());
      guest.later(1);
      guest.later(report_ns);
    }
    static_cast<void>(machine.engine.process());
    CHECK(machine.log == std::vector<std::string>{"completion of " + what +
                                                  " withheld for 1000 ms: an older guard or hold is still open; "
                                                  "withheld so far: 1"});
  };
  SECTION("a wait descriptor") {
    is_logged_as("an invalidation wait", [&] { guest.invalidate_and_wait(); });
  }
  SECTION("a root pointer") {
    is_logged_as("a command of GCMD or PMEN", [&] { machine.command(command::root_pointer); });
  }
  SECTION("CCMD_REG") {
    machine.command(0, command::queue);
    is_logged_as("a context invalidation", [&] { machine.write(offset::context_command, 0xA000'0000'0000'0000, 8); });
  }
  SECTION("IOTLB_REG") {
    machine.command(0, command::queue);
    is_logged_as("an IOTLB invalidation", [&] { machine.write(0xF8, 0x9000'0000'0000'0000, 8); });
  }
}

TEST_CASE("completions that each come in time are not logged, however long they take together", "[capi][log]") {
  Guest guest;
  for (int round = 0; round < 3; ++round) {
    const Guard guard = guest.machine.reader.guard();
    guest.invalidate_and_wait();
    guest.later(report_ns - 1);
  }
  static_cast<void>(guest.machine.engine.process());
  CHECK(guest.machine.log.empty());
  CHECK(guest.machine.word_at(Machine::status_word) == 3);
}

TEST_CASE("no guest floods the log: each kind is told the 1st, 2nd, 4th, 8th time, on its own count", "[capi][log]") {
  Guest guest;
  Machine& machine = guest.machine;
  const std::vector<std::uint64_t> up_to_512{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  for (unsigned i = 0; i < 1000; ++i) {  // before the bad descriptor below: the head moves on
    guest.ring.put(descriptor::wait(descriptor::wait_status, i), no_memory);
    guest.ring.go();
  }
  CHECK(machine.engine.statistics().status_writes_dropped == 1000);
  CHECK(counts_in(guest.lines_with("status write")) == up_to_512);
  guest.ring.put(0xF);
  guest.ring.go();
  for (unsigned i = 1; i < 1000; ++i) {
    if (i == 500) {  // nor does a reset let it begin anew
      REQUIRE(machine.engine.reset() == VIOMMU_OK);
      machine.boot_without_queue();
      machine.write(offset::queue_tail, 0x2000, 8);
      guest.ring.enable();
      continue;
    }
    machine.write(offset::fault_status, status::queue_error);  // the queue goes on, with the same descriptor or tail
  }
  CHECK(counts_in(guest.lines_with("stopped")) == up_to_512);
  CHECK(machine.log.size() == 2 * up_to_512.size());
}

TEST_CASE("overdue holds and withheld completions do not flood the log either", "[capi][log]") {
  Guest guest;
  for (unsigned i = 1; i <= 20; ++i) {
    Hold hold = guest.hold(i);
    guest.invalidate_and_wait();
    guest.later(report_ns);
    hold.release();
    static_cast<void>(guest.machine.engine.process());
  }
  CHECK(guest.machine.word_at(Machine::status_word) == 20);
  const std::vector<std::uint64_t> up_to_16{1, 2, 4, 8, 16};
  CHECK(counts_in(guest.lines_with("cookie")) == up_to_16);
  CHECK(counts_in(guest.lines_with("completion of")) == up_to_16);
}

TEST_CASE("a line comes when the guest can see what it is about, and without a lock", "[capi][log][P7]") {
  Guest guest;
  Machine& machine = guest.machine;
  std::vector<std::uint64_t> seen;
  machine.on_log = [&] {
    elsewhere([&] {  // waits for the registers' lock for ever, should that be held here
      seen.push_back(guest.ring.error());
      seen.push_back(guest.ring.head());
    });
  };
  guest.ring.put(descriptor::wait(descriptor::wait_status, 1), no_memory);
  guest.ring.put(0xF);
  guest.ring.go();
  CHECK(seen == std::vector<std::uint64_t>{0, 0x10, 3, 0x10});
}

TEST_CASE("a host without a log, or without a clock, is told nothing and misses nothing", "[capi][log]") {
  SparseMemory memory;
  memory.add_ram(0, 0x10000);
  std::vector<std::string> lines;
  struct Opaque {
    SparseMemory* memory;
    std::vector<std::string>* lines;
  } opaque{&memory, &lines};
  const bool with_log = GENERATE(false, true);
  viommu_host host{};
  host.size = sizeof host;
  host.opaque = &opaque;
  host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
    return static_cast<Opaque*>(self)->memory->read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
  };
  if (with_log)
    host.log = [](void* self, std::int32_t, const char* text) {
      static_cast<Opaque*>(self)->lines->emplace_back(text);
    };
  Expected<Engine> engine = Engine::create_vtd(usual_options(), host);
  REQUIRE(engine);
  Reader reader = *engine->reader();
  REQUIRE(memory.store_u64(0x2000, descriptor::iotlb_global));
  REQUIRE(memory.store_u64(0x2010, descriptor::wait(descriptor::wait_status, 1)));
  REQUIRE(memory.store_u64(0x2018, 0x3000));  // no memory_write: dropped
  REQUIRE(memory.store_u64(0x2020, 0xF));
  REQUIRE(engine->mmio_write(offset::queue_address, 8, 0x2000) == VIOMMU_OK);
  REQUIRE(engine->mmio_write(offset::global_command, 4, command::queue) == VIOMMU_OK);
  {
    const Guard guard = reader.guard();
    REQUIRE(engine->mmio_write(offset::queue_tail, 8, 0x30) == VIOMMU_OK);
    for (int i = 0; i < 3; ++i) CHECK(engine->process().state == VIOMMU_PROCESS_WAIT);
  }
  static_cast<void>(engine->process());
  CHECK((engine->mmio_read(offset::fault_status, 4) & status::queue_error) != 0);
  CHECK(engine->statistics().status_writes_dropped == 1);
  CHECK(lines.size() == (with_log ? 2 : 0));
}

}  // namespace viommu::test
