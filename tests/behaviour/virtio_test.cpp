// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu through the C interface: what requests do to what devices see.
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/behaviour/virtio_machine.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint8_t no_fault = 0xFF;

}  // namespace

TEST_CASE("an endpoint reaches what its domain maps, and nothing else", "[virtio][S3.1][S3.3][S4.8][VIO-4]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  CHECK(machine.reason(0x999, 0x5000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
  CHECK(machine.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  CHECK(machine.map(1, 0, 0x1F'FFFF, 0x4000'0000) == st::no_entry);
  CHECK(machine.attach(1, pf) == st::ok);
  CHECK(machine.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.map(1, 0, 0x1F'FFFF, 0x4000'0000) == st::ok);
  const viommu_translation answer = machine.translate(pf, 0x5678, VIOMMU_WRITE);
  CHECK(answer.kind == VIOMMU_TRANSLATED);
  CHECK(answer.gpa == 0x4000'5678);
  CHECK(answer.mask == 0x1F'FFFF);
  CHECK(answer.rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK(machine.reason(pf, 0x20'0000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.detach(1, pf) == st::ok);
  CHECK(machine.reason(pf, 0x5678) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  CHECK(machine.detach(1, pf) == st::invalid);
  CHECK(machine.attach(1, pf) == st::ok);
  CHECK(machine.reason(pf, 0x5678) == VIOMMU_VIRTIO_FAULT_MAPPING);  // a domain begins blank
}

TEST_CASE("a mapping is cached in the largest size around the address, and an UNMAP drops it", "[virtio][S3.10]") {
  const std::uint64_t bytes =
      GENERATE(as<std::uint64_t>{}, 0x1000, 0x3000, 0x8000, 0x20'0000, 0x4000'0000, 0x4020'9000);
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.attach(7, pf) == st::ok);
  constexpr std::uint64_t iova = 0x8'0000'0000;
  constexpr std::uint64_t gpa = 0x1'0000'0000;
  REQUIRE(machine.map(7, iova, iova + bytes - 1, gpa) == st::ok);
  for (const std::uint64_t at : {std::uint64_t{0}, bytes / 2, bytes - 1}) {
    // The first walk to a size says that there is one, the second may fill it.
    CHECK(machine.translate(pf, iova + at).gpa == gpa + at);
    CHECK(machine.translate(pf, iova + at).gpa == gpa + at);
    const std::uint64_t walks = machine.figures().walks;
    const std::uint64_t hits = machine.figures().iotlb_hits;
    const viommu_translation again = machine.translate(pf, iova + at);
    CHECK(again.gpa == gpa + at);
    CHECK(((again.gpa ^ (iova + at)) & again.mask) == ((gpa ^ iova) & again.mask));
    CHECK(machine.figures().walks == walks);
    CHECK(machine.figures().iotlb_hits == hits + 1);
  }
  CHECK(machine.unmap(7, iova, iova + bytes - 1) == st::ok);
  for (const std::uint64_t at : {std::uint64_t{0}, bytes / 2, bytes - 1})
    CHECK(machine.reason(pf, iova + at) == VIOMMU_VIRTIO_FAULT_MAPPING);
}

TEST_CASE("mappings of any granule translate to their last byte, cached or not", "[virtio][VIO-15][B90]") {
  viommu_virtio_options options = virtio_options();
  options.page_size_mask = ~std::uint64_t{0};
  options.region_count = 0;
  VirtioMachine machine{options};
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  SECTION("five bytes") {
    CHECK(machine.map(1, 0x1002, 0x1006, 0x77) == st::ok);
    for (std::uint64_t i = 0; i < 5; ++i) CHECK(machine.translate(pf, 0x1002 + i).gpa == 0x77 + i);
    CHECK(machine.reason(pf, 0x1001) == VIOMMU_VIRTIO_FAULT_MAPPING);
    CHECK(machine.reason(pf, 0x1007) == VIOMMU_VIRTIO_FAULT_MAPPING);
    CHECK(machine.figures().iotlb_fills == 0);
  }
  SECTION("all addresses there are") {
    CHECK(machine.map(1, 0, ~std::uint64_t{0}, 0) == st::ok);
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{0xFEE0'1234}, std::uint64_t{1} << 57,
                                   ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
      CHECK(machine.translate(pf, at).gpa == at);
      CHECK(machine.translate(pf, at).gpa == at);
    }
  }
  SECTION("a target that is not aligned as the address is") {
    CHECK(machine.map(1, 0x20'0000, 0x5F'FFFF, 0x10'0800) == st::ok);
    for (const std::uint64_t at : {0x0ULL, 0x7FFULL, 0x800ULL, 0x1F'F800ULL, 0x3F'FFFFULL}) {
      const viommu_translation answer = machine.translate(pf, 0x20'0000 + at);
      CHECK(answer.gpa == 0x10'0800 + at);
      CHECK(answer.mask == 0x7FF);
    }
  }
}

TEST_CASE("rights are those of the mapping, and one without any grants nothing", "[virtio][S3.12]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000, 1) == st::ok);
  REQUIRE(machine.map(1, 0x2000, 0x2FFF, 0x9000, 2) == st::ok);
  REQUIRE(machine.map(1, 0x3000, 0x3FFF, 0xA000, 0) == st::ok);
  for (unsigned turn = 0; turn < 2; ++turn) {  // walked, then cached
    CHECK(machine.reason(pf, 0x1000, VIOMMU_READ) == no_fault);
    CHECK(machine.reason(pf, 0x1000, VIOMMU_WRITE) == VIOMMU_VIRTIO_FAULT_MAPPING);
    CHECK(machine.reason(pf, 0x2000, VIOMMU_WRITE) == no_fault);
    CHECK(machine.reason(pf, 0x2000, VIOMMU_READ) == VIOMMU_VIRTIO_FAULT_MAPPING);
    CHECK(machine.reason(pf, 0x3000, VIOMMU_READ) == VIOMMU_VIRTIO_FAULT_MAPPING);
  }
}

TEST_CASE("the driver hears of blocked accesses as long as it has buffers", "[virtio][S4.8][A30]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  machine.event_buffers = 2;
  CHECK(machine.translate(pf, 0x5000, VIOMMU_READ).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.translate(pf, 0x6008, VIOMMU_WRITE).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.translate(pf, 0x7000, VIOMMU_READ).status == VIOMMU_FAULT_NO_BUFFER);
  CHECK(machine.translate(pf, 0x8000, VIOMMU_READ, VIOMMU_NO_REPORT).status == VIOMMU_FAULT_NOT_REPORTED);
  const Bytes read{1, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x00, 0x50, 0, 0, 0, 0, 0, 0};
  const Bytes write{1, 0, 0, 0, 2, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x08, 0x60, 0, 0, 0, 0, 0, 0};
  REQUIRE(machine.events.size() == 2);
  machine.event_buffers = 1;
  CHECK(machine.translate(0x999, 0x5000, VIOMMU_READ).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.events.back() ==
        Bytes{0, 0, 0, 0, 1, 1, 0, 0, 0x99, 9, 0, 0, 0, 0, 0, 0, 0x00, 0x50, 0, 0, 0, 0, 0, 0});
  CHECK(machine.events[0] == read);
  CHECK(machine.events[1] == write);
  CHECK(machine.device_figures().events_recorded == 3);
  CHECK(machine.device_figures().events_dropped == 1);
}

TEST_CASE("a fault that the host tells of names its device, also one that is no endpoint", "[virtio][S5.3]") {
  VirtioMachine machine;
  machine.negotiate();
  viommu_device device{};
  device.size = sizeof device;
  device.source = pf;
  device.flags = VIOMMU_DEVICE_BYPASSED;
  REQUIRE(machine.plug(device) == VIOMMU_OK);
  REQUIRE(machine.plug(VirtioMachine::vf) == VIOMMU_OK);
  const auto told = [&](std::uint16_t source) {
    const viommu_request request{0x5000, 0, 0, source, VIOMMU_READ, 0};
    std::uint8_t status = 0;
    REQUIRE(viommu_report_host_fault(machine.engine, &request, VIOMMU_VIRTIO_FAULT_MAPPING, &status) == VIOMMU_OK);
    CHECK(status == VIOMMU_FAULT_RECORDED);
    return machine.events.back();
  };
  CHECK(told(pf) == Bytes{2, 0, 0, 0, 1, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x00, 0x50, 0, 0, 0, 0, 0, 0});
  CHECK(told(VirtioMachine::vf) ==
        Bytes{2, 0, 0, 0, 1, 1, 0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0x00, 0x50, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("the doorbell is reached untranslated, whatever the endpoint is in", "[virtio][S3.17]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  CHECK(machine.translate(pf, msi_first + 0x10, VIOMMU_WRITE).kind == VIOMMU_INTERRUPT);
  CHECK(machine.translate(pf, msi_first + 0x10, VIOMMU_WRITE).gpa == msi_first + 0x10);
  CHECK(machine.reason(pf, msi_first, VIOMMU_READ) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.map(1, msi_first, msi_last, 0x8000) == st::invalid);
  CHECK(machine.map(1, msi_first - 0x1000, msi_first - 1, 0x8000) == st::ok);
  CHECK(machine.translate(pf, msi_first - 1).gpa == 0x8FFF);
  viommu_routed routed{};
  const viommu_message message{msi_first, 0x41, pf, 0};
  CHECK(viommu_interrupt(machine.reader, &message, &routed) == VIOMMU_OK);
  CHECK(routed.kind == VIOMMU_ROUTE_UNCHANGED);
  CHECK(routed.address == msi_first);
  CHECK(routed.data == 0x41);
}

TEST_CASE("bypass is identity outside of reserved memory, and follows the byte at once",
          "[virtio][S4.8][S4.9][S4.10][A30]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.plug(vf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, vf) == st::ok);
  CHECK(machine.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 1) == VIOMMU_OK);
  const viommu_translation answer = machine.translate(pf, 0xFED0'0000, VIOMMU_WRITE);
  CHECK(answer.kind == VIOMMU_IDENTITY);
  CHECK(answer.gpa == 0xFED0'0000);
  CHECK(answer.mask == 0x1F'FFFF);  // the next block has the doorbell
  CHECK(machine.translate(pf, msi_first, VIOMMU_WRITE).kind == VIOMMU_INTERRUPT);
  CHECK(machine.reason(vf, 0x5000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(viommu_virtio_config_write(machine.engine, 36, 1, 2) == VIOMMU_E_REFUSED);
  CHECK(machine.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 0) == VIOMMU_OK);
  CHECK(machine.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  CHECK(machine.attach(9, pf, 1) == st::ok);
  CHECK(machine.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
  CHECK(machine.map(9, 0, 0xFFF, 0) == st::invalid);
  CHECK(machine.attach(9, vf, 0) == st::invalid);
  CHECK(machine.reason(vf, 0x5000) == VIOMMU_VIRTIO_FAULT_MAPPING);
}

TEST_CASE("a device that is unplugged is gone from its domain, and its successor begins cold",
          "[virtio][S3.2][S3.4][S3.6]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.plug(vf) == VIOMMU_OK);
  REQUIRE(machine.attach(2, vf) == st::ok);
  REQUIRE(machine.map(2, 0x1000, 0x1FFF, 0x8000) == st::ok);
  CHECK(machine.translate(vf, 0x1000).gpa == 0x8000);
  machine.unplug(vf);
  CHECK(machine.reason(vf, 0x1000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
  CHECK(machine.map(2, 0x2000, 0x2FFF, 0x8000) == st::no_entry);
  CHECK(machine.detach(2, vf) == st::ok);
  CHECK(machine.detach(2, vf) == st::no_entry);
  CHECK(machine.attach(2, vf) == st::no_entry);
  CHECK(machine.ask(probe_bytes(vf), 516)[512] == st::no_entry);
  REQUIRE(machine.plug(vf) == VIOMMU_OK);
  CHECK(machine.reason(vf, 0x1000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  REQUIRE(machine.attach(2, vf) == st::ok);
  CHECK(machine.reason(vf, 0x1000) == VIOMMU_VIRTIO_FAULT_MAPPING);
}

TEST_CASE("a request that comes again with less room for its answer is another one", "[virtio][P2][SEC-1]") {
  OnePage machine;
  const Bytes request = unmap_bytes(1, 0x1000, 0x1FFF);
  std::array<std::uint8_t, 8> reply{};
  reply.fill(0xAA);
  std::uint32_t used = 0;
  const auto ask = [&](std::size_t room) {
    return viommu_virtio_request(machine.engine, request.data(), request.size(), reply.data(), room, &used);
  };
  viommu_enter(machine.reader);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  CHECK(ask(8) == VIOMMU_E_BUSY);
  viommu_leave(machine.reader);
  CHECK(ask(4) == VIOMMU_E_BUSY);  // the first is asked for until it is answered
  CHECK(reply == std::array<std::uint8_t, 8>{0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA});
  CHECK(ask(8) == VIOMMU_OK);
  CHECK(used == 4);
  CHECK(reply == std::array<std::uint8_t, 8>{0, 0, 0, 0, 0xAA, 0xAA, 0xAA, 0xAA});
  CHECK(ask(4) == VIOMMU_OK);  // of nothing
  CHECK(used == 4);
}

TEST_CASE("an UNMAP is answered when the guards that began before have ended", "[virtio][P2]") {
  OnePage machine;
  const Bytes request = unmap_bytes(1, 0x1000, 0x1FFF);
  std::array<std::uint8_t, 4> reply{};
  std::uint32_t used = 0;
  const auto ask = [&] {
    return viommu_virtio_request(machine.engine, request.data(), request.size(), reply.data(), reply.size(), &used);
  };
  SECTION("a guard") {
    viommu_enter(machine.reader);
    CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
    CHECK(ask() == VIOMMU_E_BUSY);
    CHECK(used == 0);
    CHECK(machine.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_MAPPING);  // nothing new goes by it
    const Bytes other = map_bytes(1, 0x5000, 0x5FFF, 0x8000);
    CHECK(viommu_virtio_request(machine.engine, other.data(), other.size(), reply.data(), reply.size(), &used) ==
          VIOMMU_E_BUSY);
    CHECK(machine.wakes == 0);
    viommu_leave(machine.reader);
    CHECK(machine.wakes == 1);
  }
  SECTION("a hold") {
    const viommu_request held{0x1000, 4, 0, pf, VIOMMU_READ, 0};
    viommu_translation answer{};
    std::uint64_t hold = 0;
    REQUIRE(viommu_hold(machine.reader, &held, 1, &answer, &hold) == VIOMMU_OK);
    CHECK(ask() == VIOMMU_E_BUSY);
    REQUIRE(viommu_release(machine.engine, hold) == VIOMMU_OK);
  }
  SECTION("a hold elsewhere") {
    REQUIRE(machine.map(1, 0x9000, 0x9FFF, 0x8000) == st::ok);
    const viommu_request held{0x9000, 4, 0, pf, VIOMMU_READ, 0};
    viommu_translation answer{};
    std::uint64_t hold = 0;
    REQUIRE(viommu_hold(machine.reader, &held, 1, &answer, &hold) == VIOMMU_OK);
    CHECK(ask() == VIOMMU_OK);
    CHECK(used == 4);
    REQUIRE(viommu_release(machine.engine, hold) == VIOMMU_OK);
    return;
  }
  CHECK(ask() == VIOMMU_OK);
  CHECK(used == 4);
  CHECK(reply[0] == st::ok);
}

TEST_CASE("a reset of the device leaves nobody attached, and one of the system brings back bypass",
          "[virtio][S3.16][A30]") {
  viommu_virtio_options options = virtio_options();
  options.flags = 0;  // bypass at boot
  VirtioMachine machine{options};
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  CHECK(machine.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 0) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  REQUIRE(viommu_virtio_reset(machine.engine) == VIOMMU_OK);
  CHECK(machine.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  std::uint64_t bypass = 9;
  REQUIRE(viommu_virtio_config_read(machine.engine, 36, 1, &bypass) == VIOMMU_OK);
  CHECK(bypass == 0);
  REQUIRE(viommu_reset(machine.engine) == VIOMMU_OK);
  REQUIRE(viommu_virtio_config_read(machine.engine, 36, 1, &bypass) == VIOMMU_OK);
  CHECK(bypass == 1);
  CHECK(machine.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
}

TEST_CASE("requests of a form that is none are answered as printed, and break nothing",
          "[virtio][S3.18][B85][B87][B94][B98]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  CHECK(machine.ask({9, 0, 0, 0, 0, 0, 0, 0}).empty());
  CHECK(machine.ask({}).empty());
  CHECK(machine.ask({1}).empty());
  CHECK(machine.ask(attach_bytes(1, pf), 3).empty());
  CHECK(machine.ask({1, 0, 0, 0, 1, 0, 0, 0}).at(0) == st::invalid);
  CHECK(machine.ask(probe_bytes(pf), 40).back() == 0);
  const Bytes properties = machine.ask(probe_bytes(pf), 516);
  REQUIRE(properties.size() == 516);
  CHECK(properties[0] == 1);
  CHECK(properties[2] == 20);
  CHECK(properties[4] == VIOMMU_VIRTIO_MSI);
  CHECK(properties[512] == st::ok);
  CHECK(machine.attach(1, pf) == st::ok);
  CHECK(machine.device_figures().unanswered == 4);
}

TEST_CASE("what a virtio-iommu does not have is said", "[virtio][S0.7]") {
  VirtioMachine machine;
  std::uint64_t value = 0;
  CHECK(viommu_mmio_size(machine.engine) == 0);
  CHECK(viommu_mmio_read(machine.engine, 0, 8, &value) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_mmio_write(machine.engine, 0x18, 4, 0) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_capabilities_get(machine.engine, &value, nullptr, nullptr) == VIOMMU_E_UNSUPPORTED);
  const viommu_request request{0x1000, 0, 0, pf, VIOMMU_READ, 0};
  viommu_ats_completion completion{};
  CHECK(viommu_ats_translate(machine.reader, &request, &completion) == VIOMMU_E_UNSUPPORTED);
  viommu_translation answer{};
  CHECK(viommu_ats_check(machine.reader, &request, &answer) == VIOMMU_E_UNSUPPORTED);
  CHECK(viommu_device_invalidated(machine.engine, 1, VIOMMU_INVALIDATED) == VIOMMU_E_NOT_FOUND);
  viommu_consumer consumer{};
  consumer.size = sizeof consumer;
  consumer.notify = VIOMMU_EVENT_DEVICE_UNMAP;
  consumer.last = ~std::uint64_t{0};
  consumer.events = [](void*, viommu_event*, std::uint32_t) {};
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  std::uint64_t subscription = 0;
  CHECK(viommu_subscribe(machine.engine, pf, &consumer, &refusal, &subscription) == VIOMMU_E_REFUSED);
  CHECK(refusal.code == VIOMMU_REFUSED_INVALID);
}

TEST_CASE("a batch is answered as its requests are one by one", "[virtio]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.plug(vf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  for (std::uint64_t page = 0; page < 300; page += 3)
    REQUIRE(machine.map(1, page << 12, (page << 12) + 0x1FFF, (page << 13) + 0x10'0000, 1 + page % 2) == st::ok);
  std::vector<viommu_request> requests;
  requests.reserve(700);
  for (std::uint64_t i = 0; i < 700; ++i)
    requests.push_back({i * 0x7F1 % 0x14'0000, 0, 0, i % 50 == 7 ? vf : pf, VIOMMU_READ, VIOMMU_NO_REPORT});
  std::vector<viommu_translation> answers(requests.size());
  for (unsigned turn = 0; turn < 2; ++turn) {
    const auto count = static_cast<std::uint32_t>(requests.size());
    REQUIRE(viommu_translate_batch(machine.reader, requests.data(), answers.data(), count) == VIOMMU_OK);
    REQUIRE(viommu_drop_caches(machine.engine) == VIOMMU_OK);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const viommu_translation one = machine.translate(requests[i].source, requests[i].iova, VIOMMU_READ, 1);
      CAPTURE(i);
      CHECK(one.kind == answers[i].kind);
      CHECK(one.gpa == answers[i].gpa);
      CHECK(one.rights == answers[i].rights);
      CHECK(one.reason == answers[i].reason);
    }
  }
}

TEST_CASE("after a reset and a bus that got another number ATTACH binds the device that is there now",
          "[virtio][S3.14][B19]") {
  VirtioMachine machine;
  machine.negotiate();
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(viommu_reset(machine.engine) == VIOMMU_OK);
  REQUIRE(viommu_bus_renumber(machine.engine, 3, 5) == VIOMMU_OK);
  REQUIRE(machine.plug(pf) == VIOMMU_OK);  // another device, on the bus that has the old number now
  machine.negotiate();
  REQUIRE(machine.attach(1, 0x500) == st::ok);
  REQUIRE(machine.attach(2, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  REQUIRE(machine.map(2, 0x1000, 0x1FFF, 0x9000) == st::ok);
  CHECK(machine.translate(0x500, 0x1000).gpa == 0x8000);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x9000);
}

TEST_CASE("a bus that gets another number takes its endpoints along", "[virtio][S3.14]") {
  OnePage machine;
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  REQUIRE(viommu_bus_renumber(machine.engine, 3, 5) == VIOMMU_OK);
  CHECK(machine.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
  CHECK(machine.translate(0x500, 0x1000).gpa == 0x8000);
  CHECK(machine.detach(1, pf) == st::no_entry);
  CHECK(machine.detach(1, 0x500) == st::ok);
}

TEST_CASE("endpoints have the ids that the platform gives them", "[virtio]") {
  VirtioMachine machine;
  machine.negotiate();
  viommu_device device{};
  device.size = sizeof device;
  device.source = pf;
  device.flags = VIOMMU_DEVICE_ENDPOINT;
  device.endpoint = 0x1'0300;
  REQUIRE(machine.plug(device) == VIOMMU_OK);
  CHECK(machine.attach(1, pf) == st::no_entry);
  CHECK(machine.attach(1, 0x1'0300) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  device.source = vf;
  CHECK(machine.plug(device) == VIOMMU_E_EXISTS);
  CHECK(machine.plug(vf) == VIOMMU_OK);  // and nothing was left behind
}

TEST_CASE("a device whose domains come and go says that there is more to do until the cache is swept of them",
          "[behaviour][virtio][IOTLB][SEC-10]") {
  viommu_virtio_options options = virtio_options();
  options.tag_bits = 4;            // used up after a few domains
  options.iotlb_pages = 1U << 18;  // more than is swept at a time
  VirtioMachine machine{options};
  machine.negotiate();
  REQUIRE(machine.plug(VirtioMachine::pf) == VIOMMU_OK);
  unsigned more = 0;
  for (std::uint32_t domain = 1; domain < 64; ++domain) {
    REQUIRE(machine.attach(domain, VirtioMachine::pf) == virtio_status::ok);
    REQUIRE(machine.map(domain, 0x1000, 0x1FFF, 0x1000 * domain) == virtio_status::ok);
    CHECK(machine.translate(VirtioMachine::pf, 0x1000).gpa == 0x1000 * domain);
    REQUIRE(machine.detach(domain, VirtioMachine::pf) == virtio_status::ok);
    const std::uint64_t sweeps = machine.figures().tag_sweeps;
    const bool swept = machine.process().state == VIOMMU_PROCESS_MORE;
    if (!swept) continue;
    ++more;
    while (machine.process().state == VIOMMU_PROCESS_MORE) {  // ends: the cache has so many entries
    }
    CHECK(machine.figures().tag_sweeps == sweeps + 1);
  }
  CHECK(more > 0);
}

}  // namespace viommu::test
