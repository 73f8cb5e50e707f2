// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu that is saved here and goes on there: what travels, what is refused.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/saved_state.hpp"
#include "tests/virtqueue/packed_driver.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint16_t other_vf = 0x381;
constexpr std::uint16_t gone_vf = 0x390;
constexpr std::uint64_t bypass_at = 36;
constexpr std::uint64_t buffers = RingGuest::first + 0x20000;  // where requests and answers lie

void plug_all(VirtioMachine& machine) {
  for (const std::uint16_t source : {pf, vf, other_vf}) REQUIRE(machine.plug(source) == VIOMMU_OK);
}

/// Everything that travels but queues: a domain with mappings, one that bypasses, `bypass` as it was not at boot, an
/// endpoint in no domain, and one that has gone.
void make_guest(VirtioMachine& machine) {
  plug_all(machine);
  REQUIRE(machine.plug(gone_vf) == VIOMMU_OK);
  machine.negotiate();
  REQUIRE(viommu_virtio_config_write(machine.engine, bypass_at, 1, 1) == VIOMMU_OK);
  REQUIRE(machine.attach(9, vf, 1) == st::ok);
  REQUIRE(machine.attach(7, pf) == st::ok);
  REQUIRE(machine.map(7, 0x1000, 0x2FFF, 0x8000) == st::ok);
  REQUIRE(machine.map(7, 0x9000, 0x9FFF, 0x2'0000'0000, 1) == st::ok);
  REQUIRE(machine.map(7, 0x4000, 0x4FFF, 0xFE00'0000, 4 | 3) == st::ok);
  REQUIRE(machine.map(7, 0x4000'0000, 0x7FFF'FFFF, 0) == st::ok);
  REQUIRE(machine.attach(4, gone_vf) == st::ok);
  machine.unplug(gone_vf);
}
void check_guest(VirtioMachine& machine) {
  CHECK(machine.translate(pf, 0x2345, VIOMMU_WRITE).gpa == 0x9345);
  CHECK(machine.translate(pf, 0x9000).gpa == 0x2'0000'0000);
  CHECK(machine.reason(pf, 0x9000, VIOMMU_WRITE) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.translate(pf, 0x4000).gpa == 0xFE00'0000);
  CHECK(machine.translate(pf, 0x7FFF'FFFF).gpa == 0x3FFF'FFFF);
  CHECK(machine.reason(pf, 0x3000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.translate(vf, 0x5000).kind == VIOMMU_IDENTITY);
  CHECK(machine.translate(other_vf, 0x5000).kind == VIOMMU_IDENTITY);
  CHECK(machine.reason(gone_vf, 0x5000) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
  std::uint64_t bypass = 9;
  REQUIRE(viommu_virtio_config_read(machine.engine, bypass_at, 1, &bypass) == VIOMMU_OK);
  CHECK(bypass == 1);
}

/// The machine's ring memory is the other one's: where a guest goes on.
void share_memory(VirtioMachine& machine, VirtioMachine& with) {
  REQUIRE(viommu_region_remove(machine.engine, RingGuest::first, 1) == VIOMMU_OK);
  machine.add_region(RingGuest::first, RingGuest::bytes, with.guest.span(RingGuest::first, RingGuest::bytes).data());
}

template <class Driver>
struct Rings {
  static constexpr std::uint16_t size = 16;

  Rings(RingGuest& in, bool with_event_index) : guest{in}, driver{in, size, with_event_index} {
    if (with_event_index) features |= std::uint64_t{1} << 29;
    if (driver.config().features.packed) features |= std::uint64_t{1} << 34;
  }
  void enable(VirtioMachine& machine, std::uint32_t index) const {
    const virtqueue::Config config = driver.config();
    const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                    config.size, 0};
    REQUIRE(viommu_virtio_queue_set(machine.engine, index, &queue) == VIOMMU_OK);
  }
  void send(const Bytes& request) {
    const std::uint64_t at = buffers + next++ % size * 0x400;
    std::memcpy(guest.span(at, request.size()).data(), request.data(), request.size());
    driver.add(direct({{at, static_cast<std::uint32_t>(request.size()), false}, {at + 0x100, 4, true}}));
    driver.publish();
    replies.push_back(at + 0x100);
  }
  void offer(std::uint64_t at) {
    driver.add(direct({{at, 24, true}}));
    driver.publish();
  }
  [[nodiscard]] std::uint8_t last_status() const { return guest.get<std::uint8_t>(replies.back()); }

  RingGuest& guest;
  Driver driver;
  std::uint64_t features = 0x1'1000'0077;
  std::uint64_t next = 0;
  std::vector<std::uint64_t> replies;
};

/// What a consumer of one device holds: where each MAP begins, and its target.
struct Consumer {
  std::map<std::uint64_t, std::uint64_t> holds;
  std::uint64_t id = 0;

  void join(VirtioMachine& machine, std::uint16_t source) {
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    consumer.opaque = this;
    consumer.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    consumer.last = ~std::uint64_t{0};
    consumer.events = [](void* self, viommu_event* events, std::uint32_t count) {
      auto& held = static_cast<Consumer*>(self)->holds;
      for (std::uint32_t i = 0; i < count; ++i) {
        const viommu_event& event = events[i];
        if (event.kind == VIOMMU_EVENT_MAP) held[event.iova] = event.gpa;
        if (event.kind == VIOMMU_EVENT_UNMAP) held.erase(held.lower_bound(event.iova), held.upper_bound(event.last));
      }
    };
    REQUIRE(viommu_subscribe(machine.engine, source, &consumer, nullptr, &id) == VIOMMU_OK);
    REQUIRE(viommu_replay(machine.engine, id) == VIOMMU_OK);
  }
};

[[nodiscard]] State state_of_guest() {
  VirtioMachine machine;
  make_guest(machine);
  return save(machine.engine);
}

}  // namespace

TEST_CASE("a virtio-iommu goes on elsewhere with its bypass, domains, mappings and endpoints",
          "[virtio][state][S4.12][S5.7][S3.16]") {
  VirtioMachine before;
  make_guest(before);
  check_guest(before);
  const State state = save(before.engine);
  VirtioMachine after;
  plug_all(after);
  CHECK(after.reason(pf, 0x2345) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  require_load(after.engine, state);
  check_guest(after);
  CHECK(save(after.engine) == state);
  CHECK(after.device_figures().domains == 2);
  CHECK(after.device_figures().mappings == 4);
  // Requests go on where they were.
  CHECK(after.ask(probe_bytes(pf), 516)[512] == st::ok);
  CHECK(after.map(7, 0x9000, 0x9FFF, 0x8000) == st::invalid);
  CHECK(after.map(7, 0xA000, 0xAFFF, 0x8000) == st::ok);
  CHECK(after.unmap(7, 0x1000, 0x2FFF) == st::ok);
  CHECK(after.reason(pf, 0x2345) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(after.attach(9, other_vf, 0) == st::invalid);
  CHECK(after.map(9, 0, 0xFFF, 0) == st::invalid);
  CHECK(after.detach(4, gone_vf) == st::ok);
  CHECK(after.detach(4, gone_vf) == st::no_entry);
  CHECK(after.detach(7, pf) == st::ok);
  CHECK(after.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
  // `bypass` is kept by a reset of the device, and has the value of the boot after one of the system.
  REQUIRE(viommu_virtio_reset(after.engine) == VIOMMU_OK);
  CHECK(after.translate(vf, 0x5000).kind == VIOMMU_IDENTITY);
  REQUIRE(viommu_reset(after.engine) == VIOMMU_OK);
  CHECK(after.reason(vf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
}

TEST_CASE("what a state maps over reserved memory of the endpoint that takes it is blocked", "[virtio][state][S3.17]") {
  VirtioMachine before;
  before.negotiate();
  REQUIRE(before.plug(pf) == VIOMMU_OK);
  REQUIRE(before.attach(7, pf) == st::ok);
  REQUIRE(before.map(7, 0x1000, 0x2FFF, 0x8000) == st::ok);
  VirtioMachine after;
  const viommu_range reserved{0x2000, 0x2FFF};
  viommu_device device{};
  device.size = sizeof device;
  device.source = pf;
  device.reserved_count = 1;
  device.reserved_memory = &reserved;
  REQUIRE(after.plug(device) == VIOMMU_OK);
  require_load(after.engine, save(before.engine));
  for (unsigned turn = 0; turn < 3; ++turn) {
    CHECK(after.translate(pf, 0x1000).gpa == 0x8000);
    CHECK(after.reason(pf, 0x2000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  }
}

TEST_CASE("bypass of a state holds against that of the boot, either way", "[virtio][state][S4.12][S3.16]") {
  viommu_virtio_options options = virtio_options();
  options.flags = 0;  // bypass at boot
  VirtioMachine before{options};
  before.negotiate();
  plug_all(before);
  REQUIRE(before.attach(9, vf, 1) == st::ok);
  REQUIRE(viommu_virtio_config_write(before.engine, bypass_at, 1, 0) == VIOMMU_OK);
  VirtioMachine after{options};
  plug_all(after);
  CHECK(after.translate(pf, 0x5000).kind == VIOMMU_IDENTITY);
  require_load(after.engine, save(before.engine));
  CHECK(after.reason(pf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
  CHECK(after.translate(vf, 0x5000).kind == VIOMMU_IDENTITY);
  CHECK(after.detach(9, vf) == st::ok);
  CHECK(after.reason(vf, 0x5000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
}

TEMPLATE_TEST_CASE("requests and reports go on elsewhere in the middle of their rings", "[virtio][state][rings][S5.7]",
                   SplitDriver, PackedDriver) {
  const bool event_index = GENERATE(false, true);
  VirtioMachine before;
  REQUIRE(before.plug(pf) == VIOMMU_OK);
  Rings<TestType> rings{before.guest, event_index};
  before.negotiate(rings.features);
  rings.enable(before, VIOMMU_VIRTIO_REQUESTS);
  REQUIRE(viommu_virtio_start(before.engine) == VIOMMU_OK);
  rings.send(attach_bytes(1, pf));
  for (std::uint64_t page = 1; page < 31; ++page) {  // round and round
    rings.send(map_bytes(1, page << 12, (page << 12) + 0xFFF, page << 16));
    REQUIRE(viommu_virtio_notify(before.engine, VIOMMU_VIRTIO_REQUESTS) == VIOMMU_OK);
    rings.driver.collect();
  }
  const State state = save(before.engine);
  rings.send(unmap_bytes(1, 0x1000, 0x1FFF));  // made available, and nobody was notified yet
  VirtioMachine after;
  share_memory(after, before);
  REQUIRE(after.plug(pf) == VIOMMU_OK);
  require_load(after.engine, state);
  CHECK(rings.driver.collect().size() == 1);
  CHECK(rings.last_status() == st::ok);
  CHECK(after.reason(pf, 0x1000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(after.translate(pf, 0x2000).gpa == 0x2'0000);
  for (std::uint64_t page = 40; page < 60; ++page) {
    rings.send(map_bytes(1, page << 12, (page << 12) + 0xFFF, page << 16));
    REQUIRE(viommu_virtio_notify(after.engine, VIOMMU_VIRTIO_REQUESTS) == VIOMMU_OK);
    REQUIRE(rings.driver.collect().size() == 1);
    CHECK(rings.last_status() == st::ok);
  }
  CHECK(after.translate(pf, 0x3B000).gpa == 0x3B'0000);
  CHECK(after.needs_reset == 0);
}

TEMPLATE_TEST_CASE("buffers for reports that were fetched and not used are used elsewhere",
                   "[virtio][state][rings][S5.7]", SplitDriver, PackedDriver) {
  VirtioMachine before;
  REQUIRE(before.plug(pf) == VIOMMU_OK);
  Rings<TestType> rings{before.guest, false};
  before.negotiate(rings.features);
  rings.enable(before, VIOMMU_VIRTIO_EVENTS);
  REQUIRE(viommu_virtio_start(before.engine) == VIOMMU_OK);
  for (std::uint64_t i = 0; i < 5; ++i) rings.offer(buffers + 0x100 * i);
  REQUIRE(viommu_virtio_notify(before.engine, VIOMMU_VIRTIO_EVENTS) == VIOMMU_OK);
  CHECK(before.translate(pf, 0x5000).status == VIOMMU_FAULT_RECORDED);
  CHECK(viommu_quiesce(before.engine, nullptr) == VIOMMU_OK);
  const State state = save(before.engine);
  VirtioMachine after;
  share_memory(after, before);
  REQUIRE(after.plug(pf) == VIOMMU_OK);
  require_load(after.engine, state);
  CHECK(save(after.engine) == state);
  for (unsigned i = 1; i < 5; ++i) CHECK(after.translate(pf, 0x5000 + i).status == VIOMMU_FAULT_RECORDED);
  CHECK(after.translate(pf, 0x9000).status == VIOMMU_FAULT_NO_BUFFER);
  static_cast<void>(after.process());
  CHECK(rings.driver.collect().size() == 5);
  for (std::uint64_t i = 0; i < 5; ++i)
    CHECK(before.guest.template get<std::uint64_t>(buffers + 0x100 * i + 16) == 0x5000 + i);
}

TEST_CASE("a device that broke stays broken elsewhere until it is reset", "[virtio][state][rings][S5.7]") {
  VirtioMachine before;
  Rings<SplitDriver> rings{before.guest, false};
  before.negotiate(rings.features);
  rings.enable(before, VIOMMU_VIRTIO_REQUESTS);
  REQUIRE(viommu_virtio_start(before.engine) == VIOMMU_OK);
  rings.driver.announce(1000);
  REQUIRE(viommu_virtio_notify(before.engine, VIOMMU_VIRTIO_REQUESTS) == VIOMMU_OK);
  VirtioMachine after;
  share_memory(after, before);
  require_load(after.engine, save(before.engine));
  std::uint32_t broken = 0;
  REQUIRE(viommu_virtio_broken(after.engine, &broken) == VIOMMU_OK);
  CHECK(broken == 1);
  CHECK(after.needs_reset == 0);  // the driver has been told
  REQUIRE(viommu_virtio_reset(after.engine) == VIOMMU_OK);
  REQUIRE(viommu_virtio_broken(after.engine, &broken) == VIOMMU_OK);
  CHECK(broken == 0);
}

TEST_CASE("a load finds nothing of what a virtio-iommu was before, and consumers hold what the state says",
          "[virtio][state][S5.7]") {
  const State state = state_of_guest();
  VirtioMachine machine;
  machine.add_region(0, 0x10'0000, nullptr);
  plug_all(machine);
  machine.negotiate(0x1'0000'0077);
  Consumer consumer;
  consumer.join(machine, pf);
  REQUIRE(machine.attach(7, pf) == st::ok);
  REQUIRE(machine.attach(7, other_vf) == st::ok);
  REQUIRE(machine.attach(3, vf) == st::ok);
  for (std::uint64_t page = 0; page < 300; ++page)
    REQUIRE(machine.map(7, page << 13, (page << 13) + 0xFFF, 0x6000) == st::ok);
  REQUIRE(machine.map(3, 0x1000, 0x1FFF, 0x6000) == st::ok);
  CHECK(machine.translate(vf, 0x1000).gpa == 0x6000);
  CHECK(consumer.holds.size() == 300);
  require_load(machine.engine, state);
  check_guest(machine);
  CHECK(machine.process().state == VIOMMU_PROCESS_IDLE);
  const std::map<std::uint64_t, std::uint64_t> reached{
      {0x1000, 0x8000}, {0x4000'0000, 0}, {0x4010'0000, RingGuest::first}};  // as far as there is memory
  CHECK(consumer.holds == reached);
  CHECK(save(machine.engine) == state);
  require_load(machine.engine, state);
  check_guest(machine);
  CHECK(machine.device_figures().mappings == 4);
  CHECK(save(machine.engine) == state);
}

TEST_CASE("a state of a virtio-iommu that was changed in any bit, or cut anywhere, is refused and changes nothing",
          "[virtio][state][S5.6]") {
  const State good = state_of_guest();
  VirtioMachine machine;
  make_guest(machine);
  REQUIRE(machine.unmap(7, 0x9000, 0x9FFF) == st::ok);
  const State before = save(machine.engine);
  CHECK(broken_states_taken(machine.engine, good) == 0);
  CHECK(save(machine.engine) == before);
}

TEST_CASE("a state of a virtio-iommu with any bit changed under its checksum is refused, or saved as the same",
          "[virtio][state][S5.6][property]") {
  const State good = state_of_guest();
  VirtioMachine machine;
  plug_all(machine);
  unsigned accepted = 0;
  for (std::size_t bit = std::size_t{24} * 8; bit < (good.size() - 8) * 8; ++bit) {
    State state = good;
    state[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    reseal(state);
    if (load(machine.engine, state).result != VIOMMU_OK) continue;
    ++accepted;
    if (save(machine.engine) != state) FAIL_CHECK("bit " << bit << " was taken and changed");
  }
  CHECK(accepted > 100);
  require_load(machine.engine, good);
  check_guest(machine);
}

TEST_CASE("a state of a virtio-iommu that is another one is refused by the first field that differs",
          "[virtio][state][S5.6]") {
  const State state = state_of_guest();
  const auto into = [&](const viommu_virtio_options& options) {
    VirtioMachine machine{options};
    plug_all(machine);
    const State before = save(machine.engine);
    const Loaded loaded = load(machine.engine, state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    CHECK(loaded.refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(save(machine.engine) == before);
    return loaded;
  };
  viommu_virtio_options options = virtio_options();
  options.without = 1 << 5;
  const Loaded mmio = into(options);
  CHECK(mmio.field() == "MMIO");
  CHECK(mmio.refusal.expected == 0);
  CHECK(mmio.refusal.found == 1);
  options.without = 1ULL << 34;
  CHECK(into(options).field() == "RING_PACKED");
  options = virtio_options();
  options.page_size_mask = ~std::uint64_t{0x1FFF};
  CHECK(into(options).field() == "page_size_mask");
  options = virtio_options();
  options.first_input = 0x1000;
  CHECK(into(options).field() == "input_range.start");
  options = virtio_options();
  options.last_input = (1ULL << 48) - 1;
  CHECK(into(options).field() == "input_range.end");
  options = virtio_options();
  options.first_domain = 1;
  CHECK(into(options).field() == "domain_range.start");
  options = virtio_options();
  options.last_domain = 100;
  CHECK(into(options).field() == "domain_range.end");
  options = virtio_options();
  options.probe_size = 1024;
  CHECK(into(options).field() == "probe_size");
}

TEST_CASE("an attached endpoint that is missing, and more than there may be, are refused and change nothing",
          "[virtio][state][S5.6]") {
  const State state = state_of_guest();
  viommu_virtio_options options = virtio_options();
  {
    VirtioMachine machine;
    REQUIRE(machine.plug(pf) == VIOMMU_OK);
    machine.negotiate();
    REQUIRE(machine.attach(1, pf) == st::ok);
    const State before = save(machine.engine);
    const Loaded loaded = load(machine.engine, state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    CHECK(loaded.field() == "endpoint");
    CHECK(loaded.refusal.found == vf);
    CHECK(save(machine.engine) == before);
    REQUIRE(machine.plug(vf) == VIOMMU_OK);
    require_load(machine.engine, state);
  }
  const auto refused = [&](const char* section, const std::vector<std::uint16_t>& devices = {pf, vf, other_vf}) {
    VirtioMachine machine{options};
    for (const std::uint16_t source : devices) REQUIRE(machine.plug(source) == VIOMMU_OK);
    const State before = save(machine.engine);
    const Loaded loaded = load(machine.engine, state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    CHECK(loaded.field() == section);
    CHECK(save(machine.engine) == before);
  };
  options.domains = 1;
  refused("DOMS");
  options = virtio_options();
  options.mappings = 3;
  refused("DOMS");
  options = virtio_options();
  options.endpoints = 1;  // two are attached
  refused("ENDP", {pf});
  options.endpoints = 2;  // and one has gone
  refused("GONE", {pf, vf});
  options.endpoints = 3;
  {
    VirtioMachine machine{options};
    plug_all(machine);
    require_load(machine.engine, state);
  }
  options.flags |= VIOMMU_VIRTIO_STRICT_DETACH;  // which remembers nobody
  refused("GONE");
}

TEST_CASE("a load for which there is no memory leaves a virtio-iommu as after a reset of the system",
          "[virtio][state][S5.6]") {
  VirtioMachine before;
  make_guest(before);
  for (std::uint64_t page = 0x100; page < 0x200; ++page)
    REQUIRE(before.map(7, page << 14, (page << 14) + 0xFFF, 0x8000) == st::ok);
  const State state = save(before.engine);
  viommu_virtio_options options = virtio_options();
  options.mapping_bytes = 4096;
  VirtioMachine machine{options};
  plug_all(machine);
  machine.negotiate();
  REQUIRE(machine.attach(3, pf) == st::ok);
  REQUIRE(machine.map(3, 0x1000, 0x1FFF, 0x6000) == st::ok);
  for (unsigned turn = 0; turn < 3; ++turn) {
    CHECK(load(machine.engine, state).result == VIOMMU_E_MEMORY);
    for (const std::uint16_t source : {pf, vf, other_vf})
      CHECK(machine.reason(source, 0x1000) == VIOMMU_VIRTIO_FAULT_DOMAIN);
    CHECK(machine.device_figures().domains == 0);
    CHECK(machine.device_figures().mappings == 0);
  }
  machine.negotiate();
  REQUIRE(machine.attach(7, vf) == st::ok);
  REQUIRE(machine.map(7, 0x1000, 0x1FFF, 0x6000) == st::ok);
  CHECK(machine.translate(vf, 0x1000).gpa == 0x6000);
  require_load(machine.engine, state_of_guest());
  check_guest(machine);
}

TEST_CASE("a state that no virtio-iommu could have come to is refused, whoever made its checksum",
          "[virtio][state][S5.6][SEC-9]") {
  const State good = state_of_guest();
  VirtioMachine machine;
  plug_all(machine);
  const State before = save(machine.engine);
  const auto refused = [&](const std::string& section, std::size_t offset, std::uint64_t value, std::size_t bytes) {
    State state = good;
    put_number(state, section_at(good, section).value() + offset, value, bytes);
    reseal(state);
    const Loaded loaded = load(machine.engine, state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    return loaded.field();
  };
  CHECK(refused("TRAN", 0, 0x77, 8) == "TRAN");           // no VERSION_1
  CHECK(refused("TRAN", 0, 0x1'0000'0088, 8) == "TRAN");  // BYPASS
  CHECK(refused("TRAN", 8, 2, 4) == "TRAN");              // broken, and does not run
  CHECK(refused("TRAN", 8, 8, 4) == "TRAN");
  CHECK(refused("QUES", 0, 16, 4) == "QUES");  // split, and no wrap counters
  CHECK(refused("QUES", 28, 1, 2) == "QUES");  // not there, with an index
  CHECK(refused("QUES", 40, 0x1'0000, 4) == "QUES");
  CHECK(refused("DOMS", 0, ~std::uint32_t{0}, 4) == "DOMS");
  CHECK(refused("DOMS", 4, 9, 4) == "DOMS");  // twice
  CHECK(refused("DOMS", 8, 1, 4) == "DOMS");  // bypasses, and has mappings
  CHECK(refused("DOMS", 12, 5, 8) == "MAPS");
  CHECK(refused("DOMS", 12, 3, 8) == "MAPS");
  CHECK(refused("DOMS", 12, ~std::uint64_t{0}, 8) == "DOMS");
  CHECK(refused("ENDP", 0, 3, 4) == "ENDP");
  CHECK(refused("ENDP", 8, 8, 4) == "ENDP");       // no such domain
  CHECK(refused("ENDP", 8, 9, 4) == "ENDP");       // and the other one is empty
  CHECK(refused("ENDP", 4, vf, 4) == "ENDP");      // twice
  CHECK(refused("GONE", 4, pf, 4) == "GONE");      // attached
  CHECK(refused("MAPS", 0, 0x3000, 8) == "MAPS");  // upside down
  CHECK(refused("MAPS", 0, 0x1800, 8) == "MAPS");  // not aligned
  CHECK(refused("MAPS", 8, 0x4FFF, 8) == "MAPS");  // overlaps the next
  CHECK(refused("MAPS", 16, 0x8001, 8) == "MAPS");
  CHECK(refused("MAPS", 16, ~std::uint64_t{0xFFF}, 8) == "MAPS");  // wraps
  CHECK(refused("MAPS", 24, 8, 4) == "MAPS");
  CHECK(save(machine.engine) == before);
}

TEST_CASE("what a virtio-iommu does not offer, and places that it does not have, are refused out of a state",
          "[virtio][state][S5.6][SEC-9]") {
  viommu_virtio_options options = virtio_options();
  // Neither MMIO nor BYPASS_CONFIG, and of the rings' features none.
  options.without = 1ULL << 5 | 1ULL << 6 | 1ULL << 28 | 1ULL << 29 | 1ULL << 34;
  options.first_input = 0x1000;
  options.last_input = 0xF'FFFF;
  options.first_domain = 2;
  options.last_domain = 9;
  VirtioMachine machine{options};
  plug_all(machine);
  constexpr std::uint16_t also_gone = gone_vf + 1;
  REQUIRE(machine.plug(gone_vf) == VIOMMU_OK);
  REQUIRE(machine.plug(also_gone) == VIOMMU_OK);
  machine.negotiate(0x1'0000'0017);
  REQUIRE(machine.attach(4, pf) == st::ok);
  REQUIRE(machine.attach(6, vf) == st::ok);
  REQUIRE(machine.map(4, 0x1000, 0x1FFF, 0x8000) == st::ok);
  for (const std::uint16_t source : {gone_vf, also_gone}) {
    REQUIRE(machine.attach(5, source) == st::ok);
    machine.unplug(source);
  }
  State good = save(machine.engine);
  // A split queue of 16 that nobody has used yet.
  const std::size_t queue = section_at(good, "QUES").value();
  put_number(good, queue, 16, 4);
  put_number(good, queue + 4, RingGuest::first, 8);
  put_number(good, queue + 12, RingGuest::first + 0x1000, 8);
  put_number(good, queue + 20, RingGuest::first + 0x2000, 8);
  put_number(good, queue + 32, 3, 4);
  reseal(good);
  require_load(machine.engine, good);
  REQUIRE(save(machine.engine) == good);

  const auto refused = [&](const State& state) {
    const Loaded loaded = load(machine.engine, state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    CHECK(save(machine.engine) == good);
    return loaded.field();
  };
  const auto changed = [&](const char* section, std::size_t offset, std::uint64_t value, std::size_t bytes) {
    State state = good;
    put_number(state, section_at(good, section).value() + offset, value, bytes);
    reseal(state);
    return refused(state);
  };
  SECTION("features of rings, and a ring that is not aligned") {
    for (const std::uint64_t bits : {4U, 8U, 16U, 32U}) CHECK(changed("QUES", 32, 3 | bits, 4) == "QUES");
    CHECK(changed("QUES", 4, RingGuest::first + 4, 8) == "QUES");
  }
  SECTION("the byte and the domains that bypass, without BYPASS_CONFIG") {
    CHECK(changed("TRAN", 8, 4, 4) == "TRAN");
    CHECK(changed("DOMS", 4 + 16 + 4, 1, 4) == "DOMS");
  }
  SECTION("domains out of their range") {
    CHECK(changed("DOMS", 4, 1, 4) == "DOMS");
    CHECK(changed("DOMS", 4 + 16, 10, 4) == "DOMS");
    CHECK(changed("GONE", 8, 1, 4) == "GONE");
  }
  SECTION("an endpoint that has gone twice") { CHECK(changed("GONE", 4 + 8, gone_vf, 4) == "GONE"); }
  SECTION("mappings out of the range of addresses, and memory of devices") {
    State below = good;
    const std::size_t mapping = section_at(good, "MAPS").value();
    put_number(below, mapping, 0, 8);
    reseal(below);
    CHECK(refused(below) == "MAPS");
    CHECK(changed("MAPS", 8, 0x10'0FFF, 8) == "MAPS");
    CHECK(changed("MAPS", 24, 4 | 3, 4) == "MAPS");
  }
  SECTION("a section of another length") {
    for (const char* const section : {"VDEV", "TRAN", "QUES", "DOMS", "ENDP", "GONE", "MAPS"}) {
      CAPTURE(section);
      State state = good;
      const std::size_t begin = section_at(good, section).value();
      put_number(state, begin - 4, number_at(good, begin - 4, 4) + 4, 4);
      state.insert(state.begin() + static_cast<std::ptrdiff_t>(begin), 4, std::byte{0});
      reseal(state);
      CHECK(refused(state) == section);
    }
  }
}

TEST_CASE("more endpoints in domains than a virtio-iommu has places for are refused", "[virtio][state][S5.6]") {
  const State state = state_of_guest();
  viommu_virtio_options options = virtio_options();
  options.endpoints = 1;
  VirtioMachine machine{options};
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  const State before = save(machine.engine);
  const Loaded loaded = load(machine.engine, state);
  CHECK(loaded.result == VIOMMU_E_REFUSED);
  CHECK(loaded.field() == "ENDP");
  CHECK(save(machine.engine) == before);
}

TEST_CASE("a state of a virtio-iommu of version 1 goes on loading", "[virtio][state][S5.6]") {
  std::ifstream file{source_folder() / "tests/states/virtio-version-1.hex"};
  REQUIRE(file);
  State golden;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    for (std::size_t at = 0; at + 1 < line.size(); at += 2)
      golden.push_back(static_cast<std::byte>(std::stoul(line.substr(at, 2), nullptr, 16)));
  }
  CHECK(state_of_guest() == golden);
  VirtioMachine machine;
  plug_all(machine);
  require_load(machine.engine, golden);
  check_guest(machine);
}

TEST_CASE("states of a unit and of a virtio-iommu are not each other's", "[virtio][state][S5.6]") {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = 0x80D2'078C'222F'0606;
  options.extended_capability = 0xF0'0F4B;
  options.host_address_width = 48;
  viommu_host host{};
  host.size = sizeof host;
  std::array<char, 160> text{};
  viommu_engine* unit = nullptr;
  const viommu_result created = viommu_create_vtd(&options, &host, text.data(), text.size(), &unit);
  INFO(text.data());
  REQUIRE(created == VIOMMU_OK);
  VirtioMachine machine;
  const State of_unit = save(unit);
  const State of_device = save(machine.engine);
  const Loaded one = load(machine.engine, of_unit);
  const Loaded other = load(unit, of_device);
  CHECK(one.refusal.code == VIOMMU_REFUSED_BAD_STATE);
  CHECK(one.field() == "CAPS");
  CHECK(other.refusal.code == VIOMMU_REFUSED_BAD_STATE);
  CHECK(other.field() == "VDEV");
  CHECK(save(unit) == of_unit);
  CHECK(save(machine.engine) == of_device);
  static_cast<void>(viommu_destroy(unit));
}

TEST_CASE("a virtio-iommu is saved when it is quiet, and a request that waits is in the way", "[virtio][state][S5.5]") {
  VirtioMachine machine;
  make_guest(machine);
  const State quiet = save(machine.engine);
  const Bytes request = unmap_bytes(7, 0x9000, 0x9FFF);
  std::array<std::uint8_t, 4> reply{};
  std::uint32_t used = 0;
  const auto ask = [&] {
    return viommu_virtio_request(machine.engine, request.data(), request.size(), reply.data(), reply.size(), &used);
  };
  viommu_enter(machine.reader);
  CHECK(machine.translate(pf, 0x9000).gpa == 0x2'0000'0000);
  CHECK(save(machine.engine) == quiet);  // a guard alone hinders nobody
  CHECK(ask() == VIOMMU_E_BUSY);
  const Saved saved = try_save(machine.engine);
  CHECK(saved.result == VIOMMU_E_REFUSED);
  CHECK(saved.refusal.code == VIOMMU_REFUSED_BUSY);
  CHECK(std::string{saved.refusal.field} == "guard");
  viommu_leave(machine.reader);
  CHECK(ask() == VIOMMU_OK);
  CHECK(save(machine.engine) != quiet);
  // A load is for a request that waits what a reset is.
  viommu_enter(machine.reader);
  CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  const Bytes waiting = unmap_bytes(7, 0x1000, 0x2FFF);
  CHECK(viommu_virtio_request(machine.engine, waiting.data(), waiting.size(), reply.data(), reply.size(), &used) ==
        VIOMMU_E_BUSY);
  require_load(machine.engine, quiet);
  viommu_leave(machine.reader);
  check_guest(machine);
  CHECK(save(machine.engine) == quiet);
  CHECK(machine.unmap(7, 0x1000, 0x2FFF) == st::ok);
}

TEST_CASE("a state is neither saved nor loaded while another thread is at the device's work", "[virtio][state][S5.5]") {
  VirtioMachine machine;
  make_guest(machine);
  Consumer consumer;
  consumer.join(machine, pf);
  const State quiet = save(machine.engine);
  Saved saved;
  Loaded loaded;
  unsigned times = 0;
  machine.on_view = [&](std::uint16_t, std::uint32_t) {
    if (times++ != 0) return;
    std::thread{[&] {
      saved = try_save(machine.engine);
      loaded = load(machine.engine, quiet);
    }}.join();
  };
  REQUIRE(machine.detach(7, pf) == st::ok);
  CHECK(times != 0);
  CHECK(saved.result == VIOMMU_E_REFUSED);
  CHECK(saved.refusal.code == VIOMMU_REFUSED_BUSY);
  CHECK(std::string{saved.refusal.field} == "process");
  CHECK(loaded.result == VIOMMU_E_BUSY);
  CHECK(machine.translate(pf, 0x2345).kind == VIOMMU_IDENTITY);  // it is detached, as was asked
  require_load(machine.engine, quiet);
  check_guest(machine);
}

TEST_CASE("many mappings of any form travel, in as many bytes as are said", "[virtio][state][S5.7]") {
  viommu_virtio_options options = virtio_options();
  options.page_size_mask = ~std::uint64_t{0};
  VirtioMachine before{options};
  plug_all(before);
  before.negotiate();
  Random random{11};
  REQUIRE(before.attach(0x8000'0000, pf) == st::ok);
  REQUIRE(before.attach(5, vf) == st::ok);
  for (std::uint32_t i = 0; i < 6000; ++i) {
    const std::uint64_t first = random.below(1 << 28) << (i % 3 == 0 ? 12 : 0);
    const std::uint64_t last = first + (i % 3 == 0 ? 0xFFF : random.below(0x3000));
    static_cast<void>(before.map(i % 2 == 0 ? 5 : 0x8000'0000, first, last, random.below(1ULL << 40), i % 8));
  }
  const State state = save(before.engine);
  VirtioMachine after{options};
  plug_all(after);
  require_load(after.engine, state);
  CHECK(save(after.engine) == state);
  const std::uint64_t mappings = after.device_figures().mappings;
  CHECK(mappings > 4000);
  CHECK(mappings == before.device_figures().mappings);
  for (unsigned i = 0; i < 2000; ++i) {
    const std::uint64_t at = random.below(1 << 28) << (i % 3 == 0 ? 12 : 0);
    const viommu_translation one = before.translate(pf, at, VIOMMU_READ, VIOMMU_NO_REPORT);
    const viommu_translation other = after.translate(pf, at, VIOMMU_READ, VIOMMU_NO_REPORT);
    CHECK(one.kind == other.kind);
    CHECK(one.gpa == other.gpa);
    CHECK(one.rights == other.rights);
  }
}

}  // namespace viommu::test
