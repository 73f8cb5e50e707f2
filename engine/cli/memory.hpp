// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The guest's memory as a trace tells it: words that were written hold their value, all others read 0. Costs the pages
// that were written; a word costs one probe of a hash of pages. For one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

namespace viommu::cli {

class Memory {
 public:
  static constexpr std::size_t page_bytes = 4096;

  Memory();

  // ---- What the trace says ----
  /// A store of the guest. A word that could not be read can be read again. Outside RAM it is lost.
  void store(std::uint64_t gpa, std::uint64_t value);
  /// Reads that touch [gpa, gpa + length) fail until a store names the word.
  void fail_reads(std::uint64_t gpa, std::uint64_t length);
  /// Writes that touch it fail until a store names the word, or allow_writes().
  void fail_writes(std::uint64_t gpa, std::uint64_t length);
  void allow_writes(std::uint64_t gpa, std::uint64_t length);

  // ---- Where there is memory; without any of these calls everywhere ----
  void limit_ram(std::uint64_t first, std::uint64_t last);
  /// False when some of it is RAM already.
  [[nodiscard]] bool add_ram(std::uint64_t first, std::uint64_t last);
  /// False when some of it is no RAM. What was written there is forgotten.
  [[nodiscard]] bool remove_ram(std::uint64_t first, std::uint64_t last);
  /// The last address of RAM; nothing without RAM.
  [[nodiscard]] std::optional<std::uint64_t> last_ram() const;

  // ---- What the unit does ----
  /// All bytes or none.
  [[nodiscard]] bool read(std::uint64_t gpa, std::span<std::byte> to) const;
  [[nodiscard]] bool write(std::uint64_t gpa, std::span<const std::byte> from);
  /// The aligned word at `gpa`; nothing where it cannot be read.
  [[nodiscard]] std::optional<std::uint64_t> load(std::uint64_t gpa) const;
  [[nodiscard]] bool writable(std::uint64_t gpa, std::uint64_t length) const;

  /// Whether anything was ever written into the page around `gpa`; all of a page that was not reads 0.
  [[nodiscard]] bool touched(std::uint64_t gpa) const { return find(gpa / page_bytes) != nullptr; }

 private:
  using Page = std::array<std::uint64_t, page_bytes / 8>;
  struct Slot {
    std::uint64_t number = 0;
    Page* page = nullptr;
  };
  struct Extent {
    std::uint64_t first;
    std::uint64_t last;
  };

  [[nodiscard]] static std::size_t hash(std::uint64_t number) noexcept { return (number * 0x9E3779B97F4A7C15u) >> 32; }
  [[nodiscard]] Page* find(std::uint64_t number) const noexcept;
  [[nodiscard]] Page& page(std::uint64_t number);
  void put(std::uint64_t number, Page* page) noexcept;
  [[nodiscard]] std::uint64_t word(std::uint64_t gpa) const noexcept;
  [[nodiscard]] bool is_ram(std::uint64_t first, std::uint64_t last) const noexcept;
  [[nodiscard]] bool readable(std::uint64_t gpa, std::uint64_t length) const;

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::vector<std::unique_ptr<Page>> pages_;
  mutable Slot latest_;  // the page of the last access: walks and queues stay on a page for a while
  std::unordered_set<std::uint64_t> unreadable_;  // word numbers; a handful
  std::unordered_set<std::uint64_t> unwritable_;
  std::vector<Extent> ram_;  // sorted, apart; a handful
};

}  // namespace viommu::cli
