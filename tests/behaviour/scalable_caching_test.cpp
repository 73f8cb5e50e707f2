// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What walks that set flags leave in the caches, and what they must not.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

constexpr std::uint8_t read = VIOMMU_READ;
constexpr std::uint8_t write = VIOMMU_WRITE;
constexpr std::uint64_t ssade = bit(9);
constexpr std::uint64_t pwsnp = bit(23);
constexpr std::uint64_t with_flags = everything | bit(45);  // SSADS

/// A kind of translation that sets flags, or the second stage that does not.
struct Kind {
  std::uint64_t type;
  std::uint64_t low;
};

PasidEntry entry_of(const Kind& kind, const Tree& tree) {
  PasidEntry fields;
  fields.type = kind.type;
  fields.low = kind.low;
  fields.tree = tree;
  fields.high = pwsnp;
  return fields;
}

/// A page beside the machine's own memory, in which something happens during a read, after its words were taken.
struct Disturbed {
  static constexpr std::uint64_t page = 0x300000;

  Disturbed() {
    memory.add_ram(page, 0x1000);
    host.opaque = this;
    host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      return static_cast<Disturbed*>(self)->read_word(gpa, data, size);
    };
  }
  std::int32_t read_word(std::uint64_t gpa, void* data, std::uint64_t size) {
    if (!memory.read(gpa, {static_cast<std::byte*>(data), size})) return -1;
    if (const auto once = std::exchange(act, nullptr)) std::thread{once}.join();
    return 0;
  }

  SparseMemory memory;
  viommu_host host = capi::empty_host();
  std::function<void()> act;
};

}  // namespace

TEST_CASE("what goes through the interrupt range by PASID is no hit for another source's interrupts",
          "[scalable][Interrupt Address Range][normative]") {
  const Kind kind = GENERATE(Kind{second_stage, 0}, Kind{second_stage, ssade}, Kind{first_stage, 0});
  constexpr std::uint64_t window = 0xFEE00000;
  Machine machine{capability, with_flags};
  const Tree tree = machine.tables.create_tree(4);
  machine.attach(Machine::device, 8, 5);        // goes by PASID 5 without one
  machine.attach(Machine::upper_device, 8, 0);  // may name it
  machine.set_pasid(5, entry_of(kind, tree));
  machine.map(tree, window, Machine::page_a);
  machine.map(tree, Machine::iova, Machine::page_b);
  const auto by_pasid = [&](std::uint64_t at) { return machine.ask_by_pasid(5, at, write, 0, Machine::upper_device); };
  CHECK(by_pasid(Machine::iova).gpa == Machine::page_b);
  const std::uint64_t walks = machine.walks();
  CHECK(machine.ask(Machine::iova, write).gpa == Machine::page_b);
  CHECK(machine.walks() == walks);  // they share what is cached
  for (int pass = 0; pass < 3; ++pass) {
    CHECK(by_pasid(window + 0x10).gpa == Machine::page_a + 0x10);
    CHECK(machine.ask(window + 0x10, write).kind == VIOMMU_INTERRUPT);
    CHECK(machine.ask(window + 0x10, read).reason == 0x29);
    std::vector<viommu_request> requests(9, request(Machine::device, window, write));
    std::vector<viommu_translation> answers(requests.size());
    REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
    for (const viommu_translation& answer : answers) CHECK(answer.kind == VIOMMU_INTERRUPT);
  }
}

TEST_CASE("an execute request is recorded or not as its cached context says", "[scalable][Fault Processing Disable]") {
  const bool suppressed = GENERATE(false, true);
  Machine machine;
  const Tree tree = machine.tables.create_tree(4);
  machine.attach(Machine::device);
  PasidEntry fields = entry_of({first_stage, 0}, tree);
  fields.fault_disable = suppressed;
  machine.set_pasid(5, fields);
  machine.map(tree, Machine::iova, Machine::page_a);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  const viommu_translation blocked = machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_EXECUTE);
  CHECK(blocked.reason == 0x5C);
  CHECK(blocked.status == (suppressed ? VIOMMU_FAULT_DISABLED : VIOMMU_FAULT_RECORDED));
  CHECK((machine.take_fault()[0] == 0) == suppressed);
}

TEST_CASE("an uncached unit walks for each request that sets flags, too", "[scalable][options]") {
  const Kind kind = GENERATE(Kind{second_stage, ssade}, Kind{first_stage, 0});
  Machine machine{capability, with_flags, 0x30, capi::empty_host(), VIOMMU_UNCACHED};
  const Tree tree = machine.tables.create_tree(4);
  machine.attach(Machine::device);
  machine.set_pasid(0, entry_of(kind, tree));
  machine.map(tree, Machine::iova, Machine::page_a);
  for (unsigned pass = 1; pass <= 3; ++pass) {
    CHECK(machine.ask().gpa == Machine::page_a);
    CHECK(machine.walks() == pass);
    CHECK(machine.engine.statistics().iotlb_fills == 0);
  }
}

TEST_CASE("each request in scalable mode is counted once, however it ends", "[scalable][statistics]") {
  const Kind kind = GENERATE(Kind{second_stage, 0}, Kind{second_stage, ssade}, Kind{first_stage, 0});
  Machine machine{capability, with_flags};
  const Tree tree = machine.tables.create_tree(4);
  machine.attach(Machine::device);
  machine.set_pasid(0, entry_of(kind, tree));
  machine.map(tree, Machine::iova, Machine::page_a);
  machine.map(tree, Machine::iova + 0x1000, 0xFEE00000);
  const auto counted = [&](std::uint64_t at) {
    const std::uint64_t before = machine.engine.statistics().translations;
    static_cast<void>(machine.ask(at, write));
    return machine.engine.statistics().translations - before;
  };
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(counted(Machine::iova) == 1);           // translated
    CHECK(counted(Machine::iova + 0x1000) == 1);  // comes out in the interrupt range
    CHECK(counted(Machine::iova + 0x2000) == 1);  // nothing there
    CHECK(counted(bit(62)) == 1);                 // no address
  }
}

TEST_CASE("a first-stage walk that an invalidation overtakes leaves nothing old behind, in either half",
          "[scalable][P1][First-Stage Translation]") {
  const unsigned levels = GENERATE(4U, 5U);
  const bool upper = GENERATE(false, true);
  const std::uint64_t descriptor = GENERATE(0x36ULL | 1 << 16, 0x26ULL | 1 << 16, 0x22ULL | 1 << 16, 0x12ULL);
  constexpr std::uint64_t flags = accessed | dirty;
  Disturbed disturbed;
  Machine machine{capability, everything, 0x30, disturbed.host};
  const Tree tree = machine.tables.create_tree(levels);
  machine.attach(Machine::device);
  machine.set_pasid(0, entry_of({first_stage, 0}, tree));
  const std::uint64_t all_ones = ~std::uint64_t{0};
  const std::uint64_t at = Machine::iova | (upper ? all_ones << (12 + 9 * levels - 1) : 0);
  const std::uint64_t in_tree = at & ~(all_ones << (12 + 9 * levels));
  machine.map(tree, in_tree, Machine::page_a);
  // The table of the leaf lies where reads are disturbed.
  machine.put(machine.tables.slot(tree, in_tree, 2), Disturbed::page | 7 | accessed);
  const std::uint64_t leaf = Disturbed::page + 8 * (at >> 12 & 511);
  REQUIRE(disturbed.memory.store_u64(leaf, Machine::page_a | 7 | flags));
  bool acted = false;
  disturbed.act = [&] {
    acted = disturbed.memory.store_u64(leaf, Machine::page_b | 7 | flags);
    machine.add(descriptor, descriptor % 256 == 0x36 ? at : 0);
    static_cast<void>(machine.engine.mmio_write(0x88, 8, machine.tail()));
  };
  const viommu_translation found = machine.ask(at, write);
  CHECK(acted);
  CHECK((found.gpa == Machine::page_a || found.gpa == Machine::page_b));
  static_cast<void>(machine.engine.process());
  CHECK(machine.engine.mmio_read(0x80, 8) == machine.tail());
  CHECK(machine.ask(at, write).gpa == Machine::page_b);
  const std::uint64_t walks = machine.walks();
  CHECK(machine.ask(at, read).gpa == Machine::page_b);
  CHECK(machine.walks() == walks);  // what comes after it is cached again
}

TEST_CASE("invalidations of a PASID and of its domain's pages keep apart in one ring",
          "[scalable][Invalidation Queue][P1][B08]") {
  Machine machine{capability, with_flags};
  const Tree first = machine.tables.create_tree(4);
  const Tree second = machine.tables.create_tree(4);
  machine.attach(Machine::device);
  machine.set_pasid(5, entry_of({first_stage, 0}, first));
  machine.set_pasid(6, entry_of({second_stage, 0}, second));
  machine.map(first, Machine::iova, Machine::page_a);
  machine.map(second, Machine::iova, Machine::page_a);
  machine.invalidate_all();
  const auto lands = [&](std::uint32_t number) { return machine.ask_by_pasid(number).gpa; };
  const auto both_cached = [&] {
    CHECK(lands(5) == Machine::page_a);
    CHECK(lands(6) == Machine::page_a);
    machine.map(first, Machine::iova, Machine::page_b);
    machine.map(second, Machine::iova, Machine::page_b);
  };
  both_cached();
  SECTION("a wait in between: each names what it names") {
    machine.add(0x36 | 1ULL << 16 | 6ULL << 32, Machine::iova);  // of a PASID without a first stage: nothing
    machine.add(0x25 | 77ULL << 32, Machine::status_page);
    machine.add(0x32 | 1ULL << 16, Machine::iova);  // of the domain's second stages, and all of its first ones
    machine.submit();
    CHECK(lands(5) == Machine::page_b);
    CHECK(lands(6) == Machine::page_b);
  }
  SECTION("however many pages of a PASID are named, its second stage keeps its own") {
    for (const std::uint64_t mask : {0ULL, 12ULL, 36ULL, 63ULL})
      machine.add(0x36 | 1ULL << 16 | 6ULL << 32, Machine::iova | mask);
    machine.submit();
    CHECK(lands(5) == Machine::page_a);
    CHECK(lands(6) == Machine::page_a);
    machine.add(0x26 | 1ULL << 16 | 6ULL << 32);  // the whole PASID
    machine.submit();
    CHECK(lands(5) == Machine::page_a);
    CHECK(lands(6) == Machine::page_b);
  }
  SECTION("pages of a first stage, by the address or by so many that all go") {
    const std::uint64_t mask = GENERATE(as<std::uint64_t>{}, 0, 12, 40);
    machine.add(0x36 | 1ULL << 16 | 5ULL << 32, Machine::iova | mask);
    machine.submit();
    CHECK(lands(5) == Machine::page_b);
    CHECK(lands(6) == Machine::page_a);
  }
}

}  // namespace viommu::test
