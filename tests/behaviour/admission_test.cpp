// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who is let in beside a unit that cannot announce mappings, and when that is told: at the start or when it is plugged,
// and never later.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/behaviour/devices.hpp"
#include "tests/support/counting_allocator.hpp"

namespace viommu::test {
namespace {

/// An emulated device translating through a warm cache.
class Translating {
 public:
  explicit Translating(std::uint64_t cap) : machine{unit_options(cap)} {
    CHECK(plug_emulated(machine.engine, device_b) == VIOMMU_OK);
    REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
    tree = machine.attach(device_b, 7, 3);
    for (const std::uint64_t page : {1U, 2U, 3U}) machine.tables.map(tree, page << 12, 0x200000 + (page << 12));
    machine.boot();
    for (const std::uint64_t page : {1U, 2U, 3U}) CHECK(machine.lands(device_b, page << 12));
  }

  Machine machine;
  Tree tree{};
};

}  // namespace

TEST_CASE("host-backed devices that would miss mappings stop the start, all of them by name",
          "[behaviour][machine][S0.1][A01]") {
  CountingAllocator memory;
  {
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = &memory;
    host.allocate = memory.functions().allocate;
    host.deallocate = memory.functions().deallocate;
    Engine engine = *Engine::create_vtd(unit_options(cap_39), host);
    // The order in which they were added does not count.
    CHECK(plug_real(engine, device_b, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
    CHECK(plug_emulated(engine, 0x0300) == VIOMMU_OK);
    CHECK(plug_real(engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);

    for (const int round : {1, 2}) {
      CAPTURE(round);
      const std::vector<viommu_refusal> refusals = refused_at_ready(engine);
      REQUIRE(refusals.size() == 2);
      CHECK(refusals[0].source == device_a);
      CHECK(refusals[1].source == device_b);
      for (const viommu_refusal& refusal : refusals) {
        CHECK(refusal.code == VIOMMU_REFUSED_CACHING_MODE);
        CHECK(std::string{viommu_refusal_name(refusal.code)} == "CachingModeRequired");
        CHECK(std::string{refusal.field} == "caching-mode");
        CHECK(says(refusal, "caching-mode"));
      }
      CHECK(says(refusals[0], "01:00.0"));
      CHECK(says(refusals[1], "02:00.0"));
    }
    SECTION("less room than refusals still says how many there are") {
      viommu_refusal one = empty_refusal();
      std::uint32_t count = 0;
      CHECK(viommu_ready(engine.get(), &one, 1, &count) == VIOMMU_E_REFUSED);
      CHECK(count == 2);
      CHECK(one.source == device_a);
    }
    SECTION("still building: a cold device goes in, and without the offenders the start succeeds") {
      CHECK(plug_real(engine, 0x0400, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
      for (const std::uint16_t source : {device_a, device_b, std::uint16_t{0x0400}})
        CHECK(viommu_device_remove(engine.get(), source) == VIOMMU_OK);
      CHECK(refused_at_ready(engine).empty());
    }
  }
  CHECK(memory.open_blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

TEST_CASE("a device that would miss mappings is not plugged, and nothing shows that it was tried",
          "[behaviour][machine][S0.2][A02]") {
  Translating running{cap_39};
  Engine& engine = running.machine.engine;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> answers{0};
  Reader other = *engine.reader();
  const std::vector<std::uint64_t> before = snapshot(engine);
  HostIommu host;
  SECTION("a thousand times over") {
    for (int round = 0; round < 1000; ++round)
      CHECK(plug_real(engine, device_a, host).code == VIOMMU_REFUSED_CACHING_MODE);
    CHECK(snapshot(engine) == before);
    const std::uint64_t hits = engine.statistics().iotlb_hits;
    CHECK(running.machine.lands(device_b, 0x1000) == 0x201000);
    CHECK(engine.statistics().iotlb_hits == hits + 1);
  }
  SECTION("beside a thread that translates") {
    std::uint64_t wrong = 0;
    std::thread thread{[&] {
      while (!stop.load()) {
        const viommu_translation answer = other.translate(request(device_b, 0x1000, VIOMMU_READ));
        if (answer.kind != VIOMMU_TRANSLATED || answer.gpa != 0x201000) ++wrong;
        ++answers;
      }
    }};
    for (int round = 0; round < 1000 || answers < 1000; ++round)
      CHECK(plug_real(engine, device_a, host).code == VIOMMU_REFUSED_CACHING_MODE);
    stop = true;
    thread.join();
    CHECK(wrong == 0);
    const viommu_statistics after = engine.statistics();
    CHECK(after.walks == 3);
    CHECK(after.faults == 0);
  }
  CHECK(host.asked.empty());  // the answer costs the host nothing
}

TEST_CASE("with caching mode the same device is plugged", "[behaviour][machine][A02]") {
  Translating running{cap_39_announced};
  CHECK(plug_real(running.machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("the refusal of a hot device reads the same whatever the guest has switched on",
          "[behaviour][machine][S0.3]") {
  Machine machine{unit_options(cap_39)};
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  const viommu_refusal off = plug_real(machine.engine, device_a, HostIommu{});
  CHECK(off.code == VIOMMU_REFUSED_CACHING_MODE);
  const auto same = [&] {
    const viommu_refusal refusal = plug_real(machine.engine, device_a, HostIommu{});
    return std::memcmp(&refusal, &off, sizeof off) == 0;
  };
  machine.boot();
  CHECK(same());  // its context is absent
  machine.attach_pass_through(device_a, 5, 1);
  CHECK(same());
  static_cast<void>(machine.attach(device_a, 7, 3));
  CHECK(same());
}

TEST_CASE("nonsense about devices gets a status, and changes nothing", "[behaviour][machine][S0.5]") {
  Machine machine{unit_options(cap_39_announced)};
  viommu_engine* const engine = machine.engine.get();
  HostIommu host;
  viommu_host_facts facts = host.facts();
  viommu_refusal refusal = empty_refusal();
  const viommu_range upside_down{2, 1};
  const auto add = [&](auto change) {
    viommu_device device = described(device_a, VIOMMU_DEVICE_HOST);
    facts = host.facts();
    device.facts = &facts;
    change(device);
    return viommu_device_add(engine, &device, &refusal);
  };
  CHECK(add([](auto& device) { device.size = 8; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.size = 3; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.kind = 3; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.flags = VIOMMU_DEVICE_ENDPOINT * 2; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.facts = nullptr; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.kind = VIOMMU_DEVICE_EMULATED; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.kind = VIOMMU_DEVICE_MEDIATED; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([](auto& device) { device.reserved_count = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([&](auto& device) {
          device.reserved_count = 1;
          device.reserved_memory = &upside_down;
        }) == VIOMMU_E_ARGUMENT);
  CHECK(add([&](auto& device) {
          device.reserved_count = 257;
          device.reserved_memory = &upside_down;
        }) == VIOMMU_E_LIMIT);
  CHECK(add([&](auto&) { facts.size = 16; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([&](auto&) { facts.backend = 0; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([&](auto&) { facts.backend = 3; }) == VIOMMU_E_ARGUMENT);
  CHECK(add([&](auto&) { facts.reserved = 1; }) == VIOMMU_E_ARGUMENT);
  CHECK(host.asked.empty());
  CHECK(viommu_device_remove(engine, device_a) == VIOMMU_OK);
  CHECK(viommu_host_facts_unset(engine, device_a) == VIOMMU_OK);
  CHECK(viommu_bus_renumber(engine, 1, 1) == VIOMMU_OK);
  CHECK(viommu_bus_renumber(engine, 1, 2) == VIOMMU_OK);
  const viommu_veto veto{};
  CHECK(viommu_veto_add(engine, &veto) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ready(engine, nullptr, 1, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ready(engine, nullptr, 0, nullptr) == VIOMMU_OK);
  // Facts that no host has.
  for (const std::uint32_t bits : {0U, 65U, ~0U}) {
    HostIommu strange;
    strange.width = bits;
    const viommu_refusal why = plug_real(machine.engine, device_a, strange);
    CHECK(why.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(std::string{why.field} == "width");
  }
  for (const std::vector<viommu_range>& ranges : std::vector<std::vector<viommu_range>>{
           {{1, 0}}, {{0, 9}, {9, 10}}, {{5, 6}, {1, 2}}, std::vector<viommu_range>(4097)}) {
    HostIommu strange;
    strange.ranges = ranges;
    const viommu_refusal why = plug_real(machine.engine, device_a, strange);
    CHECK(why.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(std::string{why.field} == "iova_ranges");
  }
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("a device that is not mirrored, or that bypasses the unit, needs no caching mode",
          "[behaviour][machine][S0.9]") {
  Machine machine{unit_options(cap_39)};
  const bool cold = GENERATE(true, false);
  if (!cold) REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  viommu_refusal refusal{};
  HostIommu host{10};  // not looked at
  CHECK(plug(machine.engine, described(device_a, VIOMMU_DEVICE_HOST, VIOMMU_DEVICE_BYPASSED), &host, refusal) ==
        VIOMMU_OK);
  CHECK(host.asked.empty());
  CHECK(plug(machine.engine, described(device_b, VIOMMU_DEVICE_MEDIATED), nullptr, refusal) == VIOMMU_OK);
  CHECK(make_ready(machine.engine) == VIOMMU_OK);
  // The same device where it does pass the unit is another matter.
  CHECK(viommu_device_remove(machine.engine.get(), device_a) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_CACHING_MODE);
}

TEST_CASE("a unit that cannot translate needs no caching mode, and then translation stays off",
          "[behaviour][machine][S0.10][A05]") {
  Machine machine{unit_options(cap_without_widths)};
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  CHECK(plug_real(machine.engine, device_b, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  machine.write(offset::global_command, command::translation);
  CHECK_FALSE(machine.shows(command::translation));
  CHECK(machine.lands(device_a, 0x5000) == 0x5000);

  Machine with_widths{unit_options(cap_48)};
  REQUIRE(make_ready(with_widths.engine) == VIOMMU_OK);
  CHECK(plug_real(with_widths.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_CACHING_MODE);
}

TEST_CASE("beside a real device translation is switched on when the guest says so", "[behaviour][machine][S0.11]") {
  Machine machine{unit_options(cap_39_announced)};
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  machine.write(offset::root_table, machine.tables.root_table(), 8);
  machine.command(command::root_pointer);
  machine.command(command::translation);
  CHECK(machine.shows(command::translation));
}

TEST_CASE("vetoes are asked about hot devices only, in their order, and the first that refuses has the word",
          "[behaviour][machine][S0.13]") {
  struct Asked {
    std::vector<std::uint16_t> sources;
    const char* answer = nullptr;
    Engine* engine = nullptr;
  };
  Machine machine{unit_options(cap_39_announced)};
  std::array<Asked, 3> vetoes{};
  for (Asked& asked : vetoes) {
    asked.engine = &machine.engine;
    const viommu_veto veto{&asked,
                           [](void* opaque, const viommu_device* device, char* text, std::size_t size) -> std::int32_t {
                             auto& self = *static_cast<Asked*>(opaque);
                             self.sources.push_back(device->source);
                             std::uint64_t word = 0;
                             CHECK(viommu_ready(self.engine->get(), nullptr, 0, nullptr) == VIOMMU_E_BUSY);
                             CHECK(viommu_mmio_read(self.engine->get(), 0, 4, &word) == VIOMMU_E_BUSY);
                             if (self.answer == nullptr) return 0;
                             std::snprintf(text, size, "%s", self.answer);
                             return 1;
                           }};
    REQUIRE(viommu_veto_add(machine.engine.get(), &veto) == VIOMMU_OK);
  }
  vetoes[1].answer = "no room in the chassis";
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  CHECK(vetoes[0].sources.empty());
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);

  HostIommu host;
  viommu_refusal refusal = plug_real(machine.engine, device_b, host);
  CHECK(refusal.code == VIOMMU_REFUSED_VETOED);
  CHECK(refusal.source == device_b);
  CHECK(std::string{refusal.text} == "no room in the chassis");
  CHECK(vetoes[0].sources == std::vector{device_b});
  CHECK(vetoes[1].sources == std::vector{device_b});
  CHECK(vetoes[2].sources.empty());
  CHECK(plug(machine.engine, described(0x0300, VIOMMU_DEVICE_EMULATED), nullptr, refusal) == VIOMMU_E_REFUSED);
  CHECK(refusal.code == VIOMMU_REFUSED_VETOED);

  SECTION("not asked when a check has refused already") {
    CHECK(plug_real(machine.engine, device_b, HostIommu{30}).code == VIOMMU_REFUSED_WIDTH_TOO_SMALL);
    CHECK(vetoes[0].sources.size() == 2);
  }
  SECTION("by default plugging is allowed") {
    vetoes[1].answer = nullptr;
    CHECK(plug_real(machine.engine, device_b, host).code == VIOMMU_REFUSED_NOTHING);
  }
  SECTION("without words it is a veto all the same") {
    vetoes[1].answer = "";
    refusal = plug_real(machine.engine, device_b, host);
    CHECK(refusal.code == VIOMMU_REFUSED_VETOED);
    CHECK(std::string{refusal.text} == "vetoed");
  }
  SECTION("there can be sixteen") {
    const viommu_veto more{nullptr, [](void*, const viommu_device*, char*, std::size_t) -> std::int32_t { return 0; }};
    for (int i = 3; i < 16; ++i) CHECK(viommu_veto_add(machine.engine.get(), &more) == VIOMMU_OK);
    CHECK(viommu_veto_add(machine.engine.get(), &more) == VIOMMU_E_LIMIT);
  }
}

TEST_CASE("a guest that boots again and translates then meets nothing new", "[behaviour][machine][S0.14]") {
  Machine machine{unit_options(cap_39_announced)};
  CHECK(plug_real(machine.engine, device_a, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
  REQUIRE(make_ready(machine.engine) == VIOMMU_OK);
  CHECK(machine.lands(device_a, 0x5000) == 0x5000);
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  CHECK(make_ready(machine.engine) == VIOMMU_OK);
  const Tree tree = machine.attach(device_a, 7, 3);
  machine.tables.map(tree, 0x5000, 0x200000);
  machine.boot();
  CHECK(machine.lands(device_a, 0x5000) == 0x200000);
}

TEST_CASE("a refused device leaves no memory behind, and nobody is asked about it any more",
          "[behaviour][machine][S0.15]") {
  CountingAllocator memory;
  viommu_host host{};
  host.size = sizeof host;
  host.opaque = &memory;
  host.allocate = memory.functions().allocate;
  host.deallocate = memory.functions().deallocate;
  {
    Engine engine = *Engine::create_vtd(unit_options(cap_48_announced), host);
    const viommu_veto veto{nullptr, [](void*, const viommu_device*, char*, std::size_t) -> std::int32_t { return 1; }};
    REQUIRE(viommu_veto_add(engine.get(), &veto) == VIOMMU_OK);
    CHECK(plug_real(engine, device_b, HostIommu{}).code == VIOMMU_REFUSED_NOTHING);
    REQUIRE(make_ready(engine) == VIOMMU_OK);
    const std::size_t blocks = memory.open_blocks();
    const std::size_t bytes = memory.open_bytes();
    const auto refused = [&](HostIommu iommu, std::uint32_t code) {
      const viommu_range reserved{0x1000, 0x1FFF};
      viommu_device device = described(device_a, VIOMMU_DEVICE_HOST);
      device.reserved_count = 1;
      device.reserved_memory = &reserved;
      viommu_refusal refusal{};
      CHECK(plug(engine, device, &iommu, refusal) == VIOMMU_E_REFUSED);
      CHECK(refusal.code == code);
      CHECK(memory.open_blocks() == blocks);
      CHECK(memory.open_bytes() == bytes);
    };
    refused(HostIommu{39}, VIOMMU_REFUSED_WIDTH_TOO_SMALL);
    HostIommu broken;
    broken.broken = "iova_ranges";
    broken.error = -5;
    refused(broken, VIOMMU_REFUSED_FIELD_MISMATCH);
    refused(HostIommu{}, VIOMMU_REFUSED_VETOED);  // the last check there is
  }
  CHECK(memory.open_blocks() == 0);

  SECTION("nor does one that the host has no memory for") {
    Engine engine = *Engine::create_vtd(unit_options(cap_48_announced, 39, VIOMMU_POLICY_SYNC), host);
    const std::size_t blocks = memory.open_blocks();
    const viommu_range reserved{0x1000, 0x1FFF};
    HostIommu iommu{39};
    unsigned tries = 0;
    for (viommu_result result = VIOMMU_E_MEMORY; result != VIOMMU_OK;) {
      REQUIRE(++tries < 20);
      memory.fail_at(tries);
      viommu_device device = described(device_a, VIOMMU_DEVICE_HOST);
      device.reserved_count = 1;
      device.reserved_memory = &reserved;
      viommu_refusal refusal{};
      result = plug(engine, device, &iommu, refusal);
      memory.fail_at(0);
      if (result == VIOMMU_OK) break;
      CHECK(result == VIOMMU_E_MEMORY);
      CHECK(memory.open_blocks() == blocks);
      CHECK(capabilities_of(engine).cap == cap_48_announced);
      CHECK(blockers_of(engine).empty());
    }
    CHECK(tries > 3);
    CHECK(capabilities_of(engine).cap == cap_39_announced);
  }
  CHECK(memory.open_blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

}  // namespace viommu::test
