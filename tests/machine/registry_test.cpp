// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/registry.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/support/counting_allocator.hpp"

namespace viommu::machine {
namespace {

[[nodiscard]] std::vector<std::uint16_t> sources_of(const Registry& registry) {
  std::vector<std::uint16_t> all;
  registry.for_each([&](const Device& device) { all.push_back(device.source.value); });
  return all;
}

}  // namespace

TEST_CASE("devices are found by source id, and told in its order", "[machine][registry][S2.1]") {
  test::CountingAllocator memory;
  {
    Registry registry{memory.functions()};
    CHECK(registry.find({0x0100}) == nullptr);
    for (const std::uint16_t source : std::vector<std::uint16_t>{0x0208, 0x0100, 0xFFFF, 0x0000, 0x0200}) {
      Device* const device = registry.create({source});
      REQUIRE(device != nullptr);
      CHECK(registry.find({source}) == device);
    }
    CHECK(sources_of(registry) == std::vector<std::uint16_t>{0x0000, 0x0100, 0x0200, 0x0208, 0xFFFF});
    CHECK(registry.size() == 5);
    registry.erase({0x0200});
    CHECK(registry.find({0x0200}) == nullptr);
    CHECK(registry.find({0x0208}) != nullptr);
    CHECK(registry.size() == 4);
  }
  CHECK(memory.open_blocks() == 0);
  CHECK(memory.mistakes() == 0);
}

TEST_CASE("a bus with another number takes its devices along, and aliases on it", "[machine][registry][S2.1]") {
  Registry registry{HostAllocator{}};
  Device* const first = registry.create({0x0100});
  Device* const behind = registry.create({0x0708});
  REQUIRE((first != nullptr && behind != nullptr));
  behind->alias = SourceId{0x0110};
  CHECK(registry.renumber(1, 4));
  CHECK(registry.find({0x0400}) == first);
  CHECK(registry.find({0x0100}) == nullptr);
  CHECK(first->source == SourceId{0x0400});
  CHECK(behind->requester() == SourceId{0x0410});
  CHECK_FALSE(registry.renumber(4, 7));
  CHECK(registry.find({0x0400}) == first);
  CHECK(registry.renumber(4, 4));
  CHECK(registry.renumber(9, 4));  // nothing is there
}

TEST_CASE("all 65536 ids can be in use, and a bus without devices costs nothing", "[machine][registry]") {
  test::CountingAllocator memory;
  Registry registry{memory.functions()};
  for (unsigned source = 0; source < 65536; ++source)
    REQUIRE(registry.create({static_cast<std::uint16_t>(source)}) != nullptr);
  CHECK(registry.size() == 65536);
  for (unsigned source = 0; source < 65536; ++source) registry.erase({static_cast<std::uint16_t>(source)});
  CHECK(registry.size() == 0);
  CHECK(memory.open_blocks() == 0);
  SECTION("without memory there is no device, and what there was stays") {
    for (const std::uint64_t call : {1U, 2U}) {
      memory.fail_at(call);
      CHECK(registry.create({0x0100}) == nullptr);
      CHECK(memory.open_blocks() == 0);
    }
    memory.fail_at(0);
  }
}

}  // namespace viommu::machine
