// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a virtio-iommu records of itself, replayed: every answer must come again, and a changed one must not pass.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/cli/replay_command.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/random.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t version_1 = std::uint64_t{1} << 32;
constexpr std::uint16_t ring_size = 8;
constexpr std::uint64_t buffers = RingGuest::first + 0x20000;
constexpr std::uint32_t other_endpoint = 0x1'0380;  // of the virtual function, whose requester id it ends in

/// How requests come, and where reports go.
enum class Way { bytes, request_ring, event_ring };

[[nodiscard]] viommu_virtio_options small_options(Random& random) {
  viommu_virtio_options options = virtio_options();
  if (random.chance(1, 2)) options.flags = 0;
  if (random.chance(1, 3)) options.flags |= VIOMMU_VIRTIO_STRICT_DETACH;
  options.domains = static_cast<std::uint32_t>(2 + random.below(3));
  options.mappings = 4 + random.below(5);
  options.endpoints = static_cast<std::uint32_t>(3 + random.below(2));
  options.probe_size = random.chance(1, 2) ? 24 : 96;
  options.first_domain = 1;
  options.last_domain = 6;
  options.last_input = 0xFFFF'FFFF;
  if (random.chance(1, 4)) options.without = random.chance(1, 2) ? 0x40 : 0x10;
  return options;
}

/// A driver, devices and a VMM that do anything at any time.
class Anything {
 public:
  Anything(std::uint64_t seed, Way way) : random_{seed}, way_{way}, machine_{small_options(random_), records} {
    plug();
    negotiate();
  }
  Anything(const Anything&) = delete;
  Anything& operator=(const Anything&) = delete;
  ~Anything() { release_all(); }

  void step() {
    switch (random_.below(24)) {
      case 0:  return negotiate();
      case 1:  return config();
      case 2:  return static_cast<void>(viommu_virtio_config_write(engine(), 36, 1, random_.below(3)));
      case 3:  return random_.chance(1, 4) ? reset() : translate();
      case 4:  return random_.chance(1, 3) ? unplug() : plug();
      case 5:  return hold();
      case 6:  return release_all();
      case 7:  return static_cast<void>(viommu_drop_caches(engine()));
      case 8:  return random_.chance(1, 8) ? renumber() : translate();
      default: return random_.chance(1, 2) ? request() : translate();
    }
  }
  [[nodiscard]] unsigned resets() const { return resets_; }
  [[nodiscard]] const std::string& recorded() const { return machine_.recorded; }
  [[nodiscard]] viommu_virtio_statistics figures() const { return machine_.device_figures(); }

 private:
  static constexpr auto records = VirtioMachine::Records::yes;
  [[nodiscard]] viommu_engine* engine() const { return machine_.engine; }
  [[nodiscard]] std::uint32_t domain() { return static_cast<std::uint32_t>(random_.below(8)); }
  [[nodiscard]] std::uint32_t endpoint() {
    return random_.pick(std::array<std::uint32_t, 5>{VirtioMachine::pf, other_endpoint, 0x308, 0x1300, 0x999});
  }
  [[nodiscard]] std::uint16_t source() {
    return random_.pick(std::array<std::uint16_t, 5>{VirtioMachine::pf, VirtioMachine::vf, 0x308, 0x1300, 0x999});
  }
  [[nodiscard]] std::uint64_t iova() {
    return random_.chance(1, 8) ? msi_first - page + random_.below(3) * page : random_.below(12) * page;
  }

  void plug() {
    for (const std::uint16_t source : {VirtioMachine::pf, VirtioMachine::vf, std::uint16_t{0x308}}) {
      viommu_device device{};
      device.size = sizeof device;
      device.source = source;
      if (source == VirtioMachine::vf) {
        device.flags = VIOMMU_DEVICE_ENDPOINT;
        device.endpoint = other_endpoint;
      }
      static_cast<void>(machine_.plug(device));  // it may be there
    }
  }
  void unplug() { static_cast<void>(viommu_device_remove(engine(), source())); }
  void renumber() { static_cast<void>(viommu_bus_renumber(engine(), random_.chance(1, 2) ? 3 : 0x13, 0x13)); }
  void reset() {
    release_all();
    static_cast<void>(random_.chance(1, 2) ? viommu_virtio_reset(engine()) : viommu_reset(engine()));
    ++resets_;
    driver_.reset();
    open_.reset();
    negotiate();
  }
  void negotiate() {
    std::uint64_t offered = 0;
    REQUIRE(viommu_virtio_features(engine(), &offered) == VIOMMU_OK);
    std::uint64_t wanted = version_1 | (offered & 0x77);
    if (random_.chance(1, 3)) wanted &= version_1 | random_.next();
    if (viommu_virtio_negotiate(engine(), wanted) != VIOMMU_OK) return;  // the device runs
    if (way_ != Way::bytes) {
      driver_ = std::make_unique<SplitDriver>(machine_.guest, ring_size, false);
      const virtqueue::Config config = driver_->config();
      const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                      config.size, 0};
      const std::uint32_t index = way_ == Way::request_ring ? VIOMMU_VIRTIO_REQUESTS : VIOMMU_VIRTIO_EVENTS;
      REQUIRE(viommu_virtio_queue_set(engine(), index, &queue) == VIOMMU_OK);
    }
    if (way_ != Way::bytes || random_.chance(1, 2)) REQUIRE(viommu_virtio_start(engine()) == VIOMMU_OK);
  }
  void config() {
    std::uint64_t value = 0;
    const std::uint32_t size = random_.pick(std::array<std::uint32_t, 4>{1, 2, 4, 8});
    REQUIRE(viommu_virtio_config_read(engine(), random_.below(48), size, &value) == VIOMMU_OK);
  }

  [[nodiscard]] Bytes some_request() {
    const std::uint64_t first = iova();
    const std::uint64_t last = first + random_.below(4) * page + (random_.chance(1, 12) ? 0x7FF : page - 1);
    Bytes bytes;
    switch (random_.below(7)) {
      case 0: bytes = attach_bytes(domain(), endpoint(), random_.chance(1, 8) ? 1 : 0); break;
      case 1: bytes = detach_bytes(domain(), endpoint()); break;
      case 2:
      case 3:
        bytes = map_bytes(domain(), first, last, random_.below(1 << 20) << 12,
                          static_cast<std::uint32_t>(1 + random_.below(3)));
        break;
      case 4:  bytes = unmap_bytes(domain(), first, random_.chance(1, 8) ? ~std::uint64_t{0} : last); break;
      case 5:  bytes = probe_bytes(endpoint()); break;
      default: bytes = {static_cast<std::uint8_t>(random_.below(8)), 0, 0, 0}; break;
    }
    if (random_.chance(1, 10)) bytes.resize(random_.below(90));
    return bytes;
  }
  [[nodiscard]] std::uint32_t room() { return random_.pick(std::array<std::uint32_t, 6>{4, 4, 100, 28, 2, 0x100}); }
  void request() {
    if (way_ == Way::request_ring) return send(some_request(), room());
    if (!open_) open_ = Asked{some_request(), Bytes(room(), 0xAA)};
    std::uint32_t used = 0;
    const viommu_result result = viommu_virtio_request(engine(), open_->request.data(), open_->request.size(),
                                                       open_->reply.data(), open_->reply.size(), &used);
    REQUIRE((result == VIOMMU_OK || result == VIOMMU_E_BUSY));
    if (result == VIOMMU_OK) open_.reset();  // else it waits for a hold, and is asked again
    if (driver_) give_buffers();
  }
  /// Into the ring, if it has room.
  void send(const Bytes& bytes, std::uint32_t room) {
    if (!driver_) return;
    static_cast<void>(driver_->collect());
    if (driver_->room() < 2 || bytes.empty()) return;
    const std::uint64_t at = buffers + next_++ % ring_size * 0x400;
    std::memcpy(machine_.guest.span(at, bytes.size()).data(), bytes.data(), bytes.size());
    RingBuffer buffer;
    buffer.pieces = {{at, static_cast<std::uint32_t>(bytes.size()), false}, {at + 0x100, room, true}};
    buffer.direct = buffer.pieces.size();
    driver_->add(buffer);
    driver_->publish();
    if (random_.chance(1, 2)) REQUIRE(viommu_virtio_notify(engine(), VIOMMU_VIRTIO_REQUESTS) == VIOMMU_OK);
  }
  /// For reports, now and then fewer than are wanted.
  void give_buffers() {
    static_cast<void>(driver_->collect());
    if (driver_->room() == 0 || random_.chance(1, 2)) return;
    RingBuffer buffer;
    buffer.pieces = {{buffers + next_++ % ring_size * 0x100, 24, true}};
    buffer.direct = 1;
    driver_->add(buffer);
    driver_->publish();
    REQUIRE(viommu_virtio_notify(engine(), VIOMMU_VIRTIO_EVENTS) == VIOMMU_OK);
  }

  [[nodiscard]] viommu_request access() {
    viommu_request request{};
    request.iova = iova() + random_.below(page);
    request.source = source();
    request.access = static_cast<std::uint8_t>(1 + random_.below(3));
    if (random_.chance(1, 6)) request.flags |= VIOMMU_NO_REPORT;
    if (random_.chance(1, 20)) {
      request.flags |= VIOMMU_HAS_PASID;
      request.pasid = 5;
    }
    return request;
  }
  void translate() {
    if (random_.chance(1, 30)) machine_.event_buffers = static_cast<unsigned>(random_.below(3)) * 1000;
    const viommu_request request = access();
    viommu_translation answer{};
    static_cast<void>(viommu_translate(machine_.reader, &request, &answer));
    if (!random_.chance(1, 6)) return;
    viommu_request range = request;
    range.length = 2 * page;
    std::array<viommu_piece, 4> pieces{};
    viommu_range_end end{};
    static_cast<void>(viommu_translate_range(machine_.reader, &range, pieces.data(), pieces.size(), &end));
  }
  void hold() {
    const viommu_request request = access();
    viommu_translation answer{};
    std::uint64_t handle = 0;
    if (viommu_hold(machine_.reader, &request, 1, &answer, &handle) == VIOMMU_OK) holds_.push_back(handle);
  }
  void release_all() {
    for (const std::uint64_t handle : holds_) REQUIRE(viommu_release(engine(), handle) == VIOMMU_OK);
    holds_.clear();
    static_cast<void>(machine_.process());
  }

  struct Asked {
    Bytes request;
    Bytes reply;
  };
  Random random_;
  Way way_;
  VirtioMachine machine_;
  std::unique_ptr<SplitDriver> driver_;
  std::optional<Asked> open_;
  std::vector<std::uint64_t> holds_;
  std::uint64_t next_ = 0;
  unsigned resets_ = 0;
};

[[nodiscard]] std::string shown(const cli::Report& report) {
  std::string text;
  if (report.error) text += "line " + std::to_string(report.error->line) + ": " + report.error->text + "\n";
  for (const cli::Mismatch& m : report.first_mismatches)
    text += "line " + std::to_string(m.line) + ": " + m.event + "\n  expected " + m.expected + "\n  found    " +
            m.found + "\n";
  return text;
}

/// Each is answered as it was, and no rule for another emulator's habits is needed.
void check_replay(const std::string& recorded) {
  const cli::Report report = cli::replay_text(recorded);
  INFO(shown(report));
  CHECK_FALSE(report.error);
  CHECK(report.mismatches == 0);
  CHECK(report.stale == 0);
  CHECK(report.dropped_access == 0);
  CHECK(report.deviations.empty());
  CHECK(report.skipped.empty());
}

[[nodiscard]] std::size_t count_of(const std::string& text, std::string_view start) {
  std::size_t found = 0;
  for (std::size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("what a virtio-iommu recorded of itself replays with every answer the same", "[recorder][trace][virtio]") {
  const Way way = GENERATE(Way::bytes, Way::request_ring, Way::event_ring);
  std::string all;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(static_cast<int>(way), seed);
    std::string recorded;
    {
      Anything anything{seed, way};
      for (unsigned i = 0; i < 600; ++i) anything.step();
      recorded = anything.recorded();
      // Nothing that was asked is missing.
      const viommu_virtio_statistics figures = anything.figures();
      const std::uint64_t asked = figures.attaches + figures.detaches + figures.maps + figures.unmaps + figures.probes +
                                  figures.refused + figures.unanswered;
      const std::size_t told = count_of(recorded, "\nQ ") + count_of(recorded, "\nreq ");
      CHECK(told + 1 + anything.resets() >= asked);  // the last one before each may not have been done yet
      CHECK(told <= asked);
      CHECK(count_of(recorded, "\nE ") == figures.events_recorded);
    }
    check_replay(recorded);
    all += recorded;
  }
  for (const std::string_view letter :
       {"\nQ 01",  "\nQ 02",     "\nQ 03",    "\nQ 04",      "\nQ 05", "\nreq ", "\nE ",
        "\nT ",    "\nZ\n",      "\nB ",      "\nW ",        "\nR ",   "\nC ",   "\nO\n",
        "\nplug ", " endpoint=", "\nunplug ", "\nrenumber ", "w i\n",  " b\n",   " t\n"}) {
    CAPTURE(letter);
    CHECK(count_of(all, letter) != 0);
  }
}

TEST_CASE("an answer that is changed in a recording of a virtio-iommu is a mismatch", "[recorder][trace][virtio]") {
  VirtioMachine machine{virtio_options(), VirtioMachine::Records::yes};
  REQUIRE(machine.plug(VirtioMachine::pf) == VIOMMU_OK);
  machine.negotiate(0x1'0000'0077);
  CHECK(machine.recorded.empty());  // the guest has not begun
  REQUIRE(machine.attach(1, VirtioMachine::pf) == virtio_status::ok);
  REQUIRE(machine.map(1, 0, page - 1, 5 * page) == virtio_status::ok);
  CHECK(machine.translate(VirtioMachine::pf, 0x10).gpa == 5 * page + 0x10);
  CHECK(machine.reason(VirtioMachine::pf, page) == VIOMMU_VIRTIO_FAULT_MAPPING);
  CHECK(machine.translate(VirtioMachine::pf, 2 * page).status == VIOMMU_FAULT_RECORDED);
  CHECK(machine.ask(probe_bytes(VirtioMachine::pf), 516).size() == 516);
  CHECK(machine.ask({9, 0, 0, 0}).empty());
  CHECK(machine.ask(attach_bytes(1, VirtioMachine::pf), 2).empty());
  std::uint64_t value = 0;
  CHECK(viommu_virtio_config_write(machine.engine, 36, 1, 1) == VIOMMU_OK);
  CHECK(viommu_virtio_config_write(machine.engine, 36, 1, 2) == VIOMMU_E_REFUSED);
  CHECK(viommu_virtio_config_read(machine.engine, 36, 1, &value) == VIOMMU_OK);
  machine.unplug(VirtioMachine::pf);
  CHECK(machine.attach(1, VirtioMachine::pf) == virtio_status::no_entry);
  CHECK(viommu_reset(machine.engine) == VIOMMU_OK);

  const std::string& text = machine.recorded;
  const std::string begin = text.substr(0, text.find("Q 05"));
  CHECK(begin ==
        "# viommu-trace 1\n"
        "cfg virtio page_size_mask=fffffffffffff000 input=0-ffffffffffffffff domain=0-ffffffff probe_size=200 bypass=0 "
        "boot_bypass=0 features=530000077 resv=1 plugs=1 detach=lenient domains=16 mappings=65536 endpoints=16\n"
        "cfg resv 1 fee00000 feefffff\n"
        "plug 300 emulated ok\n"
        "C features=100000077 bypass=0\n"
        "Q 0100000001000000000300000000000000000000 00000000\n"
        "Q 03000000010000000000000000000000ff0f000000000000005000000000000003000000 00000000\n"
        "T 300 - 10 r ok 5010 fff rw t\n"
        "T 300 - 1000 r fault 2 none\n"
        "E 020000000101000000030000000000000020000000000000\n"
        "T 300 - 2000 r fault 2 rec\n");
  const std::string end = text.substr(text.find("Q 09"));
  CHECK(end ==
        "Q 09000000 -\n"
        "req 2 0100000001000000000300000000000000000000 -\n"
        "W 24 1 1\n"
        "B 1\n"
        "W 24 1 2\n"
        "R 24 1 1\n"
        "unplug 300\n"
        "Q 0100000001000000000300000000000000000000 06000000\n"
        "Z\n"
        "B 0\n");
  check_replay(text);

  struct Change {
    std::string_view from;
    std::string_view to;
  };
  for (const auto& [from, to] : {
           Change{"00000000000003000000 00000000\n", "00000000000003000000 04000000\n"},
           {" ok 5010 ", " ok 5020 "},
           {" fff rw t", " fff r t"},
           {"r fault 2 none", "r fault 1 none"},
           {"fault 2 rec", "fault 1 rec"},
           {"E 0200000001", "E 0100000001"},
           {"E 0200000001", "E 0200000003"},
           {"Q 09000000 -", "Q 09000000 02000000"},
           {"fee0", "fed0"},
           {"req 2 01", "req 4 01"},
           {"\nB 1", "\nB 0"},
           {"R 24 1 1", "R 24 1 0"},
           {"00000000 06000000\n", "00000000 00000000\n"},
           {"bypass=0\nQ", "bypass=1\nQ"},
           {"unplug 300", "unplug 308"},
       }) {
    std::string changed = text;
    const std::size_t at = changed.find(from);
    CAPTURE(from, to);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    const cli::Report report = cli::replay_text(changed);
    INFO(shown(report));
    // `r t` lacks a right that was not asked for, which the format leaves open.
    if (to != " fff r t") CHECK(report.mismatches != 0);
    CHECK_FALSE(report.error);
  }
}

TEST_CASE("a recording that begins later says what the bypass byte is", "[trace][virtio][replay]") {
  const std::string start =
      "# viommu-trace 1\n"
      "cfg virtio page_size_mask=fffffffffffff000 features=130000077 probe_size=200 boot_bypass=0 plugs=1 bypass=";
  const std::string rest =
      "\nplug 300 emulated ok\n"
      "R 24 1 1\n"
      "T 300 - 5000 r ok 5000 ffffffffffffffff rw b\n"
      "Z\n"
      "R 24 1 1\n"
      "Z\n"
      "B 0\n"
      "T 300 - 5000 r fault 1 none\n";
  check_replay(start + "1" + rest);
  CHECK(cli::replay_text(start + "0" + rest).mismatches == 4);  // two reads, a translation, and its report
  // Nobody can have written it.
  const cli::Report report = cli::replay_text(
      "# viommu-trace 1\ncfg virtio page_size_mask=fffffffffffff000 features=130000037 boot_bypass=0 bypass=1\n"
      "T 300 - 5000 r ok 5000 ffffffffffffffff rw b\n");
  CHECK(report.error.has_value());
}

}  // namespace viommu::test
