// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the recorder writes, replayed: every answer must come again.
#include <catch2/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include <viommu/viommu.hpp>

#include "engine/cli/input.hpp"
#include "engine/cli/replay.hpp"
#include "engine/cli/trace_file.hpp"
#include "engine/cli/unit.hpp"
#include "engine/trace/config.hpp"
#include "engine/trace/event.hpp"
#include "tests/support/paths.hpp"

namespace viommu::test {
namespace {

/// An engine that records itself while it is fed the events of a trace.
class RecordedGuest {
 public:
  explicit RecordedGuest(const trace::VtdConfiguration& configuration) {
    viommu_host table = host_.table();
    forwarded_ = table;
    table.opaque = this;
    table.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      const viommu_host& to = static_cast<RecordedGuest*>(self)->forwarded_;
      return to.memory_read(to.opaque, gpa, data, size);
    };
    table.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      const viommu_host& to = static_cast<RecordedGuest*>(self)->forwarded_;
      return to.memory_write(to.opaque, gpa, data, size);
    };
    table.memory_compare_exchange = nullptr;
    table.routes_changed = nullptr;
    table.msi = [](void*, std::uint64_t, std::uint32_t) {};
    table.wake = nullptr;
    table.now_ns = nullptr;
    table.log = nullptr;
    table.record = [](void* self, const char* text, std::size_t length) {
      static_cast<RecordedGuest*>(self)->recorded.append(text, length);
    };
    auto created = Engine::create_vtd(cli::options_of(configuration), table);
    REQUIRE(created);
    engine_.emplace(*std::move(created));
    auto reader = engine_->reader();
    REQUIRE(reader);
    reader_.emplace(*std::move(reader));
  }

  void store(std::uint64_t gpa, std::uint64_t value) { host_.memory.store(gpa, value); }
  [[nodiscard]] Engine& engine() { return *engine_; }
  [[nodiscard]] Reader& reader() { return *reader_; }

  std::string recorded;

 private:
  cli::Host host_;
  viommu_host forwarded_{};
  std::optional<Engine> engine_;
  std::optional<Reader> reader_;
};

/// Feeds what the guest of a recording did; answers are not looked at. @return translations asked for.
std::uint64_t feed(RecordedGuest& guest, const std::vector<cli::NumberedEvent>& events) {
  std::uint64_t translations = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const trace::Event& event = events[i].event;
    if (const auto* const m = std::get_if<trace::GuestWord>(&event)) guest.store(m->gpa, m->value);
    if (const auto* const w = std::get_if<trace::RegisterWrite>(&event)) {
      // The words that this write makes the unit read stand behind it.
      for (std::size_t next = i + 1; next < events.size(); ++next) {
        const trace::Event& later = events[next].event;
        if (std::holds_alternative<trace::RegisterWrite>(later) || std::holds_alternative<trace::RegisterRead>(later) ||
            std::holds_alternative<trace::Translate>(later) || std::holds_alternative<trace::Interrupt>(later))
          break;
        if (const auto* const m = std::get_if<trace::GuestWord>(&later)) guest.store(m->gpa, m->value);
      }
      CHECK(guest.engine().mmio_write(w->offset, w->size, w->value) == VIOMMU_OK);
    }
    if (const auto* const r = std::get_if<trace::RegisterRead>(&event))
      static_cast<void>(guest.engine().mmio_read(r->offset, r->size));
    if (const auto* const t = std::get_if<trace::Translate>(&event)) {
      const auto request = cli::request_of(*t, true);
      REQUIRE(request);
      static_cast<void>(guest.reader().translate(*request));
      ++translations;
    }
    if (const auto* const v = std::get_if<trace::Interrupt>(&event)) {
      const viommu_message message = cli::message_of(*v);
      static_cast<void>(v->question ? guest.engine().route(message) : guest.reader().interrupt(message));
    }
    if (std::holds_alternative<trace::CachesDropped>(event)) CHECK(guest.engine().drop_caches() == VIOMMU_OK);
    if (std::holds_alternative<trace::Reset>(event)) CHECK(guest.engine().reset() == VIOMMU_OK);
  }
  return translations;
}

cli::Report replay(const std::string& text) {
  cli::Replayer replayer;
  cli::EventReader reader{text};
  trace::Event event;
  bool goes_on = true;
  while (goes_on && reader.next(event)) goes_on = replayer.feed(event, reader.line());
  if (reader.error()) FAIL("line " << reader.error()->line << ": " << reader.error()->text);
  replayer.finish(reader.line());
  return replayer.report();
}

trace::VtdConfiguration configuration_of(const std::vector<cli::NumberedEvent>& events) {
  trace::VtdConfiguration configuration;
  for (const cli::NumberedEvent& event : events)
    if (const auto* const cfg = std::get_if<trace::Configuration>(&event.event))
      static_cast<void>(trace::parse_vtd_configuration(cfg->pairs, configuration));
  return configuration;
}

void check_round_trip(const std::string& name, std::size_t most_events) {
  std::istringstream nothing;
  const cli::Text text = cli::read_text((recordings_folder() / (name + ".trace.zst")).string(), nothing);
  REQUIRE(text.error.empty());
  cli::ParsedTrace parsed = cli::parse_trace(text.bytes);
  REQUIRE_FALSE(parsed.error);
  if (parsed.events.size() > most_events) parsed.events.resize(most_events);

  RecordedGuest guest{configuration_of(parsed.events)};
  const std::uint64_t asked = feed(guest, parsed.events);
  const cli::Report report = replay(guest.recorded);
  INFO(name << ": "
            << (report.first_mismatches.empty()
                    ? ""
                    : report.first_mismatches.front().event + " expected " + report.first_mismatches.front().expected +
                          ", found " + report.first_mismatches.front().found));
  REQUIRE_FALSE(report.error);
  CHECK(report.mismatches == 0);
  CHECK(report.translations == asked);
  // What was recorded here is exact: no rule for another emulator's habits may be needed.
  CHECK(report.stale == 0);
  CHECK(report.dropped_access == 0);
  CHECK(report.artefacts.empty());
}

}  // namespace

TEST_CASE("what the recorder wrote replays with every answer the same", "[recorder][trace]") {
  check_round_trip("kut-intel-iommu", 1000);
  check_round_trip("vtd-sriov-k612", 20000);
  check_round_trip("vtd-intremap-k612", 60000);
  check_round_trip("vtd-legacy-strict-k61", 120000);
}

TEST_CASE("interrupts are recorded with what became of them, questions as such", "[recorder][trace]") {
  trace::VtdConfiguration configuration;
  REQUIRE_FALSE(trace::parse_vtd_configuration("aw=48 cap=80d2008c222f0606 ecap=f00f4a ver=10", configuration));
  RecordedGuest guest{configuration};
  guest.store(0x40050, 0x30000410001);
  guest.store(0x40058, 0x40100);
  CHECK(guest.engine().mmio_write(0xB8, 8, 0x40007) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x01000000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x02000000) == VIOMMU_OK);
  const std::uint16_t unknown = VIOMMU_MESSAGE_ANY_SOURCE;
  CHECK(guest.reader().interrupt(interrupt_message(0x100, 0xFEE000B0, 1)).kind == VIOMMU_ROUTE_REMAPPED);
  CHECK(guest.engine().interrupt_once(interrupt_message(7, 0xFEE000B0, 1, unknown)).kind == VIOMMU_ROUTE_REMAPPED);
  CHECK(guest.engine().route(interrupt_message(0x108, 0xFEE000B0, 1)).reason == 0x26);
  CHECK(guest.reader().interrupt(interrupt_message(0x108, 0xFEE000B0, 1)).reason == 0x26);
  const std::size_t at = guest.recorded.find("V ");
  REQUIRE(at != std::string::npos);
  CHECK(guest.recorded.substr(at) ==
        "V w 100 fee000b0 1 ok fee03000 4041\nV w ffff fee000b0 1 ok fee03000 4041\n"
        "V q 108 fee000b0 1 fault 26 none\nV w 108 fee000b0 1 fault 26 rec\n");
  const cli::Report report = replay(guest.recorded);
  REQUIRE_FALSE(report.error);
  CHECK(report.mismatches == 0);
  CHECK(report.matches == 4);
}

TEST_CASE("a request that asked for no report is recorded as one that leaves no record", "[recorder][trace]") {
  trace::VtdConfiguration configuration;
  REQUIRE_FALSE(trace::parse_vtd_configuration("aw=48 cap=80d2008c222f0606 ecap=f42 ver=10", configuration));
  RecordedGuest guest{configuration};
  guest.store(0x10000, 0x11001);  // root entry of bus 0; its context entries are absent
  CHECK(guest.engine().mmio_write(0x20, 8, 0x10000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x40000000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x80000000) == VIOMMU_OK);
  viommu_request request = viommu::request(0x08, 0x1000, VIOMMU_READ);
  request.flags = VIOMMU_NO_REPORT;
  CHECK(guest.reader().translate(request).reason == 2);
  CHECK(guest.engine().mmio_read(0x34, 4) == 0);
  request.flags = 0;
  CHECK(guest.reader().translate(request).status == VIOMMU_FAULT_RECORDED);
  CHECK(guest.engine().mmio_read(0x34, 4) == 2);

  CHECK(guest.recorded.find("T 8 - 1000 r fault 2 none\n") != std::string::npos);
  CHECK(guest.recorded.find("T 8 - 1000 r fault 2 rec\n") != std::string::npos);
  const cli::Report report = replay(guest.recorded);
  REQUIRE_FALSE(report.error);
  CHECK(report.mismatches == 0);
  CHECK(report.translations == 2);
}

TEST_CASE("a write into the interrupt window that was no message replays as none", "[recorder][trace][replay]") {
  trace::VtdConfiguration configuration;
  REQUIRE_FALSE(trace::parse_vtd_configuration("aw=48 cap=80d2008c222f0606 ecap=f42 ver=10", configuration));
  RecordedGuest guest{configuration};
  guest.store(0x10000, 0);
  CHECK(guest.engine().mmio_write(0x20, 8, 0x10000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x40000000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x80000000) == VIOMMU_OK);
  constexpr std::uint64_t window = 0xFEE00000;
  constexpr std::uint64_t last = 0xFEEFFFFC;
  const auto ask = [&](std::uint64_t iova, std::uint8_t access, std::uint64_t length, std::uint8_t flags = 0) {
    const viommu_translation answer =
        guest.reader().translate(viommu::request(0x08, iova, access, length, flags | VIOMMU_NO_REPORT));
    return answer.kind == VIOMMU_FAULT ? answer.reason : 0;
  };
  CHECK(ask(window, VIOMMU_WRITE, 4) == 0);
  CHECK(ask(window, VIOMMU_WRITE, 0) == 0);
  CHECK(ask(window, VIOMMU_WRITE, 8) == 0x29);
  CHECK(ask(last, VIOMMU_WRITE, 2) == 0x29);
  CHECK(ask(last, VIOMMU_WRITE, 4) == 0);
  CHECK(ask(window, VIOMMU_READ, 4) == 0x29);
  CHECK(ask(window, VIOMMU_READ | VIOMMU_WRITE, 4) == 0x29);
  CHECK(ask(window, VIOMMU_READ, 0, VIOMMU_ZERO_LENGTH) == 0);
  CHECK(ask(window - 1, VIOMMU_WRITE, 8) == 1);
  CHECK(guest.reader().translate(viommu::request(0x08, window, VIOMMU_WRITE, 16)).status == VIOMMU_FAULT_RECORDED);
  CHECK(guest.engine().mmio_read(0x34, 4) == 2);

  CHECK(guest.recorded.find("T 8 - fee00000 w fault 29 none\n") != std::string::npos);
  CHECK(guest.recorded.find("T 8 - fee00000 w fault 29 rec\n") != std::string::npos);
  const cli::Report report = replay(guest.recorded);
  REQUIRE_FALSE(report.error);
  CHECK(report.translations == 10);
  CHECK(report.mismatches == 0);
  // Not because 29h is taken for granted: the same line where the window is not reached is a mismatch.
  std::string elsewhere = guest.recorded;
  const std::string line = "T 8 - fee00000 w fault 29 none";
  elsewhere.replace(elsewhere.find(line), line.size(), "T 8 - fed00000 w fault 29 none");
  CHECK(replay(elsewhere).mismatches == 1);
}

TEST_CASE("a word of guest memory is written down once while it stays the same", "[recorder][trace]") {
  trace::VtdConfiguration configuration;
  REQUIRE_FALSE(trace::parse_vtd_configuration("aw=48 cap=80d2008c222f0606 ecap=f42 ver=10", configuration));
  RecordedGuest guest{configuration};
  guest.store(0x10000, 0);
  CHECK(guest.engine().mmio_write(0x20, 8, 0x10000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x40000000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x80000000) == VIOMMU_OK);
  const viommu_request request = viommu::request(0x08, 0x1000, VIOMMU_READ, 0, VIOMMU_NO_REPORT);
  for (int i = 0; i < 3; ++i) CHECK(guest.reader().translate(request).reason == 1);
  guest.store(0x10000, 0x20001);
  CHECK(guest.reader().translate(request).reason == 2);

  const auto count = [&](const std::string& line) {
    std::size_t found = 0;
    for (std::size_t at = guest.recorded.find(line); at != std::string::npos; at = guest.recorded.find(line, at + 1))
      ++found;
    return found;
  };
  CHECK(count("m 10000 0\n") == 1);
  CHECK(count("m 10000 20001\n") == 1);
}

TEST_CASE("an explanation puts the words it read into a recording, and changes no answer in it",
          "[recorder][trace][dump]") {
  trace::VtdConfiguration configuration;
  REQUIRE_FALSE(trace::parse_vtd_configuration("aw=48 cap=80d2008c222f0606 ecap=f42 ver=10", configuration));
  RecordedGuest guest{configuration};
  guest.store(0x10000, 0x20001);
  CHECK(guest.engine().mmio_write(0x20, 8, 0x10000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x40000000) == VIOMMU_OK);
  CHECK(guest.engine().mmio_write(0x18, 4, 0x80000000) == VIOMMU_OK);
  const viommu_request request = viommu::request(0x08, 0x1000, VIOMMU_READ, 0, VIOMMU_NO_REPORT);
  CHECK(guest.engine().dump(VIOMMU_DUMP_EXPLAIN | VIOMMU_DUMP_REGISTERS | VIOMMU_DUMP_CONTEXTS, request));
  CHECK(guest.recorded.find("m 10000 20001\n") != std::string::npos);
  CHECK(guest.recorded.find("\nT ") == std::string::npos);
  CHECK(guest.reader().translate(request).reason == 2);
  const cli::Report report = replay(guest.recorded);
  REQUIRE_FALSE(report.error);
  CHECK(report.mismatches == 0);
  CHECK(report.translations == 1);
}

}  // namespace viommu::test
