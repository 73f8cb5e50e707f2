// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu whose driver works its queues in guest memory.
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint64_t buffers = RingGuest::first + 0x20000;  // where requests and answers lie

/// Requests through one ring of the guest's.
template <class Driver>
struct Rings {
  static constexpr std::uint16_t size = 16;

  explicit Rings(VirtioMachine& made, bool event_index) : machine{made}, driver{made.guest, size, event_index} {
    std::uint64_t features = 0x1'0000'0077 | std::uint64_t{1} << 28;
    const virtqueue::Config config = driver.config();
    if (event_index) features |= std::uint64_t{1} << 29;
    if (config.features.packed) features |= std::uint64_t{1} << 34;
    machine.negotiate(features);
    const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                    config.size, 0};
    REQUIRE(viommu_virtio_queue_set(machine.engine, VIOMMU_VIRTIO_REQUESTS, &queue) == VIOMMU_OK);
  }
  void send(const Bytes& request, std::uint32_t room = 4) {
    const std::uint64_t at = buffers + next++ % size * 0x400;
    std::memcpy(machine.guest.span(at, request.size()).data(), request.data(), request.size());
    std::memset(machine.guest.span(at + 0x100, room).data(), 0xAA, room);
    RingBuffer buffer;
    buffer.pieces = {{at, static_cast<std::uint32_t>(request.size()), false}, {at + 0x100, room, true}};
    buffer.direct = buffer.pieces.size();
    replies.push_back(at + 0x100);
    driver.add(buffer);
    driver.publish();
  }
  void notify() { REQUIRE(viommu_virtio_notify(machine.engine, VIOMMU_VIRTIO_REQUESTS) == VIOMMU_OK); }
  std::uint8_t status(std::size_t of) { return machine.guest.get<std::uint8_t>(replies[of]); }

  VirtioMachine& machine;
  Driver driver;
  std::uint64_t next = 0;
  std::vector<std::uint64_t> replies;
};

}  // namespace

TEMPLATE_TEST_CASE("requests in a ring are answered in order, and the driver hears of it",
                   "[virtio][rings][Used-ring writes]", SplitDriver, PackedDriver) {
  const bool event_index = GENERATE(false, true);
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Rings<TestType> rings{machine, event_index};
  rings.send(attach_bytes(1, pf));
  rings.notify();
  CHECK(rings.driver.collect().empty());  // not before DRIVER_OK
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  rings.send(map_bytes(1, 0x1000, 0x1FFF, 0x8000));
  rings.send(map_bytes(1, 0x1000, 0x2FFF, 0x8000));
  rings.send({9, 0, 0, 0});
  rings.notify();
  const auto used = rings.driver.collect();
  REQUIRE(used.size() == 4);
  CHECK(used[0].length == 4);
  CHECK(used[3].length == 0);
  CHECK(rings.status(0) == st::ok);
  CHECK(rings.status(1) == st::ok);
  CHECK(rings.status(2) == st::invalid);
  CHECK(rings.status(3) == 0xAA);
  CHECK_FALSE(machine.notified.empty());
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  CHECK(machine.needs_reset == 0);
}

TEMPLATE_TEST_CASE("a request in a ring waits for guards, and those behind it wait for it", "[virtio][rings][P2]",
                   SplitDriver, PackedDriver) {
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Rings<TestType> rings{machine, false};
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  rings.send(attach_bytes(1, pf));
  rings.send(map_bytes(1, 0x1000, 0x1FFF, 0x8000));
  rings.notify();
  REQUIRE(rings.driver.collect().size() == 2);
  viommu_enter(machine.reader);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  rings.send(unmap_bytes(1, 0x1000, 0x1FFF));
  rings.send(map_bytes(1, 0x1000, 0x1FFF, 0x9000));
  rings.notify();
  CHECK(rings.driver.collect().empty());
  CHECK(machine.process().state == VIOMMU_PROCESS_WAIT);
  CHECK(viommu_quiesce(machine.engine, nullptr) == VIOMMU_E_REFUSED);
  viommu_leave(machine.reader);
  static_cast<void>(machine.process());
  REQUIRE(rings.driver.collect().size() == 2);
  CHECK(rings.status(2) == st::ok);
  CHECK(rings.status(3) == st::ok);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x9000);
  CHECK(viommu_quiesce(machine.engine, nullptr) == VIOMMU_OK);
}

TEST_CASE("what is mapped after an UNMAP went with its queue is withdrawn by the next one",
          "[virtio][rings][consumer][S3.11][SEC-15]") {
  VirtioMachine machine;
  constexpr std::uint64_t pages = 5000;  // more than an UNMAP takes away at once
  constexpr std::uint64_t ram = 0x1'0000'0000;
  machine.add_region(ram, 0x1000'0000, nullptr);
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Rings<SplitDriver> rings{machine, false};
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  MirrorModel consumer{VIOMMU_CONSUMER_LEAF};
  consumer.join(machine.engine, pf);
  REQUIRE(machine.attach(1, pf) == st::ok);
  for (std::uint64_t i = 0; i < pages; ++i)
    REQUIRE(machine.map(1, i << 12, (i << 12) + 0xFFF, ram + (2 * i << 12)) == st::ok);
  rings.send(unmap_bytes(1, 0, (pages << 12) - 1));
  rings.notify();
  REQUIRE(rings.driver.collect().empty());
  REQUIRE(viommu_virtio_queue_set(machine.engine, VIOMMU_VIRTIO_REQUESTS, nullptr) == VIOMMU_OK);
  REQUIRE(machine.map(1, 0, 0xFFF, ram) == st::ok);
  CHECK(consumer.extents() == std::vector<Extent>{{0, 0x1000, ram, 3}});
  CHECK(machine.unmap(1, 0, (pages << 12) - 1) == st::ok);
  CHECK(consumer.extents().empty());
  CHECK(machine.reason(pf, 0) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(consumer.wrong.empty());
}

TEST_CASE("a broken ring needs a reset of the device, and of nothing else", "[virtio][rings][B98]") {
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  Rings<SplitDriver> rings{machine, false};
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  rings.send(attach_bytes(1, pf));
  rings.send(map_bytes(1, 0x1000, 0x1FFF, 0x8000));
  rings.notify();
  REQUIRE(rings.driver.collect().size() == 2);
  rings.driver.announce(1000);
  rings.notify();
  std::uint32_t broken = 0;
  REQUIRE(viommu_virtio_broken(machine.engine, &broken) == VIOMMU_OK);
  CHECK(broken == 1);
  CHECK(machine.needs_reset == 1);
  CHECK(machine.log.size() == 1);
  rings.notify();
  CHECK(machine.needs_reset == 1);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);  // what was mapped stays
  REQUIRE(viommu_virtio_reset(machine.engine) == VIOMMU_OK);
  REQUIRE(viommu_virtio_broken(machine.engine, &broken) == VIOMMU_OK);
  CHECK(broken == 0);
  CHECK(machine.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  Rings<SplitDriver> again{machine, false};
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  again.send(attach_bytes(1, pf));
  again.notify();
  CHECK(again.driver.collect().size() == 1);
}

TEMPLATE_TEST_CASE("reports of faults fill the driver's buffers in order, and none is torn", "[virtio][rings][events]",
                   SplitDriver, PackedDriver) {
  VirtioMachine machine;
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  TestType driver{machine.guest, 8, false};
  const virtqueue::Config config = driver.config();
  machine.negotiate(0x1'0000'0077 | std::uint64_t{1} << 28 |
                    (config.features.packed ? std::uint64_t{1} << 34 : std::uint64_t{0}));
  const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                  config.size, 0};
  const auto offer = [&](std::uint64_t at, std::uint32_t length) {
    RingBuffer buffer;
    buffer.pieces = {{at, length, true}};
    buffer.direct = 1;
    driver.add(buffer);
    driver.publish();
  };
  offer(buffers, 64);
  offer(buffers + 0x100, 8);  // too small for a report
  RingBuffer pieces;          // one byte, and the rest
  pieces.pieces = {{buffers + 0x200, 1, true}, {buffers + 0x300, 23, true}};
  pieces.direct = 2;
  driver.add(pieces);
  driver.publish();
  REQUIRE(viommu_virtio_queue_set(machine.engine, VIOMMU_VIRTIO_EVENTS, &queue) == VIOMMU_OK);
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  CHECK(machine.translate(pf, 0x5000).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.translate(pf, 0x6000, VIOMMU_WRITE).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.translate(pf, 0x7000).status == VIOMMU_FAULT_NO_BUFFER);
  const auto used = driver.collect();
  REQUIRE(used.size() == 3);
  CHECK(used[0].length == 24);
  CHECK(used[1].length == 0);
  CHECK(used[2].length == 24);
  CHECK(machine.guest.template get<std::uint64_t>(buffers + 16) == 0x5000);
  CHECK(machine.guest.template get<std::uint32_t>(buffers + 4) == 0x101);
  CHECK(machine.guest.template get<std::uint8_t>(buffers + 0x200) == 1);
  CHECK(machine.guest.template get<std::uint32_t>(buffers + 0x303) == 0x102);
  CHECK(machine.guest.template get<std::uint64_t>(buffers + 0x30F) == 0x6000);
  CHECK(machine.notified.back() == VIOMMU_VIRTIO_EVENTS);
  offer(buffers, 24);
  REQUIRE(viommu_virtio_notify(machine.engine, VIOMMU_VIRTIO_EVENTS) == VIOMMU_OK);
  CHECK(machine.translate(pf, 0x8000).status == VIOMMU_FAULT_RECORDED);
  CHECK(driver.collect().size() == 1);
  CHECK(machine.event_buffers == 1000);  // the VMM was not asked
}

TEST_CASE("features and queues are taken in their order, and refused out of it", "[virtio][rings]") {
  VirtioMachine machine;
  CHECK(viommu_virtio_start(machine.engine) == VIOMMU_E_REFUSED);
  CHECK(viommu_virtio_negotiate(machine.engine, 0x77) == VIOMMU_E_REFUSED);           // no VERSION_1
  CHECK(viommu_virtio_negotiate(machine.engine, 0x1'0000'0088) == VIOMMU_E_REFUSED);  // BYPASS
  std::uint64_t offered = 0;
  REQUIRE(viommu_virtio_features(machine.engine, &offered) == VIOMMU_OK);
  CHECK(offered == all_virtio_features);
  machine.negotiate();
  viommu_virtio_queue queue{RingGuest::first + 8, RingGuest::first + 0x1000, RingGuest::first + 0x2000, 16, 0};
  CHECK(viommu_virtio_queue_set(machine.engine, 0, &queue) == VIOMMU_E_REFUSED);  // not aligned
  queue.size = 0;
  CHECK(viommu_virtio_queue_set(machine.engine, 0, &queue) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_virtio_queue_set(machine.engine, 2, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_virtio_queue_set(machine.engine, 0, nullptr) == VIOMMU_OK);
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  CHECK(viommu_virtio_negotiate(machine.engine, all_virtio_features) == VIOMMU_E_REFUSED);  // it runs
}

}  // namespace viommu::test
