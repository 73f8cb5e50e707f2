// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The oracle decides what is right, so each of its rules is checked here against a case worked out by hand.
#include "tests/support/oracle.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <string>

#include "tests/support/guest_tables.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;

constexpr std::uint16_t device = 0x0310;

SparseMemory ram(std::uint64_t gpa, std::uint64_t length) {
  SparseMemory memory;
  memory.add_ram(gpa, length);
  return memory;
}

/// 39, 48 and 57 bits, 2 MiB and 1 GiB pages, 16-bit domain ids, 57-bit inputs, 46-bit memory addresses.
struct Guest {
  Guest() {
    unit.cap = 6 | 0xE00 | std::uint64_t{56} << 16 | std::uint64_t{3} << 34;
    unit.ecap = 1 << 6;  // pass-through
    unit.haw = 46;
    unit.translation_enabled = true;
    unit.root_table = tables.root_table();
    tables.attach(device, tree);
    tables.map(tree, 0x7000, 0x123000);
  }
  [[nodiscard]] Answer ask(std::uint64_t iova, bool read = true, bool write = false) const {
    return ask(oracle::Request{device, std::nullopt, iova, read, write, false, 0});
  }
  [[nodiscard]] Answer ask(const oracle::Request& request) const {
    return oracle::translate(unit, [this](std::uint64_t gpa) { return memory.load_u64(gpa); }, request);
  }
  /// 0 when there is none.
  [[nodiscard]] unsigned fault(std::uint64_t iova, bool read = true, bool write = false) const {
    return ask(iova, read, write).reason;
  }
  void set_leaf(std::uint64_t value, unsigned level = 1) { memory.store_u64(tables.slot(tree, 0x7000, level), value); }
  void set_context(std::uint64_t low, std::uint64_t high) { tables.set_context(device, low, high); }

  oracle::Unit unit;
  SparseMemory memory = ram(0, 0x100000);
  GuestTables tables{words_of(memory), 0x1000};
  Tree tree = tables.create_tree(4);
};

}  // namespace

TEST_CASE("the oracle shares no header with the library", "[oracle]") {
  for (const char* name : {"oracle.hpp", "oracle.cpp"}) {
    std::ifstream file{source_folder() / "tests/support" / name};
    REQUIRE(file);
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with("#include")) continue;
      CAPTURE(name, line);
      CHECK((line.find('<') != line.npos || line == "#include \"tests/support/oracle.hpp\""));
      CHECK(line.find("viommu/") == line.npos);
    }
  }
}

TEST_CASE("the oracle follows 3, 4 and 5 levels to pages of each size", "[oracle]") {
  Guest guest;
  for (const unsigned levels : {3U, 4U, 5U}) {
    guest.tree = guest.tables.create_tree(levels);
    guest.tables.attach(device, guest.tree);
    const std::uint64_t top = std::uint64_t{1} << (3 + 9 * levels);  // in the upper half of the tree
    guest.tables.map(guest.tree, top + 0x80403000, 0x555000, entry_read);
    guest.tables.map(guest.tree, top + 0x80600000, 0x40000000, entry_read_write, 2);
    guest.tables.map(guest.tree, top + 0xC0000000, 0x80000000, entry_write, 3);
    const Answer small = guest.ask(top + 0x80403567);
    CHECK(small.kind == Answer::translated);
    CHECK(small.gpa == 0x555567);
    CHECK(small.page_mask == 0xFFF);
    CHECK((small.read && !small.write));
    const Answer large = guest.ask(top + 0x80612345, true, true);
    CHECK(large.gpa == 0x40012345);
    CHECK(large.page_mask == 0x1FFFFF);
    const Answer huge = guest.ask(top + 0xC7654321, false, true);
    CHECK(huge.gpa == 0x87654321);
    CHECK(huge.page_mask == 0x3FFFFFFF);
    CHECK((!huge.read && huge.write));
  }
}

TEST_CASE("the oracle gives each legacy fault its reason", "[oracle]") {
  Guest guest;
  const std::uint64_t root_entry = guest.tables.root_table() + std::uint64_t{16} * (device >> 8);
  const std::uint64_t root_word = *guest.memory.load_u64(root_entry);
  const std::uint64_t low = guest.tree.root | 1;
  const std::uint64_t high = 0x102;
  const std::uint64_t no_memory = 0x40000000;
  REQUIRE(guest.fault(0x7000, true, true) == 0);

  SECTION("root entry") {
    guest.memory.store_u64(root_entry, root_word & ~std::uint64_t{1});
    CHECK(guest.fault(0x7000) == 0x1);
    guest.memory.store_u64(root_entry, root_word | 2);
    CHECK(guest.fault(0x7000) == 0xA);
    guest.memory.store_u64(root_entry, root_word | std::uint64_t{1} << 46);
    CHECK(guest.fault(0x7000) == 0xA);
    guest.memory.store_u64(root_entry, root_word);
    guest.memory.store_u64(root_entry + 8, 1);
    CHECK(guest.fault(0x7000) == 0xA);
    guest.unit.root_table = no_memory;
    CHECK(guest.fault(0x7000) == 0x8);
  }
  SECTION("context entry") {
    guest.set_context(low & ~std::uint64_t{1}, high);
    CHECK(guest.fault(0x7000) == 0x2);
    guest.set_context(low | 0x10, high);
    CHECK(guest.fault(0x7000) == 0xB);
    guest.set_context(low, high | 0x80);
    CHECK(guest.fault(0x7000) == 0xB);
    guest.set_context(low, high | 0x78);  // available to software
    CHECK(guest.fault(0x7000) == 0);
    guest.set_context(low | std::uint64_t{1} << 46, high);
    CHECK(guest.fault(0x7000) == 0xB);
    guest.set_context(low, 2);
    CHECK(guest.fault(0x7000) == 0);
    guest.unit.cap |= 0x80;  // caching mode keeps domain 0 for itself
    CHECK(guest.fault(0x7000) == 0xB);
    guest.unit.cap &= ~std::uint64_t{0x87};  // 4-bit domain ids
    guest.set_context(low, 0x1002);
    CHECK(guest.fault(0x7000) == 0xB);
    guest.memory.store_u64(root_entry, no_memory | 1);
    CHECK(guest.fault(0x7000) == 0x9);
  }
  SECTION("width and type") {
    guest.set_context(low, 0x104);
    CHECK(guest.fault(0x7000) == 0x3);
    guest.set_context(low | 0x4, high);
    CHECK(guest.fault(0x7000) == 0x3);  // no device TLBs
    guest.set_context(low | 0xC, high);
    CHECK(guest.fault(0x7000) == 0x3);
    guest.set_context(low | 0x8, high);
    CHECK(guest.fault(0x7000) == 0x3);  // pass-through wants the largest width
    guest.set_context(low | 0x8, 0x103);
    CHECK(guest.ask(0x3FFFFFFFFFFF, true, true).gpa == 0x3FFFFFFFFFFF);
    CHECK(guest.fault(0x400000000000) == 0x4);
    guest.unit.ecap = 0;
    CHECK(guest.fault(0x7000) == 0x3);
    guest.set_context(no_memory | 1, high);
    CHECK(guest.fault(0x7000) == 0x3);  // top table
    guest.unit.cap &= ~std::uint64_t{0x400};
    guest.set_context(low, high);
    CHECK(guest.fault(0x7000) == 0x3);
  }
  SECTION("input beyond the smaller of the two widths") {
    CHECK(guest.fault(std::uint64_t{1} << 48) == 0x4);
    CHECK(guest.fault((std::uint64_t{1} << 48) - 1) == 0x6);
    guest.unit.cap = (guest.unit.cap & ~std::uint64_t{0x3F0000}) | 0x2D0000;  // 46 bits
    CHECK(guest.fault(std::uint64_t{1} << 46) == 0x4);
    CHECK(guest.fault((std::uint64_t{1} << 46) - 1) == 0x6);
  }
  SECTION("walk") {
    guest.set_leaf(no_memory | 3, 2);
    CHECK(guest.fault(0x7000) == 0x7);
    guest.set_leaf(0x7FFFFFFFFFFFFFFC, 2);
    CHECK(guest.fault(0x7000) == 0x6);
    CHECK(guest.fault(0x7000, false, true) == 0x5);
    CHECK(guest.fault(0x7000, true, true) == 0x5);
  }
  SECTION("rights come last, and are those of all levels together") {
    const std::uint64_t table = *guest.memory.load_u64(guest.tables.slot(guest.tree, 0x7000, 2));
    guest.set_leaf(table & ~std::uint64_t{2}, 2);
    CHECK(guest.fault(0x7000, false, true) == 0x5);
    CHECK(guest.fault(0x7000, true, true) == 0x5);
    CHECK(guest.fault(0x7000) == 0);
    guest.set_leaf(0x123002);
    CHECK(guest.fault(0x7000) == 0x6);
    CHECK(guest.fault(0x7000, false, true) == 0x5);
    guest.set_leaf(0x123002 | std::uint64_t{1} << 62);
    CHECK(guest.fault(0x7000) == 0xC);
  }
  SECTION("output in the interrupt address range") {
    guest.set_leaf(0xFEE01003);
    CHECK(guest.fault(0x7000) == 0xE);
    guest.set_leaf(0xFEF00003);
    CHECK(guest.fault(0x7000) == 0);
  }
}

TEST_CASE("the oracle knows which bits are reserved at which level", "[oracle][B24]") {
  Guest guest;
  guest.tree = guest.tables.create_tree(5);
  guest.tables.attach(device, guest.tree);
  guest.tables.map(guest.tree, 0x7000, 0x123000);
  const auto with_bit = [&](unsigned level, unsigned number, std::uint64_t extra = 0) {
    const std::uint64_t slot = guest.tables.slot(guest.tree, 0x7000, level);
    const std::uint64_t word = *guest.memory.load_u64(slot);
    guest.memory.store_u64(slot, (extra != 0 ? extra : word) | std::uint64_t{1} << number);
    const unsigned reason = guest.fault(0x7000);
    guest.memory.store_u64(slot, word);
    return reason;
  };
  for (unsigned level = 1; level <= 5; ++level) {
    CAPTURE(level);
    CHECK(with_bit(level, 62) == 0xC);
    CHECK(with_bit(level, 51) == 0xC);
    CHECK(with_bit(level, 46) == 0xC);
    CHECK(with_bit(level, 11) == 0xC);  // no snoop control
    for (const unsigned ignored : {2U, 3U, 6U, 8U, 9U, 10U, 52U, 60U, 61U, 63U}) CHECK(with_bit(level, ignored) == 0);
    if (level >= 4) CHECK(with_bit(level, 7) == 0xC);
  }
  CHECK(with_bit(1, 7) == 0);
  CHECK(with_bit(2, 12, 0x40000083) == 0xC);
  CHECK(with_bit(2, 21, 0x40000083) == 0);
  CHECK(with_bit(3, 29, 0x40000083) == 0xC);
  CHECK(with_bit(3, 31, 0x40000083) == 0);
  guest.unit.ecap |= 0x80;  // snoop control: leaves only
  CHECK(with_bit(1, 11) == 0);
  CHECK(with_bit(2, 11, 0x40000083) == 0);
  CHECK(with_bit(3, 11, 0x40000083) == 0);
  CHECK(with_bit(2, 11) == 0xC);
  CHECK(with_bit(5, 11) == 0xC);
  guest.unit.cap &= ~(std::uint64_t{3} << 34);  // no large pages
  CHECK(with_bit(2, 21, 0x40000083) == 0xC);
  CHECK(with_bit(3, 31, 0x40000083) == 0xC);
  guest.unit.haw = 52;
  CHECK(with_bit(1, 51) == 0);
}

TEST_CASE("the oracle reports what FPD does not suppress", "[oracle]") {
  Guest guest;
  guest.set_context(guest.tree.root | 3, 0x102);
  CHECK(guest.ask(0x8000).reason == 0x6);
  CHECK_FALSE(guest.ask(0x8000).reported);
  guest.set_context(2, 0);  // honoured in an absent entry too
  CHECK(guest.ask(0x7000).reason == 0x2);
  CHECK_FALSE(guest.ask(0x7000).reported);
  CHECK(guest.ask(0xFEE00000, true, false).reason == 0x29);
  CHECK(guest.ask(0xFEE00000, true, false).reported);
  guest.set_context(0, 0);
  CHECK(guest.ask(0x7000).reported);
}

TEST_CASE("the oracle decides special requests before any table", "[oracle]") {
  Guest guest;
  guest.unit.root_table = 0x40000000;  // no memory there: whatever reads it faults
  using oracle::Request;
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEE00FFC, false, true, false, 4}).kind == Answer::interrupt);
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEEFFFFC, true, false, true, 0}).kind == Answer::interrupt);
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEE00FF8, false, true, false, 8}).reason == 0x29);
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEE00FFC, true, true, false, 4}).reason == 0x29);
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEDFFFFC, false, true, false, 4}).reason == 0x8);
  CHECK(guest.ask(Request{device, std::nullopt, 0xFEF00000, false, true, false, 4}).reason == 0x8);
  CHECK(guest.ask(Request{device, 5, 0xFEE00000, false, true, false, 4}).reason == 0x31);
  guest.unit.root_table |= 0x800;
  CHECK(guest.ask(0x7000).reason == 0x30);
  guest.unit.root_table |= 0x400;
  CHECK(guest.ask(0x7000).reason == 0x30);
  guest.unit.ecap |= std::uint64_t{1} << 52;
  CHECK(guest.ask(0x7000).reason == 0x33);
  guest.unit.translation_enabled = false;
  CHECK(guest.ask(~std::uint64_t{0}).kind == Answer::identity);
}

TEST_CASE("the oracle lets a zero-length read touch a write-only page where the unit does", "[oracle]") {
  Guest guest;
  guest.set_leaf(0x123002);
  const oracle::Request touch{device, std::nullopt, 0x7000, true, false, true, 0};
  CHECK(guest.ask(touch).reason == 0x6);
  guest.unit.cap |= 1 << 22;
  CHECK(guest.ask(touch).kind == Answer::translated);
  guest.set_leaf(0x123000);
  CHECK(guest.ask(touch).reason == 0x6);
}

}  // namespace viommu::test
