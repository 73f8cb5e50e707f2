// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/parse.hpp"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <variant>

#include "engine/trace/event.hpp"
#include "engine/trace/problem.hpp"

namespace viommu::test {
namespace {

using trace::Event;
using trace::ParseError;
using trace::Parser;
using trace::Problem;

constexpr std::string_view recording = "cfg vtd aw=48 cap=80d2008c222f0606 ecap=f42 ver=10";
constexpr std::string_view scenario = "cfg vtd scenario=1 cap=80d2008c22260206 ecap=f42 haw=39";
constexpr std::string_view virtio = "cfg virtio page_size_mask=fffffffffffff000 probe_size=200";

/// A parser that has read these lines without an error.
Parser after(std::initializer_list<std::string_view> lines) {
  Parser parser;
  for (const std::string_view line : lines) {
    Event event;
    const ParseError error = parser.parse(line, event);
    INFO(line << ": " << trace::phrase(error.problem));
    REQUIRE_FALSE(error);
  }
  return parser;
}
Parser in_recording() { return after({trace::header_line, recording}); }
Parser in_scenario() { return after({trace::header_line, scenario}); }
Parser in_virtio() { return after({trace::header_line, virtio}); }
Parser in_virtio_scenario() {
  return after({trace::header_line, "cfg virtio scenario=1 features=77 page_size_mask=1000"});
}

Event parsed(Parser parser, std::string_view line) {
  Event event;
  const ParseError error = parser.parse(line, event);
  INFO(line << ": " << trace::phrase(error.problem) << " '" << error.text << "'");
  REQUIRE_FALSE(error);
  return event;
}

ParseError refused(Parser parser, std::string_view line) {
  Event event = trace::Marker{"untouched"};
  const ParseError error = parser.parse(line, event);
  INFO(line);
  CHECK(error);
  CHECK(event == Event{trace::Marker{"untouched"}});
  return error;
}

Problem problem(Parser parser, std::string_view line) { return refused(parser, line).problem; }

}  // namespace

TEST_CASE("Each recorded letter gives its event", "[trace][Events of a VT-d trace]") {
  const Parser parser = in_recording();
  CHECK(parsed(parser, "m 101084000 10108f001") == Event{trace::GuestWord{0x101084000, 0x10108f001}});
  CHECK(parsed(parser, "m ffffffffffffffff ffffffffffffffff") == Event{trace::GuestWord{~0ull, ~0ull}});
  CHECK(parsed(parser, "u 3000 10") == Event{trace::FailedRead{0x3000, 0x10}});
  CHECK(parsed(parser, "U 3000 4") == Event{trace::FailedWrite{0x3000, 4}});
  CHECK(parsed(parser, "w 12a3578bc 4 2") == Event{trace::MemoryWrite{0x12a3578bc, 2, 4}});
  CHECK(parsed(parser, "W 90 8 101083000") == Event{trace::RegisterWrite{0x101083000, 0x90, 8}});
  CHECK(parsed(parser, "R 22c 4 40ffff06") == Event{trace::RegisterRead{0x40ffff06, 0x22c, 4}});
  CHECK(parsed(parser, "I fee01004 21") == Event{trace::Message{0xfee01004, 0x21}});
  CHECK(parsed(parser, "S 20 ffffffff 1") == Event{trace::ViewSwitch{0x20, trace::no_pasid, true}});
  CHECK(parsed(parser, "O") == Event{trace::CachesDropped{}});
  CHECK(parsed(parser, "Z") == Event{trace::Reset{}});
  CHECK(parsed(parser, "P 100") == Event{trace::ReplayAsked{0x100}});
  CHECK(parsed(parser, "N 100 unmap 0 fffffffff 0 -") ==
        Event{trace::Notify{0, 0xfffffffff, 0, 0x100, trace::NotifyKind::unmap, {}}});
  CHECK(parsed(parser, "X edu raw  faults ") == Event{trace::Marker{"edu raw  faults "}});

  trace::Translate ok{.iova = 0x1234, .gpa = 0x8000, .mask = 0xfff, .source_id = 0x38};
  ok.access.rights = {true, true};
  ok.perm = {true, false};
  ok.source = trace::Source::iotlb;
  ok.ok = true;
  CHECK(parsed(parser, "T 38 - 1234 rw ok 8000 fff r h") == Event{ok});
  trace::Translate fault{.iova = 0x1000, .source_id = 0x38, .pasid = 5};
  fault.access.rights = {false, true};
  fault.reason = 0x5b;
  fault.status = trace::Status::compressed;
  CHECK(parsed(parser, "T 38 5 1000 w fault 5b coll") == Event{fault});

  trace::Interrupt interrupt{.address = 0xfee00030, .out_address = 0xfee00000, .data = 0xed, .out_data = 0x40ed};
  interrupt.source_id = 0xffff;
  interrupt.ok = true;
  CHECK(parsed(parser, "V w ffff fee00030 ed ok fee00000 40ed") == Event{interrupt});
  trace::Interrupt blocked{.address = 0xfee00030, .source_id = 8, .question = true, .reason = 0x22};
  blocked.status = trace::Status::disabled;
  CHECK(parsed(parser, "V q 8 fee00030 0 fault 22 fpd") == Event{blocked});
}

TEST_CASE("Each word of a scenario gives its event", "[trace][Words]") {
  const Parser parser = in_scenario();
  CHECK(parsed(parser, "ram 0 40000000") == Event{trace::RamAdded{0, 0x3fffffff, false}});
  CHECK(parsed(parser, "ram 0 10000000000000000") == Event{trace::RamAdded{0, ~0ull, false}});
  CHECK(parsed(parser, "ram e0000000 1000 mmio") == Event{trace::RamAdded{0xe0000000, 0xe0000fff, true}});
  CHECK(parsed(parser, "noram fffffffffffff000 1000") == Event{trace::RamRemoved{0xfffffffffffff000, ~0ull}});
  CHECK(parsed(parser, "mem 7000 1") == Event{trace::MemoryCheck{0x7000, 1}});
  CHECK(parsed(parser, "ready ok") == Event{trace::Ready{"ok"}});
  CHECK(parsed(parser, "ready 100:CachingModeRequired 200:Busy") ==
        Event{trace::Ready{"100:CachingModeRequired 200:Busy"}});
  CHECK(parsed(parser, "reset system") == Event{trace::MachineReset{false}});
  CHECK(parsed(parser, "irte 10 8") == Event{trace::RoutesChanged{16, 8}});
  CHECK(parsed(parser, "irte 0 10000") == Event{trace::RoutesChanged{0, 65536}});
  CHECK(problem(parser, "irte 10000 1") == Problem::too_long);
  CHECK(parsed(parser, "") == Event{trace::Nothing{}});
  CHECK(parsed(parser, "# why") == Event{trace::Nothing{}});

  trace::Translate t{.source_id = 0x100};
  t.access = {{true, false}, true, false, false, true, false};
  t.ok = true;
  CHECK(parsed(parser, "T 100 - 0 r+tz ok 0 0 - w") == Event{t});
}

TEST_CASE("Each word about devices gives its event", "[trace][Words]") {
  const Parser parser = in_scenario();
  CHECK(parsed(parser, "discard 1000 2000") == Event{trace::PartChanged{0x1000, 0x2fff, trace::Part::discarded}});
  CHECK(parsed(parser, "populate 1000 1000") == Event{trace::PartChanged{0x1000, 0x1fff, trace::Part::populated}});
  CHECK(parsed(parser, "private 1000 1000") == Event{trace::PartChanged{0x1000, 0x1fff, trace::Part::made_private}});
  CHECK(parsed(parser, "shared 1000 1000") == Event{trace::PartChanged{0x1000, 0x1fff, trace::Part::made_shared}});
  CHECK(parsed(parser, "gone 1000 1000 1") == Event{trace::RegionGone{0x1000, 0x1fff, true}});
  CHECK(parsed(parser, "gone 0 10000000000000000 0") == Event{trace::RegionGone{0, ~0ull, false}});
  CHECK(parsed(parser, "bus 10 bypass") == Event{trace::BusBypassed{0x10}});
  CHECK(parsed(parser, "plug 100 emulated ok") == Event{trace::Plug{0x100, trace::DeviceKind::emulated, {}, "ok"}});
  CHECK(parsed(parser, "plug 380 host backend=vfio haw=39 FieldMismatch:MGAW") ==
        Event{trace::Plug{0x380, trace::DeviceKind::host, "backend=vfio haw=39", "FieldMismatch:MGAW"}});
  CHECK(parsed(parser, "unset 100") == Event{trace::FactsUnset{0x100}});
  CHECK(parsed(parser, "unplug 100") == Event{trace::Unplug{0x100}});
  CHECK(parsed(parser, "renumber 1 ff") == Event{trace::BusRenumbered{1, 0xff}});
  CHECK(parsed(parser, "view 100 blocked") == Event{trace::ViewCheck{0x100, trace::View::blocked}});
  CHECK(parsed(parser, "caps 80d2008c22260286 f00f4a") ==
        Event{trace::CapabilitiesCheck{0x80d2008c22260286, 0xf00f4a}});
  CHECK(parsed(parser, "dmar 2f") == Event{trace::WidthCheck{0x2f}});
  CHECK(parsed(parser, "blockers 10") == Event{trace::BlockersCheck{10}});
  CHECK(parsed(parser, "pins 1000") == Event{trace::PinsCheck{1000}});
  CHECK(parsed(parser, "hostpage 100 5 6000 w 3 1") ==
        Event{trace::PageRequested{0x6000, 0x100, 5, {{false, true}}, 3, true}});
  CHECK(parsed(parser, "hostfault 100 5 5000 r 71") ==
        Event{trace::HostFaulted{0x5000, 0x100, 5, {{true, false}}, 0x71}});
  CHECK(problem(parser, "hostfault 100 5 5000 r 171") == Problem::too_long);
  CHECK(parsed(parser, "reply 100 - 3 f") == Event{trace::PageAnswered{0x100, trace::no_pasid, 3, 15}});
}

TEST_CASE("Each word about consumers gives its event", "[trace][Words]") {
  const Parser parser = in_scenario();
  CHECK(parsed(parser, "subscribe vfio-1 100 mu 0 ffffffffffffffff ok") ==
        Event{trace::Subscribe{0, ~0ull, "vfio-1", "ok", 0x100, {.map = true, .unmap = true}}});
  trace::ConsumerFlags all{true, true, true, true, true, true, true, true, true, true, true};
  CHECK(parsed(parser, "subscribe a 100 mud+pow2+split+leaf+noblink+snoop+mmio+private+log 1 2 NotSupported") ==
        Event{trace::Subscribe{1, 2, "a", "NotSupported", 0x100, all}});
  CHECK(parsed(parser, "subscribe a 100 u+log 0 0 ok") ==
        Event{trace::Subscribe{0, 0, "a", "ok", 0x100, {.unmap = true, .log = true}}});
  CHECK(parsed(parser, "unsubscribe a") == Event{trace::Unsubscribe{"a"}});
  CHECK(parsed(parser, "failnext a unmap 12") == Event{trace::FailNext{"a", 12, true}});
  CHECK(parsed(parser, "shadow a 12") == Event{trace::ShadowCheck{"a", 12}});
  CHECK(parsed(parser, "x 1000 1000 200000 rw") ==
        Event{trace::ShadowExtent{0x1000, 0x1fff, 0x200000, {true, true}, false}});
  CHECK(parsed(parser, "x 0 10000000000000000 0 r mmio") ==
        Event{trace::ShadowExtent{0, ~0ull, 0, {true, false}, true}});
  CHECK(parsed(parser, "delta a 12 10000000000000001") == Event{trace::DeltaCheck{"a", {0x12, 0}, {1, 1}}});
  CHECK(parsed(parser, "count a 10 0") == Event{trace::CountCheck{"a", 16, 0}});
  CHECK(parsed(parser, "errors a 10") == Event{trace::ErrorsCheck{"a", 10}});
}

TEST_CASE("Each word about DMA in flight, saved state and time gives its event", "[trace][Words]") {
  const Parser parser = in_scenario();
  trace::HoldOpened hold{.iova = 0x1000, .length = 0x20, .id = "h1", .source_id = 0x100};
  hold.access.rights = {false, true};
  hold.ok = true;
  CHECK(parsed(parser, "hold h1 100 - 1000 20 w ok") == Event{hold});
  hold.ok = false;
  hold.reason = 0x71;
  hold.pasid = 5;
  CHECK(parsed(parser, "hold h1 100 5 1000 20 w fault 71") == Event{hold});
  CHECK(parsed(parser, "release h1") == Event{trace::HoldReleased{"h1"}});
  CHECK(parsed(parser, "quiesce Busy") == Event{trace::StateStep{trace::StateAction::quiesce, "Busy"}});
  CHECK(parsed(parser, "save ok") == Event{trace::StateStep{trace::StateAction::save, "ok"}});
  CHECK(parsed(parser, "load BadState") == Event{trace::StateStep{trace::StateAction::load, "BadState"}});
  CHECK(parsed(parser, "dirty on") == Event{trace::DirtySwitch{true}});
  CHECK(parsed(parser, "dirty off") == Event{trace::DirtySwitch{false}});
  CHECK(parsed(parser, "bitmap 2") == Event{trace::BitmapCheck{2}});
  CHECK(parsed(parser, "g 1000 2000") == Event{trace::DirtyRun{0x1000, 0x2fff}});
  CHECK(parsed(parser, "process") == Event{trace::Process{trace::ProcessMode::once}});
  CHECK(parsed(parser, "process manual") == Event{trace::Process{trace::ProcessMode::manual}});
  CHECK(parsed(parser, "process auto") == Event{trace::Process{trace::ProcessMode::automatic}});
  CHECK(parsed(parser, "clock 1500") == Event{trace::ClockForward{1500}});
}

TEST_CASE("Letters of virtio-iommu are read field by field", "[trace][Events of a virtio-iommu trace]") {
  const Parser parser = in_virtio();
  CHECK(parsed(parser, "cfg resv 1 fee00000 feefffff") == Event{trace::ReservedRegion{1, 0xfee00000, 0xfeefffff}});
  CHECK(parsed(parser, "Q 0100ff 00000000") == Event{trace::Request{"0100ff", "00000000"}});
  CHECK(parsed(parser, "Q 09 -") == Event{trace::Request{"09", {}}});
  CHECK(parsed(parser, "C features=10130000077 bypass=1") == Event{trace::DriverReady{0x10130000077, true}});
  CHECK(parsed(parser, "C features=0 bypass=0") == Event{trace::DriverReady{0, false}});
  CHECK(parsed(parser, "B 1") == Event{trace::BypassChanged{1}});
  CHECK(parsed(parser, "E 0201") == Event{trace::FaultReported{"0201"}});
  CHECK(parsed(parser, "Z") == Event{trace::Reset{}});
  trace::Translate t{.iova = 0x1000, .gpa = 0x2000, .source_id = 0x12345678};
  t.access.rights = {true, false};
  t.perm = {true, false};
  t.source = trace::Source::mapping;
  t.ok = true;
  CHECK(parsed(parser, "T 12345678 - 1000 r ok 2000 0 r t") == Event{t});
  CHECK(problem(in_recording(), "Q 0100 00000000") == Problem::family_mismatch);
  CHECK(refused(in_recording(), "cfg resv 1 0 1") == ParseError{Problem::family_mismatch, 1, {}, "resv"});
}

TEST_CASE("A scenario of a virtio-iommu has letters and words of its own", "[trace][Words]") {
  Parser parser = in_virtio_scenario();
  CHECK(parsed(parser, "C features=1 bypass=0") == Event{trace::DriverReady{1, false}});
  CHECK(parsed(parser, "Q 01 -") == Event{trace::Request{"01", {}}});
  CHECK(parsed(parser, "E 00") == Event{trace::FaultReported{"00"}});
  CHECK(parsed(parser, "req 204 0500 00") == Event{trace::SizedRequest{0x204, "0500", "00"}});
  CHECK(parsed(parser, "req 0 - -") == Event{trace::SizedRequest{0, {}, {}}});
  CHECK(parsed(parser, "eventbuf 12") == Event{trace::EventBuffers{12}});
  CHECK(parsed(parser, "waiting 2") == Event{trace::WaitingCheck{2}});
  CHECK(refused(in_scenario(), "waiting 2") == ParseError{Problem::family_mismatch, 0, {}, "waiting"});
  CHECK(parsed(parser, "reset device") == Event{trace::MachineReset{true}});
  CHECK(parsed(parser, "ram 0 1000") == Event{trace::RamAdded{0, 0xfff, false}});
  CHECK(refused(parser, "B 1") == ParseError{Problem::recorded_only, 0, {}, "B"});
  CHECK(refused(parser, "Z") == ParseError{Problem::recorded_only, 0, {}, "Z"});
}

TEST_CASE("A recording that says which endpoints there are has four words of scenarios", "[trace][Words]") {
  const Parser parser = after({trace::header_line, "cfg virtio features=1 page_size_mask=1000 plugs=1"});
  CHECK(parsed(parser, "plug 380 emulated endpoint=10380 ok") ==
        Event{trace::Plug{0x380, trace::DeviceKind::emulated, "endpoint=10380", "ok"}});
  CHECK(parsed(parser, "unplug 380") == Event{trace::Unplug{0x380}});
  CHECK(parsed(parser, "renumber 3 13") == Event{trace::BusRenumbered{3, 0x13}});
  CHECK(parsed(parser, "req 2 0100 -") == Event{trace::SizedRequest{2, "0100", {}}});
  CHECK(parsed(parser, "waiting 1") == Event{trace::Unknown{"waiting"}});
  CHECK(parsed(parser, "Z") == Event{trace::Reset{}});
  CHECK(parsed(in_virtio(), "plug 380 emulated ok") == Event{trace::Unknown{"plug"}});
  CHECK(parsed(in_recording(), "unplug 380") == Event{trace::Unknown{"unplug"}});
}

TEST_CASE("Of virtio devices the driver's choice is told, and of all who is isolated and in scope", "[trace][Words]") {
  for (const Parser& parser : {in_scenario(), in_virtio_scenario()}) {
    CHECK(parsed(parser, "driver 300 1 ok") == Event{trace::DriverChoice{0x300, true, "ok"}});
    CHECK(parsed(parser, "driver 300 0 NotSupported:ACCESS_PLATFORM") ==
          Event{trace::DriverChoice{0x300, false, "NotSupported:ACCESS_PLATFORM"}});
    CHECK(parsed(parser, "isolatable 100 0") == Event{trace::IsolatableCheck{0x100, false}});
    CHECK(parsed(parser, "inscope ffff 1") == Event{trace::ScopeCheck{0xffff, true}});
    CHECK(parsed(parser, "plug 100 host bypassed") ==
          Event{trace::Plug{0x100, trace::DeviceKind::host, {}, "bypassed"}});
    CHECK(parsed(parser, "plug 100 host bypassed ok") ==
          Event{trace::Plug{0x100, trace::DeviceKind::host, "bypassed", "ok"}});
  }
}

TEST_CASE("Of a wrong line of a virtio-iommu the field is told", "[trace][damage]") {
  struct Wrong {
    std::string_view line;
    ParseError error;
  };
  for (const auto& [line, error] : {
           Wrong{"Q 010 00", {Problem::bad_size, 1, "REQ", "010"}},
           {"Q 0G 00", {Problem::not_hex, 1, "REQ", "0G"}},
           {"Q 00 0F", {Problem::upper_case, 2, "TAIL", "0F"}},
           {"Q 00", {Problem::too_few_fields, 2, "TAIL", {}}},
           {"Q 00 00 00", {Problem::too_many_fields, 3, {}, "00"}},
           {"E", {Problem::too_few_fields, 1, "HEX", {}}},
           {"E 123", {Problem::bad_size, 1, "HEX", "123"}},
           {"C features=1", {Problem::too_few_fields, 2, "bypass", {}}},
           {"C bypass=1 features=1", {Problem::not_a_pair, 1, "features", "bypass=1"}},
           {"C features= bypass=1", {Problem::not_a_pair, 1, "features", "features="}},
           {"C features=x bypass=1", {Problem::not_hex, 1, "features", "x"}},
           {"C features=1 bypass=2", {Problem::bad_choice, 2, "bypass", "2"}},
           {"C features=11112222333344445 bypass=1", {Problem::too_long, 1, "features", "11112222333344445"}},
           {"req 100000000 00 00", {Problem::too_long, 1, "WSIZE", "100000000"}},
           {"req 4 0 00", {Problem::bad_size, 2, "REQ", "0"}},
           {"eventbuf a", {Problem::not_decimal, 1, "N", "a"}},
           {"driver 300 2 ok", {Problem::bad_choice, 2, "0|1", "2"}},
           {"driver 300 1 bypassed", {Problem::bad_choice, 3, "RESULT", "bypassed"}},
           {"isolatable 100 yes", {Problem::bad_choice, 2, "0|1", "yes"}},
           {"inscope 10000 1", {Problem::too_long, 1, "SID", "10000"}},
       }) {
    CHECK(refused(in_virtio_scenario(), line) == error);
  }
  CHECK(refused(in_virtio(), "B 100") == ParseError{Problem::too_long, 1, "V", "100"});
}

TEST_CASE("A reserved region holds both its ends and may be one byte", "[trace][Events of a virtio-iommu trace]") {
  const Parser parser = in_virtio();
  CHECK(parsed(parser, "cfg resv 0 fee00000 fee00000") == Event{trace::ReservedRegion{0, 0xfee00000, 0xfee00000}});
  CHECK(parsed(parser, "cfg resv 1 0 ffffffffffffffff") == Event{trace::ReservedRegion{1, 0, ~0ull}});
  CHECK(refused(parser, "cfg resv 1 2 1") == ParseError{Problem::bad_range, 4, "END", {}});
  CHECK(problem(parser, "cfg resv 100 0 1") == Problem::too_long);
}

TEST_CASE("A recording's unknown first field is skipped, a scenario's is an error", "[trace]") {
  CHECK(parsed(in_recording(), "Y 1 2 3") == Event{trace::Unknown{"Y"}});
  CHECK(parsed(in_recording(), "ram 0 1000") == Event{trace::Unknown{"ram"}});
  CHECK(parsed(in_recording(), "new_kind-2 1") == Event{trace::Unknown{"new_kind-2"}});
  CHECK(problem(in_scenario(), "Y 1 2 3") == Problem::unknown_word);
  CHECK(refused(in_scenario(), "Ram 0 1000") == ParseError{Problem::unknown_word, 0, {}, "Ram"});
  for (const std::string_view line : {"u 0 8", "U 0 8", "S 8 ffffffff 1", "O", "Z", "N 8 unmap 0 fff 0 -", "P 8"})
    CHECK(refused(in_scenario(), line) == ParseError{Problem::recorded_only, 0, {}, line.substr(0, 1)});
  CHECK(refused(in_scenario(), "B 1") == ParseError{Problem::recorded_only, 0, {}, "B"});
  for (const std::string_view line : {"C features=1 bypass=0", "Q 00 00", "E 00"})
    CHECK(refused(in_scenario(), line) == ParseError{Problem::family_mismatch, 0, {}, {}});
  for (const std::string_view line : {"req 4 00 00", "eventbuf 2"})
    CHECK(refused(in_scenario(), line) == ParseError{Problem::family_mismatch, 0, {}, line.substr(0, line.find(' '))});
}

TEST_CASE("Binary data in a trace is an error wherever it stands", "[trace][damage]") {
  for (const Parser& parser : {in_recording(), in_scenario()}) {
    CHECK(refused(parser, "\x01\x02\xff 1") == ParseError{Problem::not_text, 0, {}, "\x01\x02\xff"});
    CHECK(problem(parser, std::string_view{"m\0 1 2", 6}) == Problem::not_text);
    CHECK(problem(parser, "m 1000 2\r") == Problem::not_hex);
  }
}

TEST_CASE("The first line is the header", "[trace][damage]") {
  CHECK(problem(Parser{}, "") == Problem::missing_header);
  CHECK(problem(Parser{}, "cfg vtd aw=48 cap=0 ecap=0") == Problem::missing_header);
  CHECK(problem(Parser{}, "# viommu-trace 1 ") == Problem::missing_header);
  CHECK(problem(Parser{}, "# viommu-trace 1\r") == Problem::missing_header);
  CHECK(problem(Parser{}, "# viommu-trace 12") == Problem::other_version);
  CHECK(problem(Parser{}, "# viommu-trace 2") == Problem::other_version);
  CHECK(problem(Parser{}, "# viommu-trace") == Problem::missing_header);
  CHECK(refused(Parser{}, "# viommu-trace ") == ParseError{Problem::missing_header, 0, {}, "# viommu-trace "});
}

TEST_CASE("cfg comes once, before every event", "[trace][damage]") {
  const Parser fresh = after({trace::header_line, "# a comment", ""});
  CHECK(refused(fresh, "Z") == ParseError{Problem::no_configuration, 0, {}, "Z"});
  CHECK(problem(fresh, "m 0 0") == Problem::no_configuration);
  CHECK(refused(fresh, "cfg resv 1 0 1") == ParseError{Problem::no_configuration, 1, {}, "resv"});
  CHECK(refused(fresh, "cfg riscv a=1") == ParseError{Problem::unknown_family, 1, {}, "riscv"});
  CHECK(problem(fresh, "cfg") == Problem::too_few_fields);
  CHECK(problem(fresh, "cfg vtd") == Problem::too_few_fields);
  CHECK(problem(in_recording(), recording) == Problem::second_configuration);
  CHECK(problem(in_recording(), virtio) == Problem::second_configuration);
  CHECK(problem(in_recording(), "cfg vtd") == Problem::second_configuration);
  CHECK(in_scenario().scenario());
  CHECK_FALSE(in_recording().scenario());
  CHECK(after({trace::header_line, "cfg vtd cap=1 ecap=2 scenario=1"}).scenario());
  CHECK_FALSE(after({trace::header_line, "cfg vtd scenario=10 cap=1 ecap=2"}).scenario());
}

TEST_CASE("Fields are split by exactly one space, and all of them are there", "[trace][damage]") {
  const Parser parser = in_recording();
  CHECK(refused(parser, "m 1000") == ParseError{Problem::too_few_fields, 2, "VALUE", {}});
  CHECK(refused(parser, "m") == ParseError{Problem::too_few_fields, 1, "GPA", {}});
  CHECK(refused(parser, "m 1000 1 1") == ParseError{Problem::too_many_fields, 3, {}, "1"});
  CHECK(refused(parser, "m 1000 1 1f 2") == ParseError{Problem::too_many_fields, 3, {}, "1f"});
  CHECK(refused(parser, "m  1000 1") == ParseError{Problem::empty_field, 1, "GPA", {}});
  CHECK(refused(parser, "m 1000 ") == ParseError{Problem::empty_field, 2, "VALUE", {}});
  CHECK(refused(parser, "m 1000 1 ") == ParseError{Problem::empty_field, 3, {}, {}});
  CHECK(problem(parser, " m 1000 1") == Problem::empty_field);
  CHECK(problem(parser, "") == Problem::empty_line);
  CHECK(problem(parser, "O 1") == Problem::too_many_fields);
  CHECK(problem(parser, "X") == Problem::too_few_fields);
  CHECK(problem(parser, "X ") == Problem::too_few_fields);
  CHECK(problem(parser, "T 38 - 1000 r ok 1000 fff r") == Problem::too_few_fields);
  CHECK(problem(parser, "T 38 - 1000 r fault 5 rec h") == Problem::too_many_fields);
}

TEST_CASE("Numbers are lower-case hex that fits its field", "[trace][damage]") {
  const Parser parser = in_recording();
  CHECK(refused(parser, "m 1000 ABC") == ParseError{Problem::upper_case, 2, "VALUE", "ABC"});
  CHECK(problem(parser, "m 0x1000 1") == Problem::not_hex);
  CHECK(problem(parser, "m -1 1") == Problem::not_hex);
  CHECK(problem(parser, "m G 1") == Problem::not_hex);
  CHECK(problem(parser, "m 11112222333344445 1") == Problem::too_long);
  CHECK(problem(parser, "m 00000000000000001 1") == Problem::too_long);
  for (const std::string_view line :
       {"I fee00000 100000000", "T 10000 - 0 r fault 5 rec", "T 38 100000 0 r fault 5 rec", "T 38 - 0 r fault 100 rec",
        "W 100000000 4 0", "R 100000000 4 0", "S 10000 ffffffff 1", "S 8 100000000 1", "N 10000 map 0 0 0 r", "P 10000",
        "V w 10000 0 0 ok 0 0", "V w 8 0 100000000 ok 0 0", "V w 8 0 0 ok 0 100000000", "V w 8 0 0 fault 100 rec"}) {
    INFO(line);
    CHECK(problem(parser, line) == Problem::too_long);
  }
}

TEST_CASE("Words and sizes are those the format has", "[trace][damage]") {
  const Parser parser = in_recording();
  CHECK(refused(parser, "T 38 - 0 x fault 5 rec") == ParseError{Problem::bad_choice, 4, "ACC", "x"});
  CHECK(problem(parser, "T 38 - 0 wr fault 5 rec") == Problem::bad_choice);
  CHECK(problem(parser, "T 38 - 0 r+q fault 5 rec") == Problem::bad_choice);
  CHECK(problem(in_scenario(), "T 38 - 0 r+ fault 5 rec") == Problem::bad_choice);
  CHECK(problem(in_scenario(), "T 38 - 0 r+tt fault 5 rec") == Problem::bad_choice);
  CHECK(problem(parser, "T 38 - 0 r maybe 5 rec") == Problem::bad_choice);
  CHECK(problem(parser, "T 38 - 0 r fault 5 lost") == Problem::bad_choice);
  CHECK(problem(parser, "T 38 - 0 r ok 0 fff rwx w") == Problem::bad_choice);
  CHECK(problem(parser, "T 38 - 0 r ok 0 fff r z") == Problem::bad_choice);
  CHECK(problem(parser, "S 38 ffffffff 2") == Problem::bad_choice);
  CHECK(problem(parser, "R 0 3 10") == Problem::bad_size);
  CHECK(problem(parser, "W 0 10 10") == Problem::bad_size);
  CHECK(problem(parser, "w 0 0 0") == Problem::bad_size);
  CHECK(problem(parser, "w 0 9 0") == Problem::bad_size);
  CHECK(problem(parser, "w 0 21 0") == Problem::bad_size);
  CHECK(problem(parser, "W 0 8000000000000001 0") == Problem::bad_size);
  CHECK(problem(parser, "W 88 1 100") == Problem::wider_than_size);
  CHECK(problem(parser, "R 88 4 100000000") == Problem::wider_than_size);
  CHECK(problem(parser, "w 88 7 100000000000000") == Problem::wider_than_size);
  CHECK(problem(parser, "u 1000 0") == Problem::bad_range);
  CHECK(problem(parser, "u ffffffffffffffff 2") == Problem::bad_range);
  CHECK(problem(in_scenario(), "ram 0 0") == Problem::bad_range);
  CHECK(problem(in_scenario(), "ram 1000 10000000000000000") == Problem::too_long);
  CHECK(problem(in_scenario(), "ram 0 1000 rom") == Problem::bad_choice);
  CHECK(problem(in_scenario(), "reset") == Problem::too_few_fields);
  CHECK(problem(in_scenario(), "reset all") == Problem::bad_choice);
  CHECK(problem(in_scenario(), "ready") == Problem::too_few_fields);
}

TEST_CASE("Of a wrong word of a scenario the field is told", "[trace][damage][Words]") {
  const Parser parser = in_scenario();
  struct Wrong {
    std::string_view line;
    ParseError error;
  };
  for (const auto& [line, error] : {
           Wrong{"plug 100 pci ok", {Problem::bad_choice, 2, "KIND", "pci"}},
           {"plug 100 host", {Problem::too_few_fields, 3, "RESULT", {}}},
           {"plug 100 host Fine", {Problem::bad_choice, 3, "RESULT", "Fine"}},
           {"plug 100 host FieldMismatch:", {Problem::bad_choice, 3, "RESULT", "FieldMismatch:"}},
           {"plug 100 host haw=48 backend=vdpa ok", {Problem::bad_choice, 4, "backend", "vdpa"}},
           {"plug 100 host haw=4a ok", {Problem::not_decimal, 3, "haw", "4a"}},
           {"plug 100 host haw=65 ok", {Problem::too_large, 3, "haw", "65"}},
           {"plug 100 host haw=48 haw=48 ok", {Problem::repeated_key, 4, "haw", "haw=48"}},
           {"plug 100 host hcap ok", {Problem::not_a_pair, 3, "hcap", "hcap"}},
           {"plug 100 host bypassed=1 ok", {Problem::not_a_pair, 3, "bypassed", "bypassed=1"}},
           {"plug 100 host width=1 ok", {Problem::unknown_key, 3, "key=value", "width=1"}},
           {"plug 100 host hiova=2-1 ok", {Problem::bad_range, 3, "hiova", "2-1"}},
           {"plug 100 host hiova=1-2, ok", {Problem::bad_range, 3, "hiova", "1-2,"}},
           {"plug 100 host rmrr=1-2,3-4 ok", {Problem::bad_range, 3, "rmrr", "1-2,3-4"}},
           {"subscribe a 100 mx 0 1 ok", {Problem::bad_choice, 3, "FLAGS", "mx"}},
           {"subscribe a 100 mm 0 1 ok", {Problem::bad_choice, 3, "FLAGS", "mm"}},
           {"subscribe a 100 mu+ 0 1 ok", {Problem::bad_choice, 3, "FLAGS", "mu+"}},
           {"subscribe a 100 +log 0 1 ok", {Problem::bad_choice, 3, "FLAGS", "+log"}},
           {"subscribe a 100 mu+log+log 0 1 ok", {Problem::bad_choice, 3, "FLAGS", "mu+log+log"}},
           {"subscribe a 100 mu 0 1 Refused", {Problem::bad_choice, 6, "RESULT", "Refused"}},
           {"failnext a map 0", {Problem::bad_range, 3, "N", "0"}},
           {"failnext a map 00", {Problem::bad_range, 3, "N", "00"}},
           {"shadow a f", {Problem::not_decimal, 2, "N", "f"}},
           {"pins 18446744073709551616", {Problem::too_large, 1, "N", "18446744073709551616"}},
           {"x 1000 0 0 rw", {Problem::bad_range, 2, "LEN", "0"}},
           {"delta a 100000000000000000 0", {Problem::too_long, 2, "MAPPED", "100000000000000000"}},
           {"view 100 mapped", {Problem::bad_choice, 2, "system|translated|blocked", "mapped"}},
           {"hold h 100 - ffffffffffffffff 2 r ok", {Problem::bad_range, 5, "LEN", "2"}},
           {"hold h 100 - 0 2 r fault", {Problem::too_few_fields, 8, "REASON", {}}},
           {"bus 10 through", {Problem::bad_choice, 2, "bypass", "through"}},
           {"dirty 1", {Problem::bad_choice, 1, "on|off", "1"}},
           {"process now", {Problem::bad_choice, 1, "manual|auto", "now"}},
           {"clock 1 2", {Problem::too_many_fields, 2, {}, "2"}},
           {"reply 100 - 3 10", {Problem::too_long, 4, "CODE", "10"}},
       }) {
    CHECK(refused(parser, line) == error);
  }
}

TEST_CASE("Each problem has words of its own, without a full stop", "[trace][damage]") {
  std::set<std::string_view> phrases;
  for (auto at = Problem::none; at <= Problem::recorded_only;
       at = static_cast<Problem>(static_cast<unsigned>(at) + 1)) {
    const std::string_view phrase = trace::phrase(at);
    CAPTURE(phrase);
    CHECK_FALSE(phrase.empty());
    CHECK_FALSE(phrase.ends_with('.'));
    CHECK(phrases.insert(phrase).second);
  }
}

}  // namespace viommu::test
