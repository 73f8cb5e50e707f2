// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu whose host runs out of memory: whichever allocation fails, the call or the request says so, nothing
// has changed, and asked again it does what it would have done.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tests/behaviour/counted_host.hpp"
#include "tests/behaviour/devices.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/saved_state.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint16_t on_new_bus = 0x580;
constexpr std::uint64_t beyond_host = 0x80'0000'0000;

/// Each does one thing. @return false where there was no memory for it
using Step = std::function<bool(VirtioMachine&)>;

[[nodiscard]] bool done(viommu_result result) {
  CHECK((result == VIOMMU_OK || result == VIOMMU_E_MEMORY));
  return result == VIOMMU_OK;
}
[[nodiscard]] bool done(std::uint8_t status) {
  CHECK((status == st::ok || status == st::no_memory));
  return status == st::ok;
}

[[nodiscard]] std::vector<Step> life_of_a_guest(const viommu_host_facts& facts) {
  std::vector<Step> steps;
  const auto plug = [&steps](std::uint16_t source) {
    steps.emplace_back([source](VirtioMachine& machine) { return done(machine.plug(source)); });
  };
  const auto attach = [&steps](std::uint32_t domain, std::uint16_t endpoint, std::uint32_t flags = 0) {
    steps.emplace_back([=](VirtioMachine& machine) { return done(machine.attach(domain, endpoint, flags)); });
  };
  const auto map = [&steps](std::uint32_t domain, std::uint64_t first, std::uint64_t bytes, std::uint64_t gpa) {
    steps.emplace_back(
        [=](VirtioMachine& machine) { return done(machine.map(domain, first, first + bytes - 1, gpa)); });
  };
  const auto add_with_facts = [&facts](VirtioMachine& machine) { return done(machine.plug(host_device(vf, facts))); };
  steps.emplace_back(add_with_facts);
  plug(pf);
  steps.emplace_back([](VirtioMachine& machine) { return done(viommu_host_facts_unset(machine.engine, vf)); });
  attach(1, pf);
  attach(2, vf);
  for (std::uint64_t page = 0; page < 80; ++page) map(1, page << 13, 0x1000, page << 12);
  map(2, beyond_host - 0x20'0000, 0x40'0000, 0);
  steps.emplace_back(add_with_facts);  // reserved memory over what is mapped
  attach(7, pf, 1);                    // moves into a domain that bypasses
  attach(3, pf);
  map(3, 0x1'0000, 0x1000, 0x4000);
  steps.emplace_back([](VirtioMachine& machine) { return done(machine.unmap(3, 0, ~std::uint64_t{0})); });
  map(3, 0x5000, 0x1000, 0x6000);
  steps.emplace_back([](VirtioMachine& machine) { return done(viommu_bus_renumber(machine.engine, 3, 5)); });
  steps.emplace_back([](VirtioMachine& machine) { return done(machine.detach(2, on_new_bus)); });
  plug(0x900);
  plug(vf);
  steps.emplace_back([](VirtioMachine& machine) { return done(viommu_device_remove(machine.engine, on_new_bus)); });
  return steps;
}

/// What can be seen of it.
[[nodiscard]] std::vector<std::uint64_t> seen(VirtioMachine& machine) {
  std::vector<std::uint64_t> all{machine.device_figures().domains, machine.device_figures().mappings};
  for (const std::uint16_t source : {pf, vf, std::uint16_t{0x500}, on_new_bus, std::uint16_t{0x900}})
    for (const std::uint64_t iova : {std::uint64_t{0}, std::uint64_t{0x2000}, std::uint64_t{0x9'E000},
                                     std::uint64_t{0x1'0000}, std::uint64_t{0x5000}, beyond_host, msi_first}) {
      const viommu_translation answer = machine.translate(source, iova, VIOMMU_READ, VIOMMU_NO_REPORT);
      all.push_back(answer.kind);
      all.push_back(answer.kind == VIOMMU_FAULT ? answer.reason : answer.gpa);
    }
  return all;
}

}  // namespace

TEST_CASE("whichever allocation of a virtio-iommu fails, nothing has changed, and the next try does it",
          "[virtio][S3.13][SEC-15]") {
  HostIommu host;
  host.ranges = {{0, beyond_host - 1}};
  const viommu_host_facts facts = host.facts();
  const std::vector<Step> steps = life_of_a_guest(facts);
  std::vector<std::vector<std::uint64_t>> right;  // before the first step, and after each
  std::uint64_t failures = 0;
  for (std::uint64_t k = 0;; ++k) {
    CAPTURE(k);
    CountedHost memory;
    VirtioMachine machine{virtio_options(), VirtioMachine::Records::no, CountedHost::functions()};
    machine.negotiate();
    if (k == 0) right.push_back(seen(machine));
    memory.allocator.fail_at(k);
    const std::uint64_t before = memory.allocator.calls();
    unsigned refused = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      CAPTURE(i);
      while (!steps[i](machine)) {  // ends: one allocation fails
        REQUIRE(++refused == 1);
        CHECK(seen(machine) == right[i]);
      }
      if (k == 0) right.push_back(seen(machine));
      CHECK(seen(machine) == right[i + 1]);
    }
    failures += refused;
    if (k > memory.allocator.calls() - before) break;
  }
  CHECK(failures > 20);
}

TEST_CASE("whichever allocation of a load fails, the next one loads all of it", "[virtio][state][S5.6][SEC-15]") {
  State state;
  {
    VirtioMachine before;
    before.negotiate();
    REQUIRE(before.plug(pf) == VIOMMU_OK);
    REQUIRE(before.plug(vf) == VIOMMU_OK);
    REQUIRE(before.plug(0x900) == VIOMMU_OK);
    REQUIRE(before.attach(1, pf) == st::ok);
    REQUIRE(before.attach(2, vf, 1) == st::ok);
    REQUIRE(before.attach(3, 0x900) == st::ok);
    for (std::uint64_t page = 0; page < 80; ++page)
      REQUIRE(before.map(1, page << 13, (page << 13) + 0xFFF, page << 12) == st::ok);
    before.unplug(0x900);
    state = save(before.engine);
  }
  std::uint64_t failures = 0;
  for (std::uint64_t k = 1;; ++k) {
    CAPTURE(k);
    CountedHost memory;
    VirtioMachine machine{virtio_options(), VirtioMachine::Records::no, CountedHost::functions()};
    machine.negotiate();
    REQUIRE(machine.plug(pf) == VIOMMU_OK);
    REQUIRE(machine.plug(vf) == VIOMMU_OK);
    REQUIRE(machine.attach(9, vf) == st::ok);
    const std::uint64_t before = memory.allocator.calls();
    memory.allocator.fail_at(k);
    const Loaded first = load(machine.engine, state);
    const bool failed = k <= memory.allocator.calls() - before;
    memory.allocator.fail_at(0);
    if (first.result != VIOMMU_OK) {
      ++failures;
      CHECK(failed);
      CHECK(first.result == VIOMMU_E_MEMORY);
      CHECK(machine.device_figures().mappings == 0);
      CHECK(machine.device_figures().domains <= 1);  // refused before all of it went, or after
      REQUIRE(load(machine.engine, state).result == VIOMMU_OK);
    }
    CHECK(save(machine.engine) == state);
    CHECK(machine.translate(pf, 79 << 13).gpa == 79 << 12);
    if (!failed) break;
  }
  CHECK(failures > 5);
}

}  // namespace viommu::test
