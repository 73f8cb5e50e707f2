// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any interrupt remapping table and any message, what the unit answers to a question and to a request is
// what the oracle reads from the specification, every fault reason included; and an entry is loaded once.
//
//   head: profile, IRTA_REG, modes     record: an entry or a message, index, more, two words
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/support/flat_guest.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "fuzz/support/worlds.hpp"
#include "tests/support/routed_answer.hpp"

namespace viommu::fuzz {
namespace {

using test::answer_of;
using test::interrupt_oracle::Answer;
using test::interrupt_oracle::Unit;

constexpr std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }

constexpr std::size_t ram_bytes = 0x40000;
constexpr std::array<std::uint64_t, 4> tables{0x1'0000, ram_bytes - 0x1000, ram_bytes, 0x2'0000};

constexpr std::uint32_t set_table = 0x0100'0000;
constexpr std::uint32_t remapping = 0x0200'0000;
constexpr std::uint32_t compatibility = 0x0080'0000;
constexpr std::uint64_t global_command = 0x18;
constexpr std::uint64_t fault_status = 0x34;
constexpr std::uint64_t interrupt_table = 0xB8;
constexpr std::uint64_t first_record = 0x220;

class World {
 public:
  explicit World(unsigned profile)
      : profile_{profile},
        engine_{create(smallest_options(0x80D2'078C'222F'0606 | bit(59, has(0)),
                                        0xF0'0F5B | bit(61, has(1)) | bit(62, has(2)), has(3) ? 39 : 48),
                       guest_.host())},
        reader_{*engine_.reader()} {}

  void run(Input input) {
    Unit unit;
    unit.haw = has(3) ? 39 : 48;
    unit.posting = has(0);
    unit.extended_required = has(1);
    unit.required = has(2);
    const auto modes = input.take<std::uint8_t>();
    const auto where = input.take<std::uint8_t>();
    unit.table = tables[where >> 6] | (where & 15U) | ((where & 16U) != 0 ? 0x800U : 0U);
    unit.remapping = (modes & 1) == 0;
    unit.compatibility = (modes & 2) != 0;
    write(interrupt_table, unit.table, 8);
    write(global_command, set_table, 4);
    write(global_command, (unit.remapping ? remapping : 0) | (unit.compatibility ? compatibility : 0), 4);
    while (!input.empty()) {
      Input record = input.record(record_bytes);
      const auto kind = record.take<std::uint8_t>();
      const auto more = record.take<std::uint8_t>();
      const auto index = record.take<std::uint16_t>();
      const auto low = record.take<std::uint64_t>();
      const auto high = record.take<std::uint64_t>();
      if ((kind & 1) == 0) {
        const std::uint64_t at = (unit.table & ~std::uint64_t{0xFFF}) + std::uint64_t{16} * index;
        // Now and then only what may be set is set, so that the values count.
        guest_.store(at, (kind & 2) != 0 ? low & 0xFFFF'FFFF'00FF'0FFF : low);
        guest_.store(at + 8, (kind & 4) != 0 ? high & 0xF'FFFF : high);
      } else {
        ask(unit, kind, more, index, low);
      }
    }
    require(engine_.reset() == VIOMMU_OK, "a reset that could not be done");
    guest_.clear();
  }
  static constexpr std::size_t record_bytes = 20;

 private:
  void ask(const Unit& unit, unsigned kind, unsigned more, std::uint16_t index, std::uint64_t low) {
    test::interrupt_oracle::Request request;
    request.source = static_cast<std::uint16_t>(low >> 32);
    request.any_source = (more & 1) != 0;
    request.data = static_cast<std::uint32_t>(low);
    if ((more & 2) != 0) request.data &= 7;
    request.address = 0xFEE0'0010 | (index & 0x7FFFULL) << 5 | (index >> 15 & 1ULL) << 2 | ((more & 4) != 0 ? 8U : 0U);
    if ((kind & 8) != 0) request.address = 0xFEE0'0000 | (low >> 8 & 0xF'FFFF);
    const std::uint16_t flags = request.any_source ? VIOMMU_MESSAGE_ANY_SOURCE : 0;
    Answer right = judge(unit, [this](std::uint64_t gpa) { return guest_.load(gpa); }, request);
    const viommu_message message = interrupt_message(request.source, request.address, request.data, flags);
    guest_.loads = 0;
    const bool suppressed = std::exchange(right.suppressed, false);  // a question reports nothing
    require_same(answer_of(engine_.route(message)), right);
    require(guest_.loads <= 1, "an entry that is loaded more than once");
    right.suppressed = suppressed;
    ++work_done;
    if (right.kind == Answer::posted) return;  // what becomes of a descriptor is not the oracle's
    guest_.loads = 0;
    require_same(answer_of(reader_.interrupt(message)), right);
    require(guest_.loads <= 1, "an entry that is loaded more than once");
    check_record(request, right);
  }
  static void require_same(const Answer& found, const Answer& right) {
    require_equal(found.kind, right.kind, "what becomes of an interrupt");
    require_equal(found.reason, right.reason, "reason of a blocked interrupt");
    require_equal(found.suppressed, right.suppressed, "whether a fault is reported");
    require_equal(found.index, right.index, "index of an entry");
    require_equal(found.address, right.address, "address of a remapped message");
    require_equal(found.data, right.data, "data of a remapped message");
    require_equal(found.descriptor, right.descriptor, "address of a descriptor");
    require_equal(found.vector, right.vector, "vector of a posted interrupt");
    require_equal(found.urgent, right.urgent, "urgency of a posted interrupt");
  }
  /// The fault is in a record, with what the figure has there, or in none; then all are clear again.
  void check_record(const test::interrupt_oracle::Request& request, const Answer& right) {
    unsigned pending = 0;
    for (std::uint64_t at = first_record; at < first_record + std::uint64_t{16} * 8; at += 16) {
      const std::uint64_t high = engine_.mmio_read(at + 8, 8);
      if ((high >> 63) == 0) continue;
      ++pending;
      require_equal(high >> 32 & 0xFF, right.reason, "reason in a fault record");
      require_equal(high & 0xFFFF, request.source, "source in a fault record");
      write(at + 12, 0x8000'0000, 4);
    }
    const bool reported = right.kind == Answer::fault && !right.suppressed;
    require_equal(pending, reported ? 1 : 0, "number of fault records");
    write(fault_status, 1, 4);
  }
  void write(std::uint64_t offset, std::uint64_t value, std::uint32_t size) {
    require(engine_.mmio_write(offset, size, value) == VIOMMU_OK, "a register that cannot be written");
  }
  [[nodiscard]] bool has(unsigned feature) const { return (profile_ >> feature & 1) != 0; }

  unsigned profile_;
  FlatGuest guest_{ram_bytes};
  Engine engine_;
  Reader reader_;
};

constexpr std::size_t head_bytes = 3;
constexpr std::array<Cell, 7> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 8}, {4, 1}, {12, 8}, {14, 1}}};
constexpr std::array<std::uint64_t, 8> values{0x1, 0x4'0100, 0x1'0001, 0x8001, 0xC001, 0x0100'0000'0000, 0x8'0100, 0x3};
constexpr RecordShape shape{head_bytes, World::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  Input input{data, size};
  const unsigned profile = input.below(16);
  world_of<World, 16>(profile, profile).run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
