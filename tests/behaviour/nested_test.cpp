// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Nested translation, and accessed and dirty flags of the second stage, end to end.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

constexpr std::uint8_t read = VIOMMU_READ;
constexpr std::uint8_t write = VIOMMU_WRITE;
constexpr std::uint64_t ssade = bit(9);
constexpr std::uint64_t second_accessed = bit(8);
constexpr std::uint64_t second_dirty = bit(9);
constexpr std::uint64_t middle = 0x5000'0000;  // what the first stage makes of iova

/// `device` by RID_PASID 0 and PASID 5: iova -> middle -> page_a. The first stage's tables are at addresses that the
/// second stage leaves as they are.
struct Nested : Machine {
  explicit Nested(std::uint64_t low = 0) {
    attach(device);
    fields.type = nested;
    fields.tree = first;
    fields.second = second;
    fields.low = low;
    fields.high = bit(23);  // PWSNP
    set_pasid(0, fields);
    set_pasid(5, fields);
    map(first, iova, middle);
    for (std::uint64_t at = 0x10'0000; at < 0x20'0000; at += 0x1000) map(second, at, at, 3);
    map(second, middle, page_a, 3);
  }
  std::uint64_t first_slot(unsigned level = 1) { return tables.slot(first, iova, level); }
  std::uint64_t second_slot(std::uint64_t at) { return tables.slot(second, at, 1); }

  PasidEntry fields;
  Tree first = tables.create_tree(4);
  Tree second = tables.create_tree(4);
};

}  // namespace

TEST_CASE("a nested request goes through both stages, and is cached as one page", "[scalable][nested][B37]") {
  Nested machine;
  for (int pass = 0; pass < 3; ++pass) {
    CHECK(machine.ask(Machine::iova + 0x321, write).gpa == Machine::page_a + 0x321);
    CHECK(machine.ask_by_pasid(5, Machine::iova + 0x21).gpa == Machine::page_a + 0x21);
  }
  CHECK(machine.walks() == 2);
  CHECK((machine.word(machine.first_slot()) & (accessed | dirty)) == (accessed | dirty));
  machine.map(machine.first, 0x8000'0000, 0x4000'0000, 7, 2);  // 2 MiB over pages of 4 KiB
  machine.map(machine.second, 0x4000'5000, Machine::page_b, 3);
  CHECK(machine.ask(0x8000'5678).gpa == Machine::page_b + 0x678);
  CHECK(machine.ask(0x8000'5678).mask == 0xFFF);
}

TEST_CASE("each stage of a nested request has its own faults",
          "[scalable][nested][Fault Reason Encodings][normative]") {
  // Whose second-stage entry changes.
  enum Place { none, leaf_table, top_table, page };
  struct Row {
    std::uint64_t first_leaf;  // what the first stage's leaf becomes; all ones: nothing
    Place place;
    std::uint64_t second_leaf;  // what it becomes; of a table its rights
    std::uint8_t access;
    unsigned reason;
  };
  constexpr std::uint64_t as_is = ~std::uint64_t{0};
  const Row row =
      GENERATE(Row{0, none, 0, read, 0x71}, Row{middle | 3, none, 0, read, 0x81}, Row{middle | 5, none, 0, write, 0x85},
               Row{middle | 7 | bit(46), none, 0, read, 0x72}, Row{as_is, page, 0, read, 0x79},
               Row{as_is, page, Machine::page_a | 1, write, 0x85}, Row{as_is, page, Machine::page_a | 2, read, 0x86},
               Row{as_is, page, Machine::page_a | 3 | bit(62), read, 0x7A}, Row{as_is, page, 0xFEE0'0003, read, 0x87},
               Row{as_is, leaf_table, 2, read, 0x76}, Row{as_is, top_table, 2, read, 0x75},
               Row{as_is, leaf_table, 1, read, 0x77}, Row{as_is, leaf_table, 0, read, 0x79});
  Nested machine;
  if (row.first_leaf != as_is) machine.put(machine.first_slot(), row.first_leaf);
  const std::uint64_t table =
      row.place == leaf_table ? machine.first_slot() & ~std::uint64_t{0xFFF} : machine.first.root;
  if (row.place == page) machine.put(machine.second_slot(middle), row.second_leaf);
  if (row.place == leaf_table || row.place == top_table)
    machine.put(machine.second_slot(table), row.second_leaf == 0 ? 0 : table | row.second_leaf);
  CAPTURE(row.first_leaf, row.place, row.second_leaf);
  const viommu_translation found = machine.ask_by_pasid(5, Machine::iova, row.access);
  CHECK(found.kind == VIOMMU_FAULT);
  CHECK(found.reason == row.reason);
  CHECK((machine.take_fault()[0] >> 32 & 0xFF) == row.reason);
}

TEST_CASE("a table of a nested first stage beyond the second stage's addresses is a fault of its own",
          "[scalable][nested][Nested Translation][normative]") {
  Nested machine;
  machine.second = machine.tables.create_tree(3);  // 39 bits
  machine.fields.second = machine.second;
  machine.set_pasid(5, machine.fields);
  for (std::uint64_t at = 0x10'0000; at < 0x20'0000; at += 0x1000) machine.map(machine.second, at, at, 3);
  machine.map(machine.second, middle, Machine::page_b, 3);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_b);
  machine.put(machine.first_slot(), bit(39) | 7);
  machine.invalidate_all();
  CHECK(machine.ask_by_pasid(5).reason == 0x74);
  machine.fields.tree.root = bit(39);
  machine.set_pasid(5, machine.fields);
  machine.invalidate_all();
  CHECK(machine.ask_by_pasid(5).reason == 0x5B);
}

TEST_CASE("invalidations of either stage reach what was made of both", "[scalable][nested][Invalidation Granularity]") {
  struct Row {
    std::uint64_t low;
    std::uint64_t high;
    bool drops;
  };
  constexpr std::uint64_t domain = 1ULL << 16;
  constexpr std::uint64_t pasid5 = 5ULL << 32;
  const Row row =
      GENERATE(Row{0x12, 0, true}, Row{0x22 | domain, 0, true},
               Row{0x32 | domain, 0x7777'0000, true},  // by page of the second stage: the whole domain
               Row{0x26 | domain | pasid5, 0, true}, Row{0x36 | domain | pasid5, Machine::iova, true},
               Row{0x36 | domain | pasid5, Machine::iova + 0x1000, false}, Row{0x22 | 2ULL << 16, 0, false});
  Nested machine;
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  machine.map(machine.second, middle, Machine::page_b, 3);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  machine.add(row.low, row.high);
  machine.submit();
  CHECK(machine.ask_by_pasid(5).gpa == (row.drops ? Machine::page_b : Machine::page_a));
}

TEST_CASE("with SSADE the second stage has flags too, and no write is cached before all are set",
          "[scalable][nested][Accessed, Extended Accessed, and Dirty Flags][normative]") {
  Nested machine{ssade};
  CHECK(machine.ask().rights == VIOMMU_READ);
  CHECK((machine.word(machine.second_slot(middle)) & (second_accessed | second_dirty)) == second_accessed);
  CHECK((machine.word(machine.second_slot(machine.first.root)) & second_dirty) != 0);  // looked at, and so written
  CHECK(machine.ask(Machine::iova, write).rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK((machine.word(machine.second_slot(middle)) & second_dirty) != 0);
  const std::uint64_t walks = machine.walks();
  CHECK(machine.ask(Machine::iova, write).gpa == Machine::page_a);
  CHECK(machine.walks() == walks);
}

TEST_CASE("a second stage alone keeps accessed and dirty flags where SSADE says so",
          "[scalable][Accessed, Extended Accessed, and Dirty Flags][normative]") {
  Machine machine;
  const Tree tree = machine.tables.create_tree(3);
  machine.attach(Machine::device);
  PasidEntry fields;
  fields.tree = tree;
  fields.low = ssade;
  const bool snooped = GENERATE(true, false);
  if (snooped) fields.high = bit(23);
  machine.set_pasid(0, fields);
  machine.map(tree, Machine::iova, Machine::page_a, 3);
  const std::uint64_t slot = machine.tables.slot(tree, Machine::iova, 1);
  if (!snooped) {
    CHECK(machine.ask().reason == 0x7C);
    return;
  }
  CHECK(machine.ask().rights == VIOMMU_READ);
  CHECK((machine.word(slot) & (second_accessed | second_dirty)) == second_accessed);
  CHECK(machine.ask(Machine::iova, write).rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK((machine.word(slot) & second_dirty) != 0);
  CHECK(machine.walks() == 2);
  CHECK(machine.ask(Machine::iova, write).kind == VIOMMU_TRANSLATED);
  CHECK(machine.walks() == 2);
  CHECK(machine.ask(bit(39)).reason == 0x84);
  machine.put(slot, Machine::page_a | 1);
  machine.invalidate_all();
  CHECK(machine.ask(Machine::iova, write).reason == 0x85);
  machine.put(slot, 0);
  CHECK(machine.ask(Machine::iova, write).reason == 0x79);
}

}  // namespace viommu::test
