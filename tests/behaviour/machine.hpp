// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest, its memory and one unit, with everything the unit does to the outside in one list, in order.
#pragma once

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>
#include <viommu/viommu.hpp>

#include "engine/vtd/register_map.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/sparse_memory.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {

namespace offset = vtd::offset;

/// 39 and 48 bit tables, MGAW 48, 2 MiB and 1 GiB pages, 16-bit domains, MAMV 18, 8 fault records at 220h.
inline constexpr std::uint64_t usual_cap = 0x80D2'078C'222F'0606;
inline constexpr std::uint64_t usual_ecap = 0xF0'0F4B;  ///< C, QI, IR, PT; IVA and IOTLB at F0h
inline constexpr std::uint64_t cap_caching_mode = 0x80;
inline constexpr std::uint64_t ecap_device_tlb = 0x4;

[[nodiscard]] inline viommu_vtd_options usual_options() {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = usual_cap;
  options.extended_capability = usual_ecap;
  options.host_address_width = 48;
  options.iotlb_pages = 1024;
  options.context_entries = 64;
  return options;
}

/// Bits of GCMD_REG and GSTS_REG.
namespace command {
inline constexpr std::uint32_t translation = 0x8000'0000;
inline constexpr std::uint32_t root_pointer = 0x4000'0000;
inline constexpr std::uint32_t queue = 0x0400'0000;
inline constexpr std::uint32_t interrupt_remapping = 0x0200'0000;
inline constexpr std::uint32_t interrupt_table = 0x0100'0000;
inline constexpr std::uint32_t levels = 0x96FF'FFFF;  ///< "Global Command Register": all but the one-shot bits
}  // namespace command

/// Bits of FSTS_REG.
namespace status {
inline constexpr std::uint32_t overflow = 1;
inline constexpr std::uint32_t pending = 2;
inline constexpr std::uint32_t queue_error = 0x10;
}  // namespace status

/// Something that the host was told or asked.
struct Effect {
  enum Kind : std::uint8_t { store, message, gone, routes, overdue };
  Kind kind = store;
  std::uint64_t first = 0;   ///< address, cookie of the region, first route, cookie of the hold
  std::uint64_t second = 0;  ///< data, -, count, age

  friend bool operator==(const Effect&, const Effect&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Effect& effect) {
    constexpr const char* names[] = {"store", "message", "gone", "routes", "overdue"};
    return out << names[effect.kind] << std::hex << ' ' << effect.first << ' ' << effect.second << std::dec;
  }
};

/// For one thread, but for threads that a callback starts and joins.
class Machine {
 public:
  static constexpr std::uint64_t status_word = 0x1000;
  static constexpr std::uint64_t queue_page = 0x2000;
  static constexpr std::uint64_t first_table = 0x10000;
  static constexpr std::uint64_t ram_bytes = 0x800000;
  static constexpr unsigned most_loads = 7;  ///< root entry, context entry, five levels

  explicit Machine(const viommu_vtd_options& options = usual_options())
      : memory{with_ram()}, engine{create(options)}, reader{*engine.reader()} {}
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() = default;

  SparseMemory memory;
  std::vector<Effect> effects;
  std::function<void(const Effect&)> on_effect;          ///< called inside the callback, after it is listed
  std::function<void(std::uint64_t gpa)> on_read;        ///< called inside the callback
  std::function<void()> on_wake;                         ///< called inside the callback
  std::function<void()> on_clock;                        ///< called inside the callback
  std::function<void()> on_log;                          ///< called inside the callback, after the line is listed
  std::function<bool(std::uint64_t gpa)> refuses_write;  ///< where the VMM has no RAM to write to
  std::atomic<std::uint64_t> wakes{0};
  std::uint64_t loads = 0;   ///< memory_read calls so far
  std::uint64_t now_ns = 0;  ///< what the host's clock says
  std::vector<std::string> log;
  Engine engine;
  Reader reader;
  GuestTables tables{words_of(memory), first_table};
  VtdDriver driver{engine, words_of(memory), queue_page, status_word};

  /// Root pointer, queue, translation: as a driver does it.
  void boot() {
    driver.set_root_table(tables.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }

  /// Root pointer and translation; the queue is the test's own.
  void boot_without_queue() {
    write(offset::root_table, tables.root_table(), 8);
    command(command::root_pointer);
    command(command::translation);
    REQUIRE(shows(command::translation));
  }

  [[nodiscard]] std::uint64_t read(std::uint64_t where, std::uint32_t size = 4) {
    return engine.mmio_read(where, size);
  }
  void write(std::uint64_t where, std::uint64_t value, std::uint32_t size = 4) {
    REQUIRE(engine.mmio_write(where, size, value) == VIOMMU_OK);
  }
  /// One GCMD write in the documented way: the levels as GSTS shows them, with these bits set and cleared.
  void command(std::uint32_t set, std::uint32_t clear = 0) {
    const std::uint64_t levels = read(offset::global_status) & command::levels;
    write(offset::global_command, (levels & ~std::uint64_t{clear}) | set);
  }
  [[nodiscard]] bool shows(std::uint32_t bit) { return (read(offset::global_status) & bit) != 0; }

  /// A domain of its own with one tree.
  Tree attach(std::uint16_t source, std::uint16_t domain, unsigned levels = 4) {
    const Tree tree = tables.create_tree(levels);
    tables.attach(source, tree, {.domain_id = domain});
    return tree;
  }
  /// High word of a pass-through context: the width must be the largest.
  void attach_pass_through(std::uint16_t source, std::uint16_t domain, std::uint64_t width = 2) {
    tables.set_context(source, 0x9, std::uint64_t{domain} << 8 | width);
  }

  /// Every request loads a bounded number of guest words.
  viommu_translation ask(std::uint16_t source, std::uint64_t iova, std::uint8_t access = VIOMMU_READ,
                         std::uint8_t flags = 0, std::uint64_t length = 0) {
    const std::uint64_t before = loads;
    const viommu_translation answer = reader.translate(request(source, iova, access, length, flags));
    CHECK(loads - before <= most_loads);
    return answer;
  }
  /// Where a read (or the access told) comes out; nothing when it is blocked.
  std::optional<std::uint64_t> lands(std::uint16_t source, std::uint64_t iova, std::uint8_t access = VIOMMU_READ) {
    const viommu_translation answer = ask(source, iova, access);
    return answer.kind == VIOMMU_FAULT ? std::nullopt : std::optional{answer.gpa};
  }
  /// Why a read (or the access told) is blocked, 0 when it is not; nothing is recorded.
  unsigned blocked(std::uint16_t source, std::uint64_t iova, std::uint8_t access = VIOMMU_READ) {
    const viommu_translation answer = ask(source, iova, access, VIOMMU_NO_REPORT);
    return answer.kind == VIOMMU_FAULT ? answer.reason : 0;
  }

  /// DMA of a device: translates and copies. False when any part is blocked: then nothing is copied.
  bool dma(std::uint16_t source, std::uint64_t iova, std::span<std::byte> bytes, std::uint8_t access) {
    const Guard guard = reader.guard();
    std::vector<viommu_piece> pieces(8);
    const viommu_range_end end = reader.translate_range(request(source, iova, access, bytes.size()), pieces);
    if (end.complete == 0) return false;
    std::size_t at = 0;
    for (const viommu_piece& piece : std::span{pieces}.first(end.pieces)) {
      const std::span part = bytes.subspan(at, piece.length);
      const bool copied = access == VIOMMU_READ ? memory.read(piece.gpa, part) : memory.write(piece.gpa, part);
      REQUIRE(copied);
      at += piece.length;
    }
    return true;
  }
  [[nodiscard]] std::optional<std::uint32_t> dma_read(std::uint16_t source, std::uint64_t iova) {
    std::uint32_t value = 0;
    if (!dma(source, iova, std::as_writable_bytes(std::span{&value, 1}), VIOMMU_READ)) return std::nullopt;
    return value;
  }
  bool dma_write(std::uint16_t source, std::uint64_t iova, std::uint32_t value) {
    return dma(source, iova, std::as_writable_bytes(std::span{&value, 1}), VIOMMU_WRITE);
  }
  [[nodiscard]] std::uint32_t word_at(std::uint64_t gpa) const {
    std::uint32_t value = 0;
    REQUIRE(memory.read(gpa, std::as_writable_bytes(std::span{&value, 1})));
    return value;
  }

  /// What happened since the last call.
  std::vector<Effect> take_effects() { return std::exchange(effects, {}); }

 private:
  static SparseMemory with_ram() {
    SparseMemory ram;
    ram.add_ram(0, ram_bytes);
    return ram;
  }
  static Machine& self(void* opaque) { return *static_cast<Machine*>(opaque); }
  void tell(const Effect& effect) {
    effects.push_back(effect);
    if (on_effect) on_effect(effect);
  }
  Engine create(const viommu_vtd_options& options) {
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.memory_read = [](void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      ++self(opaque).loads;
      if (self(opaque).on_read) self(opaque).on_read(gpa);
      return self(opaque).memory.read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
    };
    host.memory_write = [](void* opaque, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      Machine& machine = self(opaque);
      if (machine.refuses_write && machine.refuses_write(gpa)) return -1;
      if (!machine.memory.write(gpa, {static_cast<const std::byte*>(data), size})) return -1;
      std::uint64_t value = 0;
      std::memcpy(&value, data, size);
      machine.tell({Effect::store, gpa, value});
      return 0;
    };
    host.msi = [](void* opaque, std::uint64_t address, std::uint32_t data) {
      self(opaque).tell({Effect::message, address, data});
    };
    host.wake = [](void* opaque) {
      ++self(opaque).wakes;
      if (self(opaque).on_wake) self(opaque).on_wake();
    };
    host.now_ns = [](void* opaque) {
      if (self(opaque).on_clock) self(opaque).on_clock();
      return self(opaque).now_ns;
    };
    host.log = [](void* opaque, std::int32_t level, const char* text) {
      CHECK(level == VIOMMU_LOG_WARNING);
      self(opaque).log.emplace_back(text);
      if (self(opaque).on_log) self(opaque).on_log();
    };
    host.region_gone = [](void* opaque, std::uint64_t cookie) { self(opaque).tell({Effect::gone, cookie, 0}); };
    host.routes_changed = [](void* opaque, std::uint32_t first, std::uint32_t count) {
      self(opaque).tell({Effect::routes, first, count});
    };
    host.hold_overdue = [](void* opaque, std::uint64_t, std::uint64_t cookie, std::uint64_t age_ns) {
      self(opaque).tell({Effect::overdue, cookie, age_ns});
    };
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }
};

/// A guest access of another processor, while the unit is inside a callback.
template <class Action>
void elsewhere(Action action) {
  std::thread{action}.join();
}

/// What a guest reads in a fault recording register, written out from the figure. `access` tells T1 and T2.
[[nodiscard]] inline FaultRecord fault_record(std::uint16_t source, std::uint64_t page, std::uint8_t access,
                                              std::uint8_t reason) {
  constexpr std::uint64_t present = std::uint64_t{1} << 63;
  const std::uint64_t type_1 = (access & VIOMMU_READ) != 0 ? std::uint64_t{1} << 62 : 0;
  const std::uint64_t type_2 = access == (VIOMMU_READ | VIOMMU_WRITE) ? std::uint64_t{1} << 28 : 0;
  return {page, present | type_1 | type_2 | std::uint64_t{reason} << 32 | source};
}

}  // namespace viommu::test
