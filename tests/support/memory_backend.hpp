// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory behind the host's callbacks, where a test sees and spoils every single access.
#pragma once

#include <viommu/viommu.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/sparse_memory.hpp"

namespace viommu::test {

/// Answers memory_read, memory_write and memory_compare_exchange from a SparseMemory. What it can do besides:
/// - count: `loads()` lists the words of one decision, and a second load of one ends the program (forbid_second_load);
/// - fail: the k-th read from now on finds no memory;
/// - lie: every word comes from a function instead of memory, so that no two loads need agree;
/// - interfere: what a compare-exchange comes to is a function's to say, and memory stays as it is.
/// For one thread.
class MemoryBackend {
 public:
  struct Load {
    std::uint64_t gpa = 0;
    std::optional<std::uint64_t> value;  ///< nothing: the read failed
    friend bool operator==(const Load&, const Load&) = default;
  };
  struct Write {
    std::uint64_t gpa = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t value = 0;
    friend bool operator==(const Write&, const Write&) = default;
  };
  struct Exchange {
    std::uint64_t gpa = 0;
    std::uint64_t expected = 0;
    std::uint64_t desired = 0;
    std::int32_t outcome = 0;  ///< as memory_compare_exchange answers
    friend bool operator==(const Exchange&, const Exchange&) = default;
  };
  using Liar = std::function<std::optional<std::uint64_t>(std::uint64_t gpa)>;

  explicit MemoryBackend(SparseMemory& memory) : memory_{&memory} {}

  /// Fills in the three memory functions. They use `opaque` as the address of this object.
  void install(viommu_host& host);

  /// A decision begins: forgets its loads and exchanges.
  void begin_decision();
  [[nodiscard]] const std::vector<Load>& loads() const noexcept { return loads_; }  ///< 8-byte words, in order
  [[nodiscard]] const std::vector<Exchange>& exchanges() const noexcept { return exchanges_; }
  [[nodiscard]] unsigned reads() const noexcept { return reads_; }  ///< a 16-byte read counts as one

  /// Tables that name one word twice on one path (self-pointing ones) make a second load right: not for those.
  /// @param tell  called instead of ending the program
  void forbid_second_load(std::function<void(std::uint64_t gpa)> tell = {});
  void allow_second_load() noexcept { second_load_forbidden_ = false; }

  /// The k-th read from now on fails, counted from 1; 0: none does.
  void fail_read(unsigned k) noexcept { reads_until_failure_ = k; }
  /// An empty function ends the lying.
  void lie(Liar liar) { liar_ = std::move(liar); }

  /// An empty function ends the interference.
  void interfere(std::function<std::int32_t()> outcome) { outcome_ = std::move(outcome); }

  [[nodiscard]] const std::vector<Write>& writes() const noexcept { return writes_; }
  void forget_writes() { writes_.clear(); }

 private:
  [[nodiscard]] std::int32_t read(std::uint64_t gpa, void* data, std::uint64_t size);
  [[nodiscard]] std::int32_t write(std::uint64_t gpa, const void* data, std::uint64_t size);
  [[nodiscard]] std::int32_t compare_exchange(std::uint64_t gpa, std::uint64_t& expected, std::uint64_t desired);
  [[nodiscard]] std::int32_t exchange(std::uint64_t gpa, std::uint64_t& expected, std::uint64_t desired);

  SparseMemory* memory_;
  std::vector<Load> loads_;
  std::vector<Exchange> exchanges_;
  std::vector<Write> writes_;
  unsigned reads_ = 0;
  unsigned reads_until_failure_ = 0;
  bool second_load_forbidden_ = false;
  std::function<void(std::uint64_t)> tell_;
  Liar liar_;
  std::function<std::int32_t()> outcome_;
};

}  // namespace viommu::test
