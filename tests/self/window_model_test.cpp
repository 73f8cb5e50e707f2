// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/window_model.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/support/guest_tables.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t first = 0x10;
constexpr std::uint16_t second = 0x18;
constexpr std::uint64_t iova = 0x40'0000;

oracle::Unit unit_with(std::uint64_t root_table) {
  oracle::Unit unit;
  unit.cap = 0x80D2'078C'222F'0606;
  unit.ecap = 0xF0'0F4B;
  unit.haw = 48;
  unit.translation_enabled = true;
  unit.root_table = root_table;
  return unit;
}

}  // namespace

TEST_CASE("the window model lets devices of one domain share what was cached, whatever else their contexts say",
          "[window model]") {
  constexpr std::uint64_t read_only = 1;
  SparseMemory memory;
  memory.add_ram(0, 0x40'0000);
  GuestTables tables{words_of(memory), 0x1000};
  const Tree tree = tables.create_tree(3);
  tables.map(tree, iova, 0x20'0000, read_only);
  tables.attach(first, tree, {.domain_id = 5});
  tables.detach(second);
  WindowModel model{unit_with(tables.root_table()), words_of(memory), {first, second}, {iova}};

  // The page moves without an invalidation, then the second device joins with FPD and with bits that are ignored.
  tables.map(tree, iova, 0x30'0000, read_only);
  model.memory_changed();
  tables.set_context(second, tree.root | 3, 5 << 8 | 0x78 | 1);
  model.memory_changed();

  const std::vector<oracle::Answer> reads = model.allowed(1, 0, 1);
  REQUIRE(reads.size() == 2);
  CHECK(reads[0].gpa == 0x20'0000);
  CHECK(reads[1].gpa == 0x30'0000);

  SECTION("but FPD is each context's own") {
    for (const oracle::Answer& answer : model.allowed(0, 0, 2)) CHECK(answer.reported);
    for (const oracle::Answer& answer : model.allowed(1, 0, 2)) CHECK_FALSE(answer.reported);
    CHECK_FALSE(model.present(1, 0, 2).reported);
  }
  SECTION("and an invalidation of the domain leaves both the present") {
    model.translations_invalidated(5);
    CHECK(model.allowed(0, 0, 1).size() == 1);
    CHECK(model.allowed(1, 0, 1).size() == 1);
  }
}

TEST_CASE("where a table has two places the window model goes on from tables as they were known", "[window model]") {
  SparseMemory memory;
  memory.add_ram(0, 0x40'0000);
  GuestTables tables{words_of(memory), 0x1000};
  const Tree tree = tables.create_tree(3);
  const std::uint64_t slot = tables.slot(tree, 0, 2);
  const std::uint64_t table = slot & ~std::uint64_t{0xFFF};
  REQUIRE(memory.store_u64(slot, table | 3));
  tables.attach(first, tree, {.domain_id = 5});
  WindowModel model{unit_with(tables.root_table()), words_of(memory), {first}, {0}};
  const auto answers = [&model] {
    std::vector<std::uint64_t> gpas;
    for (const oracle::Answer& answer : model.allowed(0, 0, 1))
      if (answer.kind != oracle::Answer::fault) gpas.push_back(answer.gpa);
    return gpas;
  };
  const bool shared = GENERATE(true, false);
  if (shared) model.tables_are_shared();
  REQUIRE(answers() == std::vector{table});

  // The entry is that of the directory, which led back to it, and that of the page.
  REQUIRE(memory.store_u64(slot, 0x30'0003));
  model.memory_changed();
  CHECK(model.present(0, 0, 1).kind == oracle::Answer::fault);
  CHECK(answers() == (shared ? std::vector<std::uint64_t>{0x30'0000, table} : std::vector{table}));

  model.translations_invalidated(5);
  CHECK(answers().empty());
}

}  // namespace viommu::test
