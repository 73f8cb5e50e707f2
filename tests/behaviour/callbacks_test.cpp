// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Calls out of callbacks: what is allowed works, the rest is refused, and nothing waits for itself, be it on the same
// thread or on one that the callback waits for.
#include <thread>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;
constexpr std::uint16_t unmapped_device = 0x0020;

enum class Callback : std::uint8_t { read, store, message, gone, routes, overdue, wake, clock, log };

struct Guest {
  Guest() {
    machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
    machine.boot_without_queue();
    ring.enable();
    machine.write(offset::completion_event_control, 0);
    machine.write(offset::fault_event_control, 0);
    REQUIRE(machine.engine.add_region(removable_gpa, removable()) == VIOMMU_OK);
  }

  /// Runs `action` inside each callback of this kind, but not inside a callback that `action` itself leads to.
  void inside(Callback kind, const std::function<void()>& action) {
    const auto once = [this, action] {
      if (busy) return;
      busy = true;
      action();
      ++times;
      busy = false;
    };
    machine.on_effect = [=](const Effect& effect) {
      const bool wanted = (kind == Callback::store && effect.kind == Effect::store) ||
                          (kind == Callback::message && effect.kind == Effect::message) ||
                          (kind == Callback::gone && effect.kind == Effect::gone) ||
                          (kind == Callback::routes && effect.kind == Effect::routes) ||
                          (kind == Callback::overdue && effect.kind == Effect::overdue);
      if (wanted) once();
    };
    if (kind == Callback::read) machine.on_read = [once](std::uint64_t) { once(); };
    if (kind == Callback::wake) machine.on_wake = once;
    if (kind == Callback::clock) machine.on_clock = once;
    if (kind == Callback::log) machine.on_log = once;
  }
  /// Something that leads to every kind of callback.
  void do_everything() {
    viommu_translation answer{};
    Hold hold = machine.reader.hold(request(device, 0x5000, VIOMMU_READ), 1, answer);
    ring.put(descriptor::interrupt_entries_global);
    ring.put(descriptor::iotlb_global);
    ring.put_wait(descriptor::wait_status | descriptor::wait_interrupt, 1);
    ring.go();
    machine.now_ns += 2'000'000'000;
    static_cast<void>(machine.engine.process());
    static_cast<void>(machine.reader.translate(request(unmapped_device, 0x5000, VIOMMU_READ)));
    hold.release();
    static_cast<void>(machine.engine.process());
    REQUIRE(machine.engine.remove_region(removable_gpa, 1) == VIOMMU_OK);
    static_cast<void>(machine.engine.process());
  }
  std::span<std::byte> removable() {
    const std::size_t aligned = 0x1000 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 0x1000;
    return std::span{bytes}.subspan(aligned, 0x1000);
  }

  static constexpr std::uint64_t removable_gpa = Machine::ram_bytes * 2;
  std::vector<std::byte> bytes = std::vector<std::byte>(0x2000);
  Machine machine;
  Ring ring{machine};
  bool busy = false;
  unsigned times = 0;
};

Callback any_callback() {
  return GENERATE(Callback::read, Callback::store, Callback::message, Callback::gone, Callback::routes,
                  Callback::overdue, Callback::wake, Callback::clock, Callback::log);
}

}  // namespace

TEST_CASE("from every callback translating and statistics work and every other call is busy",
          "[behaviour][callbacks][B63][B103][SEC-9][P7]") {
  const Callback kind = any_callback();
  Guest guest;
  Machine& machine = guest.machine;
  viommu_engine* const engine = machine.engine.get();
  Expected<Reader> other = machine.engine.reader();
  REQUIRE(other);
  viommu_translation answer{};
  const viommu_request asked = request(device, 0x5000, VIOMMU_READ);
  constexpr std::uint64_t not_open = 0x1'0000'0000;
  const std::uint64_t status_before = machine.read(offset::global_status);
  guest.inside(kind, [&] {
    CHECK(other->translate(asked).gpa == 0x400000);
    CHECK(machine.engine.translate_once(asked).gpa == 0x400000);
    CHECK(machine.engine.translate_once(request(unmapped_device, 0x5000, VIOMMU_READ)).kind == VIOMMU_FAULT);
    const viommu_message message = interrupt_message(device, 0xFEE0'0010, 0x41);  // remapping is off
    CHECK(machine.engine.route(message).kind == VIOMMU_ROUTE_UNCHANGED);
    CHECK(machine.engine.interrupt_once(message).kind == VIOMMU_ROUTE_UNCHANGED);
    CHECK(other->interrupt(message).kind == VIOMMU_ROUTE_UNCHANGED);
    viommu_statistics statistics{};
    statistics.size = sizeof statistics;
    CHECK(viommu_statistics_get(engine, &statistics) == VIOMMU_OK);
    std::uint64_t value = 1;
    CHECK(viommu_faults_limited(engine, device, &value) == VIOMMU_OK);
    CHECK(other->ats_translate(asked).reason == 0x0D);  // TT 01 is not offered
    CHECK(other->ats_check(asked).reason == 0x0D);
    viommu_progress progress{};
    viommu_reader* reader = nullptr;
    const viommu_region region{0, 0x1000, guest.removable().data(), 0};
    const viommu_page_request page{};
    std::uint32_t code = 0;
    CHECK(viommu_request_page(engine, &page, &code) == VIOMMU_E_BUSY);
    CHECK(viommu_mmio_read(engine, 0, 4, &value) == VIOMMU_E_BUSY);
    CHECK(viommu_mmio_write(engine, offset::global_command, 4, 0) == VIOMMU_E_BUSY);
    CHECK(viommu_process(engine, 0, &progress) == VIOMMU_E_BUSY);
    CHECK(viommu_reset(engine) == VIOMMU_E_BUSY);
    CHECK(viommu_drop_caches(engine) == VIOMMU_E_BUSY);
    CHECK(viommu_region_add(engine, &region) == VIOMMU_E_BUSY);
    CHECK(viommu_region_remove(engine, Guest::removable_gpa, 9) == VIOMMU_E_BUSY);
    CHECK(viommu_reader_create(engine, &reader) == VIOMMU_E_BUSY);
    CHECK(viommu_reader_destroy(other->get()) == VIOMMU_E_BUSY);
    CHECK(viommu_hold(other->get(), &asked, 3, &answer, &value) == VIOMMU_E_BUSY);
    CHECK(viommu_release(engine, not_open) == VIOMMU_E_BUSY);
    CHECK(viommu_hold_revoke(engine, not_open) == VIOMMU_E_BUSY);
    CHECK(viommu_destroy(engine) == VIOMMU_E_BUSY);
  });
  guest.do_everything();
  CHECK(guest.times > 0);
  machine.on_effect = {};
  machine.on_read = {};
  machine.on_wake = {};
  machine.on_clock = {};
  machine.on_log = {};
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.read(offset::global_status) == status_before);
  CHECK(machine.lands(device, 0x5000) == 0x400000);
}

TEST_CASE("a thread that a callback waits for may call everything, and no call waits for the callback",
          "[behaviour][callbacks][B63][B103][SEC-9][P7]") {
  const Callback kind = any_callback();
  Guest guest;
  Machine& machine = guest.machine;
  viommu_engine* const engine = machine.engine.get();
  Expected<Reader> other = machine.engine.reader();
  REQUIRE(other);
  std::vector<viommu_result> results;
  guest.inside(kind, [&] {
    std::thread{[&] {
      const viommu_request asked = request(device, 0x5000, VIOMMU_READ);
      viommu_translation answer{};
      std::uint64_t value = 0;
      viommu_progress progress{};
      viommu_reader* reader = nullptr;
      const viommu_region region{0, 0x1000, guest.removable().data(), 0};
      results.push_back(viommu_translate(other->get(), &asked, &answer));
      results.push_back(viommu_hold(other->get(), &asked, 3, &answer, &value));
      results.push_back(viommu_release(engine, value));
      results.push_back(viommu_mmio_read(engine, offset::queue_head, 8, &value));
      results.push_back(viommu_process(engine, 0, &progress));
      results.push_back(viommu_drop_caches(engine));
      results.push_back(viommu_reader_create(engine, &reader));
      results.push_back(viommu_reader_destroy(reader));
      // Memory comes and goes, translation is switched off and on again, a wait is added: all while the callback runs.
      static_cast<void>(viommu_region_add(engine, &region));
      static_cast<void>(viommu_region_remove(engine, 0, 5));
      const std::uint64_t levels = command::translation | command::queue;
      results.push_back(viommu_mmio_write(engine, offset::global_command, 4, command::queue));
      results.push_back(viommu_mmio_write(engine, offset::global_command, 4, levels));
    }}.join();
  });
  guest.do_everything();
  CHECK(guest.times > 0);
  CHECK(std::ranges::all_of(results, [](viommu_result result) { return result == VIOMMU_OK; }));
  machine.on_effect = {};
  machine.on_read = {};
  machine.on_wake = {};
  machine.on_clock = {};
  machine.on_log = {};
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.shows(command::translation));
  CHECK(machine.lands(device, 0x5000) == 0x400000);
  guest.ring.put_wait(descriptor::wait_status, 99);
  guest.ring.go();
  CHECK(machine.word_at(Machine::status_word) == 99);
}

}  // namespace viommu::test
