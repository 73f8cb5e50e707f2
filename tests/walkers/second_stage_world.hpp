// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Second-stage tables of scalable mode such as no driver writes them, and requests through them.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "tests/support/random.hpp"
#include "tests/support/second_stage_oracle.hpp"
#include "tests/walkers/guest_at_work.hpp"
#include "tests/walkers/logged_memory.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/second_stage_walk.hpp"

namespace viommu::test {

/// Table entries in a small pool of pages, each of which may be a table of every level, of itself too.
class SecondStageWorld {
 public:
  static constexpr std::uint64_t pool = 0x40000;
  static constexpr std::uint64_t pool_bytes = 0x8000;

  /// @param settled  nearly all flags are set already
  explicit SecondStageWorld(std::uint64_t seed, bool settled = false) : random_{seed}, settled_{settled} {
    constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
    constexpr std::array<unsigned, 4> guest_widths{39, 46, 48, 57};
    unit_.haw = random_.pick(widths);
    unit_.cap = std::uint64_t{random_.pick(guest_widths) - 1} << 16 | bit(34, random_.chance(3, 4)) |
                bit(35, random_.chance(3, 4));
    unit_.ecap = bit(7, random_.chance(1, 2)) | bit(45, true) | bit(48, random_.chance(9, 10));
    unit_.pasid_entry_0 = pool | 1 | (1 + random_.below(3)) << 2 | bit(9, random_.chance(4, 5));
    unit_.pasid_entry_1 = bit(23, random_.chance(9, 10));
    if (random_.chance(1, 30)) unit_.pasid_entry_0 ^= std::uint64_t{0x800000};  // its top table is nowhere
    for (std::uint64_t page = pool; page < pool + pool_bytes; page += 0x1000)
      for (const std::uint64_t line : lines)
        for (std::uint64_t at = page + line; at < page + line + 64; at += 8) words_.emplace(at, entry(random_));
  }

  [[nodiscard]] const oracle::SecondStageUnit& unit() const noexcept { return unit_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] unsigned levels() const noexcept { return static_cast<unsigned>(unit_.pasid_entry_0 >> 2 & 7) + 2; }
  [[nodiscard]] walkers::SecondStage format() const {
    return walkers::SecondStage{
        walkers::SecondStageRules{unit_.haw, set(unit_.ecap, 7), set(unit_.cap, 34), set(unit_.cap, 35)}};
  }
  [[nodiscard]] walkers::SecondStageControls controls() const {
    return {.flags = set(unit_.pasid_entry_0, 9), .snooped = set(unit_.ecap, 48) && set(unit_.pasid_entry_1, 23)};
  }
  /// Its words as they were made, by address: all that a walk may write to.
  [[nodiscard]] const std::map<std::uint64_t, std::uint64_t>& words() const noexcept { return words_; }
  /// The memory as it was made.
  [[nodiscard]] LoggedMemory memory() const {
    LoggedMemory memory;
    memory.words.add_ram(pool, pool_bytes);
    for (const auto& [gpa, word] : words_) memory.words.store_u64(gpa, word);
    return memory;
  }
  void let_in(Guest guest, LoggedMemory& memory, Random& random) const {
    test::let_in(guest, memory, random, 0x100, [this](std::uint64_t, Random& from) { return entry(from); });
  }
  /// Its way leads through words that were filled, now and then past them.
  oracle::SecondStageRequest request() {
    oracle::SecondStageRequest request;
    for (unsigned level = 0; level < levels(); ++level) {
      const std::uint64_t slot =
          random_.chance(1, 60) ? random_.below(512) : random_.pick(lines) / 8 + random_.below(8);
      request.address = request.address << 9 | slot;
    }
    request.address = (request.address << 12 | random_.below(4096)) & oracle::highest_second_stage_input(unit_);
    request.write = random_.chance(1, 2);
    request.read = random_.chance(1, request.write ? 3 : 1) && random_.chance(9, 10);  // neither: a zero-length read
    return request;
  }

 private:
  static constexpr std::array<std::uint64_t, 3> lines{0x000, 0x7C0, 0xFC0};  // offsets in a page

  static std::uint64_t bit(unsigned number, bool set) { return std::uint64_t{set} << number; }
  static bool set(std::uint64_t word, unsigned number) { return (word >> number & 1) != 0; }

  std::uint64_t entry(Random& random) const {
    if (random.chance(1, 100)) return random.next();
    std::uint64_t entry = bit(0, random.chance(14, 15)) | bit(1, random.chance(11, 12));
    if (random.chance(1, 40)) entry &= ~std::uint64_t{3};
    entry |= bit(8, random.chance(2, 3)) | bit(9, random.chance(1, 3)) | bit(7, random.chance(1, 6));
    if (settled_) entry |= bit(8, random.chance(40, 41)) | bit(9, random.chance(40, 41));
    entry |= bit(11, random.chance(1, 40));
    if (random.chance(1, 4)) entry |= random.next() & 0xBFF0'0000'0000'047C;
    if (random.chance(1, 40)) entry |= std::uint64_t{1} << random.below(64);
    if (random.chance(1, 40)) return entry | (random.next() & low_bits(unit_.haw) & ~low_bits(12));  // mostly a hole
    // Half of the larger pages are aligned; the others, and tables in their place, are the pool's.
    const bool is_page = (entry & 0x80) != 0 && random.chance(4, 5);
    const std::uint64_t page = pool + (random.below(pool_bytes >> 12) << 12);
    return entry | (is_page ? (random.next() & low_bits(unit_.haw) & ~low_bits(random.chance(1, 2) ? 21 : 30)) : page);
  }

  Random random_;
  bool settled_;
  oracle::SecondStageUnit unit_;
  std::map<std::uint64_t, std::uint64_t> words_;
};

/// The reason that VT-d has for it.
inline std::uint8_t code_of(walkers::SecondStageEnd end) {
  switch (end) {
    case walkers::SecondStageEnd::leaf:           return 0;
    case walkers::SecondStageEnd::top_unreadable: return 0x7B;
    case walkers::SecondStageEnd::unreadable:     return 0x78;
    case walkers::SecondStageEnd::absent:         return 0x79;
    case walkers::SecondStageEnd::malformed:      return 0x7A;
    case walkers::SecondStageEnd::read_denied:    return 0x86;
    case walkers::SecondStageEnd::write_denied:   return 0x85;
    case walkers::SecondStageEnd::not_snooped:    return 0x7C;
    case walkers::SecondStageEnd::update_failed:  return 0x7D;
  }
  return 0xFF;
}

}  // namespace viommu::test
