// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a driver does first: the documented order of commands, and DMA that comes out where the tables say.
#include <array>

#include "tests/behaviour/machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;

/// 39 and 48 bit, as usual, and the widest pass-through context entry is AW 2.
constexpr std::uint64_t pattern = 0x1234'5678;

}  // namespace

TEST_CASE("a unit boots in the documented order and each step shows before the next",
          "[behaviour][vtd][Global Command Register][KUT-1][KUT-2][KUT-3][KUT-4][KUT-5][KUT-6][QVT-20]") {
  Machine machine;
  machine.write(offset::root_table, machine.tables.root_table(), 8);
  CHECK(machine.read(offset::global_status) == 0);
  machine.command(command::root_pointer);
  CHECK(machine.read(offset::global_status) == command::root_pointer);
  machine.write(offset::queue_tail, 0, 8);
  machine.write(offset::queue_address, Machine::queue_page, 8);
  machine.command(command::queue);
  CHECK(machine.shows(command::queue));
  CHECK_FALSE(machine.shows(command::translation));
  machine.write(offset::fault_event_data, 0x20);
  machine.write(offset::fault_event_address, 0xFEE0'0000);
  machine.write(offset::fault_event_control, 0);
  CHECK(machine.read(offset::fault_event_control) == 0);
  machine.write(offset::interrupt_table, 0x4'000F, 8);
  machine.command(command::interrupt_table);
  CHECK(machine.shows(command::interrupt_table));
  machine.command(command::translation);
  CHECK(machine.shows(command::translation));
  CHECK_FALSE(machine.shows(command::interrupt_remapping));
  machine.command(command::interrupt_remapping);
  CHECK(machine.read(offset::global_status) == (command::translation | command::root_pointer | command::queue |
                                                command::interrupt_remapping | command::interrupt_table));
  CHECK(machine.read(offset::fault_status) == 0);
}

TEST_CASE("the capability registers are what the machine was built with",
          "[behaviour][vtd][Capability Register][KUT-7][KUT-8]") {
  Machine machine;
  const std::uint64_t cap = machine.read(offset::capability, 8);
  CHECK(cap == usual_cap);
  CHECK((cap >> 8 & 2) != 0);   // SAGAW: 39 bit
  CHECK((cap >> 34 & 3) == 3);  // SSLPS: 2 MiB and 1 GiB
  CHECK(machine.read(offset::extended_capability, 8) == usual_ecap);
}

TEST_CASE("a device reads the pattern of the page mapped at 0 and writes it behind",
          "[behaviour][vtd][DMA Remapping][KUT-9]") {
  Machine machine;
  constexpr std::uint64_t page = 0x400000;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0, page);
  REQUIRE(machine.memory.store_u64(page, pattern));
  machine.boot();
  const auto word = machine.dma_read(device, 0);
  REQUIRE(word.has_value());
  REQUIRE(machine.dma_write(device, 4, *word));
  CHECK(machine.word_at(page) == pattern);
  CHECK(machine.word_at(page + 4) == pattern);
}

TEST_CASE("a pass-through context leaves the address alone", "[behaviour][vtd][Pass-through][QVT-1]") {
  Machine machine;
  machine.attach_pass_through(device, 1);
  machine.boot();
  REQUIRE(machine.dma_write(device, 0x40'0123'4000 % Machine::ram_bytes, pattern));
  CHECK(machine.word_at(0x40'0123'4000 % Machine::ram_bytes) == pattern);
  const viommu_translation answer = machine.ask(device, 0x300004, VIOMMU_WRITE);
  CHECK(answer.kind == VIOMMU_IDENTITY);
  CHECK(answer.gpa == 0x300004);
  CHECK(answer.rights == (VIOMMU_READ | VIOMMU_WRITE));
}

TEST_CASE("a table of 3, 4 or 5 levels leads to the mapped page plus the offset",
          "[behaviour][vtd][Second-Stage Translation][QVT-2]") {
  const unsigned levels = GENERATE(3u, 4u, 5u);
  viommu_vtd_options options = usual_options();
  options.capability = 0x80D2'078C'2238'0E06;  // MGAW 57, all three widths
  Machine machine{options};
  const std::uint64_t iova = (std::uint64_t{1} << (12 + 9 * levels)) - 0x3000;
  const Tree tree = machine.attach(device, 1, levels);
  machine.tables.map(tree, iova, 0x400000);
  machine.boot();
  REQUIRE(machine.dma_write(device, iova + 0x567, pattern));
  CHECK(machine.word_at(0x400567) == pattern);
  CHECK_FALSE(machine.dma_write(device, iova + 0x1000, pattern));
}

TEST_CASE("each page size translates its whole block and is reported as large as it is",
          "[behaviour][vtd][Second-Stage Translation][B31][RVM-7]") {
  struct Size {
    unsigned level;
    std::uint64_t mask;
  };
  const auto [level, mask] = GENERATE(Size{1, 0xFFF}, Size{2, 0x1F'FFFF}, Size{3, 0x3FFF'FFFF});
  Machine machine;
  constexpr std::uint64_t iova = 0x12'4000'0000;
  constexpr std::uint64_t gpa = 0x7'8000'0000;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, iova, gpa, entry_read_write, level);
  machine.boot();
  for (int time = 0; time < 2; ++time) {  // walked, then cached
    for (const std::uint64_t inside : {std::uint64_t{0}, std::uint64_t{0x567}, mask}) {
      const viommu_translation answer = machine.ask(device, iova + inside, VIOMMU_WRITE);
      CHECK(answer.kind == VIOMMU_TRANSLATED);
      CHECK(answer.gpa == gpa + inside);
      CHECK(answer.mask == mask);
    }
  }
  CHECK_FALSE(machine.lands(device, iova + mask + 1).has_value());
  CHECK_FALSE(machine.lands(device, iova - 1).has_value());
}

TEST_CASE("rights are those of every entry on the way", "[behaviour][vtd][Access Rights][RVM-7]") {
  // R and W of the PML4E, PDPE, PDE and PTE, and the requests they allow.
  const std::uint64_t upper = GENERATE(1u, 2u, 3u);
  const std::uint64_t lower = GENERATE(1u, 2u, 3u);
  const unsigned narrow_level = GENERATE(2u, 3u, 4u);
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x1000, 0x400000, lower);
  const std::uint64_t entry = machine.tables.slot(tree, 0x1000, narrow_level);
  REQUIRE(machine.memory.store_u64(entry, (*machine.memory.load_u64(entry) & ~std::uint64_t{3}) | upper));
  machine.boot();
  const std::uint64_t rights = upper & lower;
  CHECK(machine.blocked(device, 0x1000, VIOMMU_READ) == ((rights & 1) != 0 ? 0 : 0x6));
  CHECK(machine.blocked(device, 0x1000, VIOMMU_WRITE) == ((rights & 2) != 0 ? 0 : 0x5));
  const unsigned atomic = rights == 3 ? 0 : (rights & 2) == 0 ? 0x5 : 0x6;
  CHECK(machine.blocked(device, 0x1000, VIOMMU_READ | VIOMMU_WRITE) == atomic);
  if (rights == 0) return;
  const std::uint8_t allowed = (rights & 1) != 0 ? VIOMMU_READ : VIOMMU_WRITE;
  CHECK(machine.ask(device, 0x1000, allowed).rights == rights);
}

TEST_CASE("the whole source id tells devices apart, and every domain has pages of its own",
          "[behaviour][vtd][Context Cache][B01][B21][SEC-10]") {
  // Each id differs from the first in one bit; all are asked for one address, twice, in turn.
  Machine machine;
  std::vector<std::uint16_t> sources{0x0018};
  for (unsigned bit = 0; bit < 16; ++bit) sources.push_back(static_cast<std::uint16_t>(0x0018 ^ 1U << bit));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const Tree tree = machine.attach(sources[i], static_cast<std::uint16_t>(i + 1));
    machine.tables.map(tree, 0x5000, 0x100'0000 + i * 0x1000);
  }
  machine.boot();
  for (int time = 0; time < 2; ++time) {
    for (std::size_t i = 0; i < sources.size(); ++i)
      CHECK(machine.lands(sources[i], 0x5000) == 0x100'0000 + i * 0x1000);
  }
}

TEST_CASE("an address space is found again after the caller's frame is gone", "[behaviour][vtd][IOTLB][B12]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, 0x400000);
  machine.boot();
  const auto ask_from_a_frame_of_its_own = [&machine] {
    const viommu_request on_this_stack = request(device, 0x5000, VIOMMU_READ);
    return machine.reader.translate(on_this_stack);
  };
  CHECK(ask_from_a_frame_of_its_own().gpa == 0x400000);
  std::array<volatile unsigned char, 4096> over_it{};
  for (auto& byte : over_it) byte = 0xFF;
  const std::uint64_t walks = machine.engine.statistics().walks;
  CHECK(ask_from_a_frame_of_its_own().gpa == 0x400000);
  CHECK(machine.engine.statistics().walks == walks);
}

}  // namespace viommu::test
