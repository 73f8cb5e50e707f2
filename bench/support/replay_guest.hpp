// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest made up for measuring replay: a device, two domains for it, and leaf tables in shuffled order.
//
//   RAM from address 0:  root, context, status word | queue | upper tables | leaf tables of one domain | of the other
//
// Which frame a page has follows from its number. Frames are guest memory that nobody accesses.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace viommu::bench {

/// Of what is mapped; all pages have 4 KiB.
enum class Shape : std::uint8_t {
  contiguous,  ///< every page, one run
  runs,        ///< every page, in runs of 16
  scattered,   ///< every page, no two neighbours in memory
  sparse,      ///< one page in 64, at random, each elsewhere
};
inline constexpr std::array all_shapes{Shape::contiguous, Shape::runs, Shape::scattered, Shape::sparse};
[[nodiscard]] std::string name_of(Shape shape);

class ReplayGuest {
 public:
  static constexpr std::uint64_t root_table = 0x1000;
  static constexpr std::uint64_t status_word = 0x3000;
  static constexpr std::uint64_t queue = 0x10000;
  static constexpr unsigned queue_order = 4;  // 2^order pages of 256 descriptors
  static constexpr std::uint32_t queue_entries = 256u << queue_order;
  static constexpr std::uint64_t first_frame = std::uint64_t{1} << 40;  // above RAM
  static constexpr std::uint64_t frame_bytes = std::uint64_t{1} << 40;
  static constexpr std::uint64_t first_iova = std::uint64_t{1} << 32;
  static constexpr std::uint64_t table_bytes = 4096;
  static constexpr std::uint32_t table_pages = 512;
  static constexpr std::uint16_t source = 0x0010;
  static constexpr std::uint32_t most_domains = 2;

  /// @param tables  leaf tables of each domain: a power of two up to 2^17. Throws std::bad_alloc when the RAM cannot be
  ///                mapped
  ReplayGuest(Shape shape, std::uint32_t tables, std::uint32_t domains = most_domains);
  ReplayGuest(const ReplayGuest&) = delete;
  ReplayGuest& operator=(const ReplayGuest&) = delete;
  ~ReplayGuest();

  [[nodiscard]] std::span<std::byte> ram() const noexcept { return ram_; }
  [[nodiscard]] std::uint32_t tables() const noexcept { return tables_; }
  [[nodiscard]] std::uint64_t root_of(std::uint32_t domain) const noexcept { return roots_[domain]; }
  [[nodiscard]] static std::uint16_t id_of(std::uint32_t domain) noexcept {
    return static_cast<std::uint16_t>(domain + 1);
  }
  /// The `number`-th leaf table by the addresses that it maps.
  [[nodiscard]] std::uint64_t table(std::uint32_t domain, std::uint32_t number) const noexcept {
    constexpr std::uint32_t scatter = 0x9E3779B1;  // odd: permutes any power of two, and parts neighbours
    const std::uint32_t place = domain * tables_ + ((number * scatter) & (tables_ - 1));
    return first_leaf_table_ + place * table_bytes;
  }
  [[nodiscard]] const std::byte* host_table(std::uint32_t domain, std::uint32_t number) const noexcept {
    return &ram_[table(domain, number)];
  }

  /// Has the device use that domain, as far as its context entry goes.
  void attach(std::uint32_t domain) const noexcept;
  /// The entry of the `number`-th page, and its place.
  [[nodiscard]] std::uint64_t slot(std::uint32_t domain, std::uint32_t page) const noexcept {
    return table(domain, page / table_pages) + page % table_pages * sizeof(std::uint64_t);
  }
  [[nodiscard]] std::uint64_t entry(std::uint32_t domain, std::uint32_t page) const noexcept {
    return load(slot(domain, page));
  }

  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, &ram_[gpa], sizeof value);
    return value;
  }
  void store(std::uint64_t gpa, std::uint64_t value) const noexcept { std::memcpy(&ram_[gpa], &value, sizeof value); }

 private:
  std::uint64_t allocate_table() noexcept;

  std::uint32_t tables_;
  std::span<std::byte> ram_;
  std::uint64_t next_table_;
  std::uint64_t first_leaf_table_ = 0;
  std::array<std::uint64_t, most_domains> roots_{};
};

}  // namespace viommu::bench
