// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Blocked requests by reason: of all, of a device, of a domain in one of its uses.
#include "engine/core/fault_counts.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

namespace viommu::core {
namespace {

constexpr std::uint16_t places = 16;  // of a table for the fewest pairs
constexpr FaultReason unknown{};      // virtio-iommu has a reason 0

[[nodiscard]] SourceId source(std::uint16_t id) { return {id}; }

}  // namespace

TEST_CASE("each device has its own count of each reason, device 0 and reason 0 too", "[core][faults][S5.9]") {
  FaultCounts counts;
  REQUIRE(counts.reset({}, 4));
  // As many as there are places, so that one that does not keep its own is found by another.
  for (std::uint16_t id = 0; id < places; ++id)
    for (unsigned times = 0; times <= id; ++times) counts.add(unknown, source(id), {});
  std::uint64_t all = 0;
  for (std::uint16_t id = 0; id < places; ++id) {
    CAPTURE(id);
    CHECK(counts.of(source(id), unknown) == id + 1U);
    CHECK(counts.of(source(id), FaultReason::read_denied) == 0);
    all += id + 1U;
  }
  CHECK(counts.of(unknown) == all);
  counts.add(unknown, source(places), {});  // finds no place
  CHECK(counts.of(source(places), unknown) == 0);
  CHECK(counts.of(unknown) == all + 1);
  for (std::uint16_t id = 0; id < places; ++id) CHECK(counts.of(source(id), unknown) == id + 1U);
}

TEST_CASE("a domain id that is used again begins at 0", "[core][faults][S5.9]") {
  FaultCounts counts;
  REQUIRE(counts.reset({}, 4));
  const DomainUse first{{7}, 1};
  const DomainUse second{{7}, 2};
  for (unsigned times = 0; times < 3; ++times) counts.add(FaultReason::read_denied, source(1), first);
  CHECK(counts.of(first, FaultReason::read_denied) == 3);
  CHECK(counts.of(second, FaultReason::read_denied) == 0);
  counts.add(FaultReason::read_denied, source(2), second);
  CHECK(counts.of(second, FaultReason::read_denied) == 1);
  CHECK(counts.of(source(1), FaultReason::read_denied) == 3);
  CHECK(counts.of(source(2), FaultReason::read_denied) == 1);
}

TEST_CASE("without pairs faults are counted for all only", "[core][faults]") {
  FaultCounts counts;
  REQUIRE(counts.reset({}, 0));
  counts.add(FaultReason::write_denied, source(1), DomainUse{{7}, 1});
  CHECK(counts.of(FaultReason::write_denied) == 1);
  CHECK(counts.of(source(1), FaultReason::write_denied) == 0);
  CHECK(counts.of(DomainUse{{7}, 1}, FaultReason::write_denied) == 0);
}

}  // namespace viommu::core
