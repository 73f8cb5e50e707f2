// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The guest of a case: its tables, well formed or not, and how it changes them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/qemu/pair.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/random.hpp"

namespace viommu::qemu {

class Guest {
 public:
  /// Contexts and tables for all devices, some of them broken.
  Guest(Pair& pair, test::Random& random);

  [[nodiscard]] std::uint64_t root_table() const noexcept { return tables_.root_table(); }
  [[nodiscard]] bool broken_root() const noexcept { return broken_root_; }

  /// Both say what was done.
  std::string change_entry(test::Random& random);
  std::string change_context(test::Random& random);

  /// Points the page that a device has there to another place, whatever its size; tells the domain.
  std::optional<std::uint16_t> remap(test::Random& random, std::size_t source, std::uint64_t iova);

  /// A domain id that some context has, or had.
  [[nodiscard]] static std::uint16_t domain(test::Random& random);

 private:
  /// For one of the trees; `odd`: pass-through, or something is wrong with it.
  std::string set_context(test::Random& random, std::size_t source, bool odd);
  void break_root(test::Random& random);
  void map_some(test::Random& random);
  [[nodiscard]] std::optional<std::uint64_t> slot(std::size_t tree, std::uint64_t iova, unsigned level);
  [[nodiscard]] std::uint64_t leaf(test::Random& random, unsigned level) const;
  [[nodiscard]] std::uint64_t odd_entry(test::Random& random, unsigned level, std::uint64_t table);

  Pair& pair_;
  test::Words words_;
  test::GuestTables tables_;
  std::array<test::Tree, 3> trees_{};
  std::array<std::uint64_t, sources.size()> contexts_{};  // addresses of their entries
  bool broken_root_ = false;
};

}  // namespace viommu::qemu
