// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu as its VMM works with it: words that come in the middle of a call, answers that say no more than they
// should, and what is given back when.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/saved_state.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint64_t buffers = RingGuest::first + 0x20000;  // where requests, answers and reports lie
constexpr std::uint64_t ring_features = 0x1'1000'0077;

/// A device with one ring, served from the beginning.
struct Served {
  VirtioMachine& machine;
  SplitDriver driver{machine.guest, 8, false};
  std::uint32_t index;

  Served(VirtioMachine& made, std::uint32_t which) : machine{made}, index{which} {
    machine.negotiate(ring_features);
    const virtqueue::Config config = driver.config();
    const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                    config.size, 0};
    REQUIRE(viommu_virtio_queue_set(machine.engine, which, &queue) == VIOMMU_OK);
    REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  }
  void request(const Bytes& bytes) {
    std::memcpy(machine.guest.span(buffers, bytes.size()).data(), bytes.data(), bytes.size());
    RingBuffer buffer;
    buffer.pieces = {{buffers, static_cast<std::uint32_t>(bytes.size()), false}, {buffers + 0x100, 4, true}};
    buffer.direct = 2;
    driver.add(buffer);
    driver.publish();
  }
  void offer() {
    RingBuffer buffer;
    buffer.pieces = {{buffers, 24, true}};
    buffer.direct = 1;
    driver.add(buffer);
    driver.publish();
  }
  void notify() const { REQUIRE(viommu_virtio_notify(machine.engine, index) == VIOMMU_OK); }
};

/// The host's memory, counted, and what happens while it is asked for some, once.
struct HostMemory {
  CountingAllocator allocator;
  std::function<void()> during;
};

/// A machine of such a host, which finds its memory by the address that it is given with each question.
struct CountedMachine : HostMemory, VirtioMachine {
  CountedMachine() : VirtioMachine{virtio_options(), Records::no, counting_host()} {}

 private:
  [[nodiscard]] static HostMemory& memory_of(void* self) {
    return *static_cast<CountedMachine*>(static_cast<VirtioMachine*>(self));
  }
  [[nodiscard]] static viommu_host counting_host() {
    viommu_host host{};
    host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
      if (memory_of(self).during) std::exchange(memory_of(self).during, nullptr)();
      return memory_of(self).allocator.allocate(size, alignment);
    };
    host.deallocate = [](void* self, void* memory, std::size_t size, std::size_t alignment) {
      memory_of(self).allocator.deallocate(memory, size, alignment);
    };
    return host;
  }
};

}  // namespace

TEST_CASE("what the driver tells while a device is being plugged in is heard when that is done",
          "[virtio][capi][rings]") {
  CountedMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Served served{machine, VIOMMU_VIRTIO_REQUESTS};
  served.request(attach_bytes(1, pf));
  std::size_t answered_within = 9;
  viommu_result notified = VIOMMU_E_BUSY;
  machine.during = [&] {
    std::thread{[&] { notified = viommu_virtio_notify(machine.engine, VIOMMU_VIRTIO_REQUESTS); }}.join();
    answered_within = served.driver.collect().size();
  };
  REQUIRE(machine.plug(0x980) == VIOMMU_OK);
  CHECK(notified == VIOMMU_OK);
  CHECK(answered_within == 0);  // another thread is at the device's work
  CHECK(served.driver.collect().size() == 1);
  CHECK(machine.guest.get<std::uint8_t>(buffers + 0x100) == st::ok);
  CHECK(machine.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_MAPPING);
}

TEST_CASE("a PROBE that is refused says nothing of the endpoint before", "[virtio][capi][PROBE][A26]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  const Bytes known = machine.ask(probe_bytes(pf), 516);
  REQUIRE(known.size() == 516);
  CHECK(known[0] == 1);  // the doorbell
  const Bytes refused = machine.ask(probe_bytes(vf), 516);
  REQUIRE(refused.size() == 516);
  CHECK(refused[512] == st::no_entry);
  CHECK(std::count(refused.begin(), refused.begin() + 512, 0) == 512);
  CHECK((machine.ask(probe_bytes(pf), 516) == known));
}

TEST_CASE("reserved memory of a virtio-iommu's device is in guest memory before the guest runs",
          "[virtio][capi][S4.17]") {
  VirtioMachine machine;
  constexpr std::uint64_t ram = 0x7F00'0000;
  const viommu_range reserved{ram, ram + 0xFFFF};
  viommu_device device{};
  device.size = sizeof device;
  device.source = pf;
  device.reserved_count = 1;
  device.reserved_memory = &reserved;
  REQUIRE(machine.plug(device) == VIOMMU_OK);
  machine.add_region(ram, 0x8000, nullptr);
  viommu_refusal why = empty_refusal();
  std::uint32_t count = 0;
  CHECK(viommu_ready(machine.engine, &why, 1, &count) == VIOMMU_E_REFUSED);
  CHECK(count == 1);
  CHECK(why.code == VIOMMU_REFUSED_INVALID);
  CHECK(std::string{why.field} == "reserved_memory");
  CHECK(why.source == pf);
  CHECK(why.expected == ram);
  CHECK(why.found == ram + 0x8000);
  machine.add_region(ram + 0x8000, 0x8000, nullptr);
  CHECK(viommu_ready(machine.engine, nullptr, 0, nullptr) == VIOMMU_OK);
}

TEST_CASE("a buffer for reports is looked for when the driver has told of it", "[virtio][capi][rings][events]") {
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Served served{machine, VIOMMU_VIRTIO_EVENTS};
  CHECK(machine.translate(pf, 0x5000).status == VIOMMU_FAULT_NO_BUFFER);
  served.offer();
  // A device that storms costs no look at the ring as long as nothing can be written there.
  for (std::uint64_t i = 0; i < 3; ++i) CHECK(machine.translate(pf, 0x6000 + i).status == VIOMMU_FAULT_NO_BUFFER);
  served.notify();
  CHECK(machine.translate(pf, 0x7000).status == VIOMMU_FAULT_RECORDED);
  CHECK(served.driver.collect().size() == 1);
  CHECK(machine.guest.get<std::uint64_t>(buffers + 16) == 0x7000);
}

TEST_CASE("a broken ring for reports needs a reset of the device and blocks nobody else",
          "[virtio][capi][rings][events][B98]") {
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Served served{machine, VIOMMU_VIRTIO_EVENTS};
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  served.offer();
  served.notify();
  served.driver.announce(1000);
  CHECK(machine.translate(pf, 0x5000).status == VIOMMU_FAULT_RECORDED);  // there was a buffer
  std::uint32_t broken = 0;
  REQUIRE(viommu_virtio_broken(machine.engine, &broken) == VIOMMU_OK);
  CHECK(broken == 1);
  CHECK(machine.needs_reset == 1);
  CHECK(machine.log.size() == 1);
  served.notify();
  CHECK(machine.needs_reset == 1);
  CHECK(machine.log.size() == 1);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);  // what was mapped stays
  REQUIRE(viommu_virtio_reset(machine.engine) == VIOMMU_OK);
  Served again{machine, VIOMMU_VIRTIO_EVENTS};
  again.offer();
  again.notify();
  CHECK(machine.translate(pf, 0x6000).status == VIOMMU_FAULT_RECORDED);
  CHECK(again.driver.collect().size() == 1);
}

TEST_CASE("a load takes all that waits along, and it is back when the guards of before have ended",
          "[virtio][capi][state][S5.7][P6]") {
  HostIommu host;
  host.ranges = {{0, 0x7F'FFFF'FFFF}};
  const viommu_host_facts facts = host.facts();
  CountedMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
  REQUIRE(viommu_host_facts_unset(machine.engine, pf) == VIOMMU_OK);
  const State state = save(machine.engine);
  require_load(machine.engine, state);
  REQUIRE(machine.process().state == VIOMMU_PROCESS_IDLE);
  const std::size_t blocks = machine.allocator.open_blocks();
  viommu_enter(machine.reader);
  CHECK(machine.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  // Its reserved memory is replaced twice: one list waits for a ticket, the next one for another ticket's turn.
  REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
  REQUIRE(viommu_host_facts_unset(machine.engine, pf) == VIOMMU_OK);
  require_load(machine.engine, state);
  CHECK(machine.allocator.open_blocks() > blocks);
  CHECK(machine.process().state == VIOMMU_PROCESS_WAIT);
  viommu_leave(machine.reader);
  CHECK(machine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.allocator.open_blocks() == blocks);
}

}  // namespace viommu::test
