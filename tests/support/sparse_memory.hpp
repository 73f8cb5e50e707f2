// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory of any size that costs only the pages written. For one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace viommu::test {

class SparseMemory {
 public:
  /// Makes [gpa, gpa + length) memory that reads 0. Need not start or end on a page.
  void add_ram(std::uint64_t gpa, std::uint64_t length);
  /// Takes the memory away; what was written there is forgotten.
  void remove_ram(std::uint64_t gpa, std::uint64_t length);
  [[nodiscard]] bool is_ram(std::uint64_t gpa, std::uint64_t length) const;

  /// One aligned word; nothing where a byte of it is no memory, or gpa is not aligned.
  [[nodiscard]] std::optional<std::uint64_t> load_u64(std::uint64_t gpa) const;
  bool store_u64(std::uint64_t gpa, std::uint64_t value);

  /// All bytes or none.
  [[nodiscard]] bool read(std::uint64_t gpa, std::span<std::byte> to) const;
  bool write(std::uint64_t gpa, std::span<const std::byte> from);

 private:
  using Page = std::array<std::byte, 4096>;
  struct Extent {
    std::uint64_t first;
    std::uint64_t last;
  };
  std::vector<Extent> ram_;  // neither sorted nor merged: a handful
  std::unordered_map<std::uint64_t, Page> pages_;
};

}  // namespace viommu::test
