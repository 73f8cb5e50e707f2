// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest that writes anything anywhere: the answers stay those of the specification, every call returns, work ends.
#include <array>
#include <limits>

#include "tests/behaviour/interrupts.hpp"
#include "tests/behaviour/machine.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device = 0x0018;

/// Where tables, the queue and the status may be; requests go there too.
constexpr std::array<std::uint64_t, 8> places{
    0, 0x2000, 0x10000, 0x11000, 0x12000, 0x13000, Machine::ram_bytes - 0x1000, Machine::ram_bytes};

/// Says what an uncached unit answers, following the registers from outside.
class Watched {
 public:
  explicit Watched(Machine& machine) : machine_{machine} {}

  /// Latches the root pointer as SRTP does. One dword of a register is reached by an access that begins in it.
  void write(std::uint64_t where, std::uint64_t value, std::uint32_t size) {
    const std::uint64_t root = machine_.read(offset::root_table, 8);
    const bool aligned = where % (size == 8 ? 4 : size) == 0;
    const std::uint64_t top = offset::global_command + 3;
    const bool reaches_top = aligned && where / 4 == offset::global_command / 4 && where + size > top;
    const std::uint64_t top_byte = reaches_top ? value >> 8 * (top - where) & 0xFF : 0;
    machine_.write(where, value, size);
    if (reaches_top && (top_byte & command::root_pointer >> 24) != 0) root_ = root;
  }
  [[nodiscard]] oracle::Answer expected(const oracle::Request& request) const {
    oracle::Unit unit;
    unit.cap = usual_cap;
    unit.ecap = usual_ecap;
    unit.haw = 48;
    unit.translation_enabled = machine_.shows(command::translation);
    unit.root_table = root_;
    return oracle::translate(unit, [this](std::uint64_t gpa) { return machine_.memory.load_u64(gpa); }, request);
  }
  void check(std::uint16_t source, std::uint64_t iova, std::uint8_t access) const {
    oracle::Request request;
    request.source_id = source;
    request.iova = iova;
    request.read = (access & VIOMMU_READ) != 0;
    request.write = (access & VIOMMU_WRITE) != 0;
    const oracle::Answer right = expected(request);
    REQUIRE(machine_.engine.drop_caches() == VIOMMU_OK);
    const viommu_translation answer = machine_.ask(source, iova, access);
    INFO("source " << source << " iova " << iova << " access " << unsigned{access});
    CHECK((answer.kind == VIOMMU_FAULT) == (right.kind == oracle::Answer::fault));
    if (right.kind == oracle::Answer::fault) CHECK(unsigned{answer.reason} == unsigned{right.reason});
    if (right.kind != oracle::Answer::fault) CHECK(answer.gpa == right.gpa);
  }

 private:
  Machine& machine_;
  std::uint64_t root_ = 0;
};

/// Nothing but MORE goes on, and that ends.
void finish(Machine& machine) {
  unsigned rounds = 0;
  while (machine.engine.process().state == VIOMMU_PROCESS_MORE) REQUIRE(++rounds < 100);
}

}  // namespace

TEST_CASE("all ones in every register, at every size and in several orders: right answers, and an end",
          "[behaviour][vtd][bad input][SEC-6][SEC-9][S0.5]") {
  const std::uint32_t size = GENERATE(1u, 2u, 4u, 8u);
  const unsigned order = GENERATE(0u, 1u, 2u);  // upwards, downwards, shuffled
  Machine machine;
  machine.tables.map(machine.attach(device, 1), 0x5000, 0x400000);
  machine.boot();
  Watched watched{machine};
  watched.write(offset::root_table, machine.tables.root_table(), 8);
  watched.write(offset::global_command, command::translation | command::root_pointer | command::queue, 4);
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t where = 0; where + size <= 0x2A0; where += size == 8 ? 4 : size) offsets.push_back(where);
  if (order == 1) std::ranges::reverse(offsets);
  Random random{order};
  if (order == 2)
    for (std::size_t i = offsets.size(); i > 1; --i) std::swap(offsets[i - 1], offsets[random.below(i)]);
  for (int time = 0; time < 2; ++time) {
    for (const std::uint64_t where : offsets) {
      INFO("all ones at " << where);
      watched.write(where, ~std::uint64_t{0}, size);
      watched.check(device, 0x5000, VIOMMU_READ);
      watched.check(device, 0x9000, VIOMMU_WRITE);
      watched.check(0xFFFF, ~std::uint64_t{0}, VIOMMU_READ | VIOMMU_WRITE);
      finish(machine);
    }
  }
  REQUIRE(machine.engine.reset() == VIOMMU_OK);
  machine.boot();
  CHECK(machine.lands(device, 0x5000) == 0x400000);
}

TEST_CASE("tables that name themselves are followed to the end of the levels and no further",
          "[behaviour][vtd][bad input][SEC-4]") {
  const unsigned levels = GENERATE(3u, 4u);
  Machine machine;
  const Tree tree = machine.attach(device, 1, levels);
  // Every entry of the one table says: this table, readable and writable.
  for (std::uint64_t entry = 0; entry < 512; ++entry)
    REQUIRE(machine.memory.store_u64(tree.root + 8 * entry, tree.root | 3));
  machine.boot();
  const std::uint64_t before = machine.loads;
  CHECK(machine.lands(device, 0x1234'5678) == (tree.root | 0x678));
  CHECK(machine.loads - before == 2 + levels);
}

TEST_CASE("a root table that is its own context table and page table is read within bounds",
          "[behaviour][vtd][bad input][SEC-4][SEC-9]") {
  Machine machine;
  const std::uint64_t page = machine.tables.root_table();
  for (std::uint64_t entry = 0; entry < 512; ++entry)
    REQUIRE(machine.memory.store_u64(page + 8 * entry, entry % 2 == 0 ? page | 1 : 0x102));
  machine.boot();
  Watched watched{machine};
  watched.write(offset::root_table, page, 8);
  watched.write(offset::global_command, command::translation | command::root_pointer, 4);
  for (std::uint64_t i = 0; i < 64; ++i)
    watched.check(static_cast<std::uint16_t>(i * 0x0401), i * 0x1'0020'1000, static_cast<std::uint8_t>(i % 3 + 1));
}

TEST_CASE("anything done by a guest or a VMM in any order is answered, and all work ends",
          "[behaviour][bad input][SEC-6][SEC-9][S0.5][F1]") {
  const unsigned worlds = run_whole() ? 400 : 20;
  for (unsigned seed = 0; seed < worlds; ++seed) {
    INFO("seed " << seed);
    Random random{seed};
    viommu_vtd_options options = usual_options();
    if (random.chance(1, 2)) options.capability |= 0x60;
    if (random.chance(1, 2)) options.capability |= cap_caching_mode;
    if (random.chance(1, 2)) options.extended_capability |= ecap_device_tlb;
    if (random.chance(1, 2)) options.capability |= cap_posting;
    if (random.chance(1, 2)) options.extended_capability |= ecap_extended;
    options.holds = 4;
    options.regions = 2;
    options.readers = 3;
    Machine machine{options};
    std::vector<std::byte> bytes(0x5000);
    const std::size_t aligned = 0x1000 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 0x1000;
    std::vector<std::uint64_t> holds;
    viommu_engine* const engine = machine.engine.get();
    unsigned depth = 0;
    const auto any_value = [&]() -> std::uint64_t {
      switch (random.below(5)) {
        case 0:  return ~std::uint64_t{0};
        case 1:  return random.next();
        case 2:  return random.next() & random.next() & random.next();
        case 3:  return random.pick(places) | random.below(16);
        default: return random.below(0x1000);
      }
    };
    const auto known = [](viommu_result result) {
      return std::ranges::any_of(std::array{VIOMMU_OK, VIOMMU_E_NOT_FOUND, VIOMMU_E_FAULT, VIOMMU_E_BUSY,
                                            VIOMMU_E_EXISTS, VIOMMU_E_ARGUMENT, VIOMMU_E_LIMIT, VIOMMU_E_RANGE},
                                 [result](int code) { return code == result; });
    };
    for (unsigned step = 0; step < 2000; ++step) {
      viommu_result result = VIOMMU_OK;
      std::uint64_t value = 0;
      viommu_translation answer{};
      viommu_request asked =
          request(static_cast<std::uint16_t>(random.below(4)), any_value(), static_cast<std::uint8_t>(random.below(5)),
                  random.below(0x2000), static_cast<std::uint8_t>(random.below(10)));
      asked.pasid = static_cast<std::uint32_t>(any_value());
      const auto size = static_cast<std::uint32_t>(random.chance(1, 8) ? random.below(17) : 1U << random.below(4));
      const std::uint64_t where = random.chance(1, 8) ? random.next() : random.below(0xC0) * 4 + random.below(8) / 5;
      const std::uint64_t before = machine.loads;
      switch (random.below(18)) {
        case 0:
        case 1:
        case 2:
        case 3: result = viommu_mmio_write(engine, where, size, any_value()); break;
        case 4: result = viommu_mmio_read(engine, where, size, &value); break;
        case 5: result = viommu_mmio_write(engine, offset::global_command, 4, random.next() & 0xFF00'0000); break;
        case 6:
        case 7: machine.memory.store_u64(random.pick(places) + 8 * random.below(512), any_value()); break;
        case 8:
        case 9:
          result = viommu_translate(machine.reader.get(), &asked, &answer);
          CHECK(machine.loads - before <= Machine::most_loads);
          break;
        case 10: {
          std::array<viommu_piece, 3> pieces{};
          viommu_range_end end{};
          result = viommu_translate_range(machine.reader.get(), &asked, pieces.data(), 3, &end);
          CHECK(end.pieces <= 3);
          break;
        }
        case 11:
          result = viommu_hold(machine.reader.get(), &asked, step, &answer, &value);
          if (result == VIOMMU_OK) holds.push_back(value);
          break;
        case 12:
          if (!holds.empty()) {
            result =
                random.chance(1, 2) ? viommu_release(engine, holds.back()) : viommu_hold_revoke(engine, holds.back());
            holds.pop_back();
          } else {
            result = viommu_release(engine, random.next());
          }
          break;
        case 13: {
          const viommu_region region{Machine::ram_bytes + 0x1000 * random.below(5), 0x1000 * random.below(4),
                                     bytes.data() + aligned, random.below(3)};
          result =
              random.chance(1, 2) ? viommu_region_add(engine, &region) : viommu_region_remove(engine, region.gpa, step);
          break;
        }
        case 14:
          if (depth == 0) viommu_enter(machine.reader.get());
          if (depth != 0) viommu_leave(machine.reader.get());
          depth ^= 1;
          break;
        case 15:
        case 16: {
          const std::uint64_t in_range = 0xFEE0'0000 | random.next() % 0x10'0000;
          const viommu_message message = interrupt_message(
              static_cast<std::uint16_t>(random.below(4)), random.chance(1, 8) ? any_value() : in_range,
              static_cast<std::uint32_t>(any_value()), static_cast<std::uint16_t>(random.below(9) / 4));
          viommu_routed routed{};
          result = random.chance(1, 2)   ? viommu_route(engine, &message, &routed)
                   : random.chance(1, 2) ? viommu_interrupt(machine.reader.get(), &message, &routed)
                                         : viommu_interrupt_once(engine, &message, &routed);
          CHECK(machine.loads - before <= most_loads_of_an_interrupt);
          break;
        }
        default:
          if (random.chance(1, 16)) result = viommu_reset(engine);
          if (random.chance(1, 4)) result = viommu_drop_caches(engine);
          machine.now_ns += random.below(1'000'000'000);
          static_cast<void>(machine.engine.process(static_cast<std::uint32_t>(random.below(8))));
      }
      if (!known(result)) FAIL("step " << step << " answered " << result);
    }
    if (depth != 0) viommu_leave(machine.reader.get());
    for (const std::uint64_t hold : holds) CHECK(viommu_release(engine, hold) == VIOMMU_OK);
    finish(machine);
    CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
    CHECK(machine.engine.statistics().holds_open == 0);
    // A good guest afterwards finds a good unit.
    REQUIRE(machine.engine.reset() == VIOMMU_OK);
    GuestTables tables{words_of(machine.memory), 0x100000};
    const Tree tree = tables.create_tree(4);
    tables.map(tree, 0x5000, 0x400000);
    tables.attach(device, tree);
    machine.driver.set_root_table(tables.root_table());
    machine.driver.enable_queue();
    machine.driver.enable_translation(true);
    CHECK(machine.lands(device, 0x5000) == 0x400000);
    machine.driver.add_global();
    machine.driver.submit_and_wait();
  }
}

TEST_CASE("every entry refuses nonsense with a status", "[behaviour][bad input][S0.5][SEC-9]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  viommu_reader* const reader = machine.reader.get();
  std::uint64_t value = 0;
  viommu_translation answer{};
  std::array<viommu_piece, 1> pieces{};
  viommu_range_end end{};
  const viommu_request good = request(device, 0x5000, VIOMMU_READ, 8);
  constexpr std::uint64_t last = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint32_t size : {0u, 3u, 5u, 16u, 0x8000'0000u, 0xFFFF'FFFFu}) {
    CHECK(viommu_mmio_read(engine, 0, size, &value) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_mmio_write(engine, 0, size, last) == VIOMMU_E_ARGUMENT);
  }
  std::array<viommu_request, 5> nonsense{good, good, good, good, good};
  nonsense[0].access = 0;
  nonsense[1].access = 4;
  nonsense[2].flags = 0x80;
  nonsense[3].flags = VIOMMU_HAS_PASID;
  nonsense[3].pasid = 1U << 20;
  nonsense[4].flags = VIOMMU_ZERO_LENGTH;
  nonsense[4].access = VIOMMU_WRITE;
  for (const viommu_request& bad : nonsense) {
    CHECK(viommu_translate(reader, &bad, &answer) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_translate_range(reader, &bad, pieces.data(), 1, &end) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_translate_batch(reader, &bad, &answer, 1) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_hold(reader, &bad, 0, &answer, &value) == VIOMMU_E_ARGUMENT);
  }
  viommu_request past_the_end = good;
  past_the_end.iova = last - 3;
  CHECK(viommu_translate_range(reader, &past_the_end, pieces.data(), 1, &end) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold(reader, &past_the_end, 0, &answer, &value) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_release(engine, 0) == VIOMMU_E_NOT_FOUND);
  CHECK(viommu_release(engine, last) == VIOMMU_E_NOT_FOUND);
  CHECK(viommu_region_remove(engine, last, 0) == VIOMMU_E_NOT_FOUND);
  const viommu_region wraps{last & ~std::uint64_t{0xFFF}, 0x2000, &value, 0};
  CHECK(viommu_region_add(engine, &wraps) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::test
