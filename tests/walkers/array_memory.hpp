// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory for walks: a plain array that remembers what was loaded from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/address.hpp"

namespace viommu::test {

/// Pages from address 0 on; nothing behind them.
class ArrayMemory {
 public:
  explicit ArrayMemory(std::size_t pages) : words_(pages * words_per_page) {}

  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa gpa) const {
    loads.push_back(gpa.value);
    if (gpa.value % 8 != 0 || gpa.value / 8 >= words_.size()) return std::nullopt;
    return words_[gpa.value / 8];
  }
  [[nodiscard]] std::uint64_t& operator[](std::uint64_t gpa) { return words_.at(gpa / 8); }

  mutable std::vector<std::uint64_t> loads;  ///< addresses, in order

 private:
  static constexpr std::size_t words_per_page = 512;
  std::vector<std::uint64_t> words_;
};

}  // namespace viommu::test
