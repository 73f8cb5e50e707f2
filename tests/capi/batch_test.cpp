// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Batches of any size and mixture answer as one call after another does, with every walk kernel.
#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/random.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::capi {
namespace {

using test::Random;

constexpr std::uint16_t other = 0x0118;      // a tree of four levels in another domain
constexpr std::uint16_t identical = 0x0120;  // passed through
constexpr std::uint16_t silent = 0x0128;     // its faults are not recorded
constexpr std::array sources{device, device, device, other, other, identical, silent, stranger};
constexpr std::uint64_t mib2 = 0x200000;
constexpr std::uint64_t gib1 = 0x40000000;
constexpr std::uint64_t gib1_iova = 4 * gib1;

/// A guest with all sizes of pages, runs of neighbours, gaps, missing rights, pages around the interrupt range.
class Guest {
 public:
  explicit Guest(const char* kernel, std::uint64_t seed, std::uint32_t fill = VIOMMU_FILL_DEFAULT)
      : machine{options(kernel, fill)}, layout_{seed} {
    other_tree_ = machine.tables.create_tree(4);
    machine.tables.attach(other, other_tree_, {0, 2, false});
    machine.tables.attach(silent, machine.tree, {0, 3, true});
    machine.tables.set_context(identical, 0x9, 0x402);  // four levels, domain 4
    for (unsigned page = 0; page < 64; ++page) change_page(page);
    for (const test::Tree& tree : {machine.tree, other_tree_}) {
      machine.tables.map(tree, base_iova + 2 * mib2, 8 * mib2, 3, 2);
      machine.tables.map(tree, base_iova + 3 * mib2, 0xFEE00000, 3, 2);  // comes out around the interrupt range
      machine.tables.map(tree, gib1_iova, 5 * gib1, 1, 3);
    }
    machine.invalidate_all();
  }
  void change_page(unsigned page) {
    constexpr std::array<std::uint64_t, 6> rights{3, 3, 3, 3, 1, 2};
    const std::uint64_t gpa = layout_.chance(2, 3) ? gib1 + page * page_bytes : layout_.below(1 << 20) << 12;
    const std::uint64_t granted = layout_.chance(1, 8) ? 0 : layout_.pick(rights);
    for (const test::Tree& tree : {machine.tree, other_tree_}) {
      if (granted == 0) {
        machine.tables.unmap(tree, base_iova + page * page_bytes);
      } else {
        machine.tables.map(tree, base_iova + page * page_bytes, gpa, granted);
      }
    }
  }
  /// The same for each guest of one seed.
  void change_some() {
    for (unsigned i = 0; i < 8; ++i) change_page(static_cast<unsigned>(layout_.below(64)));
    machine.invalidate_all();
  }

  Machine machine;

 private:
  static viommu_vtd_options options(const char* kernel, std::uint32_t fill) {
    viommu_vtd_options options = default_options();
    options.capability = 0x80D2'078C'226F'0606;  // 48 bit, ZLR, PSI, 8 fault records, large pages
    options.extended_capability = 0xF4F;         // C, QI, DT, IR, PT
    options.kernel = kernel;
    options.fill = fill;
    options.iotlb_pages = 64;
    return options;
  }
  Random layout_;
  test::Tree other_tree_;
};

viommu_request random_request(Random& random) {
  viommu_request request{};
  request.source = random.pick(sources);
  const std::uint64_t offset = random.below(page_bytes);
  switch (random.below(12)) {
    case 0:  request.iova = base_iova + 2 * mib2 + random.below(2 * mib2); break;
    case 1:  request.iova = gib1_iova + random.below(gib1); break;
    case 2:  request.iova = 0xFEE00000 + random.below(0x100000); break;
    case 3:  request.iova = random.next() >> random.below(30); break;
    case 4:  request.iova = base_iova + 100 * page_bytes + offset; break;
    default: request.iova = base_iova + random.below(64) * page_bytes + offset;
  }
  constexpr std::array<std::uint64_t, 3> lengths{0, 4, 8};
  request.length = random.pick(lengths);
  request.access = static_cast<std::uint8_t>(1 + random.below(3));
  if (random.chance(1, 3)) request.flags |= VIOMMU_NO_REPORT;
  if (random.chance(1, 12) && request.access == VIOMMU_READ) request.flags |= VIOMMU_ZERO_LENGTH;
  if (random.chance(1, 20)) {
    request.flags |= VIOMMU_HAS_PASID;
    request.pasid = static_cast<std::uint32_t>(random.below(1U << 20));
  }
  return request;
}

/// Everything but the mask, which depends on whether a block was cached.
auto facts_of(const viommu_translation& answer) {
  return std::make_tuple(answer.kind, answer.gpa, answer.rights, answer.reason, answer.reserved);
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> faults_of(Machine& machine) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> records;
  for (std::uint64_t record = 0x220; record < 0x2A0; record += 16) {
    const std::uint64_t high = machine.engine.mmio_read(record + 8, 8);
    if (high >> 63 == 0) continue;
    records.emplace_back(machine.engine.mmio_read(record, 8), high);
    machine.engine.mmio_write(record + 12, 4, 0x80000000);
  }
  machine.engine.mmio_write(0x34, 4, 1);  // the overflow bit, for the next round
  std::ranges::sort(records);
  return records;
}

std::uint64_t answered(const viommu_statistics& s) { return s.translations - s.faults; }

}  // namespace

TEST_CASE("a batch of any mixture answers as one call after another, with each kernel", "[capi][batch][property]") {
  const std::uint32_t fill = GENERATE(as<std::uint32_t>{}, VIOMMU_FILL_EXACT, VIOMMU_FILL_LINE, VIOMMU_FILL_ALL);
  for (const walkers::Kernels* const kernel : walkers::runnable_kernels()) {
    CAPTURE(kernel->name, fill);
    Guest batch{kernel->name, 7, fill};
    Guest single{kernel->name, 7, fill};
    Random random{11};
    for (unsigned round = 0; round < 120; ++round) {
      const std::size_t count = random.chance(1, 20) ? 1000 + random.below(500) : random.below(130);
      std::vector<viommu_request> requests(count);
      for (viommu_request& request : requests) request = random_request(random);
      std::vector<viommu_translation> answers(count);
      REQUIRE(batch.machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
      std::array<unsigned, 6> status_of_batch{};
      std::array<unsigned, 6> status_of_single{};
      for (std::size_t i = 0; i < count; ++i) {
        const viommu_translation alone = single.machine.reader.translate(requests[i]);
        CAPTURE(round, i, requests[i].source, requests[i].iova, requests[i].access, requests[i].flags);
        REQUIRE(facts_of(answers[i]) == facts_of(alone));
        if (alone.kind == VIOMMU_TRANSLATED) REQUIRE((answers[i].mask & 0xFFF) == 0xFFF);
        if (alone.kind != VIOMMU_TRANSLATED) REQUIRE(answers[i].mask == alone.mask);
        ++status_of_batch.at(answers[i].status);
        ++status_of_single.at(alone.status);
      }
      REQUIRE(status_of_batch == status_of_single);
      const auto records = faults_of(batch.machine);
      REQUIRE(records.size() == faults_of(single.machine).size());
      REQUIRE(records.size() == status_of_batch[VIOMMU_FAULT_RECORDED]);
      const viommu_statistics b = batch.machine.engine.statistics();
      const viommu_statistics s = single.machine.engine.statistics();
      REQUIRE(b.translations == s.translations);
      REQUIRE(b.faults == s.faults);
      REQUIRE(b.identities == s.identities);
      REQUIRE(b.faults_recorded == s.faults_recorded);
      REQUIRE(b.faults_overflowed == s.faults_overflowed);
      // Every request was a hit, a walk, neither, but never both: the numbers of translated ones are bounds.
      REQUIRE(b.iotlb_hits + b.walks <= b.translations);
      REQUIRE(s.iotlb_hits + s.walks <= s.translations);
      REQUIRE(answered(b) <= b.iotlb_hits + b.walks + b.identities + b.translations / 4);
      if (random.chance(1, 3)) {
        batch.change_some();
        single.change_some();
      }
    }
    // Enough hits for the comparison to mean something. Where they fall is up to the key of the hash, about 2,050 with
    // whole pairs; without, a fill spoils the samples of its group, and of so small a table half that is left.
    CHECK(batch.machine.engine.statistics().iotlb_hits > 500);
    CHECK(batch.machine.engine.statistics().faults_recorded > 100);
  }
}

TEST_CASE("as long as records are free each fault of a batch has its own", "[capi][batch]") {
  Guest guest{nullptr, 1};
  const std::vector<viommu_request> requests{
      request(stranger, base_iova, VIOMMU_READ), request(device, 0x700000000, VIOMMU_WRITE),
      request(other, 0x700001000, VIOMMU_READ),  request(device, base_iova + 2 * mib2, VIOMMU_READ),
      request(device, 0xFEE00000, VIOMMU_READ),  request(silent, 0x700000000, VIOMMU_READ),
  };
  std::vector<viommu_translation> answers(requests.size());
  REQUIRE(guest.machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
  for (const std::size_t i : {0U, 1U, 2U, 4U}) CHECK(answers[i].status == VIOMMU_FAULT_RECORDED);
  CHECK(answers[3].kind == VIOMMU_TRANSLATED);
  CHECK(answers[5].status == VIOMMU_FAULT_DISABLED);
  std::vector<std::uint64_t> addresses;
  for (const auto& [low, high] : faults_of(guest.machine)) addresses.push_back(low);
  CHECK(addresses == std::vector<std::uint64_t>{base_iova, 0xFEE00000, 0x700000000, 0x700001000});
}

TEST_CASE("a batch while translation is off is all identity", "[capi][batch]") {
  Guest guest{nullptr, 1};
  guest.machine.driver.enable_translation(false);
  Random random{5};
  std::vector<viommu_request> requests(300);
  for (viommu_request& request : requests) request = random_request(random);
  std::vector<viommu_translation> answers(requests.size());
  REQUIRE(guest.machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CHECK(answers[i].kind == VIOMMU_IDENTITY);
    CHECK(answers[i].gpa == requests[i].iova);
  }
  CHECK(guest.machine.engine.statistics().identities == requests.size());
}

TEST_CASE("an interrupt among a stream of neighbours stays an interrupt", "[capi][batch][B28]") {
  // Pages up to the interrupt range and beyond its beginning go on alike; the stream looks ahead of itself.
  for (const std::uint32_t fill : {VIOMMU_FILL_LINE, VIOMMU_FILL_ALL}) {
    viommu_vtd_options options = default_options();
    options.fill = fill;
    Machine machine{options};
    for (std::uint64_t page = 0; page < 64; ++page)
      machine.map(0xFEDE0000 + page * page_bytes, gib1 + page * page_bytes);
    for (unsigned round = 0; round < 2; ++round)
      for (std::uint64_t page = 0; page < 32; ++page)
        CHECK(machine.ask(0xFEDE0000 + page * page_bytes).gpa == gib1 + page * page_bytes);
    const std::vector<viommu_request> requests{request(device, 0xFEDFF000, VIOMMU_WRITE, 4),
                                               request(device, 0xFEE00010, VIOMMU_WRITE, 4),
                                               request(device, 0xFEE00010, VIOMMU_READ, 4, VIOMMU_NO_REPORT)};
    std::vector<viommu_translation> answers(requests.size());
    REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
    CHECK(answers[0].kind == VIOMMU_TRANSLATED);
    CHECK(answers[1].kind == VIOMMU_INTERRUPT);
    CHECK(answers[2].kind == VIOMMU_FAULT);
    CHECK(machine.ask(0xFEE00010, VIOMMU_WRITE).kind == VIOMMU_INTERRUPT);
  }
}

TEST_CASE("a zero-length read that misses is counted as a walk, not as a hit too", "[capi][batch][statistics]") {
  Guest guest{nullptr, 1};
  const viommu_request zero = request(device, 0x700000000, VIOMMU_READ, 0, VIOMMU_ZERO_LENGTH | VIOMMU_NO_REPORT);
  std::array<viommu_translation, 1> answers{};
  for (unsigned round = 0; round < 3; ++round) {
    const viommu_statistics before = guest.machine.engine.statistics();
    CHECK(guest.machine.reader.translate(zero).kind == VIOMMU_FAULT);
    REQUIRE(guest.machine.reader.translate_batch({&zero, 1}, answers) == VIOMMU_OK);
    CHECK(answers[0].kind == VIOMMU_FAULT);
    const viommu_statistics after = guest.machine.engine.statistics();
    CHECK(after.iotlb_hits == before.iotlb_hits);
    CHECK(after.walks == before.walks + 2);
    CHECK(after.translations == before.translations + 2);
  }
}

}  // namespace viommu::capi
