// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What stays cached of the context entries until which invalidation, and that nothing is kept of what faulted.
#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t page_a = 0x400000;
constexpr std::uint64_t page_b = 0x500000;

enum class Through : std::uint8_t { queue, registers };

void boot(Machine& machine, Through how) {
  if (how == Through::queue) return machine.boot();
  machine.boot_without_queue();
}

}  // namespace

TEST_CASE("a cached context applies until it is invalidated, then the one in memory does",
          "[behaviour][vtd][Context-Cache Invalidate Descriptor][RVM-5]") {
  const Through how = GENERATE(Through::queue, Through::registers);
  const Granularity granularity = GENERATE(Granularity::global, Granularity::domain, Granularity::narrow);
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  const Tree other = machine.tables.create_tree(3);
  machine.tables.map(tree, 0x5000, page_a);
  machine.tables.map(tree, 0x6000, page_a + 0x1000);
  machine.tables.map(other, 0x6000, page_b);
  boot(machine, how);
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.tables.detach(device);
  machine.tables.attach(device, other, {.domain_id = 2});
  CHECK(machine.lands(device, 0x6000) == page_a + 0x1000);  // a page that was not cached: by the cached context
  if (how == Through::registers) {
    machine.driver.context_by_register(granularity, 1, device);
    CHECK((machine.read(offset::context_command, 8) >> 59 & 3) == static_cast<unsigned>(granularity));
  } else {
    if (granularity == Granularity::global) machine.driver.add_context_global();
    if (granularity == Granularity::domain) machine.driver.add_context_domain(1);
    if (granularity == Granularity::narrow) machine.driver.add_context_device(1, device);
    machine.driver.submit_and_wait();
  }
  CHECK(machine.lands(device, 0x6000) == page_b);
  CHECK(machine.blocked(device, 0x5000) == 0x6);
}

TEST_CASE("a device-selective context invalidation flushes exactly the functions its mask names",
          "[behaviour][vtd][Context-Cache Invalidate Descriptor][B04][B14]") {
  const Through how = GENERATE(Through::queue, Through::registers);
  const unsigned mask = GENERATE(0u, 1u, 2u, 3u);
  const std::uint16_t named = GENERATE(std::uint16_t{0x0018}, std::uint16_t{0x001D});
  const std::uint16_t ignored[] = {0, 4, 6, 7};  // "Context-Cache Invalidate Descriptor", FM
  Machine machine;
  const Tree before = machine.tables.create_tree(4);
  const Tree after = machine.tables.create_tree(4);
  machine.tables.map(before, 0x5000, page_a);
  machine.tables.map(after, 0x5000, page_b);
  // Two devices of eight functions, and one on another bus.
  std::vector<std::uint16_t> sources;
  sources.reserve(17);
  for (std::uint16_t function = 0; function < 16; ++function)
    sources.push_back(static_cast<std::uint16_t>(0x0018 + function));
  sources.push_back(0x0118);
  for (const std::uint16_t source : sources) machine.tables.attach(source, before, {.domain_id = 1});
  boot(machine, how);
  for (const std::uint16_t source : sources) CHECK(machine.lands(source, 0x5000) == page_a);
  for (const std::uint16_t source : sources) machine.tables.attach(source, after, {.domain_id = 2});
  if (how == Through::registers) {
    machine.driver.context_by_register(Granularity::narrow, 1, named, mask);
  } else {
    machine.driver.add_context_device(1, named, mask);
    machine.driver.submit_and_wait();
  }
  for (const std::uint16_t source : sources) {
    INFO("source " << source << ", mask " << mask);
    const bool flushed = ((source ^ named) & ~ignored[mask]) == 0;
    CHECK(machine.lands(source, 0x5000) == (flushed ? page_b : page_a));
  }
}

TEST_CASE("nothing that faulted is cached: what becomes present or allowed needs no invalidation",
          "[behaviour][vtd][Caching Mode]") {
  const bool caching_mode = GENERATE(false, true);  // allowed to cache faults there, and does not
  viommu_vtd_options options = usual_options();
  if (caching_mode) options.capability |= cap_caching_mode;
  Machine machine{options};
  machine.boot();
  CHECK(machine.blocked(device, 0x5000) == 0x1);
  const Tree tree = machine.tables.create_tree(4);
  static_cast<void>(machine.tables.context_entry(device));
  CHECK(machine.blocked(device, 0x5000) == 0x2);
  machine.tables.attach(device, tree, {.domain_id = 1});
  CHECK(machine.blocked(device, 0x5000) == 0x6);
  machine.tables.map(tree, 0x5000, page_a, entry_read);
  CHECK(machine.lands(device, 0x5000) == page_a);
  CHECK(machine.blocked(device, 0x5000, VIOMMU_WRITE) == 0x5);
  machine.tables.map(tree, 0x5000, page_a);
  CHECK(machine.lands(device, 0x5000, VIOMMU_WRITE) == page_a);
}

TEST_CASE("with caching mode a device invalidation that names domain 0 finds the device",
          "[behaviour][vtd][Caching Mode]") {
  viommu_vtd_options options = usual_options();
  options.capability |= cap_caching_mode;
  Machine machine{options};
  const Tree tree = machine.attach(device, 1);
  const Tree other = machine.tables.create_tree(4);
  machine.tables.map(tree, 0x5000, page_a);
  machine.tables.map(other, 0x5000, page_b);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.tables.attach(device, other, {.domain_id = 2});
  machine.driver.add_context_device(0, device);
  machine.driver.add_domain(2);
  machine.driver.submit_and_wait();
  CHECK(machine.lands(device, 0x5000) == page_b);
}

}  // namespace viommu::test
