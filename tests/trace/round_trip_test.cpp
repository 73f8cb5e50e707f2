// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: what the writer writes, the parser reads back as the same event.
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/trace/event.hpp"
#include "engine/trace/format.hpp"
#include "engine/trace/parse.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

using trace::Event;

enum class Shape { recording, scenario, virtio };

/// Random events of a trace of one shape. Numbers of every length, not only long ones.
class Events {
 public:
  Events(std::uint64_t seed, Shape shape) : random_(seed), shape_(shape) {}

  Event next() {
    switch (random_.below(shape_ == Shape::recording ? 14 : shape_ == Shape::scenario ? 7 : 6)) {
      case 0:  return trace::GuestWord{number(64), number(64)};
      case 1:  return translate();
      case 2:  return trace::Message{number(64), narrow(32)};
      case 3:  return trace::Marker{"a phase  with spaces "};
      case 4:  return shape_ == Shape::virtio ? letter_of_virtio() : register_access();
      case 5:  return shape_ == Shape::scenario ? word() : memory_write();
      case 6:  return shape_ == Shape::scenario ? interrupt() : Event{trace::FailedRead{number(32), 1 + number(16)}};
      case 7:  return trace::FailedWrite{number(32), 1 + number(16)};
      case 8:  return trace::ViewSwitch{narrow(16), narrow(32), flag()};
      case 9:  return trace::CachesDropped{};
      case 10: return trace::Reset{};
      case 11: return notify();
      case 12: return trace::ReplayAsked{narrow(16)};
      default: return interrupt();
    }
  }

 private:
  std::uint64_t number(unsigned bits) {
    return random_.next() & low_bits(static_cast<unsigned>(random_.below(bits + 1)));
  }
  std::uint32_t narrow(unsigned bits) { return static_cast<std::uint32_t>(number(bits)); }
  bool flag() { return random_.chance(1, 2); }
  trace::Perm perm() { return {flag(), flag()}; }
  std::uint32_t id() { return narrow(shape_ == Shape::virtio ? 32 : 16); }

  Event translate() {
    trace::Translate t;
    t.source_id = id();
    t.pasid = flag() ? trace::no_pasid : narrow(20);
    t.iova = number(64);
    t.access.rights = perm();
    if (flag()) t.access = {perm(), flag(), flag(), flag(), flag(), flag()};
    t.ok = flag();
    if (t.ok) {
      t.gpa = number(64);
      t.mask = number(64);
      t.perm = perm();
      t.source = static_cast<trace::Source>(random_.below(7));
    } else {
      t.reason = static_cast<std::uint8_t>(number(8));
      t.status = static_cast<trace::Status>(random_.below(7));
    }
    return t;
  }
  Event letter_of_virtio() {
    switch (random_.below(4)) {
      case 0:  return trace::DriverReady{number(64), flag()};
      case 1:  return trace::BypassChanged{static_cast<std::uint8_t>(number(8))};
      case 2:  return trace::FaultReported{"010000000101000000030000"};
      default: return trace::Request{"0100", flag() ? "" : "00000000"};
    }
  }
  Event register_access() {
    const auto size = static_cast<std::uint8_t>(1u << random_.below(4));
    const std::uint64_t value = number(8u * size);
    if (flag()) return trace::RegisterWrite{value, narrow(32), size};
    return trace::RegisterRead{value, narrow(32), size};
  }
  Event memory_write() {
    const auto size = static_cast<std::uint8_t>(1 + random_.below(8));
    if (shape_ == Shape::virtio) return trace::ReservedRegion{1, 0xfee00000, 0xfeefffff};
    return trace::MemoryWrite{number(64), number(8u * size), size};
  }
  Event notify() {
    return trace::Notify{
        number(64), number(64), number(64), narrow(16), static_cast<trace::NotifyKind>(random_.below(3)), perm()};
  }
  Event interrupt() {
    trace::Interrupt v;
    v.address = number(64);
    v.data = narrow(32);
    v.source_id = narrow(16);
    v.question = flag();
    v.ok = flag();
    if (v.ok) {
      v.out_address = number(64);
      v.out_data = narrow(32);
    } else {
      v.reason = static_cast<std::uint8_t>(number(8));
      v.status = static_cast<trace::Status>(random_.below(7));
    }
    return v;
  }
  Event word() {
    const std::uint64_t first = number(63);
    const std::uint64_t last = first + number(63);
    const bool yes = flag();
    switch (random_.below(42)) {
      case 0:  return trace::RamAdded{first, last, yes};
      case 1:  return trace::RamAdded{0, ~std::uint64_t{0}, false};
      case 2:  return trace::RamRemoved{first, last};
      case 3:  return trace::MemoryCheck{number(64), number(64)};
      case 4:  return trace::Ready{"100:CachingModeRequired"};
      case 5:  return trace::RoutesChanged{narrow(16), narrow(17)};
      case 6:  return trace::MachineReset{yes};
      case 7:  return trace::PartChanged{first, last, static_cast<trace::Part>(random_.below(4))};
      case 8:  return trace::RegionGone{first, last, yes};
      case 9:  return trace::BusBypassed{static_cast<std::uint8_t>(number(8))};
      case 10: return trace::Plug{id(), static_cast<trace::DeviceKind>(random_.below(4)), yes ? "haw=48" : "", "Busy"};
      case 11: return trace::FactsUnset{id()};
      case 12: return trace::Unplug{id()};
      case 13: return trace::BusRenumbered{static_cast<std::uint8_t>(number(8)), static_cast<std::uint8_t>(number(8))};
      case 14: return trace::ViewCheck{id(), static_cast<trace::View>(random_.below(3))};
      case 15: return trace::CapabilitiesCheck{number(64), number(64)};
      case 16: return trace::WidthCheck{static_cast<std::uint8_t>(number(8))};
      case 17: return trace::BlockersCheck{number(64)};
      case 18: return trace::PinsCheck{number(64)};
      case 19: return trace::Subscribe{number(64), number(64), "vfio", "FieldMismatch:MGAW", id(), consumer_flags()};
      case 20: return trace::Unsubscribe{"vfio"};
      case 21: return trace::FailNext{"vfio", 1 + number(63), yes};
      case 22: return trace::ShadowCheck{"vfio", number(64)};
      case 23: return trace::ShadowExtent{first, last, number(64), perm(), yes};
      case 24: return trace::DeltaCheck{"vfio", bytes(), bytes()};
      case 25: return trace::CountCheck{"vfio", number(64), number(64)};
      case 26: return trace::ErrorsCheck{"vfio", number(64)};
      case 27:
      case 28: return hold();
      case 29: return trace::HoldReleased{"h1"};
      case 30: return trace::StateStep{static_cast<trace::StateAction>(random_.below(3)), "ok"};
      case 31: return trace::DirtySwitch{yes};
      case 32: return trace::BitmapCheck{number(64)};
      case 33: return trace::DirtyRun{first, last};
      case 34: return trace::Process{static_cast<trace::ProcessMode>(random_.below(3))};
      case 35: return trace::ClockForward{number(64)};
      case 36: return page();
      case 38: return host_fault();
      case 37: return trace::PageAnswered{id(), yes ? trace::no_pasid : narrow(20), group(), code()};
      case 39: return trace::DriverChoice{id(), yes, "ok"};
      case 40: return trace::IsolatableCheck{id(), yes};
      case 41: return trace::ScopeCheck{id(), yes};
      default: return trace::Marker{"no such number"};
    }
  }
  std::uint16_t group() { return static_cast<std::uint16_t>(number(12)); }
  std::uint8_t code() { return static_cast<std::uint8_t>(number(4)); }
  trace::Bytes bytes() { return {number(64), static_cast<std::uint8_t>(flag() ? 1 + number(3) : 0)}; }
  trace::ConsumerFlags consumer_flags() {
    trace::ConsumerFlags flags{flag(), flag(), flag(), flag(), flag(), flag(), flag(), flag(), flag(), flag(), flag()};
    if (!flags.map && !flags.device_unmap) flags.unmap = true;  // one of them there always is
    return flags;
  }
  Event hold() {
    trace::HoldOpened hold;
    hold.id = "h1";
    hold.source_id = id();
    hold.pasid = flag() ? trace::no_pasid : narrow(20);
    hold.iova = number(63);
    hold.length = 1 + number(62);
    hold.access.rights = perm();
    hold.ok = flag();
    if (!hold.ok) hold.reason = static_cast<std::uint8_t>(number(8));
    return hold;
  }
  Event host_fault() {
    trace::HostFaulted fault;
    fault.iova = number(64);
    fault.source_id = id();
    fault.pasid = flag() ? trace::no_pasid : narrow(20);
    fault.access = {perm(), false, false, flag(), false, flag()};
    fault.reason = static_cast<std::uint8_t>(number(8));
    return fault;
  }
  Event page() {
    trace::PageRequested page;
    page.iova = number(64);
    page.source_id = id();
    page.pasid = flag() ? trace::no_pasid : narrow(20);
    page.access = {perm(), false, false, flag(), false, flag()};
    page.group = group();
    page.last = flag();
    return page;
  }

  Random random_;
  Shape shape_;
};

trace::Parser parser_of(Shape shape) {
  trace::Parser parser;
  Event event;
  CHECK_FALSE(parser.parse(trace::header_line, event));
  CHECK_FALSE(parser.parse(shape == Shape::recording  ? "cfg vtd aw=48 cap=1 ecap=2"
                           : shape == Shape::scenario ? "cfg vtd scenario=1 cap=1 ecap=2"
                                                      : "cfg virtio probe_size=200",
                           event));
  return parser;
}

}  // namespace

TEST_CASE("What is written reads back as the same event, on one line that fits", "[trace][property]") {
  for (const Shape shape : {Shape::recording, Shape::scenario, Shape::virtio}) {
    trace::Parser parser = parser_of(shape);
    Events events{0x5eed + static_cast<std::uint64_t>(shape), shape};
    std::set<std::size_t> kinds;
    for (unsigned i = 0; i < 20'000; ++i) {
      const Event event = events.next();
      kinds.insert(event.index());
      std::array<char, trace::longest_line> buffer{};
      const std::string_view line = trace::format(event, buffer);
      INFO(line);
      REQUIRE(line.ends_with('\n'));
      REQUIRE(line.find('\n') == line.size() - 1);
      Event back;
      REQUIRE_FALSE(parser.parse(line.substr(0, line.size() - 1), back));
      REQUIRE(back == event);
    }
    CHECK(kinds.size() >= (shape == Shape::recording ? 14u : shape == Shape::scenario ? 46u : 9u));
  }
}

TEST_CASE("Words of a virtio-iommu are written as they are read", "[trace]") {
  std::array<char, trace::longest_line> buffer{};
  CHECK(trace::format(trace::SizedRequest{0x204, "05", {}}, buffer) == "req 204 05 -\n");
  CHECK(trace::format(trace::EventBuffers{12}, buffer) == "eventbuf 12\n");
  CHECK(trace::format(trace::WaitingCheck{2}, buffer) == "waiting 2\n");
  CHECK(trace::format(trace::DriverReady{0x77, true}, buffer) == "C features=77 bypass=1\n");
}

TEST_CASE("A line that does not fit its buffer is not written at all", "[trace]") {
  std::array<char, 10> buffer{};
  CHECK(trace::format(trace::GuestWord{0x1000, 0x20}, buffer) == "m 1000 20\n");
  CHECK(trace::format(trace::GuestWord{0x1000, 0x200}, buffer).empty());
  CHECK(trace::format(trace::GuestWord{}, {}).empty());
}

TEST_CASE("A line is spelled as the format says where reading would take another spelling too", "[trace]") {
  std::array<char, trace::longest_line> buffer{};
  CHECK(trace::format(trace::Configuration{trace::Family::vtd, "aw=48 cap=1 ecap=2"}, buffer) ==
        "cfg vtd aw=48 cap=1 ecap=2\n");
  CHECK(trace::format(trace::Configuration{trace::Family::virtio, "probe_size=200"}, buffer) ==
        "cfg virtio probe_size=200\n");
  CHECK(trace::format(trace::ViewSwitch{0x38, trace::no_pasid, true}, buffer) == "S 38 ffffffff 1\n");
  CHECK(trace::first_field(trace::Unknown{"Y"}) == "Y");
  CHECK(trace::first_field(trace::Nothing{}).empty());
}

TEST_CASE("What is no line of the format is not written", "[trace]") {
  std::array<char, trace::longest_line> buffer{};
  CHECK(trace::format(trace::Nothing{}, buffer).empty());
  CHECK(trace::format(trace::Unknown{"Y"}, buffer).empty());
}

}  // namespace viommu::test
