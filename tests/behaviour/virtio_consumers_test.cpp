// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Assigned devices behind a virtio-iommu: what their consumers are told, what their hosts leave of the device, and
// requests that somebody cannot follow.
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint64_t ram = 0x1'0000'0000;
constexpr std::uint64_t ram_bytes = 0x4000'0000;
constexpr std::uint64_t mib2 = 0x20'0000;

/// With RAM at 4 GiB that nobody reads, and two devices.
struct Assigned : VirtioMachine {
  explicit Assigned(const viommu_virtio_options& options = virtio_options()) : VirtioMachine{options} {
    add_region(ram, ram_bytes, nullptr);
    negotiate();
    REQUIRE(plug(pf) == VIOMMU_OK);
    REQUIRE(plug(vf) == VIOMMU_OK);
    join(a, pf);
    join(b, vf);
  }
  void join(MirrorModel& model, std::uint16_t source) const { model.join(engine, source); }
  MirrorModel a{VIOMMU_CONSUMER_LEAF};
  MirrorModel b{VIOMMU_CONSUMER_LEAF};
};

using Events = std::vector<Seen>;
using Extents = std::vector<Extent>;

[[nodiscard]] std::uint64_t page_sizes(const VirtioMachine& machine) {
  std::uint64_t value = 0;
  REQUIRE(viommu_virtio_config_read(machine.engine, 0, 8, &value) == VIOMMU_OK);
  return value;
}

struct Property {
  unsigned kind;
  std::uint64_t first;
  std::uint64_t last;
  friend bool operator==(const Property&, const Property&) = default;
};
/// What PROBE says; the status with it.
[[nodiscard]] std::vector<Property> probed(VirtioMachine& machine, std::uint16_t source, std::uint8_t& status) {
  const Bytes reply = machine.ask(probe_bytes(source), 516);
  REQUIRE(reply.size() == 516);
  status = reply[512];
  std::vector<Property> found;
  for (std::size_t at = 0; at + 24 <= 512 && reply[at] == 1; at += 24) {
    Property property{reply[at + 4], 0, 0};
    std::memcpy(&property.first, reply.data() + at + 8, 8);
    std::memcpy(&property.last, reply.data() + at + 16, 8);
    found.push_back(property);
  }
  return found;
}

}  // namespace

TEST_CASE("a device that moves to another domain has the old mappings withdrawn, its view changed, the new delivered",
          "[virtio][consumer][S3.7][S3.8][S4.14]") {
  Assigned machine;
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, ram) == st::ok);
  REQUIRE(machine.attach(2, vf) == st::ok);
  REQUIRE(machine.map(2, 0x5000, 0x5FFF, ram + 0x1000) == st::ok);
  REQUIRE(machine.map(2, 0x9000, 0x9FFF, ram + 0x2000) == st::ok);
  machine.a.take_seen();
  CHECK(machine.attach(1, pf) == st::ok);  // where it is
  CHECK(machine.a.take_seen().empty());
  std::vector<std::string> order;
  machine.on_view = [&](std::uint16_t source, std::uint32_t view) {
    order.push_back("view " + std::to_string(source) + " " + std::to_string(view));
  };
  CHECK(machine.attach(2, pf) == st::ok);
  CHECK(machine.a.take_seen() ==
        Events{unmapped(0x1000, 0x1000), mapped(0x5000, 0x1000, ram + 0x1000), mapped(0x9000, 0x1000, ram + 0x2000)});
  CHECK(machine.map(1, 0, 0xFFF, ram) == st::no_entry);
  CHECK(machine.a.extents() == machine.b.extents());
  CHECK(machine.detach(2, pf) == st::ok);
  CHECK(machine.a.extents().empty());
  CHECK(order == std::vector<std::string>{"view 768 2"});
  CHECK(machine.b.extents().size() == 2);
}

TEST_CASE("MAP and UNMAP reach every device of the domain, or none", "[virtio][consumer][S3.11][SEC-15]") {
  Assigned machine;
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.attach(1, vf) == st::ok);
  REQUIRE(machine.map(1, 0, mib2 - 1, ram) == st::ok);
  const Extents one{{0, mib2, ram, 3}};
  CHECK(machine.a.extents() == one);
  CHECK(machine.b.extents() == one);
  machine.b.fails = [](const viommu_event&) { return true; };
  CHECK(machine.unmap(1, 0, mib2 - 1) == st::device_error);
  CHECK(machine.a.extents() == one);
  CHECK(machine.b.extents() == one);
  CHECK(machine.translate(pf, 0x1234).gpa == ram + 0x1234);
  CHECK(machine.map(1, mib2, 2 * mib2 - 1, ram + mib2) == st::device_error);
  CHECK(machine.a.extents() == one);
  CHECK(machine.reason(pf, mib2) == VIOMMU_VIRTIO_FAULT_MAPPING);
  machine.b.fails = nullptr;
  CHECK(machine.map(1, mib2, 2 * mib2 - 1, ram + mib2) == st::ok);
  CHECK(machine.unmap(1, 0, 2 * mib2 - 1) == st::ok);
  CHECK(machine.a.extents().empty());
  CHECK(machine.b.extents().empty());
  CHECK(machine.map(1, 0, mib2 - 1, ram) == st::ok);
  CHECK(machine.a.wrong.empty());
  CHECK(machine.b.wrong.empty());
}

TEST_CASE("bypass gives and takes all of memory, from endpoints in no domain alone",
          "[virtio][consumer][S4.9][S4.14]") {
  Assigned machine;
  REQUIRE(machine.attach(1, vf) == st::ok);
  CHECK(machine.a.extents().empty());
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 1) == VIOMMU_OK);
  const Extents all{{RingGuest::first, RingGuest::bytes, RingGuest::first, 3}, {ram, ram_bytes, ram, 3}};
  CHECK(machine.a.extents() == all);
  CHECK(machine.b.extents().empty());
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 0) == VIOMMU_OK);
  CHECK(machine.a.extents().empty());
  CHECK(machine.attach(9, pf, 1) == st::ok);
  CHECK(machine.a.extents() == all);
  REQUIRE(viommu_virtio_reset(machine.engine) == VIOMMU_OK);
  CHECK(machine.a.extents().empty());
}

TEST_CASE("a virtual function that is unplugged has its mappings withdrawn, and the others keep theirs",
          "[virtio][consumer][S3.2][A17]") {
  Assigned machine;
  REQUIRE(machine.attach(2, vf) == st::ok);
  REQUIRE(machine.attach(2, pf) == st::ok);
  REQUIRE(machine.map(2, 0, mib2 - 1, ram) == st::ok);
  CHECK(machine.b.extents().size() == 1);
  machine.unplug(vf);
  CHECK(machine.b.extents().empty());
  CHECK(machine.a.extents().size() == 1);
  CHECK(machine.translate(pf, 0x1000).gpa == ram + 0x1000);
}

TEST_CASE("who only hears of what goes hears of each UNMAP and of each move", "[virtio][consumer]") {
  Assigned machine;
  MirrorModel cache;
  cache.consumer.notify = VIOMMU_EVENT_UNMAP;
  cache.consumer.last = ~std::uint64_t{0};
  machine.join(cache, pf);
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x2FFF, ram) == st::ok);
  cache.take_seen();
  REQUIRE(machine.unmap(1, 0x1000, 0x2FFF) == st::ok);
  CHECK(cache.take_seen() == Events{unmapped(0x1000, 0x2000)});
  REQUIRE(machine.detach(1, pf) == st::ok);
  CHECK(cache.take_seen().size() == 1);
}

TEST_CASE("who only hears of what goes hears of bypass that is taken away, beyond what a domain can map too",
          "[virtio][consumer][S4.9]") {
  viommu_virtio_options options = virtio_options();
  options.last_input = 0x7F'FFFF'FFFF;
  constexpr std::uint64_t beyond = 0x3100'0000'5000;
  Assigned machine{options};
  MirrorModel cache;
  cache.consumer.notify = VIOMMU_EVENT_UNMAP;
  cache.consumer.last = ~std::uint64_t{0};
  machine.join(cache, pf);
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 1) == VIOMMU_OK);
  CHECK(machine.translate(pf, beyond).gpa == beyond);
  cache.take_seen();
  REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, 0) == VIOMMU_OK);
  bool heard = false;
  for (const Seen& one : cache.take_seen())
    heard =
        heard || (one.what.iova <= beyond && (one.what.length == 0 || one.what.iova + (one.what.length - 1) >= beyond));
  CHECK(heard);
}

TEST_CASE("page sizes are those of all hosts of the start, and frozen after it", "[virtio][hosts][S2.15]") {
  VirtioMachine machine;
  machine.negotiate();
  const auto mask = [&] { return page_sizes(machine); };
  HostIommu host;
  host.page_sizes = 0xFFFF'FFFF'FFFF'0000;
  viommu_host_facts facts = host.facts();
  CHECK(mask() == 0xFFFF'FFFF'FFFF'F000);
  SECTION("cold") {
    REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
    CHECK(mask() == 0xFFFF'FFFF'FFFF'0000);
    CHECK(machine.attach(1, pf) == st::ok);
    CHECK(machine.map(1, 0, 0xFFF, ram) == st::range);
    host.page_sizes = 0x1000;
    facts = host.facts();
    CHECK(machine.plug(host_device(vf, facts)) == VIOMMU_E_REFUSED);
    CHECK(machine.refusal.code == VIOMMU_REFUSED_PAGE_SIZES_DISJOINT);
    CHECK(mask() == 0xFFFF'FFFF'FFFF'0000);
    CHECK(machine.reason(vf, 0) == VIOMMU_VIRTIO_FAULT_UNKNOWN);
    host.page_sizes = 0;
    facts = host.facts();
    CHECK(machine.plug(host_device(vf, facts)) == VIOMMU_E_REFUSED);
  }
  SECTION("hot") {
    REQUIRE(viommu_ready(machine.engine, nullptr, 0, nullptr) == VIOMMU_OK);
    CHECK(machine.plug(host_device(pf, facts)) == VIOMMU_E_REFUSED);
    CHECK(machine.refusal.code == VIOMMU_REFUSED_GRANULE_FROZEN);
    CHECK(machine.refusal.expected == 0x1000);
    CHECK(mask() == 0xFFFF'FFFF'FFFF'F000);
    host.page_sizes = 0x4020'1000;
    facts = host.facts();
    CHECK(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
    CHECK(mask() == 0xFFFF'FFFF'FFFF'F000);
  }
}

TEST_CASE("what a host cannot map is reserved memory of its endpoint, beside the doorbell",
          "[virtio][hosts][S2.16][S3.17][A26]") {
  VirtioMachine machine;
  HostIommu host;
  host.ranges = {{0, 0xFEDF'FFFF}, {0xFEF0'0000, 0x7F'FFFF'FFFF}};
  const viommu_host_facts facts = host.facts();
  REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
  machine.negotiate();
  std::uint8_t status = 0xFF;
  const std::vector<Property> doorbell{{VIOMMU_VIRTIO_MSI, msi_first, msi_last}};
  const std::vector<Property> with_holes{{VIOMMU_VIRTIO_MSI, msi_first, msi_last},
                                         {VIOMMU_VIRTIO_RESERVED, 0x80'0000'0000, ~std::uint64_t{0}}};
  CHECK(probed(machine, pf, status) == with_holes);
  CHECK(status == st::ok);
  REQUIRE(machine.attach(1, pf) == st::ok);
  CHECK(machine.map(1, 0x80'0000'0000, 0x80'0000'0FFF, 0) == st::invalid);
  CHECK(machine.reason(pf, 0x80'0000'0000) == VIOMMU_VIRTIO_FAULT_MAPPING);
  REQUIRE(viommu_host_facts_unset(machine.engine, pf) == VIOMMU_OK);
  CHECK(probed(machine, pf, status) == doorbell);
  CHECK(machine.map(1, 0x80'0000'0000, 0x80'0000'0FFF, 0) == st::ok);
  SECTION("more than there is room for") {
    host.ranges.clear();
    for (std::uint64_t i = 0; i < 22; ++i) host.ranges.push_back({i << 32, (i << 32) + 0xFFFF'FFF});
    const viommu_host_facts many = host.facts();
    REQUIRE(machine.plug(host_device(vf, many)) == VIOMMU_OK);
    CHECK(probed(machine, vf, status).empty());
    CHECK(status == st::invalid);
  }
  SECTION("a host that says nothing of it") {
    host.missing = "iova_ranges";
    host.page_sizes = 0x4020'1000;
    const viommu_host_facts none = host.facts();
    REQUIRE(machine.plug(host_device(vf, none)) == VIOMMU_OK);
    CHECK(probed(machine, vf, status) == doorbell);
  }
}

TEST_CASE("reserved memory that comes after a mapping is blocked at once, whatever is cached of the domain",
          "[virtio][hosts][S2.16][S3.17]") {
  VirtioMachine machine;
  machine.negotiate();
  HostIommu host;
  host.ranges = {{0, 0x7F'FFFF'FFFF}};
  const viommu_host_facts facts = host.facts();
  REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
  REQUIRE(machine.plug(vf) == VIOMMU_OK);
  REQUIRE(viommu_host_facts_unset(machine.engine, pf) == VIOMMU_OK);
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.attach(1, vf) == st::ok);
  constexpr std::uint64_t border = 0x80'0000'0000;
  REQUIRE(machine.map(1, border - mib2, border + mib2 - 1, ram) == st::ok);
  MirrorModel cache;
  cache.consumer.notify = VIOMMU_EVENT_UNMAP;
  cache.consumer.last = ~std::uint64_t{0};
  viommu_refusal why = empty_refusal();
  REQUIRE(viommu_subscribe(machine.engine, pf, &cache.consumer, &why, &cache.id) == VIOMMU_OK);
  for (unsigned turn = 0; turn < 2; ++turn)
    for (const std::uint64_t iova : {border - 0x1000, border})
      CHECK(machine.translate(pf, iova).gpa == ram + iova - (border - mib2));
  REQUIRE(machine.plug(host_device(pf, facts)) == VIOMMU_OK);
  CHECK(cache.take_seen().size() == 1);  // whoever asks on each miss asks again
  CHECK(machine.translate(vf, border).gpa == ram + mib2);
  CHECK(machine.reason(pf, border) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.translate(pf, border - 0x1000).gpa == ram + mib2 - 0x1000);
  CHECK(machine.translate(pf, border - 0x1000).mask < mib2);
  CHECK(machine.reason(pf, border) == VIOMMU_VIRTIO_FAULT_MAPPING);
  const std::vector<viommu_request> requests(4, {border, 0, 0, pf, VIOMMU_READ, VIOMMU_NO_REPORT});
  std::vector<viommu_translation> answers(requests.size());
  REQUIRE(viommu_translate_batch(machine.reader, requests.data(), answers.data(), 4) == VIOMMU_OK);
  for (const viommu_translation& answer : answers) CHECK(answer.kind == VIOMMU_FAULT);
  CHECK(machine.unmap(1, border - mib2, border + mib2 - 1) == st::ok);
  CHECK(machine.map(1, border, border + 0xFFF, ram) == st::invalid);
}

TEST_CASE("reserved memory of a device behind an alias goes with it", "[virtio][hosts][S2.17]") {
  VirtioMachine machine;
  machine.negotiate();
  const viommu_range reserved{0x10'2000, 0x10'2FFF};
  viommu_device device{};
  device.size = sizeof device;
  device.flags = VIOMMU_DEVICE_HAS_ALIAS;
  device.alias = 0x500;
  device.source = 0x508;
  REQUIRE(machine.plug(device) == VIOMMU_OK);
  REQUIRE(machine.attach(1, 0x500) == st::ok);
  device.source = 0x510;
  device.reserved_count = 1;
  device.reserved_memory = &reserved;
  REQUIRE(machine.plug(device) == VIOMMU_OK);
  std::uint8_t status = 0xFF;
  const Property doorbell{VIOMMU_VIRTIO_MSI, msi_first, msi_last};
  CHECK(probed(machine, 0x500, status) ==
        std::vector<Property>{{VIOMMU_VIRTIO_RESERVED, reserved.first, reserved.last}, doorbell});
  CHECK(machine.map(1, reserved.first, reserved.last, ram) == st::invalid);
  machine.unplug(0x510);
  CHECK(probed(machine, 0x500, status) == std::vector<Property>{doorbell});
  CHECK(machine.map(1, reserved.first, reserved.last, ram) == st::ok);
  CHECK(machine.translate(0x500, reserved.first).gpa == ram);
}

TEST_CASE("a device that finds no place as an endpoint leaves all as it was", "[virtio][hosts][S2.15]") {
  viommu_virtio_options options = virtio_options();
  options.endpoints = 1;
  options.page_size_mask = 0x4020'1000;
  VirtioMachine machine{options};
  const auto mask = [&] { return page_sizes(machine); };
  HostIommu host;
  host.page_sizes = 0x20'1000;
  const viommu_host_facts narrow = host.facts();
  REQUIRE(machine.plug(host_device(pf, narrow)) == VIOMMU_OK);
  REQUIRE(mask() == 0x20'1000);
  HostIommu other;
  other.page_sizes = 0x1000;
  const viommu_host_facts narrower = other.facts();
  CHECK(machine.plug(host_device(vf, narrower)) == VIOMMU_E_LIMIT);
  CHECK(mask() == 0x20'1000);
  CHECK(viommu_host_facts_unset(machine.engine, vf) == VIOMMU_OK);  // it is not there
  machine.negotiate();
  REQUIRE(machine.attach(1, pf) == st::ok);
  REQUIRE(machine.map(1, 0x1000, 0x1FFF, 0x8000) == st::ok);
  SECTION("one that is there has its alias, and bypasses or not, for good") {
    REQUIRE(viommu_host_facts_unset(machine.engine, pf) == VIOMMU_OK);
    viommu_device again = host_device(pf, narrow);
    again.flags = VIOMMU_DEVICE_HAS_ALIAS;
    again.alias = 0x500;
    CHECK(machine.plug(again) == VIOMMU_E_REFUSED);
    CHECK(std::string{machine.refusal.field} == "alias");
    again.flags = VIOMMU_DEVICE_BYPASSED;
    CHECK(machine.plug(again) == VIOMMU_E_REFUSED);
    CHECK(std::string{machine.refusal.field} == "Bypassed");
    CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
    CHECK(machine.plug(host_device(pf, narrow)) == VIOMMU_OK);
    CHECK(machine.translate(pf, 0x1000).gpa == 0x8000);
  }
}

}  // namespace viommu::test
