// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue as a guest sees it: head, errors, waits, and that no ring keeps the unit busy for ever.
#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint64_t ring_end = 0x1000;

}  // namespace

TEST_CASE("a full pass over the ring is processed and the head reads 0 again",
          "[behaviour][vtd][Invalidation Queue][B80][QAM-1]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  for (std::uint32_t i = 0; i < 255; ++i) ring.put_wait(descriptor::wait_status, i);
  ring.go();
  CHECK(ring.head() == 0xFF0);
  CHECK(machine.effects.size() == 255);
  ring.put_wait(descriptor::wait_status, 255);
  CHECK(ring.tail() == 0);
  ring.go();
  CHECK(ring.head() == 0);
  CHECK(machine.word_at(Machine::status_word) == 255);
  CHECK(machine.engine.statistics().waits == 256);
}

TEST_CASE("every ring size wraps at its own end", "[behaviour][vtd][Invalidation Queue][B71][B80]") {
  const unsigned size = GENERATE(0u, 1u, 3u, 7u);
  Machine machine;
  Ring ring{machine, 0x400000, size};
  ring.enable();
  for (unsigned half = 0; half < 2; ++half) {
    for (std::uint64_t i = 0; i < ring.bytes() / 32; ++i) ring.put(descriptor::iotlb_global);
    ring.go();
    CHECK(ring.head() == ring.tail());
    CHECK(ring.head() == (half == 0 ? ring.bytes() / 2 : 0));
  }
  CHECK(machine.engine.statistics().iotlb_global == ring.bytes() / 16);
}

TEST_CASE("a tail outside the ring is an error, and the head chases nothing",
          "[behaviour][vtd][Invalidation Queue][B79][RVM-6]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  const std::uint64_t tail = GENERATE(std::uint64_t{ring_end}, std::uint64_t{ring_end + 16}, std::uint64_t{0x7FFF0});
  ring.put(descriptor::iotlb_global);
  machine.write(offset::queue_tail, tail, 8);
  CHECK(ring.error() == 1);
  CHECK(ring.head() == 0);
  CHECK(machine.engine.statistics().descriptors == 0);
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  // The guest corrects the tail and clears the error.
  machine.write(offset::queue_tail, 16, 8);
  CHECK(ring.head() == 0);
  machine.write(offset::fault_status, status::queue_error);
  CHECK(ring.head() == 16);
  CHECK(ring.error() == 0);
}

TEST_CASE("a tail written before the queue is enabled is processed when it is",
          "[behaviour][vtd][Invalidation Queue][B74]") {
  Machine machine;
  Ring ring{machine};
  ring.put_wait(descriptor::wait_status, 5);
  ring.go();
  CHECK(machine.effects.empty());
  ring.enable();
  CHECK(machine.word_at(Machine::status_word) == 5);
  CHECK(ring.head() == 16);
}

TEST_CASE("a bad descriptor stops the queue with its code, and repaired and cleared it goes on from there",
          "[behaviour][vtd][Invalidation Queue][RVM-6][B73]") {
  struct Bad {
    std::uint64_t low;
    std::uint64_t high;
    std::uint64_t code;
  };
  const Bad bad = GENERATE(
      Bad{0x0, 0, 3}, Bad{0x6, 0, 3}, Bad{0x7, 0, 3}, Bad{0x8, 0, 3}, Bad{0x9, 0, 3}, Bad{0xA, 0, 3}, Bad{0xF, 0, 3},
      Bad{0x12 | 0x200, 0, 3}, Bad{0x5 | 0xE00, 0, 3}, Bad{descriptor::device_tlb, 0, 3},  // no ECAP.DT
      Bad{0x1, 0, 4}, Bad{0x2, 0, 4},                                                      // granularity 0
      Bad{0x11, 1, 4}, Bad{0x12, 0x80, 4},                                          // reserved bits of the second word
      Bad{0x11 | std::uint64_t{1} << 63, 0, 4}, Bad{0x25, 1, 4}, Bad{0xA5, 0, 4});  // PD without ECAP.PDS
  Machine machine;
  machine.write(offset::fault_event_control, 0);
  Ring ring{machine};
  ring.enable();
  ring.put_wait(descriptor::wait_status, 1);
  ring.put(bad.low, bad.high);
  ring.put_wait(descriptor::wait_status, 2);
  ring.go();
  CHECK(ring.error() == bad.code);
  CHECK(ring.head() == 16);
  CHECK(machine.word_at(Machine::status_word) == 1);
  CHECK(machine.effects == std::vector<Effect>{{Effect::store, Machine::status_word, 1}, {Effect::message, 0, 0}});
  ring.go();  // a tail write does not restart it
  CHECK(ring.head() == 16);
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  ring.repair_head(descriptor::iotlb_global);
  CHECK(ring.error() == 0);
  CHECK(ring.head() == 48);
  CHECK(machine.word_at(Machine::status_word) == 2);
}

TEST_CASE("a queue that cannot be fetched from stops with 2, wherever its memory ends",
          "[behaviour][vtd][Invalidation Queue][RVM-6]") {
  Machine machine;
  SECTION("the ring is nowhere") {
    machine.write(offset::queue_address, Machine::ram_bytes * 4, 8);
    machine.command(command::queue);
    machine.write(offset::queue_tail, 16, 8);
    CHECK((machine.read(offset::fault_status) & status::queue_error) != 0);
    CHECK(machine.read(offset::queue_error_record, 8) == 2);
    CHECK(machine.read(offset::queue_head, 8) == 0);
  }
  SECTION("the ring runs out of memory half way") {
    Ring ring{machine, Machine::ram_bytes - 0x1000, 1};
    ring.enable();
    for (unsigned i = 0; i < 256; ++i) ring.put(descriptor::iotlb_global);
    machine.write(offset::queue_tail, 0x1010, 8);
    CHECK(ring.error() == 2);
    CHECK(ring.head() == 0x1000);
    CHECK(machine.engine.statistics().iotlb_global == 256);
  }
}

TEST_CASE("descriptors of 256 bits, and table modes that do not exist, are errors of the queue",
          "[behaviour][vtd][Invalidation Queue][B71]") {
  Machine machine;
  Ring ring{machine};
  SECTION("DW without scalable mode") {
    machine.write(offset::queue_address, Machine::queue_page | 0x800, 8);
    machine.command(command::queue);
    CHECK(ring.error() == 0);  // nothing to fetch yet
    machine.write(offset::queue_tail, 32, 8);
    CHECK(ring.error() == 5);
    CHECK(ring.head() == 0);
  }
  SECTION("TTM") {
    const std::uint64_t mode = GENERATE(1u, 2u, 3u);
    machine.write(offset::root_table, machine.tables.root_table() | mode << 10, 8);
    machine.command(command::root_pointer);
    ring.enable();
    CHECK(ring.error() == 0);  // nothing to fetch yet
    ring.put(descriptor::iotlb_global);
    ring.go();
    CHECK(ring.error() == 7);
    CHECK(ring.head() == 0);
  }
}

TEST_CASE("device-TLB invalidations of every size are accepted where the unit has device-TLBs",
          "[behaviour][vtd][Device-TLB Invalidate Descriptor][B18][B33]") {
  viommu_vtd_options options = usual_options();
  options.extended_capability |= ecap_device_tlb;
  Machine machine{options};
  Ring ring{machine};
  ring.enable();
  const std::uint64_t low = descriptor::device_tlb | std::uint64_t{device} << 32;
  ring.put(low, 0x5000);
  for (unsigned ones = 0; ones <= 52; ++ones) ring.put(low, (((std::uint64_t{1} << ones) - 1) << 12) | 1);
  ring.put_wait(descriptor::wait_status, 9);
  ring.go();
  CHECK(ring.error() == 0);
  CHECK(machine.word_at(Machine::status_word) == 9);
  CHECK(machine.engine.statistics().device_tlb_invalidations == 54);
}

TEST_CASE("work goes on in slices of the budget and gives the same result",
          "[behaviour][vtd][Invalidation Queue][SEC-6]") {
  // A guard keeps the first wait open, and its fence what is behind it, so that the write leaves that to process().
  Machine machine;
  Ring ring{machine};
  ring.enable();
  {
    const Guard guard = machine.reader.guard();
    ring.put(descriptor::iotlb_global);
    ring.put_wait(descriptor::wait_status | descriptor::wait_fence, 1);
    for (unsigned i = 0; i < 100; ++i) ring.put(descriptor::iotlb_global);
    ring.go();
    CHECK(ring.head() == 16);
  }
  for (unsigned slice = 0; slice < 9; ++slice) {
    CHECK(machine.engine.process(11).state == VIOMMU_PROCESS_MORE);
    CHECK(ring.head() == 32 + (slice + 1) * 11 * 16);
  }
  CHECK(machine.engine.process(11).state == VIOMMU_PROCESS_IDLE);
  CHECK(ring.head() == ring.tail());
}

TEST_CASE("a guest that rings for ever gets one ring a doorbell, and the rest later",
          "[behaviour][vtd][Invalidation Queue][SEC-6]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  // Each status write makes another processor add a wait and ring again.
  unsigned rings = 0;
  machine.on_effect = [&](const Effect& effect) {
    if (effect.kind != Effect::store) return;
    elsewhere([&] {
      ++rings;
      ring.put_wait(descriptor::wait_status, rings);
      ring.go();
    });
  };
  ring.put_wait(descriptor::wait_status, 0);
  ring.go();
  const std::uint64_t a_ring = ring.bytes() / 16;
  CHECK(machine.engine.statistics().descriptors <= a_ring);
  CHECK(machine.wakes > 0);
  const std::uint64_t before = machine.engine.statistics().descriptors;
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_MORE);
  CHECK(machine.engine.statistics().descriptors <= before + a_ring);
  CHECK(machine.ask(device, 0x5000).kind == VIOMMU_IDENTITY);  // others are served meanwhile
  machine.on_effect = {};
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.word_at(Machine::status_word) == rings);
}

TEST_CASE("a doorbell is worth one ring of descriptors, however the guest fills it up meanwhile",
          "[behaviour][vtd][Invalidation Queue][SEC-6]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  const std::uint64_t a_ring = ring.bytes() / 16;
  unsigned refills = 0;
  machine.on_effect = [&](const Effect& effect) {
    if (effect.kind != Effect::store || ++refills > 5) return;
    elsewhere([&] {
      for (unsigned i = 0; i < 200; ++i) ring.put(descriptor::iotlb_global);
      ring.put_wait(descriptor::wait_status, refills);
      ring.go();
    });
  };
  ring.put_wait(descriptor::wait_status, 0);
  ring.go();
  CHECK(machine.engine.statistics().descriptors == a_ring);
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_MORE);
  CHECK(machine.engine.statistics().descriptors == 2 * a_ring);
  while (machine.engine.process().state == VIOMMU_PROCESS_MORE) {
  }
  CHECK(machine.engine.statistics().descriptors == 5 * 201 + 1);
  CHECK(ring.head() == ring.tail());
}

TEST_CASE("page invalidations in a row are carried out and counted one by one, however many",
          "[behaviour][vtd][IOTLB Invalidate Descriptor]") {
  const unsigned count = GENERATE(1u, 2u, 63u, 64u, 65u, 200u);
  Machine machine;
  const Tree tree = machine.attach(device, 1);
  for (std::uint64_t page = 0; page < count; ++page) machine.tables.map(tree, page << 12, 0x400000 + (page << 12));
  machine.boot_without_queue();
  for (std::uint64_t page = 0; page < count; ++page) CHECK(machine.lands(device, page << 12));
  for (std::uint64_t page = 0; page < count; ++page) machine.tables.map(tree, page << 12, 0x600000 + (page << 12));
  Ring ring{machine};
  ring.enable();
  for (std::uint64_t page = 0; page < count; ++page) ring.put(descriptor::iotlb_page(1), page << 12);
  ring.go();
  CHECK(machine.engine.statistics().descriptors == count);
  CHECK(machine.engine.statistics().iotlb_page == count);
  for (std::uint64_t page = 0; page < count; ++page)
    CHECK(machine.lands(device, page << 12) == 0x600000 + (page << 12));
}

TEST_CASE("a ring of several pages in mapped memory is read from each of them",
          "[behaviour][vtd][Invalidation Queue][B71]") {
  Machine machine;
  GuardedRegion mapped{Machine::ram_bytes, 0x2000};
  REQUIRE(machine.engine.add_region(mapped.gpa(), {mapped.data(), mapped.length()}) == VIOMMU_OK);
  for (std::uint64_t at = 0; at < mapped.length(); at += 16) {
    const std::uint64_t low = at < 0x1000 ? descriptor::iotlb_global : descriptor::iotlb_domain(7);
    REQUIRE(mapped.store_u64(mapped.gpa() + at, low));
  }
  machine.write(offset::queue_address, mapped.gpa() | 1, 8);
  machine.command(command::queue);
  machine.write(offset::queue_tail, 0x1FF0, 8);
  CHECK(machine.read(offset::queue_head, 8) == 0x1FF0);
  CHECK(machine.engine.statistics().iotlb_global == 256);
  CHECK(machine.engine.statistics().iotlb_domain == 255);
}

TEST_CASE("a queue switched off and on starts at 0", "[behaviour][vtd][Invalidation Queue][RVM-4]") {
  Machine machine;
  Ring ring{machine};
  ring.enable();
  for (unsigned i = 0; i < 3; ++i) ring.put(descriptor::iotlb_global);
  ring.go();
  CHECK(ring.head() == 48);
  machine.command(0, command::queue);
  CHECK_FALSE(machine.shows(command::queue));
  CHECK(ring.head() == 0);
  Ring again{machine};
  machine.write(offset::queue_tail, 0, 8);
  again.enable();
  again.put_wait(descriptor::wait_status, 3);
  again.go();
  CHECK(machine.word_at(Machine::status_word) == 3);
}

}  // namespace viommu::test
