// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory for walks that write: it remembers every access, and a test may come in before each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {

/// One access and what came of it. `value` is what a load found, or what an exchange would write.
struct MemoryAccess {
  enum Kind : std::uint8_t { load, exchange };
  Kind kind = load;
  std::uint64_t gpa = 0;
  std::optional<std::uint64_t> value;
  std::uint64_t expected = 0;         // of an exchange
  Exchange outcome = Exchange::done;  // of an exchange

  friend bool operator==(const MemoryAccess&, const MemoryAccess&) = default;
};

class LoggedMemory {
 public:
  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa gpa) const {
    if (before_load) before_load(gpa.value);
    const std::optional<std::uint64_t> word = words.load_u64(gpa.value);
    log.push_back({MemoryAccess::load, gpa.value, word, 0, Exchange::done});
    return word;
  }
  [[nodiscard]] Exchange compare_exchange_u64(Gpa gpa, std::uint64_t& expected, std::uint64_t desired) const {
    if (before_exchange) before_exchange(gpa.value);
    const std::optional<std::uint64_t> found = words.load_u64(gpa.value);
    Exchange outcome = Exchange::done;
    if (!found || read_only) {
      outcome = Exchange::failed;
    } else if (*found != expected) {
      outcome = Exchange::lost;
    } else {
      words.store_u64(gpa.value, desired);
    }
    log.push_back({MemoryAccess::exchange, gpa.value, desired, expected, outcome});
    if (outcome == Exchange::lost) expected = found.value_or(expected);
    return outcome;
  }
  [[nodiscard]] std::size_t count(MemoryAccess::Kind kind) const {
    std::size_t count = 0;
    for (const MemoryAccess& access : log)
      if (access.kind == kind) ++count;
    return count;
  }
  [[nodiscard]] std::uint64_t operator[](std::uint64_t gpa) const { return words.load_u64(gpa).value_or(0); }

  // A walk sees memory as const, and the guest writes to it all the same.
  mutable SparseMemory words;
  mutable std::vector<MemoryAccess> log;
  bool read_only = false;
  std::function<void(std::uint64_t gpa)> before_load;
  std::function<void(std::uint64_t gpa)> before_exchange;
};

}  // namespace viommu::test
