// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guests that change their tables while a walk reads them, and the way in for oracles.
#pragma once

#include <array>
#include <cstdint>

#include "tests/support/first_stage_oracle.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/random.hpp"
#include "tests/walkers/logged_memory.hpp"

namespace viommu::test {

/// What the guest does between two accesses of a walk.
enum class Guest : std::uint8_t {
  sleeps,
  interferes,  ///< changes the entry before an exchange now and then: by a flag, an ignored bit, or altogether
  persists,    ///< changes it before every exchange
  lies,        ///< another word at each load
};

/// Lets that guest come in before each access. Two with the same random numbers do the same.
/// @param flag   the accessed flag
/// @param entry  entry(gpa, random) is a table entry for there
template <class Entry>
void let_in(Guest guest, LoggedMemory& memory, Random& random, std::uint64_t flag, const Entry& entry) {
  constexpr std::uint64_t ignored_bit = std::uint64_t{1} << 52;
  const auto rewrite = [&memory, &random, flag, entry](std::uint64_t gpa) {
    const std::uint64_t now = memory.words.load_u64(gpa).value_or(0);
    const std::uint64_t one_bit = std::uint64_t{1} << random.below(64);
    const std::array<std::uint64_t, 4> next{now ^ ignored_bit, now ^ one_bit, now & ~flag, entry(gpa, random)};
    memory.words.store_u64(gpa, random.pick(next));
  };
  if (guest == Guest::interferes)
    memory.before_exchange = [rewrite, &random](std::uint64_t gpa) {
      if (random.chance(1, 3)) rewrite(gpa);
    };
  if (guest == Guest::persists)
    memory.before_exchange = [&memory](std::uint64_t gpa) {
      memory.words.store_u64(gpa, memory.words.load_u64(gpa).value_or(0) ^ ignored_bit);
    };
  if (guest == Guest::lies)
    memory.before_load = [&memory, &random, entry](std::uint64_t gpa) {
      memory.words.store_u64(gpa, entry(gpa, random));
    };
}

/// What an oracle reads and writes through.
inline oracle::ReadWord reader_of(const LoggedMemory& memory) {
  return [&memory](std::uint64_t gpa) { return memory.load_u64({gpa}); };
}
inline oracle::CompareExchange exchanger_of(const LoggedMemory& memory) {
  return [&memory](std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
    const Exchange outcome = memory.compare_exchange_u64({gpa}, expected, desired);
    return outcome == Exchange::done ? 0 : outcome == Exchange::lost ? 1 : -1;
  };
}

}  // namespace viommu::test
