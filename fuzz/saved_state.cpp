// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: a unit that is saved and goes on elsewhere is the same unit; what is loaded is saved as the same bytes; a
// state that is refused leaves the unit as it was, and one that is accepted, however it came about, behaves alike in
// two units.
//
//   head: profile     record: a register write, a request, or a change of the saved bytes; what follows the first
//                     change is done to both units after it was loaded
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fuzz/support/flat_guest.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/state_bytes.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "fuzz/support/worlds.hpp"

namespace viommu::fuzz {
namespace {

struct Profile {
  std::uint64_t cap;
  std::uint64_t ecap;
};
constexpr std::uint64_t scalable = 1ULL << 43 | 1ULL << 46 | 1ULL << 47 | 1ULL << 40 | 1ULL << 48;
constexpr std::array<Profile, 3> profiles{{
    {0x80D2'078C'222F'0606, 0xF0'0F4A},
    {0x80D2'078C'222F'0676, 0xF0'0F5B},
    {0x80D2'078C'222F'0606, 0xF0'0F5F | scalable | 1ULL << 29 | 1ULL << 42 | 1ULL << 52},
}};
constexpr std::size_t ram_bytes = 0x10000;

/// What a state has for a register. Its rows are offset and value; another one is behind it, which finds them.
[[nodiscard]] std::uint64_t register_in(const State& state, std::uint32_t offset, std::uint32_t next_offset) {
  constexpr std::size_t row_bytes = sizeof(std::uint32_t) + sizeof(std::uint64_t);
  const auto is = [&state](std::size_t at, std::uint32_t what) {
    return static_cast<std::uint32_t>(number_at(state, at)) == what;
  };
  for (std::size_t at = 0; at + row_bytes + sizeof offset <= state.size(); ++at)
    if (is(at, offset) && is(at + row_bytes, next_offset)) return number_at(state, at + sizeof offset);
  return 0;
}
/// Descriptors that wait in a state which somebody made up: they are worked on as soon as it is loaded.
[[nodiscard]] bool has_descriptors(const State& state) {
  const bool enabled = (register_in(state, 0x1C, 0x20) & 1U << 26) != 0;
  return enabled && register_in(state, 0x80, 0x88) != register_in(state, 0x88, 0x90);
}

/// One unit with a guest of its own.
class Side {
 public:
  explicit Side(const Profile& profile)
      : engine_{create(smallest_options(profile.cap, profile.ecap, 48), guest_.host())}, reader_{*engine_.reader()} {}

  void begin() {
    guest_.clear();
    require(engine_.reset() == VIOMMU_OK, "a reset that could not be done");
    guest_.clear();
    // A root table whose bus 0 has devices in domains of their own, each with a page of its own.
    guest_.store(0x1000, 0x2001);
    for (std::uint64_t function = 0; function < 3; ++function) {
      guest_.store(0x2000 + 16 * function, (0x3000 + 0x1000 * function) | (function == 2 ? 9 : 1));
      guest_.store(0x2008 + 16 * function, (function + 1) << 8 | 1);
    }
    for (const std::uint64_t table : {0x3000ULL, 0x4000ULL}) {
      guest_.store(table, 0x5003);
      guest_.store(0x5000, 0x6003);
      guest_.store(0x6000, 0x0010'0003 + table);
      guest_.store(0x6008, 0x0020'0001);
    }
  }
  void write(std::uint64_t offset, std::uint32_t size, std::uint64_t value) {
    static_cast<void>(viommu_mmio_write(engine_.get(), offset, size, value));
  }
  [[nodiscard]] viommu_translation ask(std::uint64_t value) {
    viommu_request asked = request(static_cast<std::uint16_t>(value & 0x103), value >> 12 & 0x1FFF,
                                   (value & 0x10) != 0 ? VIOMMU_WRITE : VIOMMU_READ);
    asked.iova = (value >> 16 & 3) << 12;
    return reader_.translate(asked);
  }
  [[nodiscard]] viommu_routed message(std::uint64_t value) {
    return reader_.interrupt(
        interrupt_message(static_cast<std::uint16_t>(value), 0xFEE0'0000 | (value >> 16 & 0xF'FFFC), 0));
  }
  /// Empty where there is work left.
  [[nodiscard]] State try_save() {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    std::size_t length = 0;
    const viommu_result result = viommu_save(engine_.get(), nullptr, 0, &length, &refusal);
    if (result == VIOMMU_E_REFUSED) return {};
    require(result == VIOMMU_E_RANGE, "the length of a state");
    State state(length);
    require(viommu_save(engine_.get(), state.data(), state.size(), &length, &refusal) == VIOMMU_OK,
            "a unit at rest that cannot be saved");
    require_equal(length, state.size(), "length of a state");
    return state;
  }
  /// Nobody holds anything, so there is nothing in the way.
  [[nodiscard]] State save() {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    require(viommu_quiesce(engine_.get(), &refusal) == VIOMMU_OK, "a unit that does not come to rest");
    State state = try_save();
    require(!state.empty(), "a unit at rest that cannot be saved");
    return state;
  }
  [[nodiscard]] bool load(const State& state) {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    const viommu_result result = viommu_load(engine_.get(), state.data(), state.size(), &refusal);
    require(result == VIOMMU_OK || result == VIOMMU_E_REFUSED, "what becomes of a state");
    require((result == VIOMMU_OK) == (refusal.code == VIOMMU_REFUSED_NOTHING), "a refusal without a reason");
    return result == VIOMMU_OK;
  }
  /// What a state may have left to be done.
  void work() {
    for (unsigned turn = 0; turn < 8; ++turn) static_cast<void>(viommu_process(engine_.get(), 0, nullptr));
  }
  [[nodiscard]] std::vector<std::uint64_t> image() {
    std::vector<std::uint64_t> all;
    for (std::uint64_t offset = 0; offset < 0x300; offset += 4) all.push_back(engine_.mmio_read(offset, 4));
    return all;
  }
  [[nodiscard]] FlatGuest& guest() { return guest_; }

 private:
  FlatGuest guest_{ram_bytes};
  Engine engine_;
  Reader reader_;
};

class World {
 public:
  explicit World(const Profile& profile) : here_{profile}, there_{profile} {}
  static constexpr std::size_t record_bytes = 12;

  void run(Input input) {
    here_.begin();
    there_.begin();
    State changed;
    bool moved = false;  // both units are the same
    bool resealed = true;
    while (!input.empty()) {
      Input record = input.record(record_bytes);
      const auto operation = record.take<std::uint8_t>();
      const auto size_of = record.take<std::uint8_t>();
      const auto where = record.take<std::uint16_t>();
      const auto value = record.take<std::uint64_t>();
      constexpr std::array<std::uint32_t, 4> sizes{4, 8, 4, 1};
      if (operation % 8 >= 6) {
        if (changed.empty()) changed = move();
        if (operation % 8 == 7) resealed = (size_of & 7) != 7;
        change_state(changed, size_of, operation >= 128, where, value);
        continue;
      }
      if (!changed.empty()) {
        load(changed, resealed);
        changed.clear();
        moved = true;
      }
      step(here_, there_, moved, operation, sizes[size_of % 4], where, value);
    }
    if (moved) require(there_.image() == here_.image(), "registers of two units that were alike");
    if (changed.empty()) changed = move();
    load(changed, resealed);
    ++work_done;
  }

 private:
  /// From here to there, which is then the same.
  State move() {
    const State state = here_.save();
    there_.begin();
    require(there_.load(state), "a saved state that is refused");
    there_.work();
    require(there_.image() == here_.image(), "registers of a unit that has moved");
    require(there_.save() == state, "a state that was loaded is saved as other bytes");
    return state;
  }
  /// Into both.
  void load(State& state, bool resealed) {
    if (resealed) reseal(state);
    const State before = there_.save();
    const bool accepted = there_.load(state);
    require_equal(here_.load(state), accepted, "whether a state is taken by one unit and by another");
    if (!accepted) {
      require_same_state(there_.save(), before, "a state that was refused has changed the unit");
      static_cast<void>(here_.load(before));
    } else if (const State now = there_.try_save(); !now.empty() && !has_descriptors(state)) {
      require_same_state(now, state, "a state that was loaded is saved as other bytes");
    }
    there_.work();
    here_.work();
    require(there_.image() == here_.image(), "registers of two units with one state");
    here_.guest().effects.clear();
    there_.guest().effects.clear();
  }
  static void require_same(const viommu_translation& one, const viommu_translation& other) {
    require_equal(other.kind, one.kind, "kind of an answer after a move");
    require_equal(other.reason, one.reason, "reason of a fault after a move");
    require_equal(other.gpa, one.gpa, "address of an answer after a move");
  }
  static void step(Side& here, Side& there, bool moved, unsigned operation, std::uint32_t size, std::uint16_t where,
                   std::uint64_t value) {
    const std::uint64_t offset = where % 0x300 & ~std::uint64_t{3};
    switch (operation % 8) {
      case 4: {
        const viommu_translation one = here.ask(value);
        if (moved) require_same(one, there.ask(value));
        break;
      }
      case 5: {
        const viommu_routed one = here.message(value);
        if (!moved) break;
        const viommu_routed other = there.message(value);
        require_equal(other.kind, one.kind, "kind of an interrupt after a move");
        require_equal(other.reason, one.reason, "reason of a blocked interrupt after a move");
        break;
      }
      default:
        here.write(offset, size, value);
        if (moved) there.write(offset, size, value);
        break;
    }
    if (moved) require(there.guest().effects == here.guest().effects, "effects of two units that were alike");
  }

  Side here_;
  Side there_;
};

constexpr std::size_t head_bytes = 1;
constexpr std::array<Cell, 5> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 8}, {4, 4}}};
constexpr std::array<std::uint64_t, 32> values{
    0x8000'0000, 0x4000'0000, 0x0400'0000, 0x0200'0000, 0x0100'0000, 0x0080'0000, 0xC400'0000, 0x8600'0000,
    0x18,        0x1C,        0x20,        0x28,        0x34,        0x38,        0x3C,        0x40,
    0x64,        0x88,        0x90,        0x9C,        0xA0,        0xB8,        0xC0,        0xD0,
    0xE0,        0x1000,      0x1400,      0x7000,      0x7003,      0x10'0000,   0x20'0010,   0x2};
constexpr RecordShape shape{head_bytes, World::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  Input input{data, size};
  const unsigned profile = input.below(profiles.size());
  world_of<World, profiles.size()>(profile, profiles.at(profile)).run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
