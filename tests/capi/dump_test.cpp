// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The document about an engine: what is in it, and that looking leaves no trace.
#include <viommu/viommu.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/register_map.hpp"
#include "tests/behaviour/scalable_machine.hpp"
#include "tests/capi/machine.hpp"
#include "tests/support/explained.hpp"

namespace viommu::capi {
namespace {

using nlohmann::json;
using test::dumped;
using test::number_in;
namespace scalable = test::scalable;
using test::ScalableMachine;

viommu_request by_pasid(std::uint32_t pasid, std::uint64_t iova, std::uint8_t access = VIOMMU_READ) {
  viommu_request asked = request(ScalableMachine::device, iova, access);
  asked.flags = VIOMMU_HAS_PASID;
  asked.pasid = pasid;
  return asked;
}

std::vector<std::string> names_of(const json& list, const char* member) {
  std::vector<std::string> names;
  for (const json& each : list) names.push_back(each[member]);
  return names;
}

/// By a number in each; caches have no order.
void sort_by(json& list, const char* member) {
  std::sort(list.begin(), list.end(),
            [&](const json& one, const json& other) { return number_in(one[member]) < number_in(other[member]); });
}

json explained(const Engine& engine, const viommu_request& asked) {
  return dumped(engine, VIOMMU_DUMP_EXPLAIN, asked)["explanation"];
}

}  // namespace

TEST_CASE("a dump has every register by its name with the value that the guest reads", "[capi][dump]") {
  const bool is_scalable = GENERATE(false, true);
  Machine legacy;
  ScalableMachine other;
  Engine& engine = is_scalable ? other.engine : legacy.engine;
  const json registers = dumped(engine, VIOMMU_DUMP_REGISTERS)["registers"];
  const auto capabilities = vtd::Capabilities::decode(static_cast<std::uint32_t>(engine.mmio_read(0, 4)),
                                                      engine.mmio_read(8, 8), engine.mmio_read(0x10, 8), 46);
  CHECK(registers.size() == vtd::register_count);
  for (const vtd::RegisterRow& row : vtd::register_rows(capabilities)) {
    CAPTURE(row.name);
    const json& shown = registers[std::string{row.name}];
    CHECK(number_in(shown["offset"]) == row.offset);
    CHECK(number_in(shown["value"]) == engine.mmio_read(row.offset, row.is_64_bit ? 8 : 4));
  }
  CHECK(registers["GSTS_REG"]["fields"]["TES"] == "0x1");
  CHECK(registers["GSTS_REG"]["fields"]["QIES"] == "0x1");
  CHECK(registers["RTADDR_REG"]["fields"]["TTM"] == (is_scalable ? "0x1" : "0x0"));
  CHECK(registers["IQA_REG"]["fields"]["DW"] == (is_scalable ? "0x1" : "0x0"));
  for (const char* name : {"FSTS_REG", "IQH_REG", "IQT_REG", "IQERCD_REG", "PQH_REG", "PQT_REG", "PQA_REG", "PRS_REG"})
    CHECK(registers[name].contains("fields"));
}

TEST_CASE("a dump has the fault records that are pending, and leaves them pending", "[capi][dump]") {
  Machine machine;
  CHECK(machine.ask(base_iova + 0x5000, VIOMMU_WRITE).status == VIOMMU_FAULT_RECORDED);
  const json document = dumped(machine.engine, VIOMMU_DUMP_REGISTERS);
  REQUIRE(document["fault_records"].size() == 1);
  const json& record = document["fault_records"][0];
  CHECK(record["source"] == "01:02.0");
  CHECK(record["low"] == "0x40005000");
  CHECK(record["fields"]["FR"] == "0x5");
  CHECK(record["text"] == "no right to write");
  CHECK(document["registers"]["FSTS_REG"]["fields"]["PPF"] == "0x1");
  CHECK(dumped(machine.engine, VIOMMU_DUMP_REGISTERS) == document);
  CHECK(machine.driver.take_fault());
}

TEST_CASE("a dump tells what was latched apart from what a register says", "[capi][dump]") {
  Machine machine;
  REQUIRE(machine.engine.mmio_write(0x20, 8, 0x7000) == VIOMMU_OK);
  const json document = dumped(machine.engine, VIOMMU_DUMP_REGISTERS);
  CHECK(document["registers"]["RTADDR_REG"]["value"] == "0x7000");
  CHECK(number_in(document["in_force"]["root_table"]) == machine.tables.root_table());
  CHECK(document["in_force"]["mode"] == "legacy");
}

TEST_CASE("a dump lists the contexts that are cached, by source and by PASID", "[capi][dump]") {
  ScalableMachine machine;
  const test::Tree second = machine.tables.create_tree(4);
  const test::Tree first = machine.tables.create_tree(4);
  machine.map(second, ScalableMachine::iova, ScalableMachine::page_a);
  machine.map(first, ScalableMachine::iova, ScalableMachine::page_b);
  machine.attach(ScalableMachine::device);
  machine.set_pasid(0, {.tree = second, .domain = 7});
  machine.set_pasid(5, {.type = scalable::first_stage, .tree = first, .domain = 8, .high = scalable::bit(23)});
  machine.set_pasid(6, {.type = scalable::pass_through, .domain = 9});
  CHECK(dumped(machine.engine, VIOMMU_DUMP_CONTEXTS)["contexts"]["by_source"].empty());
  CHECK(machine.ask().gpa == ScalableMachine::page_a);
  CHECK(machine.ask_by_pasid(5).gpa == ScalableMachine::page_b);
  CHECK(machine.ask_by_pasid(6).gpa == ScalableMachine::iova);
  const json contexts = dumped(machine.engine, VIOMMU_DUMP_CONTEXTS)["contexts"];
  REQUIRE(contexts["by_source"].size() == 1);
  const json& of_source = contexts["by_source"][0];
  CHECK(of_source["source"] == "01:02.0");
  CHECK(of_source["domain"] == "0x7");
  CHECK(of_source["interpretation"] == "second stage");
  CHECK(of_source["levels"] == 4);
  CHECK(number_in(of_source["root"]) == second.root);
  CHECK(of_source["faults_recorded"] == true);
  json list = contexts["pasids"]["list"];
  REQUIRE(list.size() == 2);
  sort_by(list, "pasid");
  CHECK(list[0]["pasid"] == "0x5");
  CHECK(list[0]["interpretation"] == "first stage");
  CHECK(list[0]["domain"] == "0x8");
  CHECK(list[1]["interpretation"] == "pass-through");
  machine.invalidate_all();
  const json after = dumped(machine.engine, VIOMMU_DUMP_CONTEXTS)["contexts"];
  CHECK(after["by_source"].empty());
  CHECK(after["pasids"]["list"].empty());
}

TEST_CASE("a dump lists the pages that are cached for a source", "[capi][dump]") {
  viommu_vtd_options options = default_options();
  options.shards = GENERATE(1U, 8U);
  Machine machine{options};
  const auto pages = [&](std::uint32_t most = 0) {
    json list = dumped(machine.engine, VIOMMU_DUMP_CACHE, request(device, 0, VIOMMU_READ), most)["cache"];
    sort_by(list["pages"], "iova");
    return list;
  };
  CHECK(pages()["context"].empty());
  for (std::uint64_t page = 0; page < 8; ++page)
    machine.map(base_iova + page * page_bytes, 0x80000 + page * page_bytes);
  machine.map(base_iova + 0x100000, 0x5000, test::entry_read);
  machine.map(0x80000000, 0x40000000, test::entry_read_write, 2);
  CHECK(machine.ask().gpa == 0x80000);
  CHECK(machine.ask(base_iova + 0x100000).gpa == 0x5000);
  CHECK(machine.ask(0x80000123).gpa == 0x40000123);
  CHECK(machine.ask(0x80000123).gpa == 0x40000123);  // the first large page is announced, and cached the next time
  const json all = pages();
  CHECK(all["truncated"] == false);
  REQUIRE(all["context"].size() == 1);
  REQUIRE(all["pages"].size() == 3);
  CHECK(all["pages"][0] == json{{"iova", "0x40000000"}, {"gpa", "0x80000"}, {"size", "0x8000"}, {"rights", "rw"}});
  CHECK(all["pages"][1] == json{{"iova", "0x40100000"}, {"gpa", "0x5000"}, {"size", "0x1000"}, {"rights", "r-"}});
  CHECK(all["pages"][2] == json{{"iova", "0x80000000"}, {"gpa", "0x40000000"}, {"size", "0x200000"}, {"rights", "rw"}});
  // A page out of the middle of a block leaves two runs.
  machine.driver.add_page(1, base_iova + 3 * page_bytes);
  machine.driver.submit_and_wait();
  const json fewer = pages();
  REQUIRE(fewer["pages"].size() == 4);
  CHECK(fewer["pages"][0]["size"] == "0x3000");
  CHECK(fewer["pages"][1] == json{{"iova", "0x40004000"}, {"gpa", "0x84000"}, {"size", "0x4000"}, {"rights", "rw"}});
  CHECK(pages(2)["pages"].size() == 2);
  CHECK(pages(2)["truncated"] == true);
  CHECK(pages(4)["truncated"] == false);
  machine.driver.add_domain(1);
  machine.driver.submit_and_wait();
  CHECK(pages()["pages"].empty());
  CHECK(pages()["context"].size() == 1);
}

TEST_CASE("pages of the upper half are listed by the addresses that devices use", "[capi][dump]") {
  ScalableMachine machine;
  const test::Tree first = machine.tables.create_tree(4);
  constexpr std::uint64_t upper = 0xFFFF'8000'4000'0000;
  machine.map(first, upper & 0xFFFF'FFFF'FFFF, ScalableMachine::page_a);
  machine.attach(ScalableMachine::device);
  machine.set_pasid(5, {.type = scalable::first_stage, .tree = first, .high = scalable::bit(23)});
  CHECK(machine.ask_by_pasid(5, upper).gpa == ScalableMachine::page_a);
  const json cache = dumped(machine.engine, VIOMMU_DUMP_CACHE, by_pasid(5, 0))["cache"];
  REQUIRE(cache["pages"].size() == 1);
  CHECK(number_in(cache["pages"][0]["iova"]) == upper);
}

TEST_CASE("a dump tells who is inside a guard, and which holds are open", "[capi][dump]") {
  viommu_host host = empty_host();
  std::uint64_t now = 5000;
  host.opaque = &now;
  host.now_ns = [](void* opaque) { return *static_cast<std::uint64_t*>(opaque); };
  Machine machine{default_options(), host};
  machine.map(base_iova, 0x5000);
  const auto in_guard = [&] {
    const json holders = dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"];
    return std::ranges::count_if(holders["readers"], [](const json& reader) { return reader["in_guard"] == true; });
  };
  CHECK(in_guard() == 0);
  CHECK(dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"]["readers"].size() == 1);  // not the dump's own
  {
    const Guard guard = machine.reader.guard();
    CHECK(in_guard() == 1);
  }
  CHECK(in_guard() == 0);
  viommu_translation answer{};
  Hold hold = machine.reader.hold(request(device, base_iova, VIOMMU_READ, 8), 0xABC, answer);
  REQUIRE(hold);
  now += 250;
  const json holders = dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"];
  REQUIRE(holders["holds"].size() == 1);
  const json& open = holders["holds"][0];
  CHECK(number_in(open["handle"]) == hold.handle());
  CHECK(open["cookie"] == "0xabc");
  CHECK(open["age_ns"] == 250);
  CHECK(open["domain"] == "0x1");
  CHECK(open["source"] == "01:02.0");
  CHECK(open["first"] == "0x40000000");
  hold.release();
  CHECK(dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"]["holds"].empty());
}

TEST_CASE("many holds are listed slice by slice, each once", "[capi][dump]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  std::vector<Hold> holds;
  for (std::uint64_t cookie = 0; cookie < 100; ++cookie) {
    viommu_translation answer{};
    holds.push_back(machine.reader.hold(request(device, base_iova, VIOMMU_READ, 8), cookie, answer));
  }
  const json all = dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"];
  std::vector<std::string> cookies = names_of(all["holds"], "cookie");
  CHECK(cookies.size() == 100);
  std::ranges::sort(cookies);
  CHECK(std::ranges::adjacent_find(cookies) == cookies.end());
  CHECK(all["holds_truncated"] == false);
  const json few = dumped(machine.engine, VIOMMU_DUMP_HOLDERS, {}, 40)["holders"];
  CHECK(few["holds"].size() == 40);
  CHECK(few["holds_truncated"] == true);
}

TEST_CASE("a dump tells what waits for its ticket, and for whom", "[capi][dump]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  const auto work = [&] { return dumped(machine.engine, VIOMMU_DUMP_WORK)["work"]; };
  const json idle = work();
  CHECK(idle["busy"] == false);
  CHECK(idle["begun"].empty());
  CHECK(idle["waits"].empty());
  CHECK(idle["scan"].is_null());
  CHECK(idle["queue"]["enabled"] == true);
  CHECK(idle["queue"]["base"] == "0x100000");
  CHECK(idle["queue"]["entries"] == 256);
  test::GuardedRegion more{0x10000000, page_bytes};
  REQUIRE(machine.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
  std::uint32_t ticket = 0;
  {
    const Guard guard = machine.reader.guard();
    CHECK(machine.ask().gpa == 0x5000);
    machine.driver.add_page(1, base_iova);
    ticket = machine.driver.submit();
    REQUIRE(machine.engine.mmio_write(0x20, 8, machine.tables.root_table()) == VIOMMU_OK);
    REQUIRE(machine.engine.mmio_write(0x18, 4, 0xC4000000) == VIOMMU_OK);  // SRTP
    REQUIRE(machine.engine.remove_region(more.gpa(), 0x77) == VIOMMU_OK);
    CHECK_FALSE(machine.driver.completed(ticket));
    const json busy = work();
    INFO(busy.dump(1));
    REQUIRE(busy["waits"].size() == 1);
    CHECK(busy["waits"][0]["status_write"] == true);
    CHECK(busy["waits"][0]["status_address"] == "0x101000");
    REQUIRE(busy["begun"].size() == 1);
    CHECK(busy["begun"][0]["commands"] == json{{"SRTP", true}});
    CHECK(busy["begun"][0]["ticket"] > busy["waits"][0]["ticket"]);
    REQUIRE(busy["scan"]["waits_for_readers"].size() == 1);
    const json holders = dumped(machine.engine, VIOMMU_DUMP_HOLDERS)["holders"];
    const auto reader =
        std::ranges::find_if(holders["readers"], [](const json& each) { return each["in_guard"] == true; });
    REQUIRE(reader != holders["readers"].end());
    CHECK((*reader)["slot"] == busy["scan"]["waits_for_readers"][0]);
    REQUIRE(busy["regions_being_removed"].size() == 1);
    CHECK(busy["regions_being_removed"][0]["cookie"] == "0x77");
    CHECK(work() == busy);  // looking did no work
  }
  machine.driver.wait_for(ticket);
  const json after = work();
  CHECK(after["waits"].empty());
  CHECK(after["begun"].empty());
  CHECK(after["regions_being_removed"].empty());
}

TEST_CASE("the work of a unit is busy while another thread is at it", "[capi][dump]") {
  struct Seen {
    viommu_engine* engine = nullptr;
    std::string text;
  } seen;
  viommu_host host = empty_host();
  host.opaque = &seen;
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t) {
    Seen& self = *static_cast<Seen*>(opaque);
    // Not from this thread, which is inside a callback.
    std::thread{[&] {
      viommu_dump_options options{};
      options.size = sizeof options;
      options.opaque = &self.text;
      options.sections = VIOMMU_DUMP_WORK | VIOMMU_DUMP_REGISTERS;
      options.write = [](void* text, const char* piece, std::size_t length) {
        static_cast<std::string*>(text)->append(piece, length);
      };
      CHECK(viommu_dump(self.engine, &options) == VIOMMU_OK);
    }}.join();
  };
  Machine machine{default_options(), host};
  seen.engine = machine.engine.get();
  REQUIRE(machine.engine.mmio_write(0xA0, 4, 0) == VIOMMU_OK);
  machine.driver.add(0x15);  // a wait with an interrupt
  machine.driver.submit_and_wait();
  const json document = json::parse(seen.text);
  CHECK(document["work"]["busy"] == true);
  CHECK_FALSE(document["work"].contains("waits"));
  CHECK(document["registers"]["ICS_REG"]["fields"]["IWC"] == "0x1");
}

TEST_CASE("an explanation shows each word of a legacy walk with its fields and the verdict", "[capi][dump]") {
  Machine machine;
  machine.map(base_iova, 0x5000, test::entry_read);
  const json read = explained(machine.engine, request(device, base_iova + 0x123, VIOMMU_READ));
  const json& tables = read["tables"];
  CHECK(names_of(tables["context"], "entry") ==
        std::vector<std::string>{"root entry, low", "root entry, high", "context entry, low", "context entry, high"});
  CHECK(number_in(tables["context"][0]["at"]) == machine.tables.root_table() + 16);
  CHECK(number_in(tables["context"][2]["fields"]["SSPTPTR"]) == machine.tree.root);
  CHECK(tables["space"]["domain"] == "0x1");
  CHECK(names_of(tables["path"], "entry") == std::vector<std::string>{"PDPE", "PDE", "PTE"});
  CHECK(tables["path"][2]["kind"] == "page");
  CHECK(tables["path"][2]["fields"]["R"] == "0x1");
  CHECK(tables["reason"] == "0x0");
  CHECK(tables["gpa"] == "0x5123");
  CHECK(read["cache"]["context"].is_null());
  CHECK(read["answer"]["by"] == "tables");
  CHECK(read["answer"]["as_tables_say"] == true);
  const json write = explained(machine.engine, request(device, base_iova, VIOMMU_WRITE));
  CHECK(write["answer"]["kind"] == "fault");
  CHECK(write["answer"]["reason"] == "0x5");
  CHECK(write["answer"]["text"] == "no right to write");
  // A bit that must be zero is pointed at.
  machine.map(base_iova + page_bytes, 0x6000, test::entry_read | std::uint64_t{1} << 62);
  const json broken = explained(machine.engine, request(device, base_iova + page_bytes, VIOMMU_READ));
  CHECK(broken["tables"]["path"][2]["must_be_zero"] == "0x4000000000000000");
  CHECK(broken["tables"]["reason"] == "0xc");
  machine.tables.set_context(stranger, 0x7000 | 1 | 0x30, 0x101);
  const json reserved = explained(machine.engine, request(stranger, base_iova, VIOMMU_READ));
  CHECK(reserved["tables"]["context"][2]["must_be_zero"] == "0x30");
  CHECK_FALSE(reserved["tables"]["context"][3].contains("must_be_zero"));
  CHECK(reserved["answer"]["reason"] == "0xb");
  machine.tables.detach(stranger);
  CHECK(explained(machine.engine, request(stranger, base_iova, VIOMMU_READ))["answer"]["reason"] == "0x2");
  const json unknown = explained(machine.engine, request(0x0510, base_iova, VIOMMU_READ));
  CHECK(unknown["answer"]["reason"] == "0x1");
  CHECK_FALSE(unknown["tables"].contains("path"));
}

TEST_CASE("an explanation tells what a cache says apart from what the tables say now", "[capi][dump]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  const viommu_request asked = request(device, base_iova, VIOMMU_READ);
  SECTION("a page that was mapped elsewhere without a word to the unit") {
    CHECK(machine.ask().gpa == 0x5000);
    machine.map(base_iova, 0x7000);
    const json said = explained(machine.engine, asked);
    CHECK(said["cache"]["page"]["gpa"] == "0x5000");
    CHECK(said["tables"]["gpa"] == "0x7000");
    CHECK(said["answer"]["by"] == "IOTLB");
    CHECK(said["answer"]["gpa"] == "0x5000");
    CHECK(said["answer"]["as_tables_say"] == false);
    CHECK(machine.ask().gpa == 0x5000);
    machine.invalidate_all();
    const json after = explained(machine.engine, asked);
    CHECK(after["cache"]["page"].is_null());
    CHECK(after["answer"]["gpa"] == "0x7000");
  }
  SECTION("a table that was replaced") {
    for (const std::uint64_t page : {32U, 64U}) {  // the first walk announces such a table, the second caches it
      machine.map(base_iova + page * page_bytes, page * page_bytes);
      CHECK(machine.ask(base_iova + page * page_bytes).gpa == page * page_bytes);
    }
    const test::Tree other = machine.tables.create_tree(3);
    machine.tables.map(other, base_iova, 0xB000);
    const std::uint64_t slot = machine.tables.slot(machine.tree, base_iova, 2);
    REQUIRE(machine.ram.store_u64(slot, *machine.ram.load_u64(machine.tables.slot(other, base_iova, 2))));
    const json said = explained(machine.engine, asked);
    INFO(said.dump(1));
    CHECK(said["answer"]["by"] == "cached table");
    CHECK(said["answer"]["gpa"] == "0x5000");
    CHECK(said["tables"]["gpa"] == "0xb000");
    CHECK(said["answer"]["as_tables_say"] == false);
    CHECK(machine.ask().gpa == 0x5000);
  }
  SECTION("a device that was detached") {
    CHECK(machine.ask().gpa == 0x5000);
    machine.tables.detach(device);
    const json said = explained(machine.engine, request(device, base_iova + 0x100000, VIOMMU_READ));
    CHECK(said["tables"]["reason"] == "0x2");
    CHECK(said["answer"]["by"] == "cached context");
    CHECK(said["answer"]["reason"] == "0x6");
  }
}

TEST_CASE("an explanation of nested translation shows where each first-stage table lies, and sets no flag",
          "[capi][dump]") {
  ScalableMachine machine;
  const test::Tree second = machine.tables.create_tree(4);
  const test::Tree first = machine.tables.create_tree(4);
  machine.map(first, ScalableMachine::iova, 0x9000);
  machine.map(second, 0x9000, ScalableMachine::page_b);
  for (std::uint64_t at = machine.ram.gpa(); at < machine.ram.gpa() + machine.ram.length(); at += page_bytes)
    machine.map(second, at, at);
  machine.attach(ScalableMachine::device);
  machine.set_pasid(
      5,
      {.type = scalable::nested, .tree = first, .low = scalable::bit(9), .high = scalable::bit(23), .second = second});
  const std::uint64_t leaf = machine.tables.slot(first, ScalableMachine::iova, 1);
  const std::uint64_t before = machine.word(leaf);
  const json said = explained(machine.engine, by_pasid(5, ScalableMachine::iova, VIOMMU_WRITE));
  INFO(said.dump(1));
  CHECK(machine.word(leaf) == before);
  CHECK(names_of(said["tables"]["context"], "entry").at(0) == "root entry, lower");
  const json& path = said["tables"]["path"];
  std::size_t first_entries = 0;
  std::size_t for_tables = 0;
  for (const json& entry : path) {
    if (entry["stage"] == "first") ++first_entries;
    if (entry.contains("for_table")) ++for_tables;
  }
  const viommu_translation answer = machine.ask_by_pasid(5, ScalableMachine::iova, VIOMMU_WRITE);
  CHECK(test::difference_of(said, answer) == "");
  CHECK(answer.gpa == ScalableMachine::page_b);
  CHECK(first_entries == 4);
  CHECK(for_tables == 16);
  CHECK(path.size() == 24);
  CHECK(machine.word(leaf) != before);
}

TEST_CASE("an explanation of what the mode decides needs no table", "[capi][dump]") {
  Machine machine;
  const json message = explained(machine.engine, request(device, 0xFEE00000, VIOMMU_WRITE, 4));
  CHECK(message["answer"]["by"] == "mode");
  CHECK(message["answer"]["kind"] == "interrupt");
  CHECK_FALSE(message.contains("tables"));
  CHECK(explained(machine.engine, by_pasid(1, base_iova))["answer"]["reason"] == "0x31");
  machine.driver.enable_translation(false);
  const json off = explained(machine.engine, request(device, base_iova, VIOMMU_READ));
  CHECK(off["answer"]["kind"] == "identity");
  CHECK(off["mode"]["translating"] == false);
}

TEST_CASE("an explanation knows the interrupt range and the protected regions", "[capi][dump]") {
  viommu_vtd_options options = default_options();
  options.capability = Machine{}.engine.mmio_read(8, 8) | 1U << 5;  // PLMR
  Machine machine{options};
  machine.map(0xFEE00000, 0x40000000, test::entry_read_write, 2);
  machine.map(base_iova, 0x5000);
  machine.map(base_iova + page_bytes, 0x300000);
  const viommu_request beside = request(device, 0xFEF01234, VIOMMU_READ);
  for (unsigned walk = 0; walk < 3; ++walk) {
    const json said = explained(machine.engine, beside);
    CHECK(test::difference_of(said, machine.reader.translate(beside)) == "");
  }
  CHECK(explained(machine.engine, beside)["answer"]["by"] == "IOTLB");
  REQUIRE(machine.engine.mmio_write(0x68, 4, 0x200000) == VIOMMU_OK);
  REQUIRE(machine.engine.mmio_write(0x6C, 4, 0x200000) == VIOMMU_OK);
  REQUIRE(machine.engine.mmio_write(0x64, 4, 0x80000000) == VIOMMU_OK);
  for (const std::uint64_t iova : {base_iova, base_iova + page_bytes}) {
    const viommu_request asked = request(device, iova, VIOMMU_READ);
    const json said = explained(machine.engine, asked);
    CHECK(said["mode"]["protected_regions"] == true);
    CHECK(test::difference_of(said, machine.reader.translate(asked)) == "");
  }
  const json blocked = explained(machine.engine, request(device, base_iova + page_bytes, VIOMMU_READ));
  CHECK(blocked["answer"]["text"] == "in a protected memory region");
}

TEST_CASE("a dump refuses options that make no sense, and then writes nothing", "[capi][dump]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  unsigned pieces = 0;
  viommu_dump_options options{};
  options.size = sizeof options;
  options.opaque = &pieces;
  options.write = [](void* opaque, const char*, std::size_t) { ++*static_cast<unsigned*>(opaque); };
  const auto refused = [&](const viommu_dump_options& given) {
    const viommu_result result = viommu_dump(engine, &given);
    return result == VIOMMU_E_ARGUMENT && pieces == 0;
  };
  CHECK(viommu_dump(nullptr, &options) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dump(engine, nullptr) == VIOMMU_E_ARGUMENT);
  viommu_dump_options bad = options;
  bad.write = nullptr;
  CHECK(refused(bad));
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{16}, std::size_t{25}, std::size_t{4104}}) {
    bad = options;
    bad.size = size;
    CHECK(refused(bad));
  }
  bad = options;
  bad.sections = 64;
  CHECK(refused(bad));
  bad = options;
  bad.most = 65537;
  CHECK(refused(bad));
  bad = options;
  bad.sections = VIOMMU_DUMP_EXPLAIN;  // of a request that asks for nothing
  CHECK(refused(bad));
  CHECK(viommu_dump(engine, &options) == VIOMMU_OK);
  CHECK(pieces > 0);
  // An older caller's options end behind `write`.
  options.size = offsetof(viommu_dump_options, sections);
  options.sections = 64;
  CHECK(viommu_dump(engine, &options) == VIOMMU_OK);
}

TEST_CASE("the sink of a dump may use the engine", "[capi][dump]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  CHECK(machine.ask().gpa == 0x5000);
  struct Sink {
    Machine& machine;
    unsigned pieces;
    std::string text;
  } sink{machine, 0, {}};
  viommu_dump_options options{};
  options.size = sizeof options;
  options.opaque = &sink;
  options.sections = 31 | VIOMMU_DUMP_EXPLAIN;
  options.request = request(device, base_iova, VIOMMU_READ);
  options.write = [](void* opaque, const char* text, std::size_t length) {
    Sink& self = *static_cast<Sink*>(opaque);
    CHECK(length <= 1024);
    self.text.append(text, length);
    ++self.pieces;
    // A completion waits for guards and takes each lock there is.
    self.machine.invalidate_all();
    CHECK(self.machine.ask().gpa == 0x5000);
    CHECK(self.machine.engine.drop_caches() == VIOMMU_OK);
  };
  CHECK(viommu_dump(machine.engine.get(), &options) == VIOMMU_OK);
  CHECK(sink.pieces > 3);
  CHECK(json::accept(sink.text));
}

}  // namespace viommu::capi
