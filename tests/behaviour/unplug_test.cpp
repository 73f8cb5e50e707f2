// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device that is unplugged leaves nothing cached behind, so that another one in its place starts cold.
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0100;
constexpr std::uint16_t neighbour = 0x0108;  // of the same domain
constexpr std::uint16_t stranger = 0x0200;   // of another one
constexpr std::uint64_t iova = 0x5000;
constexpr std::uint64_t page_a = 0x400000;
constexpr std::uint64_t page_b = 0x500000;

void plug(viommu_engine* engine, std::uint16_t source) {
  viommu_device added{};
  added.size = sizeof added;
  added.source = source;
  REQUIRE(viommu_device_add(engine, &added, nullptr) == VIOMMU_OK);
}

}  // namespace

TEST_CASE("a device in the place of one that is gone walks the tables as they are now", "[behaviour][S3.14]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  const Tree tree = machine.attach(device, 7);
  machine.tables.attach(neighbour, tree, {.domain_id = 7});
  const Tree apart = machine.attach(stranger, 8);
  machine.tables.map(tree, iova, page_a);
  machine.tables.map(apart, iova, page_a);
  machine.boot();
  const auto walks = [&] { return machine.engine.statistics().walks; };
  for (const std::uint16_t source : {device, neighbour, stranger}) {
    plug(engine, source);
    CHECK(machine.lands(source, iova) == page_a);
    CHECK(machine.lands(source, iova) == page_a);
  }
  SECTION("its pages") {
    machine.tables.map(tree, iova, page_b);  // the guest does not flush
    CHECK(machine.lands(device, iova) == page_a);
    REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
    plug(engine, device);
    const std::uint64_t before = walks();
    CHECK(machine.lands(device, iova) == page_b);
    CHECK(walks() == before + 1);
  }
  SECTION("its context") {
    machine.tables.attach(device, apart, {.domain_id = 8});
    REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
    machine.tables.map(apart, iova, page_b);
    const std::uint64_t contexts = machine.engine.statistics().context_walks;
    plug(engine, device);
    static_cast<void>(machine.ask(device, iova));
    CHECK(machine.engine.statistics().context_walks == contexts + 1);
    machine.tables.detach(device);
    REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
    CHECK(machine.blocked(device, iova) == 2);
  }
  SECTION("under another number of its bus") {
    machine.tables.map(tree, iova, page_b);
    machine.tables.attach(0x0300, apart, {.domain_id = 8});
    REQUIRE(viommu_bus_renumber(engine, 1, 3) == VIOMMU_OK);
    machine.tables.detach(device);
    CHECK(machine.blocked(device, iova) == 2);
    CHECK(machine.lands(neighbour, iova) == page_b);
  }
  SECTION("what others have in other domains stays") {
    REQUIRE(viommu_device_remove(engine, device) == VIOMMU_OK);
    const std::uint64_t before = walks();
    CHECK(machine.lands(stranger, iova) == page_a);
    CHECK(walks() == before);
  }
}

TEST_CASE("what is cached by PASID goes with its device", "[behaviour][S3.14]") {
  using Scalable = ScalableMachine;
  Scalable machine;
  PasidEntry fields;
  fields.tree = machine.tables.create_tree(4);
  fields.domain = 9;
  machine.attach(Scalable::device);
  machine.attach(Scalable::upper_device);  // of the same domain: it keeps the address space alive
  machine.map(fields.tree, Scalable::iova, Scalable::page_a, 3);
  machine.set_pasid(5, fields);
  machine.invalidate_all();
  for (unsigned i = 0; i < 2; ++i) CHECK(machine.ask_by_pasid(5).gpa == Scalable::page_a);
  CHECK(machine.ask_by_pasid(5, Scalable::iova, VIOMMU_READ, 0, Scalable::upper_device).gpa == Scalable::page_a);
  machine.map(fields.tree, Scalable::iova, Scalable::page_b, 3);  // the guest does not flush
  CHECK(machine.ask_by_pasid(5).gpa == Scalable::page_a);
  REQUIRE(viommu_device_remove(machine.engine.get(), Scalable::device) == VIOMMU_OK);
  CHECK(machine.ask_by_pasid(5).gpa == Scalable::page_b);
}

}  // namespace viommu::test
