// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does an interrupt cost that is remapped, by the size of the table, alone and beside another thread?
//
//   interrupt_route<T>/ENTRIES[/threads:N]
//
// Random messages of as many table entries, one at a time. Viommu: viommu_interrupt with a reader and its guard, as
// devices call it; ViommuRoute: viommu_route, without a reader. Floor: nothing but the 16 bytes of the entry, loaded as
// one value from where the guest has them, which is what a cache of entries would have to load as well.
#include <benchmark/benchmark.h>

#include <memory>
#include <stdexcept>
#include <vector>
#include <viommu/viommu.hpp>

#include "bench/peers/qemu_interrupts.hpp"
#include "bench/support/question.hpp"
#include "engine/base/word128.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint64_t table_gpa = 0x10'0000;
constexpr std::uint32_t most_entries = 65536;
constexpr std::uint64_t entry_bytes = 16;

/// A guest whose entry i has a vector, a destination and a source of its own.
class Guest {
 public:
  explicit Guest(std::uint32_t entries) : words_(ram_bytes / sizeof(std::uint64_t) + page_words), entries_{entries} {
    for (std::uint32_t index = 0; index < entries; ++index) {
      const std::uint64_t low = 1 | std::uint64_t{vector(index)} << 16 | std::uint64_t{destination(index)} << 40;
      word(table_gpa + index * entry_bytes) = low;
      word(table_gpa + index * entry_bytes + 8) = 0x40000 | std::uint64_t{source(index)};
    }
  }

  [[nodiscard]] std::span<std::byte> ram() { return {at(0), ram_bytes}; }
  [[nodiscard]] std::byte* at(std::uint64_t gpa) {
    void* first = words_.data();
    std::size_t room = words_.size() * sizeof(std::uint64_t);
    return static_cast<std::byte*>(std::align(page_bytes, ram_bytes, first, room)) + gpa;
  }
  [[nodiscard]] std::uint32_t entries() const noexcept { return entries_; }
  [[nodiscard]] std::uint32_t pick(std::uint64_t asked) const noexcept {
    return static_cast<std::uint32_t>(mixed(asked)) & (entries_ - 1);
  }
  [[nodiscard]] static viommu_message message(std::uint32_t index) noexcept {
    return interrupt_message(source(index), 0xFEE0'0010 | (index & 0x7FFF) << 5 | index >> 15 << 2, 0);
  }
  [[nodiscard]] static std::uint64_t address(std::uint32_t index) noexcept {
    return 0xFEE0'0000 | std::uint64_t{destination(index)} << 12;
  }
  [[nodiscard]] static std::uint32_t data(std::uint32_t index) noexcept { return 0x4000u | vector(index); }

 private:
  static constexpr std::uint64_t page_bytes = 4096;
  static constexpr std::size_t page_words = page_bytes / sizeof(std::uint64_t);
  static constexpr std::uint64_t ram_bytes = table_gpa + most_entries * entry_bytes;

  [[nodiscard]] static std::uint8_t vector(std::uint32_t index) noexcept {
    return static_cast<std::uint8_t>(0x20 + index % 0xD0);
  }
  [[nodiscard]] static std::uint8_t destination(std::uint32_t index) noexcept {
    return static_cast<std::uint8_t>(index % 251);
  }
  [[nodiscard]] static std::uint16_t source(std::uint32_t index) noexcept {
    return static_cast<std::uint16_t>(index / 8);
  }
  [[nodiscard]] std::uint64_t& word(std::uint64_t gpa) { return *reinterpret_cast<std::uint64_t*>(at(gpa)); }

  std::vector<std::uint64_t> words_;
  std::uint32_t entries_;
};

[[nodiscard]] Engine remapping_engine(Guest& guest) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.extended_capability = 0xF0'0F4B;  // C, QI, IR, PT
  viommu_host host{};
  host.size = sizeof host;
  auto engine = Engine::create_vtd(options, host);
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  if (engine->add_region(0, guest.ram()) != VIOMMU_OK) throw std::runtime_error{"the RAM was refused"};
  engine->mmio_write(0xB8, 8, table_gpa | 0xF);
  engine->mmio_write(0x18, 4, 0x0100'0000);
  engine->mmio_write(0x18, 4, 0x0200'0000);
  return *std::move(engine);
}

class WithReader {
 public:
  static constexpr const char* name = "Viommu";
  explicit WithReader(Guest& guest) : engine_{remapping_engine(guest)} {}

  class Port {
   public:
    explicit Port(WithReader& side) : reader_{*side.engine_.reader()} {}
    [[nodiscard]] ShapeMessage remap(std::uint32_t index) noexcept {
      const Guard guard = reader_.guard();
      const viommu_routed routed = reader_.interrupt(Guest::message(index));
      return {routed.address, routed.data, routed.reason};
    }

   private:
    Reader reader_;
  };

 private:
  Engine engine_;
};

class WithoutReader {
 public:
  static constexpr const char* name = "ViommuRoute";
  explicit WithoutReader(Guest& guest) : engine_{remapping_engine(guest)} {}

  class Port {
   public:
    explicit Port(WithoutReader& side) : engine_{side.engine_} {}
    [[nodiscard]] ShapeMessage remap(std::uint32_t index) noexcept {
      const viommu_routed routed = engine_.route(Guest::message(index));
      return {routed.address, routed.data, routed.reason};
    }

   private:
    Engine& engine_;
  };

 private:
  Engine engine_;
};

class Shape {
 public:
  static constexpr const char* name = "QemuShape";
  explicit Shape(Guest& guest) : interrupts_{memory_, table_gpa, most_entries} {
    const std::span<std::byte> ram = guest.ram();
    memory_.add(ram_section(0, ram.size() - 1, ram.data()));
  }

  class Port {
   public:
    explicit Port(Shape& side) : interrupts_{side.interrupts_} {}
    [[nodiscard]] ShapeMessage remap(std::uint32_t index) {
      const viommu_message asked = Guest::message(index);
      return interrupts_.remap(asked.source, asked.address, asked.data);
    }

   private:
    QemuInterrupts& interrupts_;
  };

 private:
  AddressDispatch memory_;
  QemuInterrupts interrupts_;
};

class EntryAlone {
 public:
  static constexpr const char* name = "Floor";
  explicit EntryAlone(Guest& guest) : table_{guest.at(table_gpa)} {}

  class Port {
   public:
    explicit Port(const EntryAlone& side) : table_{side.table_} {}
    [[nodiscard]] ShapeMessage remap(std::uint32_t index) const noexcept {
      const Word128 entry = load_mapped_u128(table_ + index * entry_bytes);
      return {0xFEE0'0000 | (entry.low >> 40 & 0xFF) << 12,
              static_cast<std::uint32_t>(0x4000 | (entry.low >> 16 & 0xFF)),
              static_cast<std::uint8_t>(entry.high >> 32)};
    }

   private:
    std::byte* table_;
  };

 private:
  std::byte* table_;
};

template <class Side>
void interrupt_route(benchmark::State& state, Together& together, Guest& guest, Side& side) {
  typename Side::Port port{side};
  for (std::uint32_t index = 0; index < guest.entries(); ++index) {
    const ShapeMessage found = port.remap(index);
    if (found.reason != 0 || found.address != Guest::address(index) || found.data != Guest::data(index))
      return state.SkipWithError("wrong answers are not timed");
  }
  std::uint64_t asked = static_cast<std::uint64_t>(state.thread_index()) << 40;
  measure(state, together, 256, [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked) sum += port.remap(guest.pick(asked)).data;
    benchmark::DoNotOptimize(sum);
  });
}

/// A guest and who remaps for it, kept to the end.
template <class Side>
struct Stage {
  explicit Stage(std::uint32_t entries) : guest{entries}, side{guest} {}
  Guest guest;
  Side side;
};

template <class Side>
void add_side() {
  static std::vector<std::unique_ptr<Stage<Side>>> stages;
  for (const std::uint32_t entries : {256U, most_entries}) {
    Stage<Side>& stage = *stages.emplace_back(std::make_unique<Stage<Side>>(entries));
    const auto run = [&stage](benchmark::State& state, Together& together) {
      interrupt_route(state, together, stage.guest, stage.side);
    };
    add<Side>("interrupt_route", {{entries}}, run, thread_counts());
  }
}

void add_all() {
  add_side<WithReader>();
  add_side<WithoutReader>();
  add_side<Shape>();
  add_side<EntryAlone>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
