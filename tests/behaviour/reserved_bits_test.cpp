// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which bits must be zero where: each bit alone, in every kind of entry, under every capability that decides about it.
#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t bit(unsigned position) { return std::uint64_t{1} << position; }
constexpr std::uint64_t from(unsigned position) { return ~(bit(position) - 1); }

/// Bits of a word, each flipped alone, that lead to this reason.
std::uint64_t bits_that_block(Machine& machine, std::uint64_t gpa, unsigned reason, std::uint64_t iova) {
  const std::uint64_t good = *machine.memory.load_u64(gpa);
  std::uint64_t found = 0;
  for (unsigned position = 0; position < 64; ++position) {
    REQUIRE(machine.memory.store_u64(gpa, good ^ bit(position)));
    REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
    if (machine.blocked(device, iova) == reason) found |= bit(position);
  }
  REQUIRE(machine.memory.store_u64(gpa, good));
  REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
  return found;
}

viommu_vtd_options options_with(std::uint64_t cap_set, std::uint64_t cap_clear, std::uint64_t ecap_set, unsigned haw) {
  viommu_vtd_options options = usual_options();
  options.capability = (options.capability & ~cap_clear) | cap_set;
  options.extended_capability |= ecap_set;
  options.host_address_width = haw;
  return options;
}

}  // namespace

TEST_CASE("each reserved bit of a root entry blocks alone", "[behaviour][vtd][Root Entry][RVM-2][S2.10]") {
  const unsigned haw = GENERATE(39u, 42u, 48u);
  Machine machine{options_with(0, 0, 0, haw)};
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.boot();
  const std::uint64_t entry = machine.tables.root_table();
  CHECK(bits_that_block(machine, entry, 0x0A, 0x5000) == (from(haw) | 0xFFE));
  CHECK(bits_that_block(machine, entry + 8, 0x0A, 0x5000) == ~std::uint64_t{0});
}

TEST_CASE("each reserved bit of a context entry blocks alone", "[behaviour][vtd][Context Entry][RVM-3][S2.10]") {
  const unsigned haw = GENERATE(39u, 42u, 48u);
  const unsigned id_bits = GENERATE(4u, 8u, 16u);
  const bool device_tlb = GENERATE(false, true);
  Machine machine{options_with((id_bits - 4) / 2, 6, device_tlb ? ecap_device_tlb : 0, haw)};
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.boot();
  const std::uint64_t entry = machine.tables.context_entry(device);
  CHECK(bits_that_block(machine, entry, 0x0B, 0x5000) == (from(haw) | 0xFF0));
  CHECK(bits_that_block(machine, entry + 8, 0x0B, 0x5000) == (from(8 + id_bits) | bit(7)));
  // TT: 01 needs device-TLBs; flipping the high bit makes pass-through, which wants the largest width and has it.
  CHECK(bits_that_block(machine, entry, 0x03, 0x5000) % 0x10 == (device_tlb ? 0u : 4u));
  // AW: of 010 the bits flipped alone give 011 (no 57 bit here), 000 and 110.
  CHECK(bits_that_block(machine, entry + 8, 0x03, 0x5000) == 7);
}

TEST_CASE("a pass-through entry must name the largest width, and its table pointer is ignored",
          "[behaviour][vtd][Context Entry][RVM-3]") {
  Machine machine;
  machine.boot();
  for (std::uint64_t width = 0; width < 8; ++width) {
    machine.attach_pass_through(device, 1, width);
    REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
    CHECK(machine.blocked(device, 0x5000) == (width == 2 ? 0u : 3u));
  }
  machine.tables.set_context(device, from(12) | 0x9, 0x102);
  REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
  CHECK(machine.lands(device, 0x5000) == 0x5000);
}

TEST_CASE("what a unit does not have is not accepted in a context entry",
          "[behaviour][vtd][Context Entry][RVM-3][S4.13]") {
  viommu_vtd_options options = usual_options();
  SECTION("pass-through without ECAP.PT") {
    options.extended_capability &= ~bit(6);
    Machine machine{options};
    machine.attach_pass_through(device, 1);
    machine.boot();
    CHECK(machine.blocked(device, 0x5000) == 0x3);
  }
  SECTION("domain 0 with caching mode") {
    options.capability |= cap_caching_mode;
    Machine machine{options};
    machine.tables.map(machine.attach(device, 0), 0x5000, 0x400000);
    machine.boot();
    CHECK(machine.blocked(device, 0x5000) == 0xB);
  }
  SECTION("domain 0 is a domain like any other without it") {
    Machine machine{options};
    machine.tables.map(machine.attach(device, 0), 0x5000, 0x400000);
    machine.boot();
    CHECK(machine.lands(device, 0x5000) == 0x400000);
  }
}

TEST_CASE("each reserved bit of a second-stage entry blocks alone, at its level and under its capability only",
          "[behaviour][vtd][Second-Stage Paging Entries][B24][S2.10]") {
  const bool snoop = GENERATE(false, true);  // ECAP.SC
  const unsigned haw = GENERATE(39u, 46u, 48u);
  const std::uint64_t sizes = GENERATE(0u, 1u, 3u);  // CAP.SSLPS
  Machine machine{options_with(sizes << 34, std::uint64_t{3} << 34, snoop ? 0x80 : 0, haw)};
  const std::uint64_t iova = bit(40) + 0x5000;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, iova, 0x400000);
  machine.boot();
  REQUIRE(machine.lands(device, iova) == 0x400000);
  const std::uint64_t high = (from(haw) & (bit(52) - 1)) | bit(62);
  const std::uint64_t leaf_snoop = snoop ? 0 : bit(11);
  // PML4E: PS is reserved there. PDPE and PDE: PS makes them a page, and their table is not aligned to one.
  CHECK(bits_that_block(machine, machine.tables.slot(tree, iova, 4), 0xC, iova) == (high | bit(11) | bit(7)));
  CHECK(bits_that_block(machine, machine.tables.slot(tree, iova, 3), 0xC, iova) == (high | bit(11) | bit(7)));
  CHECK(bits_that_block(machine, machine.tables.slot(tree, iova, 2), 0xC, iova) == (high | bit(11) | bit(7)));
  CHECK(bits_that_block(machine, machine.tables.slot(tree, iova, 1), 0xC, iova) == (high | leaf_snoop));
  for (const unsigned level : {2u, 3u}) {
    const std::uint64_t place = bit(41) + (std::uint64_t{level} << 36);
    machine.tables.map(tree, place, 0, entry_read_write, level);
    const std::uint64_t entry = machine.tables.slot(tree, place, level);
    if ((sizes & (level - 1)) == 0) {  // bit 0 says 2 MiB, bit 1 says 1 GiB: PS itself is reserved
      CHECK(machine.blocked(device, place) == 0xC);
      continue;
    }
    const std::uint64_t misaligned = (bit(12 + 9 * (level - 1)) - 1) & from(12);
    CHECK(bits_that_block(machine, entry, 0xC, place) == (high | leaf_snoop | misaligned));
  }
}

TEST_CASE("an entry without rights says nothing else, whatever its bits",
          "[behaviour][vtd][Second-Stage Paging Entries][B24]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  for (unsigned level = 1; level <= 4; ++level) {
    const std::uint64_t entry = machine.tables.slot(tree, 0x5000, level);
    const std::uint64_t good = *machine.memory.load_u64(entry);
    REQUIRE(machine.memory.store_u64(entry, ~std::uint64_t{3}));
    REQUIRE(machine.engine.drop_caches() == VIOMMU_OK);
    CHECK(machine.blocked(device, 0x5000) == 0x6);
    REQUIRE(machine.memory.store_u64(entry, good));
  }
}

TEST_CASE("a page in the interrupt range is blocked, a larger one around it only there",
          "[behaviour][vtd][Interrupt Address Range][B28]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  SECTION("4 KiB") {
    machine.tables.map(tree, 0x5000, 0xFEE0'0000);
    machine.tables.map(tree, 0x6000, 0xFEEF'F000);
    machine.tables.map(tree, 0x7000, 0xFEF0'0000);
    machine.tables.map(tree, 0x8000, 0xFEDF'F000);
    machine.boot();
    CHECK(machine.blocked(device, 0x5000) == 0xE);
    CHECK(machine.blocked(device, 0x6FFF, VIOMMU_WRITE) == 0xE);
    CHECK(machine.lands(device, 0x7000) == 0xFEF0'0000);
    CHECK(machine.lands(device, 0x8FFF) == 0xFEDF'FFFF);
  }
  SECTION("2 MiB and 1 GiB") {
    const unsigned level = GENERATE(2u, 3u);
    const std::uint64_t size = bit(12 + 9 * (level - 1));
    const std::uint64_t base = 0xFEE0'0000 & ~(size - 1);
    constexpr std::uint64_t iova = 0x40'0000'0000;
    machine.tables.map(tree, iova, base, entry_read_write, level);
    machine.boot();
    for (int time = 0; time < 2; ++time) {
      for (std::uint64_t gpa = 0xFEDC'0000; gpa < 0xFF00'0000; gpa += 0x1'0000) {
        if (gpa < base || gpa - base >= size) continue;
        const bool inside = gpa >= 0xFEE0'0000 && gpa <= 0xFEEF'FFFF;
        CHECK(machine.blocked(device, iova + (gpa - base)) == (inside ? 0xEu : 0u));
        if (inside) continue;
        const viommu_translation answer = machine.ask(device, iova + (gpa - base));
        CHECK(answer.gpa == gpa);
        const std::uint64_t first = gpa & ~answer.mask;
        CHECK((first > 0xFEEF'FFFF || (first | answer.mask) < 0xFEE0'0000));
      }
    }
  }
}

TEST_CASE("a device never reaches the tables through the interrupt range, even where it is mapped",
          "[behaviour][vtd][Interrupt Address Range][B28]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0xFEE0'0000, 0x400000, entry_read_write, 2);  // a page around it
  machine.boot();
  CHECK(machine.ask(device, 0xFEE0'0010, VIOMMU_WRITE, 0, 4).kind == VIOMMU_INTERRUPT);
  CHECK(machine.ask(device, 0xFEE0'0010, VIOMMU_READ, VIOMMU_ZERO_LENGTH).kind == VIOMMU_INTERRUPT);
  CHECK(machine.blocked(device, 0xFEE0'0010) == 0x29);
  CHECK(machine.blocked(device, 0xFEE0'0010, VIOMMU_READ | VIOMMU_WRITE) == 0x29);
  CHECK(machine.ask(device, 0xFEE0'0010, VIOMMU_WRITE, VIOMMU_NO_REPORT, 8).reason == 0x29);
  CHECK(machine.lands(device, 0xFEF0'0000) == 0x500000);  // the same page beside it
  CHECK(machine.ask(device, 0xFEF0'0000).mask == 0xF'FFFF);
  CHECK(machine.loads > 0);
}

TEST_CASE("input is limited by MGAW and the tables, whatever names guest memory by the host address width",
          "[behaviour][vtd][Host Address Width][S2.10]") {
  SECTION("39 bits of both") {
    viommu_vtd_options options = usual_options();
    options.capability = 0x80D2'078C'2226'0206;  // MGAW 39, tables of 39 bits
    options.host_address_width = 39;
    Machine machine{options};
    machine.tables.map(machine.attach(device, 1, 3), bit(39) - 0x1000, 0x400000);
    machine.boot();
    CHECK(machine.lands(device, bit(39) - 1) == 0x400FFF);
    CHECK(machine.blocked(device, bit(39)) == 0x4);
    for (const std::uint32_t where : {offset::root_table, offset::queue_address, offset::interrupt_table}) {
      machine.write(where, from(12), 8);
      CHECK(machine.read(where, 8) == (from(12) & (bit(39) - 1)));
    }
  }
  SECTION("40 bits of memory under 48 bits of input") {
    Machine machine{options_with(0, 0, 0, 40)};
    machine.memory.add_ram(bit(39), 0x10'0000);
    GuestTables high{words_of(machine.memory), bit(39)};  // bit 39 is legal in every pointer
    const Tree tree = high.create_tree(4);
    high.attach(device, tree, {.domain_id = 1});
    high.map(tree, bit(40), bit(39) + 0x3000);
    high.set_context(device + 1, 0x9, 0x202);
    machine.write(offset::root_table, high.root_table(), 8);
    machine.command(command::root_pointer);
    machine.command(command::translation);
    CHECK(machine.lands(device, bit(40)) == bit(39) + 0x3000);
    CHECK(machine.lands(device + 1, bit(40) - 1) == bit(40) - 1);
    CHECK(machine.blocked(device + 1, bit(40)) == 0x4);
    CHECK(bits_that_block(machine, high.root_table(), 0x0A, bit(40)) == (from(40) | 0xFFE));
    CHECK(bits_that_block(machine, high.context_entry(device), 0x0B, bit(40)) == (from(40) | 0xFF0));
    const std::uint64_t leaf = high.slot(tree, bit(40), 1);
    CHECK(bits_that_block(machine, leaf, 0x0C, bit(40)) == ((from(40) & (bit(52) - 1)) | bit(62) | bit(11)));
  }
}

TEST_CASE("the narrower of MGAW and the tables bounds the input", "[behaviour][vtd][Second-Stage Translation]") {
  SECTION("the tables") {
    Machine machine;
    machine.tables.map(machine.attach(device, 1, 3), bit(39) - 0x1000, 0x400000);
    machine.boot();
    CHECK(machine.lands(device, bit(39) - 1) == 0x400FFF);
    CHECK(machine.blocked(device, bit(39)) == 0x4);
    CHECK(machine.blocked(device, ~std::uint64_t{0}) == 0x4);
  }
  SECTION("MGAW") {
    viommu_vtd_options options = usual_options();
    options.capability = 0x80D2'078C'2227'0606;  // MGAW 40, tables of 39 and 48 bits
    options.host_address_width = 40;
    Machine machine{options};
    const Tree tree = machine.attach(device, 1, 4);
    machine.tables.map(tree, bit(40) - 0x1000, 0x400000);
    machine.tables.map(tree, bit(40), 0x500000);
    machine.boot();
    CHECK(machine.lands(device, bit(40) - 1) == 0x400FFF);
    CHECK(machine.blocked(device, bit(40)) == 0x4);
    CHECK(machine.blocked(device, bit(47)) == 0x4);
  }
}

TEST_CASE("a zero-length read of a write-only page is allowed where CAP.ZLR says so",
          "[behaviour][vtd][Zero-Length Read]") {
  const bool allowed_here = GENERATE(false, true);
  Machine machine{options_with(allowed_here ? bit(22) : 0, 0, 0, 48)};
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000, entry_write);
  machine.boot();
  const viommu_translation answer = machine.ask(device, 0x5000, VIOMMU_READ, VIOMMU_ZERO_LENGTH);
  CHECK((answer.kind == VIOMMU_TRANSLATED) == allowed_here);
  CHECK(unsigned{answer.reason} == (allowed_here ? 0u : 6u));
  CHECK(machine.blocked(device, 0x5000) == 0x6);
  CHECK(machine.ask(device, 0x6000, VIOMMU_READ, VIOMMU_ZERO_LENGTH).reason == 0x6);
}

}  // namespace viommu::test
