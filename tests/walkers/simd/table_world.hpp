// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Second-stage tables such as no driver writes them, in every kind of memory, and walks through them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/simd/patchwork.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace viommu::test {

/// A pool of pages of which each may be a table of every level, named by itself, its child and two parents. Pages lie
/// at both ends of regions, in two regions that touch, at the top of the address width, and in memory behind callbacks
/// that ends inside a table; pointers also lead to holes and above the width.
class TableWorld {
 public:
  /// @param regions  0: everything is behind callbacks; 2 and more: how the mapped pages are divided
  TableWorld(std::uint64_t seed, unsigned regions)
      : random_{seed}, rules_{random_.pick(widths), random_.chance(1, 2), random_.chance(3, 4), random_.chance(3, 4)} {
    const std::uint64_t top = std::uint64_t{1} << rules_.host_address_width;
    memory_.add_behind_callbacks(half_gpa, half_bytes);
    if (regions == 0) {
      memory_.add_behind_callbacks(low_gpa, low_bytes);
      memory_.add_behind_callbacks(top - high_bytes, high_bytes);
    } else {
      add_region(low_gpa, low_bytes / 2);
      add_region(low_gpa + low_bytes / 2, low_bytes / 2);
      if (regions > 2) add_region(top - high_bytes, high_bytes);
      for (std::uint64_t i = 3; i < regions; ++i) add_region(0x100000 + i * 0x10000, 0x1000 * (1 + i % 8));
      if (regions == 2) memory_.add_behind_callbacks(top - high_bytes, high_bytes);
    }
    for (const std::uint64_t at : {0x0000U, 0x1000U, 0x3000U, 0x4000U, 0x5000U, 0x7000U})
      tables_.push_back(low_gpa + at);
    tables_.insert(tables_.end(), {half_gpa, half_gpa + 0x1000, top - high_bytes, top - 0x1000});
    for (const std::uint64_t page : tables_)
      for (const std::uint64_t line : lines) fill_line(page + line);
  }

  [[nodiscard]] const GuestMemory& memory() const noexcept { return memory_.memory(); }
  [[nodiscard]] const walkers::SecondStageRules& rules() const noexcept { return rules_; }
  [[nodiscard]] Random& random() noexcept { return random_; }
  [[nodiscard]] std::optional<std::uint64_t> word(std::uint64_t gpa) const { return memory_.word(gpa); }
  /// Whether a whole line is read there.
  [[nodiscard]] bool is_mapped(std::uint64_t gpa) const { return memory_.is_mapped(gpa); }

  /// Its way leads through words that were filled, now and then past them.
  walkers::WalkRequest request() {
    walkers::WalkRequest request;
    request.table = {pointer()};
    request.level = static_cast<std::uint8_t>(random_.below(walkers::second_stage_levels));
    request.is_root = random_.chance(1, 2);
    request.rights = random_.chance(1, 2) ? read_write : Rights{random_.chance(1, 2), random_.chance(1, 2)};
    for (unsigned level = 0; level < walkers::second_stage_levels; ++level) {
      const std::uint64_t slot =
          random_.chance(1, 50) ? random_.below(512) : random_.pick(lines) / 8 + random_.below(8);
      request.iova = {request.iova.value << 9 | slot};
    }
    request.iova = {request.iova.value << 12 | random_.below(4096)};
    if (random_.chance(1, 20)) request.iova = {random_.next()};
    return request;
  }
  /// A walk from a root, which an oracle knows.
  walkers::WalkRequest root_request() {
    walkers::WalkRequest from = request();
    from.level = static_cast<std::uint8_t>(2 + random_.below(3));
    from.is_root = true;
    from.rights = read_write;
    return from;
  }

 private:
  static constexpr std::array<unsigned, 6> widths{39, 40, 46, 48, 51, 52};
  static constexpr std::array<std::uint64_t, 4> lines{0x000, 0x040, 0x7C0, 0xFC0};  // offsets in a page
  static constexpr std::uint64_t low_gpa = 0x40000;
  static constexpr std::uint64_t low_bytes = 0x8000;
  static constexpr std::uint64_t half_gpa = 0x80000;
  static constexpr std::uint64_t half_bytes = 0x1FE8;  // the last line is not whole
  static constexpr std::uint64_t high_bytes = 0x3000;

  static std::uint64_t low_ones(unsigned count) { return (std::uint64_t{1} << count) - 1; }

  void add_region(std::uint64_t gpa, std::size_t length) { memory_.add_region(gpa, length, random_.chance(1, 2)); }

  std::uint64_t pointer() {
    const std::uint64_t top = std::uint64_t{1} << rules_.host_address_width;
    if (random_.chance(1, 100)) return random_.chance(1, 2) ? low_gpa + low_bytes : low_gpa - 0x1000;
    if (random_.chance(1, 150)) return random_.below(1 << 20) << 12;  // mostly a hole
    if (random_.chance(1, 300)) return top;
    if (random_.chance(1, 150)) return random_.next() & low_ones(52) & ~low_ones(12);
    return tables_[random_.below(tables_.size())];
  }

  /// Eight entries: tables, pages of every size, and pages that follow one another but for some of them.
  void fill_line(std::uint64_t gpa) {
    constexpr std::array<std::uint64_t, 9> rights{3, 3, 3, 3, 3, 3, 1, 1, 2};
    constexpr std::array<std::uint64_t, 4> alignments{12, 12, 21, 30};
    constexpr std::array<std::uint64_t, 5> bases{0, 0x3000, 0xFEDFC000, 0xFEEFD000, 0xFEE40000};
    const bool pages = random_.chance(1, 2);
    const std::uint64_t line_rights = random_.pick(rights);
    std::uint64_t base = random_.chance(1, 2) ? random_.pick(bases) : random_.next();
    if (random_.chance(1, 8)) base = low_ones(rules_.host_address_width) - 0x4000;  // runs over the end of addresses
    base &= low_ones(rules_.host_address_width) & ~low_ones(12);
    for (std::uint64_t i = 0; i < words_per_line; ++i) {
      std::uint64_t entry = 0;
      if (pages && random_.chance(3, 4)) {
        entry = ((base + (i << 12)) & low_ones(52)) | line_rights;
      } else if (random_.chance(2, 3)) {
        entry = pointer() | random_.pick(rights);
      } else {
        const std::uint64_t alignment = random_.pick(alignments);
        entry = random_.next() & low_ones(rules_.host_address_width) & ~low_ones(static_cast<unsigned>(alignment));
        entry |= (alignment > 12 ? 0x80U : 0U) | random_.pick(rights);
      }
      constexpr std::uint64_t ignored = 0xBFF000000000077C;  // 63, 61:52, 10:8, 6:2
      if (random_.chance(1, 4)) entry |= random_.next() & ignored;
      if (random_.chance(1, 20)) entry ^= std::uint64_t{1} << random_.below(64);
      if (random_.chance(1, 20)) entry &= ~std::uint64_t{3};
      memory_.store(gpa + 8 * i, entry);
    }
  }

  Random random_;
  walkers::SecondStageRules rules_;
  Patchwork memory_;
  std::vector<std::uint64_t> tables_;
};

}  // namespace viommu::test
