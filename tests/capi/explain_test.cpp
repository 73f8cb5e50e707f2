// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Explanations: who decided, where what is cached and what the tables say now agree or do not.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "tests/capi/machine.hpp"
#include "tests/support/explained.hpp"

namespace viommu::capi {
namespace {

nlohmann::json explained(const Machine& machine, std::uint64_t iova, std::uint16_t source = device) {
  return test::dumped(machine.engine, VIOMMU_DUMP_EXPLAIN, request(source, iova, VIOMMU_READ))["explanation"];
}

}  // namespace

TEST_CASE("the tables decide about a page that is not cached, of a context that is", "[capi][dump]") {
  constexpr std::uint64_t other_iova = base_iova + 0x4000'0000;  // behind tables of its own
  Machine machine;
  machine.map(base_iova, 0x5000);
  machine.map(other_iova, 0x6000);
  CHECK(machine.ask().gpa == 0x5000);
  const nlohmann::json said = explained(machine, other_iova);
  CHECK_FALSE(said["cache"]["context"].is_null());
  CHECK(said["answer"]["by"] == "tables");
  CHECK(said["answer"]["gpa"] == "0x6000");
  CHECK(said["answer"]["as_tables_say"] == true);
}

TEST_CASE("a cached context decides after its device was moved without a word to the unit", "[capi][dump]") {
  constexpr std::uint64_t far_page = base_iova + 0x100 * page_bytes;  // a walk caches the pages beside its own too
  Machine machine;
  machine.map(base_iova, 0x5000);
  machine.map(far_page, 0x6000);
  CHECK(machine.ask().gpa == 0x5000);
  const test::Tree other = machine.tables.create_tree(3);
  machine.tables.map(other, far_page, 0x7000);
  machine.tables.attach(device, other, {.domain_id = 2});
  const nlohmann::json said = explained(machine, far_page);
  CHECK(said["tables"]["space"]["domain"] == "0x2");
  CHECK(said["tables"]["gpa"] == "0x7000");
  CHECK(said["answer"]["by"] == "cached context");
  CHECK(said["answer"]["gpa"] == "0x6000");
  CHECK(said["answer"]["as_tables_say"] == false);
  CHECK(machine.ask(far_page).gpa == 0x6000);
}

TEST_CASE("no bit of an entry that is not present is wrong", "[capi][dump]") {
  Machine machine;
  const std::uint64_t present = GENERATE(0U, 1U);
  machine.tables.set_context(stranger, 0x7000 | 0x30 | present, 0x101 | std::uint64_t{1} << 63);
  const nlohmann::json said = explained(machine, base_iova, stranger);
  const nlohmann::json& entry = said["tables"]["context"];
  REQUIRE(entry.size() == 4);
  for (std::size_t half = 2; half < 4; ++half) CHECK(entry[half].contains("must_be_zero") == (present != 0));
  CHECK(said["answer"]["reason"] == (present != 0 ? "0xb" : "0x2"));
}

}  // namespace viommu::capi
