// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/fault_log.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
constexpr std::uint64_t ecap_remapping = 0xF0'0F4A;

Capabilities with_records(unsigned count, std::uint64_t ecap = ecap_remapping) {
  return Capabilities::decode(0x10, with(CapabilityRegister{cap_48}, cap::nfr, count - 1).raw, ecap, 48);
}
FaultEntry read_fault(std::uint16_t source, std::uint64_t address = 0x1000) {
  return {{source}, FaultReason::read_denied, FaultedRequest::read, AddressType::untranslated, {address}};
}
std::uint64_t low_of(const FaultLog& log, std::size_t record) {
  return joined(log.read(4 * record), log.read(4 * record + 1));
}
std::uint64_t high_of(const FaultLog& log, std::size_t record) {
  return joined(log.read(4 * record + 2), log.read(4 * record + 3));
}
bool clear(FaultLog& log, std::size_t record) { return log.write(4 * record + 3, 0x8000'0000, ~0u); }

}  // namespace

TEST_CASE("a record holds the blocked request exactly", "[vtd][Fault Recording Registers][normative][B75]") {
  FaultLog log{with_records(4)};
  SECTION("reads and writes") {
    log.record({{0x0100}, FaultReason::read_denied, FaultedRequest::read, AddressType::untranslated, {0x1234}}, false);
    log.record({{0xFFFF}, FaultReason::write_denied, FaultedRequest::write, AddressType::untranslated, {0x5000}},
               false);
    CHECK(low_of(log, 0) == 0x1000);
    CHECK(high_of(log, 0) == 0xC000'0006'0000'0100);
    CHECK(low_of(log, 1) == 0x5000);
    CHECK(high_of(log, 1) == 0x8000'0005'0000'FFFF);
  }
  SECTION("atomics and page requests") {
    log.record({{1}, FaultReason::read_denied, FaultedRequest::atomic, AddressType::untranslated, {}}, false);
    log.record({{2}, FaultReason::read_denied, FaultedRequest::page_request, AddressType::untranslated, {}}, false);
    CHECK(high_of(log, 0) == 0xC000'0006'1000'0001);
    CHECK(high_of(log, 1) == 0x8000'0006'1000'0002);
  }
  SECTION("the address is cut to the largest supported width") {
    log.record(read_fault(1, ~std::uint64_t{0}), false);
    CHECK(low_of(log, 0) == 0xFFFF'FFFF'F000);
  }
  SECTION("an interrupt fault gives the index, and it is not cut") {
    FaultEntry entry = read_fault(1, 0xFEE0'0000);
    entry.interrupt_index = std::uint16_t{0xABCD};
    log.record(entry, false);
    CHECK(low_of(log, 0) == 0xABCD'0000'0000'0000);
  }
  SECTION("the address type is there with device TLBs only") {
    FaultEntry entry = read_fault(1);
    entry.address_type = AddressType::translated;
    log.record(entry, false);
    CHECK(high_of(log, 0) == 0xC000'0006'0000'0001);
    FaultLog with_device_tlb{with_records(4, ecap_remapping | mask_of(ecap::dt))};
    with_device_tlb.record(entry, false);
    CHECK(high_of(with_device_tlb, 0) == 0xE000'0006'0000'0001);
  }
}

TEST_CASE("a PASID fills its own bits and no other", "[vtd][Fault Recording Registers][normative][B75]") {
  FaultEntry entry = read_fault(0x0100);
  entry.pasid = Pasid{0xFFFFF};
  FaultLog log{with_records(4, ecap_remapping | mask_of(ecap::pasid))};
  log.record(entry, false);
  CHECK(high_of(log, 0) == 0xCFFF'FF06'8000'0100);
  entry.privileged = true;
  log.record(entry, false);
  CHECK(high_of(log, 1) == 0xCFFF'FF06'A000'0100);
  entry.execute = true;
  log.record(entry, false);
  CHECK(high_of(log, 2) == 0xCFFF'FF06'E000'0100);
  entry.privileged = false;
  log.record(entry, false);
  CHECK(high_of(log, 3) == 0xCFFF'FF06'C000'0100);
  SECTION("a unit without PASIDs records none") {
    FaultLog plain{with_records(2)};
    plain.record(entry, false);
    CHECK(high_of(plain, 0) == 0xC000'0006'0000'0100);
  }
}

TEST_CASE("records are filled in turn and found from the first pending one",
          "[vtd][Primary Fault Logging][normative]") {
  FaultLog log{with_records(3)};
  CHECK_FALSE(log.pending());
  CHECK(log.record(read_fault(1), false) == FaultStatus::recorded);
  CHECK(log.record(read_fault(2), false) == FaultStatus::recorded);
  CHECK(log.pending());
  CHECK(log.first() == 0);
  CHECK(clear(log, 0));
  CHECK(log.pending());
  CHECK(clear(log, 1));
  CHECK_FALSE(log.pending());
  SECTION("the index goes on and FRI is where the next first one is") {
    CHECK(log.record(read_fault(3), false) == FaultStatus::recorded);
    CHECK(log.first() == 2);
    CHECK(log.record(read_fault(4), false) == FaultStatus::recorded);
    CHECK(log.first() == 2);
    CHECK((high_of(log, 0) & 0xFFFF) == 4);
  }
  SECTION("with remapping off it starts at the first record again") {
    log.restart();
    CHECK(log.record(read_fault(5), false) == FaultStatus::recorded);
    CHECK(log.first() == 0);
    CHECK((high_of(log, 0) & 0xFFFF) == 5);
  }
}

TEST_CASE("a log that is twice too small overflows and recovers", "[vtd][Primary Fault Logging][B78][RVM-4]") {
  constexpr unsigned records = 8;
  FaultLog log{with_records(records)};
  for (std::uint16_t i = 0; i < records; ++i) CHECK(log.record(read_fault(i), false) == FaultStatus::recorded);
  for (std::uint16_t i = 0; i < records; ++i) {
    CHECK(log.record(read_fault(static_cast<std::uint16_t>(100 + i)), false) == FaultStatus::overflow_set);
  }
  for (std::size_t i = 0; i < records; ++i) {
    CHECK((high_of(log, i) & 0xFFFF) == i);
    CHECK(clear(log, i));
  }
  CHECK_FALSE(log.pending());
  CHECK(log.record(read_fault(200), false) == FaultStatus::recorded);
  CHECK((high_of(log, 0) & 0xFFFF) == 200);
}

TEST_CASE("a hole in the log does not hide that its next record is pending", "[vtd][Primary Fault Logging]") {
  FaultLog log{with_records(2)};
  log.record(read_fault(1), false);
  log.record(read_fault(2), false);
  CHECK(clear(log, 1));
  CHECK(log.record(read_fault(3), false) == FaultStatus::overflow_set);
}

TEST_CASE("compression drops faults of a source that has one pending", "[vtd][Primary Fault Logging]") {
  FaultLog log{with_records(4)};
  CHECK(log.record(read_fault(1), true) == FaultStatus::recorded);
  CHECK(log.record(read_fault(1, 0x9000), true) == FaultStatus::compressed);
  CHECK(log.record(read_fault(2), true) == FaultStatus::recorded);
  CHECK(low_of(log, 0) == 0x1000);
  CHECK(clear(log, 0));
  CHECK(log.record(read_fault(1), true) == FaultStatus::recorded);
  CHECK((high_of(log, 2) & 0xFFFF) == 1);
  SECTION("also when that is the last record, and the log is full") {
    CHECK(log.record(read_fault(3), true) == FaultStatus::recorded);
    CHECK(log.record(read_fault(3), true) == FaultStatus::compressed);
    CHECK(log.record(read_fault(4), true) == FaultStatus::recorded);
    CHECK(log.record(read_fault(3), true) == FaultStatus::compressed);
    CHECK(log.record(read_fault(5), true) == FaultStatus::overflow_set);
  }
}

TEST_CASE("only a 1 written to F changes a record and it clears F alone", "[vtd][Fault Recording Registers][B81]") {
  FaultLog log{with_records(2)};
  log.record(read_fault(0x0100), false);
  log.record(read_fault(0x0200), false);
  const std::uint64_t before = high_of(log, 0);
  CHECK_FALSE(log.write(3, 0x7FFF'FFFF, ~0u));
  CHECK_FALSE(log.write(3, 0x8000'0000, 0x00FF'FFFF));
  CHECK_FALSE(log.write(2, ~0u, ~0u));
  CHECK_FALSE(log.write(1, ~0u, ~0u));
  CHECK_FALSE(log.write(0, 0, ~0u));
  CHECK(high_of(log, 0) == before);
  CHECK(log.write(3, ~0u, ~0u));
  CHECK(high_of(log, 0) == (before & ~mask_of(frcd_high::fault)));
  CHECK_FALSE(log.write(3, ~0u, ~0u));
  CHECK((high_of(log, 1) & mask_of(frcd_high::fault)) != 0);
  CHECK(log.pending());
}

TEST_CASE("a reset log is empty and starts at its first record", "[vtd][Primary Fault Logging]") {
  FaultLog log{with_records(256)};
  CHECK(log.dwords() == 1024);
  CHECK(log.record(read_fault(99), false) == FaultStatus::recorded);
  CHECK(clear(log, 0));
  for (std::uint16_t i = 0; i < 10; ++i) static_cast<void>(log.record(read_fault(i), false));
  CHECK(log.first() == 1);
  log.reset();
  CHECK_FALSE(log.pending());
  CHECK(log.first() == 0);
  for (std::size_t i = 0; i < log.dwords(); ++i) CHECK(log.read(i) == 0);
  log.record(read_fault(7), false);
  CHECK((high_of(log, 0) & 0xFFFF) == 7);
}

}  // namespace viommu::vtd
