// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Both sides, to which everything is done alike, and what has been found to differ.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/qemu/differences.hpp"
#include "tests/qemu/emulator.hpp"
#include "tests/qemu/library.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::qemu {

/// A difference that is not on the list.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Text as by printf.
[[nodiscard, gnu::format(printf, 1, 2)]] std::string format(const char* form, ...);

class Pair {
 public:
  Pair(const Variant& variant, const std::string& firmware);

  /// As after power-on, with an arena of zeros; the log is empty.
  void begin();

  [[nodiscard]] const Variant& variant() const noexcept { return *variant_; }
  [[nodiscard]] Emulator& qemu() noexcept { return qemu_; }
  [[nodiscard]] Library& library() noexcept { return library_; }
  [[nodiscard]] std::uint64_t capability() const noexcept { return capability_; }
  [[nodiscard]] std::uint64_t extended_capability() const noexcept { return extended_; }

  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  /// Guest memory for those who build tables: what does not change costs nothing.
  [[nodiscard]] test::Words words();

  void write_register(std::uint64_t offset, unsigned size, std::uint64_t value);
  /// Reads all registers on both sides and compares them.
  void compare_registers();
  /// The 8 bytes there, by accesses of the other sizes than compare_registers() has.
  void compare_sizes(std::uint64_t offset);
  /// As they were read last.
  [[nodiscard]] const Registers& qemu_registers() const noexcept { return qemu_registers_; }
  [[nodiscard]] const Registers& library_registers() const noexcept { return library_registers_; }
  void read_registers();
  void compare_read_registers();
  /// The fault record and the overflow bit.
  void clear_faults();

  /// Data pages and status words.
  void compare_memory();

  /// A difference: counted when it is on the list, else the end of the case.
  template <class Seen>
  void judge(const Seen& seen, const std::string& what) {
    const std::optional<std::size_t> known = explain(seen);
    if (!known) throw Mismatch{what};
    note(std::string{"  expected difference: "} + differences()[*known].id);
    ++met_.at(*known);
  }
  [[nodiscard]] const std::vector<std::uint64_t>& met() const noexcept { return met_; }

  void note(std::string line) { log_.push_back(std::move(line)); }
  [[nodiscard]] const std::vector<std::string>& log() const noexcept { return log_; }

 private:
  void compare_register(std::uint64_t offset, std::uint32_t library, std::uint32_t qemu);

  const Variant* variant_;
  Emulator qemu_;
  std::uint64_t capability_;
  std::uint64_t extended_;
  Library library_;
  Registers qemu_registers_{};
  Registers library_registers_{};
  std::uint64_t written_offset_ = 0;
  std::uint64_t written_ = 0;
  std::vector<std::uint64_t> met_ = std::vector<std::uint64_t>(differences().size());
  std::vector<std::string> log_;
};

}  // namespace viommu::qemu
