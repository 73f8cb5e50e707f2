// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The host's allocator: every block goes back, and a missing one is a result, not a crash.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/counting_allocator.hpp"

namespace viommu::capi {
namespace {

viommu_host host_of(test::CountingAllocator& allocator) {
  viommu_host host = empty_host();
  host.opaque = &allocator;
  host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
    return static_cast<test::CountingAllocator*>(self)->allocate(size, alignment);
  };
  host.deallocate = [](void* self, void* memory, std::size_t size, std::size_t alignment) {
    static_cast<test::CountingAllocator*>(self)->deallocate(memory, size, alignment);
  };
  return host;
}

viommu_vtd_options small_options() {
  viommu_vtd_options options = default_options();
  options.iotlb_pages = 64;
  options.context_entries = 16;
  options.holds = 16;
  return options;
}

}  // namespace

TEST_CASE("an engine for which the k-th block is missing is not created, and nothing stays behind",
          "[capi][allocator][SEC-15]") {
  test::CountingAllocator allocator;
  const viommu_host host = host_of(allocator);
  const viommu_vtd_options options = small_options();
  viommu_engine* engine = nullptr;
  REQUIRE(viommu_create_vtd(&options, &host, nullptr, 0, &engine) == VIOMMU_OK);
  const std::uint64_t needed = allocator.calls();
  REQUIRE(viommu_destroy(engine) == VIOMMU_OK);
  CHECK(allocator.open_blocks() == 0);
  CHECK(needed > 5);
  for (std::uint64_t k = 1; k <= needed; ++k) {
    allocator.fail_at(k);
    engine = reinterpret_cast<viommu_engine*>(&allocator);
    CAPTURE(k);
    CHECK(viommu_create_vtd(&options, &host, nullptr, 0, &engine) == VIOMMU_E_MEMORY);
    CHECK(engine == nullptr);
    CHECK(allocator.open_blocks() == 0);
  }
  CHECK(allocator.mistakes() == 0);
}

TEST_CASE("what is not told is laid out as the number in the manual is", "[capi][allocator][options]") {
  const auto bytes = [](const viommu_vtd_options& options) {
    test::CountingAllocator allocator;
    const Engine engine = create(options, host_of(allocator));
    return allocator.open_bytes();
  };
  const std::size_t usual = bytes(default_options());
  struct Size {
    const char* name;
    std::uint32_t viommu_vtd_options::* field;
    std::uint32_t number;
  };
  const Size sizes[] = {
      {"iotlb_pages", &viommu_vtd_options::iotlb_pages, 65536},
      {"context_entries", &viommu_vtd_options::context_entries, 4096},
      {"address_spaces", &viommu_vtd_options::address_spaces, 4096},
      {"tag_bits", &viommu_vtd_options::tag_bits, 16},
      {"readers", &viommu_vtd_options::readers, 64},
      {"holds", &viommu_vtd_options::holds, 1024},
      {"structures", &viommu_vtd_options::structures, 4096},
      {"shards", &viommu_vtd_options::shards, 1},
      {"pasid_entries", &viommu_vtd_options::pasid_entries, 65536},  // a unit without scalable mode has none
  };
  for (const Size& size : sizes) {
    CAPTURE(size.name);
    viommu_vtd_options options = default_options();
    options.*size.field = size.number;
    CHECK(bytes(options) == usual);
  }
  SECTION("address spaces are as many as context entries") {
    viommu_vtd_options options = default_options();
    options.context_entries = 128;
    const std::size_t both = bytes(options);
    options.address_spaces = 128;
    CHECK(bytes(options) == both);
    options.address_spaces = 4096;
    CHECK(bytes(options) > both);
  }
}

TEST_CASE("a region change for which the k-th block is missing does not happen", "[capi][allocator][SEC-15]") {
  test::CountingAllocator allocator;
  Machine machine{small_options(), host_of(allocator)};
  machine.map(base_iova, 0x5000);
  test::GuardedRegion more{0x10000000, page_bytes};
  for (std::uint64_t k = 1; k <= 2; ++k) {
    const std::size_t blocks = allocator.open_blocks();
    allocator.fail_at(k);
    CHECK(machine.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_E_MEMORY);
    allocator.fail_at(k);
    CHECK(machine.engine.remove_region(machine.ram.gpa(), 1) == VIOMMU_E_MEMORY);
    CHECK(allocator.open_blocks() == blocks);
  }
  CHECK(machine.ask().gpa == 0x5000);
  CHECK(machine.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
}

TEST_CASE("a running engine takes memory for region changes only, and gives all of it back",
          "[capi][allocator][P6][SEC-8]") {
  test::CountingAllocator allocator;
  {
    Machine machine{small_options(), host_of(allocator)};
    const std::uint64_t calls = allocator.calls();
    const std::size_t bytes = allocator.open_bytes();
    // Many domains, sources and pages, faults, holds and invalidations: none of it may cost memory.
    for (unsigned round = 0; round < 300; ++round) {
      const auto source = static_cast<std::uint16_t>(0x0100 + round % 64);
      machine.tables.attach(source, machine.tree, {0, static_cast<std::uint16_t>(1 + round % 50), false});
      machine.map(base_iova + round % 40 * page_bytes, 0x5000);
      static_cast<void>(machine.ask(base_iova + round % 40 * page_bytes, VIOMMU_READ, source));
      static_cast<void>(machine.ask(base_iova + 100 * page_bytes, VIOMMU_READ, source));
      viommu_translation answer{};
      const Hold hold = machine.reader.hold(request(source, base_iova, VIOMMU_READ), round, answer);
      if (round % 7 == 0) {
        machine.driver.add_domain(static_cast<std::uint16_t>(1 + round % 50));
        machine.driver.add_context_device(0, source);
        static_cast<void>(machine.driver.submit());
      }
      static_cast<void>(machine.engine.process());
    }
    CHECK(allocator.calls() == calls);
    CHECK(allocator.open_bytes() == bytes);
    CHECK(machine.engine.statistics().cache_bytes <= bytes);
    test::GuardedRegion more{0x10000000, page_bytes};
    for (unsigned round = 0; round < 20; ++round) {
      CHECK(machine.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
      CHECK(machine.engine.remove_region(more.gpa(), round) == VIOMMU_OK);
    }
    CHECK(allocator.calls() > calls);
    CHECK(allocator.open_bytes() <= bytes + 64);
  }
  CHECK(allocator.open_blocks() == 0);
  CHECK(allocator.mistakes() == 0);
}

}  // namespace viommu::capi
