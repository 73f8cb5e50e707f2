// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Real guest memory with a page on either side that no access survives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace viommu::test {

/// length bytes at a real address, before and behind them an inaccessible page: a load or store one byte outside ends
/// the test at once. Words are loaded and stored whole, so several threads may use it.
class GuardedRegion {
 public:
  /// @param length  bytes, a multiple of 4096
  GuardedRegion(std::uint64_t gpa, std::size_t length);

  [[nodiscard]] std::uint64_t gpa() const noexcept { return gpa_; }
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

  /// One aligned word of the region; nothing outside of it.
  [[nodiscard]] std::optional<std::uint64_t> load_u64(std::uint64_t gpa) const noexcept;
  bool store_u64(std::uint64_t gpa, std::uint64_t value) noexcept;

  /// Takes the memory away as a VMM that unmaps it would, or gives it back with what it held.
  void make_accessible(bool accessible);

 private:
  struct Unmap {
    std::size_t length;
    void operator()(std::byte* mapping) const noexcept;
  };
  [[nodiscard]] std::uint64_t* word(std::uint64_t gpa) const noexcept;

  std::uint64_t gpa_;
  std::size_t length_;
  std::unique_ptr<std::byte[], Unmap> mapping_;
  std::byte* data_;
};

}  // namespace viommu::test
