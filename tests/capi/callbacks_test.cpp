// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a host callback: translating and statistics work, every other call of the same engine answers BUSY.
#include <viommu/viommu.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/base/host_memory.hpp"
#include "tests/capi/machine.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t pages_base = 0x40000000;  // page tables and status words behind the callbacks

/// A host with every function there is. Each call of one runs `during` once, not again inside itself.
class CallbackHost {
 public:
  CallbackHost() { memory.add_ram(pages_base, 0x100000); }

  [[nodiscard]] viommu_host table(bool recording) {
    viommu_host host = empty_host();
    host.opaque = this;
    host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      of(self).called("memory_read");
      return of(self).memory.read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
    };
    host.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      of(self).called("memory_write");
      return of(self).memory.write(gpa, {static_cast<const std::byte*>(data), size}) ? 0 : -1;
    };
    host.memory_compare_exchange = [](void* self, std::uint64_t, std::uint64_t*, std::uint64_t) -> std::int32_t {
      of(self).called("memory_compare_exchange");
      return -1;
    };
    host.msi = [](void* self, std::uint64_t, std::uint32_t) { of(self).called("msi"); };
    host.wake = [](void* self) { of(self).called("wake"); };
    host.now_ns = [](void* self) {
      of(self).called("now_ns");
      return of(self).now_ns;
    };
    host.log = [](void* self, std::int32_t, const char*) { of(self).called("log"); };
    host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
      of(self).called("allocate");
      return viommu::HostAllocator{}.get(size, alignment);
    };
    host.deallocate = [](void* self, void* block, std::size_t size, std::size_t alignment) {
      of(self).called("deallocate");
      viommu::HostAllocator{}.put(block, size, alignment);
    };
    host.region_gone = [](void* self, std::uint64_t) { of(self).called("region_gone"); };
    host.routes_changed = [](void* self, std::uint32_t, std::uint32_t) { of(self).called("routes_changed"); };
    host.hold_overdue = [](void* self, std::uint64_t, std::uint64_t, std::uint64_t) {
      of(self).called("hold_overdue");
    };
    host.device_invalidate = [](void* self, std::uint64_t, std::uint16_t, std::uint32_t, std::uint64_t, std::uint64_t) {
      of(self).called("device_invalidate");
      return std::int32_t{VIOMMU_DEVICE_DONE};
    };
    if (recording) {
      host.record = [](void* self, const char* text, std::size_t length) {
        if (length == 0 || text[length - 1] != '\n') ++of(self).broken_lines;
        of(self).called("record");
      };
    }
    return host;
  }

  std::function<void()> during;
  std::map<std::string, unsigned> calls;
  test::SparseMemory memory;
  std::uint64_t now_ns = 0;
  unsigned broken_lines = 0;

 private:
  static CallbackHost& of(void* self) { return *static_cast<CallbackHost*>(self); }
  void called(const std::string& name) {
    ++calls[name];
    if (!during || inside_) return;
    inside_ = true;
    INFO("from " << name);
    during();
    inside_ = false;
  }
  bool inside_ = false;
};

/// A unit whose page tables the host reads for it, on which every callback fires in exercise().
class Unit {
 public:
  explicit Unit(CallbackHost& host, bool recording = false)
      : host_{&host}, machine{with_remapping(), host.table(recording)} {
    machine.tables.attach(device, tree);
    tables.map(tree, base_iova, 0x5000);
  }

  /// Makes each of the host's functions be called.
  void exercise() {
    // memory_read, and now_ns by a hold; then the hold is overdue.
    machine.engine.drop_caches();
    viommu_translation answer{};
    Hold hold = machine.reader.hold(request(device, base_iova, VIOMMU_READ), 1, answer);
    CHECK(answer.gpa == 0x5000);
    machine.driver.add_global();
    machine.driver.add(0x4);                         // interrupt entries: routes_changed
    machine.driver.add(0x3, base_iova);              // a device's TLB: device_invalidate
    machine.driver.add(0x25, pages_base + 0xFF000);  // wait, with a status write by memory_write
    machine.driver.add(0x15);                        // wait, with an interrupt
    static_cast<void>(machine.driver.submit());      // withheld: wake
    host_->now_ns += 2'000'000'000;
    static_cast<void>(machine.engine.process());
    hold.release();
    static_cast<void>(machine.engine.process());
    machine.invalidate_all();
    // A fault event.
    machine.engine.mmio_write(0x38, 4, 0);
    static_cast<void>(machine.ask(base_iova + page_bytes));
    static_cast<void>(machine.driver.take_fault());
    // A region that comes and goes.
    CHECK(machine.engine.add_region(more.gpa(), {more.data(), more.length()}) == VIOMMU_OK);
    CHECK(machine.engine.remove_region(more.gpa(), 5) == VIOMMU_OK);
    static_cast<void>(machine.engine.process());
  }

 private:
  static viommu_vtd_options with_remapping() {
    viommu_vtd_options options = default_options();
    options.extended_capability = 0xF4F;  // C, QI, DT, IR, PT: interrupt entries and device TLBs are told of
    return options;
  }
  CallbackHost* host_;

 public:
  Machine machine;
  test::GuestTables tables{test::words_of(host_->memory), pages_base};
  test::Tree tree = tables.create_tree(3);
  test::GuardedRegion more{0x10000000, page_bytes};
};

const std::vector<std::string> all_callbacks{"memory_read",    "memory_write", "msi",        "wake",
                                             "now_ns",         "allocate",     "deallocate", "region_gone",
                                             "routes_changed", "hold_overdue", "log",        "device_invalidate"};

void check_device_calls_are_busy(viommu_engine* engine) {
  viommu_device described{};
  described.size = sizeof described;
  const viommu_veto veto{nullptr, [](void*, const viommu_device*, char*, std::size_t) -> std::int32_t { return 1; }};
  std::uint32_t count = 0;
  std::uint64_t word = 0;
  char text[8];
  CHECK(viommu_device_add(engine, &described, nullptr) == VIOMMU_E_BUSY);
  CHECK(viommu_device_remove(engine, device) == VIOMMU_E_BUSY);
  CHECK(viommu_host_facts_unset(engine, device) == VIOMMU_E_BUSY);
  CHECK(viommu_bus_renumber(engine, 0, 1) == VIOMMU_E_BUSY);
  CHECK(viommu_veto_add(engine, &veto) == VIOMMU_E_BUSY);
  CHECK(viommu_ready(engine, nullptr, 0, &count) == VIOMMU_E_BUSY);
  CHECK(viommu_capabilities_get(engine, &word, &word, &count) == VIOMMU_E_BUSY);
  CHECK(viommu_migration_blocker(engine, 0, text, sizeof text) == VIOMMU_E_BUSY);
}

}  // namespace

TEST_CASE("every function of the host can be made to be called", "[capi][callbacks]") {
  CallbackHost host;
  Unit unit{host};
  host.calls.clear();
  unit.machine.engine.mmio_write(0xA0, 4, 0);  // completion events unmasked
  unit.exercise();
  for (const std::string& name : all_callbacks) {
    CAPTURE(name);
    CHECK(host.calls[name] > 0);
  }
}

TEST_CASE("from each callback each other call answers BUSY and does nothing", "[capi][callbacks][P7]") {
  const bool recording = GENERATE(false, true);
  CallbackHost host;
  Unit unit{host, recording};
  unit.machine.engine.mmio_write(0xA0, 4, 0);
  viommu_engine* const engine = unit.machine.engine.get();
  Reader other = *unit.machine.engine.reader();
  const viommu_region region{0x20000000, page_bytes, unit.more.data(), 0};
  const viommu_request asked = request(device, base_iova, VIOMMU_READ, 8);
  viommu_translation translation{};
  std::uint64_t hold = 0;
  REQUIRE(viommu_hold(other.get(), &asked, 9, &translation, &hold) == VIOMMU_OK);
  unsigned checked = 0;
  host.during = [&] {
    ++checked;
    viommu_reader* reader = nullptr;
    viommu_translation answer{};
    viommu_progress progress{};
    std::uint64_t value = 0;
    CHECK(viommu_reader_create(engine, &reader) == VIOMMU_E_BUSY);
    CHECK(viommu_reader_destroy(other.get()) == VIOMMU_E_BUSY);
    CHECK(viommu_region_add(engine, &region) == VIOMMU_E_BUSY);
    CHECK(viommu_region_remove(engine, unit.machine.ram.gpa(), 1) == VIOMMU_E_BUSY);
    CHECK(viommu_mmio_read(engine, 0x1C, 4, &value) == VIOMMU_E_BUSY);
    CHECK(viommu_mmio_write(engine, 0x18, 4, 0) == VIOMMU_E_BUSY);
    CHECK(viommu_process(engine, 0, &progress) == VIOMMU_E_BUSY);
    CHECK(viommu_reset(engine) == VIOMMU_E_BUSY);
    CHECK(viommu_drop_caches(engine) == VIOMMU_E_BUSY);
    std::array<std::byte, 8> state{};
    std::size_t length = 0;
    CHECK(viommu_quiesce(engine, nullptr) == VIOMMU_E_BUSY);
    CHECK(viommu_save(engine, state.data(), state.size(), &length, nullptr) == VIOMMU_E_BUSY);
    CHECK(viommu_load(engine, state.data(), state.size(), nullptr) == VIOMMU_E_BUSY);
    viommu_range run{};
    std::uint32_t number = 0;
    CHECK(viommu_dirty_tracking(engine, VIOMMU_DIRTY_ON) == VIOMMU_E_BUSY);
    CHECK(viommu_dirty_fetch(engine, &run, 1, &number) == VIOMMU_E_BUSY);
    CHECK(viommu_dirty_tracking_is(engine, &number) == VIOMMU_OK);
    CHECK(number == VIOMMU_DIRTY_OFF);
    viommu_dump_options options{};
    options.size = sizeof options;
    options.write = [](void*, const char*, std::size_t) { FAIL("something was written"); };
    CHECK(viommu_dump(engine, &options) == VIOMMU_E_BUSY);
    CHECK(viommu_release(engine, hold) == VIOMMU_E_BUSY);
    CHECK(viommu_device_invalidated(engine, 1, VIOMMU_INVALIDATED) == VIOMMU_E_BUSY);
    CHECK(viommu_hold_revoke(engine, hold) == VIOMMU_E_BUSY);
    std::uint64_t second = 7;
    CHECK(viommu_hold(other.get(), &asked, 0, &answer, &second) == VIOMMU_E_BUSY);
    CHECK(second == 0);
    check_device_calls_are_busy(engine);
    CHECK(viommu_destroy(engine) == VIOMMU_E_BUSY);
  };
  // The hold above must not keep the unit's own work back.
  const std::uint64_t open_before = unit.machine.engine.statistics().holds_open;
  REQUIRE(open_before == 1);
  const auto release = [&] {
    host.during = nullptr;
    CHECK(viommu_release(engine, hold) == VIOMMU_OK);
  };
  const auto again = host.during;
  release();
  host.during = again;
  unit.exercise();
  host.during = nullptr;
  CHECK(checked > all_callbacks.size());
  CHECK(unit.machine.engine.statistics().holds_open == 0);
  CHECK((unit.machine.engine.mmio_read(0x1C, 4) & 0x84000000) == 0x84000000);  // translation and queue are still on
  CHECK(unit.machine.ask().gpa == 0x5000);
  CHECK((host.calls["record"] > 0) == recording);
  CHECK(host.broken_lines == 0);
}

TEST_CASE("from each callback translating with another reader and statistics work", "[capi][callbacks][P7]") {
  const bool recording = GENERATE(false, true);
  CallbackHost host;
  Unit unit{host, recording};
  unit.machine.engine.mmio_write(0xA0, 4, 0);
  viommu_engine* const engine = unit.machine.engine.get();
  Reader other = *unit.machine.engine.reader();
  unsigned checked = 0;
  host.during = [&] {
    ++checked;
    const viommu_request asked = request(device, base_iova, VIOMMU_READ, 8, VIOMMU_NO_REPORT);
    viommu_translation answer{};
    {
      const Guard guard = other.guard();
      CHECK(viommu_translate(other.get(), &asked, &answer) == VIOMMU_OK);
      CHECK(answer.gpa == 0x5000);
    }
    CHECK(viommu_translate_once(engine, &asked, &answer) == VIOMMU_OK);
    CHECK(answer.gpa == 0x5000);
    CHECK(viommu_translate_batch(other.get(), &asked, &answer, 1) == VIOMMU_OK);
    viommu_piece piece{};
    viommu_range_end end{};
    CHECK(viommu_translate_range(other.get(), &asked, &piece, 1, &end) == VIOMMU_OK);
    CHECK(piece.gpa == 0x5000);
    viommu_statistics statistics{};
    statistics.size = sizeof statistics;
    CHECK(viommu_statistics_get(engine, &statistics) == VIOMMU_OK);
    CHECK(viommu_mmio_size(engine) == page_bytes);
  };
  unit.exercise();
  host.during = nullptr;
  CHECK(checked > all_callbacks.size());
}

TEST_CASE("a fault that is found in a callback is recorded like any other", "[capi][callbacks][P7]") {
  CallbackHost host;
  Unit unit{host};
  Reader other = *unit.machine.engine.reader();
  host.during = [&] {
    CHECK(other.translate(request(stranger, base_iova, VIOMMU_READ)).status == VIOMMU_FAULT_RECORDED);
    host.during = nullptr;
  };
  CHECK(unit.machine.ask().gpa == 0x5000);
  CHECK(unit.machine.driver.take_fault());
  CHECK_FALSE(unit.machine.driver.take_fault());
}

TEST_CASE("one engine's callback may use another engine, whose callback may not use the first",
          "[capi][callbacks][P7]") {
  CallbackHost outer_host;
  CallbackHost inner_host;
  Unit outer{outer_host};
  Unit inner{inner_host};
  bool ran = false;
  inner_host.during = [&] {
    ran = true;
    CHECK(outer.machine.engine.drop_caches() == VIOMMU_E_BUSY);
    CHECK(inner.machine.engine.drop_caches() == VIOMMU_E_BUSY);
  };
  outer_host.during = [&] {
    CHECK(inner.machine.engine.drop_caches() == VIOMMU_OK);
    CHECK(inner.machine.ask().gpa == 0x5000);
    CHECK(inner.machine.engine.drop_caches() == VIOMMU_OK);
    CHECK(outer.machine.engine.drop_caches() == VIOMMU_E_BUSY);
  };
  CHECK(outer.machine.ask().gpa == 0x5000);
  CHECK(ran);
  outer_host.during = nullptr;
  inner_host.during = nullptr;
  CHECK(outer.machine.engine.drop_caches() == VIOMMU_OK);
}

}  // namespace viommu::capi
