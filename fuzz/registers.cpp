// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: for any accesses to the register window, of any size at any place: what cannot be written stays; what is
// merely stored reads as it was written, byte by byte; every access reads the same bytes whatever its size; commands
// are answered; each unit that is reset reads like one that has just been made.
//
//   head: profile     record: an operation, size, offset, a value
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "fuzz/support/flat_guest.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "fuzz/support/worlds.hpp"

namespace viommu::fuzz {
namespace {

struct Profile {
  std::uint64_t cap;
  std::uint64_t ecap;
  unsigned haw;
};
constexpr std::uint64_t scalable = 1ULL << 43 | 1ULL << 46 | 1ULL << 47 | 1ULL << 40 | 1ULL << 48;
constexpr std::array<Profile, 4> profiles{{
    {0x80D2'078C'222F'0606, 0xF0'0F4A, 48},
    {0x80D2'078C'222F'0676, 0xF0'0F5B, 48},  // write buffers to flush, protected memory, extended interrupt mode
    {0x00D2'008C'222F'0606, 0x00'0F40, 39},  // neither queue nor interrupt remapping
    {0x80D2'078C'222F'0606, 0xF0'0F5F | scalable | 1ULL << 29 | 1ULL << 42 | 1ULL << 52, 48},
}};
constexpr std::size_t ram_bytes = 0x8000;

std::uint64_t low_ones(unsigned count) { return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1; }

/// A register that reads as it was written, where it may be written. From the specification's figures.
struct Stored {
  std::uint32_t offset;
  unsigned bytes;
  std::uint64_t writable;
};

std::vector<Stored> stored_registers(const Profile& profile) {
  const std::uint64_t address = low_ones(profile.haw) & ~std::uint64_t{0xFFF};
  const bool queue = (profile.ecap & 2) != 0;
  const bool interrupts = (profile.ecap & 8) != 0;
  const bool pages = (profile.ecap >> 29 & 1) != 0;
  const bool low_region = (profile.cap & 0x20) != 0;
  const bool high_region = (profile.cap & 0x40) != 0;
  const auto where = [](bool there, std::uint64_t bits) { return there ? bits : 0; };
  const std::uint64_t high = low_ones(profile.haw) & ~std::uint64_t{0x1F'FFFF};
  return {
      {0x020, 8, address | 0xC00},                                                                // RTADDR_REG: TTM
      {0x03C, 4, 0xFFFF},                                                                         // FEDATA_REG
      {0x040, 4, 0xFFFF'FFFC},                                                                    // FEADDR_REG
      {0x044, 4, 0xFFFF'FFFF},                                                                    // FEUADDR_REG
      {0x068, 4, where(low_region, 0xFFE0'0000)},                                                 // PLMBASE_REG
      {0x06C, 4, where(low_region, 0xFFE0'0000)},                                                 // PLMLIMIT_REG
      {0x070, 8, where(high_region, high)},                                                       // PHMBASE_REG
      {0x078, 8, where(high_region, high)},                                                       // PHMLIMIT_REG
      {0x088, 8, where(queue, 0x7FFF0)},                                                          // IQT_REG
      {0x090, 8, where(queue, address | 0x807)},                                                  // IQA_REG: DW, QS
      {0x0A4, 4, where(queue, 0xFFFF)},                                                           // IEDATA_REG
      {0x0A8, 4, where(queue, 0xFFFF'FFFC)},                                                      // IEADDR_REG
      {0x0AC, 4, where(queue, 0xFFFF'FFFF)},                                                      // IEUADDR_REG
      {0x0B8, 8, where(interrupts, address | 0xF | ((profile.ecap & 0x10) != 0 ? 0x800U : 0U))},  // IRTA_REG
      {0x0C0, 8, where(pages, 0x7FFE0)},                                                          // PQH_REG
      {0x0D0, 8, where(pages, address | 7)},                                                      // PQA_REG
      {0x0E4, 4, where(pages, 0xFFFF)},                                                           // PEDATA_REG
      {0x0E8, 4, where(pages, 0xFFFF'FFFC)},                                                      // PEADDR_REG
      {0x0EC, 4, where(pages, 0xFFFF'FFFF)},                                                      // PEUADDR_REG
  };
}

class World {
 public:
  explicit World(const Profile& profile)
      : profile_{profile},
        engine_{create(smallest_options(profile.cap, profile.ecap, profile.haw), guest_.host())},
        reader_{*engine_.reader()},
        size_{viommu_mmio_size(engine_.get())},
        cold_{image()} {
    for (const Stored& one : stored_registers(profile))
      for (unsigned i = 0; i < one.bytes; i += 4) {
        writable_[one.offset + i] = static_cast<std::uint32_t>(one.writable >> (8 * i));
        if (one.bytes == 8 && i == 0) wide_[one.offset] = true;
      }
  }

  void run(Input input) {
    values_.clear();
    while (!input.empty()) {
      Input record = input.record(record_bytes);
      const unsigned operation = record.below(9);
      constexpr std::array<std::uint32_t, 8> sizes{1, 2, 4, 8, 4, 8, 4, 3};
      const std::uint32_t size = record.pick(sizes);
      const auto offset = record.take<std::uint16_t>() % (size_ + 16);
      const auto value = record.take<std::uint64_t>();
      switch (operation) {
        default: write(offset, size, value); break;
        case 5:  read(offset, size); break;
        case 6:  ask(value); break;
        case 7:  reset(value); break;
        case 8:  guest_.store(offset & 0xFF8, value); break;  // where the unit may read a descriptor, or a table
      }
      require_constant();
      ++work_done;
    }
    require_stored();
    require_answered();
    require(engine_.reset() == VIOMMU_OK, "a reset that could not be done");
    require(image() == cold_, "a unit that was reset reads otherwise than a new one");
    guest_.clear();
  }
  static constexpr std::size_t record_bytes = 12;

 private:
  [[nodiscard]] bool does_nothing(std::uint64_t offset, std::uint32_t size) const {
    return size == 3 || offset % (size == 8 ? 4 : size) != 0 || offset >= size_ || size > size_ - offset;
  }
  void write(std::uint64_t offset, std::uint32_t size, std::uint64_t value) {
    static_cast<void>(viommu_mmio_write(engine_.get(), offset, size, value));
    if (does_nothing(offset, size)) return;
    const auto dword = static_cast<std::uint32_t>(offset & ~std::uint64_t{3});
    const unsigned first = offset % 4;
    store(dword, static_cast<std::uint32_t>(value << (8 * first)),
          static_cast<std::uint32_t>(low_ones(8 * (size < 8 ? size : 4)) << (8 * first)));
    if (size == 8 && wide_.contains(dword)) store(dword + 4, static_cast<std::uint32_t>(value >> 32), ~0U);
  }
  void store(std::uint32_t dword, std::uint32_t value, std::uint32_t lanes) {
    const auto found = writable_.find(dword);
    if (found == writable_.end()) return;
    std::uint32_t& word = values_[dword];
    word = (word & ~(lanes & found->second)) | (value & lanes & found->second);
  }
  /// Whatever its size, an access reads the bytes that dwords show.
  void read(std::uint64_t offset, std::uint32_t size) {
    std::uint64_t found = ~std::uint64_t{0};
    const viommu_result result = viommu_mmio_read(engine_.get(), offset, size, &found);
    if (does_nothing(offset, size)) return require(result != VIOMMU_OK || found == 0, "bytes where nothing is read");
    require(result == VIOMMU_OK, "a register that cannot be read");
    const std::uint64_t dword = offset & ~std::uint64_t{3};
    const std::uint64_t low = engine_.mmio_read(dword, 4);
    if (size < 8) return require_equal(found, low >> (8 * (offset % 4)) & low_ones(8 * size), "part of a register");
    require_equal(found & 0xFFFF'FFFF, low, "lower half of a register");
    const std::uint64_t high = found >> 32;
    require(high == 0 || high == engine_.mmio_read(dword + 4, 4), "upper half of a register");
  }
  /// A request, mostly one that is blocked, so that there are faults.
  void ask(std::uint64_t value) {
    viommu_request asked = request(static_cast<std::uint16_t>(value), value >> 16 << 12, VIOMMU_READ);
    asked.pasid = static_cast<std::uint32_t>(value >> 44);
    static_cast<void>(reader_.translate(asked));
  }
  void reset(std::uint64_t value) {
    if (value % 8 != 0)
      return static_cast<void>(viommu_process(engine_.get(), static_cast<std::uint32_t>(value), nullptr));
    require(engine_.reset() == VIOMMU_OK, "a reset that could not be done");
    values_.clear();
    require(image() == cold_, "a unit that was reset reads otherwise than a new one");
  }
  void require_constant() {
    require_equal(engine_.mmio_read(0x00, 4), 0x30, "VER_REG");
    require_equal(engine_.mmio_read(0x08, 8), profile_.cap, "CAP_REG");
    require_equal(engine_.mmio_read(0x10, 8), profile_.ecap, "ECAP_REG");
  }
  void require_stored() {
    for (const auto& [offset, writable] : writable_)
      require_equal(engine_.mmio_read(offset, 4), values_.contains(offset) ? values_[offset] : 0,
                    "a register that reads as it was written");
  }
  /// Nothing is under way: no guard is open, and each write has been worked on.
  void require_answered() {
    for (unsigned turn = 0; turn < 64; ++turn) static_cast<void>(viommu_process(engine_.get(), 0, nullptr));
    require_equal(engine_.mmio_read(0x28, 8) >> 63, 0, "ICC");
    require_equal(engine_.mmio_read(0xF8, 8) >> 63, 0, "IVT");
    require_equal(engine_.mmio_read(0x1C, 4) & 0x3860'0000, 0, "bits of GSTS_REG that are set by nothing");
    require_equal(engine_.mmio_read(0x64, 4) & 1, engine_.mmio_read(0x64, 4) >> 31, "PRS follows EPM");
    const bool queue = (engine_.mmio_read(0x1C, 4) & 0x0400'0000) != 0;
    require(engine_.mmio_read(0x80, 8) < (queue ? 0x8'0000 : 1), "IQH_REG");
  }
  [[nodiscard]] std::vector<std::uint64_t> image() {
    std::vector<std::uint64_t> all;
    for (std::uint64_t offset = 0; offset < 0x300; offset += 4) all.push_back(engine_.mmio_read(offset, 4));
    return all;
  }

  Profile profile_;
  FlatGuest guest_{ram_bytes};
  Engine engine_;
  Reader reader_;
  std::uint64_t size_;
  std::vector<std::uint64_t> cold_;
  std::map<std::uint32_t, std::uint32_t> writable_;  // by offset of a dword
  std::map<std::uint32_t, bool> wide_;
  std::map<std::uint32_t, std::uint32_t> values_;
};

constexpr std::size_t head_bytes = 1;
constexpr std::array<Cell, 5> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 8}, {4, 4}}};
/// Commands, levels, and places of registers.
constexpr std::array<std::uint64_t, 40> values{0x8000'0000,
                                               0x4000'0000,
                                               0x0400'0000,
                                               0x0200'0000,
                                               0x0100'0000,
                                               0x0080'0000,
                                               0x0800'0000,
                                               0xC400'0000,
                                               0x8600'0000,
                                               0x18,
                                               0x1C,
                                               0x20,
                                               0x28,
                                               0x2C,
                                               0x34,
                                               0x38,
                                               0x3C,
                                               0x40,
                                               0x64,
                                               0x68,
                                               0x70,
                                               0x80,
                                               0x88,
                                               0x90,
                                               0x9C,
                                               0xA0,
                                               0xA4,
                                               0xB0,
                                               0xB8,
                                               0xC0,
                                               0xD0,
                                               0xDC,
                                               0xF0,
                                               0xF8,
                                               0x220,
                                               0x22C,
                                               0xA000'0000'0000'0000,
                                               0x9000'0000'0000'0000,
                                               0x1000,
                                               0x2000};
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
