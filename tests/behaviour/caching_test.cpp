// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What stays cached until which invalidation. A test rewrites tables in memory, sees the old answer, invalidates, and
// sees the new one; over-invalidation is legal, and where this unit is exact the test says so.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t page_a = 0x400000;
constexpr std::uint64_t page_b = 0x500000;

enum class Through : std::uint8_t { queue, registers };

void invalidate(Machine& machine, Through how, Granularity granularity, std::uint16_t domain, std::uint64_t iova,
                unsigned address_mask = 0) {
  if (how == Through::registers) return machine.driver.iotlb_by_register(granularity, domain, iova, address_mask);
  switch (granularity) {
    case Granularity::global: machine.driver.add_global(); break;
    case Granularity::domain: machine.driver.add_domain(domain); break;
    case Granularity::narrow: machine.driver.add_page(domain, iova, address_mask); break;
  }
  machine.driver.submit_and_wait();
}

/// Translation on; the queue too, unless registers are to be used.
void boot(Machine& machine, Through how) {
  if (how == Through::queue) return machine.boot();
  machine.boot_without_queue();
}

}  // namespace

TEST_CASE("DMA lands in the old page until a global, domain or page invalidation has completed",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][QVT-6][QVT-7][QVT-8]") {
  const Through how = GENERATE(Through::queue, Through::registers);
  const Granularity granularity = GENERATE(Granularity::global, Granularity::domain, Granularity::narrow);
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, page_a);
  boot(machine, how);
  REQUIRE(machine.dma_write(device, 0x5000, 1));
  machine.tables.map(tree, 0x5000, page_b);
  REQUIRE(machine.dma_write(device, 0x5000, 2));
  CHECK(machine.word_at(page_a) == 2);
  CHECK(machine.word_at(page_b) == 0);
  invalidate(machine, how, granularity, 1, 0x5000);
  REQUIRE(machine.dma_write(device, 0x5000, 3));
  CHECK(machine.word_at(page_a) == 2);
  CHECK(machine.word_at(page_b) == 3);
}

TEST_CASE("a page invalidation leaves the other pages of its domain cached",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][QVT-15]") {
  const Through how = GENERATE(Through::queue, Through::registers);
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  for (const std::uint64_t iova : {0x5000u, 0x6000u}) machine.tables.map(tree, iova, page_a + iova);
  boot(machine, how);
  for (const std::uint64_t iova : {0x5000u, 0x6000u}) CHECK(machine.lands(device, iova) == page_a + iova);
  for (const std::uint64_t iova : {0x5000u, 0x6000u}) machine.tables.map(tree, iova, page_b + iova);
  invalidate(machine, how, Granularity::narrow, 1, 0x5000);
  CHECK(machine.lands(device, 0x5000) == page_b + 0x5000);
  CHECK(machine.lands(device, 0x6000) == page_a + 0x6000);
}

TEST_CASE("domain and page invalidations leave other domains alone, a global one does not",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][B17][SEC-10]") {
  const Granularity granularity = GENERATE(Granularity::global, Granularity::domain, Granularity::narrow);
  Machine machine;
  struct Member {
    std::uint16_t source;
    std::uint16_t domain;
    Tree tree;
    [[nodiscard]] std::uint64_t offset() const { return std::uint64_t{domain} << 12; }
  };
  std::vector<Member> members{{0x0010, 1, {}}, {0x0011, 2, {}}, {0x0112, 3, {}}, {0x0113, 4, {}}};
  for (Member& member : members) {
    member.tree = machine.attach(member.source, member.domain);
    machine.tables.map(member.tree, 0x5000, page_a + member.offset());
  }
  machine.boot();
  for (const Member& member : members) CHECK(machine.lands(member.source, 0x5000) == page_a + member.offset());
  for (const Member& member : members) machine.tables.map(member.tree, 0x5000, page_b + member.offset());
  invalidate(machine, Through::queue, granularity, 2, 0x5000);
  for (const Member& member : members) {
    const bool dropped = granularity == Granularity::global || member.domain == 2;
    CHECK(machine.lands(member.source, 0x5000) == (dropped ? page_b : page_a) + member.offset());
  }
}

TEST_CASE("an invalidation of a domain reaches every device and every table of it",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][RVM-8]") {
  const Granularity granularity = GENERATE(Granularity::domain, Granularity::narrow);
  Machine machine;
  const Tree shared = machine.attach(0x0010, 7);
  machine.tables.attach(0x0011, shared, {.domain_id = 7});
  const Tree narrower = machine.attach(0x0012, 7, 3);  // the same id with a table of its own, as a hostile guest may
  machine.tables.map(shared, 0x5000, page_a);
  machine.tables.map(narrower, 0x5000, page_a + 0x1000);
  machine.boot();
  CHECK(machine.lands(0x0010, 0x5000) == page_a);
  CHECK(machine.lands(0x0011, 0x5000) == page_a);
  CHECK(machine.lands(0x0012, 0x5000) == page_a + 0x1000);
  // fill, corrupt, hit, invalidate, fault, repair, works
  const std::uint64_t entry = machine.tables.slot(shared, 0x5000, 1);
  REQUIRE(machine.memory.store_u64(entry, *machine.memory.load_u64(entry) | std::uint64_t{1} << 62));
  machine.tables.unmap(narrower, 0x5000);
  for (std::uint16_t source = 0x0010; source <= 0x0012; ++source) CHECK(machine.lands(source, 0x5000).has_value());
  invalidate(machine, Through::queue, granularity, 7, 0x5000);
  CHECK(machine.blocked(0x0010, 0x5000) == 0xC);
  CHECK(machine.blocked(0x0011, 0x5000) == 0xC);
  CHECK(machine.blocked(0x0012, 0x5000) == 0x6);
  machine.tables.map(shared, 0x5000, page_b);
  machine.tables.map(narrower, 0x5000, page_b + 0x1000);
  CHECK(machine.lands(0x0011, 0x5000) == page_b);
  CHECK(machine.lands(0x0012, 0x5000) == page_b + 0x1000);
}

TEST_CASE("a page invalidation drops the aligned block of 2^AM pages around any address in it, up to MAMV",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][B09][SEC-5]") {
  constexpr unsigned largest = 18;  // MAMV
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  Ring ring{machine};
  machine.boot_without_queue();
  ring.enable();
  for (unsigned mask = 0; mask <= largest; ++mask) {
    const std::uint64_t bytes = std::uint64_t{4096} << mask;
    const std::uint64_t block = std::uint64_t{mask + 1} << 34;  // each size has a place of its own
    const std::uint64_t inside[] = {block, block + bytes - 4096};
    for (const std::uint64_t iova : inside) machine.tables.map(tree, iova, page_a);
    for (const std::uint64_t iova : inside) CHECK(machine.lands(device, iova) == page_a);
    for (const std::uint64_t iova : inside) machine.tables.map(tree, iova, page_b);
    // An address in the middle of the block: its low bits do not count.
    ring.put(descriptor::iotlb_page(1), (block + (bytes / 2 & ~std::uint64_t{0xFFF})) | mask);
    ring.put_wait(descriptor::wait_status, mask + 1);
    ring.go();
    CHECK(machine.word_at(Machine::status_word) == mask + 1);
    for (const std::uint64_t iova : inside) CHECK(machine.lands(device, iova) == page_b);
  }
  for (unsigned mask = largest + 1; mask < 64; ++mask) {
    const std::uint64_t at = ring.head();
    ring.put(descriptor::iotlb_page(1), 0x4'0000'0000 | mask);
    ring.go();
    CHECK(ring.error() == 4);
    CHECK(ring.head() == at);
    ring.repair_head(descriptor::iotlb_global);
    CHECK(ring.error() == 0);
    CHECK(ring.head() == ring.tail());
  }
}

TEST_CASE("a page request with AM above MAMV through the register is answered with 00 and drops nothing",
          "[behaviour][vtd][IOTLB Invalidate Register][B09]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, page_a);
  boot(machine, Through::registers);
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.tables.map(tree, 0x5000, page_b);
  for (unsigned mask = 19; mask < 64; ++mask) {
    machine.driver.iotlb_by_register(Granularity::narrow, 1, 0x5000, mask);
    CHECK((machine.read(0xF8, 8) >> 57 & 3) == 0);
    CHECK(machine.lands(device, 0x5000) == page_a);
  }
  machine.driver.iotlb_by_register(Granularity::narrow, 1, 0x5000, 18);
  CHECK((machine.read(0xF8, 8) >> 57 & 3) == 3);
  CHECK(machine.lands(device, 0x5000) == page_b);
}

TEST_CASE("naming any page of a large page drops all of it, whatever IH says",
          "[behaviour][vtd][IOTLB Invalidate Descriptor][B31]") {
  const unsigned level = GENERATE(2u, 3u);
  const bool leaf_only = GENERATE(false, true);
  Machine machine;
  constexpr std::uint64_t iova = 0x4000'0000;
  constexpr std::uint64_t old_page = 0x4'0000'0000;
  constexpr std::uint64_t new_page = 0x8'0000'0000;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, iova, old_page, entry_read_write, level);
  machine.boot();
  const std::uint64_t last = (std::uint64_t{1} << (12 + 9 * (level - 1))) - 0x1000;
  CHECK(machine.lands(device, iova) == old_page);
  CHECK(machine.lands(device, iova + last) == old_page + last);
  machine.tables.map(tree, iova, new_page, entry_read_write, level);
  CHECK(machine.lands(device, iova) == old_page);
  machine.driver.add_page(1, iova + last, 0, leaf_only);
  machine.driver.submit_and_wait();
  CHECK(machine.lands(device, iova) == new_page);
  CHECK(machine.lands(device, iova + last) == new_page + last);
}

TEST_CASE("an invalidation names domains as they were cached, not as memory names them now",
          "[behaviour][vtd][Invalidation Granularity]") {
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  machine.tables.map(tree, 0x5000, page_a);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.tables.attach(device, tree, {.domain_id = 2});
  machine.tables.map(tree, 0x5000, page_b);
  machine.driver.add_domain(2);
  machine.driver.submit_and_wait();
  CHECK(machine.lands(device, 0x5000) == page_a);
  machine.driver.add_domain(1);
  machine.driver.submit_and_wait();
  CHECK(machine.lands(device, 0x5000) == page_b);
}

TEST_CASE("flushing domains over and over never brings an old page back", "[behaviour][vtd][IOTLB][SEC-10][PR-3]") {
  viommu_vtd_options options = usual_options();
  options.tag_bits = 4;  // tags are used up after a few flushes
  Machine machine{options};
  Tree trees[3];
  for (std::uint16_t i = 0; i < 3; ++i)
    trees[i] = machine.attach(static_cast<std::uint16_t>(device + i), static_cast<std::uint16_t>(i + 1));
  machine.boot();
  for (unsigned round = 0; round < 200; ++round) {
    const auto page_of = [round](std::uint64_t i, unsigned back) {
      return 0x10'0000 * (i + 1) + std::uint64_t{0x1000} * (round - back);
    };
    for (std::uint16_t i = 0; i < 3; ++i) {
      const auto source = static_cast<std::uint16_t>(device + i);
      machine.tables.map(trees[i], 0x5000, page_of(i, 0));
      if (round != 0) CHECK(machine.lands(source, 0x5000) == page_of(i, 1));
      machine.driver.add_domain(static_cast<std::uint16_t>(i + 1));
      machine.driver.submit_and_wait();
      CHECK(machine.lands(source, 0x5000) == page_of(i, 0));
    }
  }
  CHECK(machine.engine.statistics().tag_sweeps > 0);
}

}  // namespace viommu::test
