// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Mutation of inputs that are a head and a list of records of one size: an operation each, or an entry.
//
//   | head | record | record | ... |     a record's cells are its fields: 1 to 8 bytes, low byte first
//
// Records are put in, taken out, doubled and swapped; cells are given the values at which rules change: borders, a bit
// more or less, the neighbour, what another record has there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace viommu::fuzz {

struct Cell {
  std::uint8_t at = 0;
  std::uint8_t bytes = 1;
};

struct RecordShape {
  std::size_t head = 0;
  std::size_t record = 1;
  std::span<const Cell> cells;
  /// Words that a target finds worth trying, beside the borders that mean something everywhere.
  std::span<const std::uint64_t> values;
};

/// As LLVMFuzzerCustomMutator(); one time in four it hands on to LLVMFuzzerMutate().
[[nodiscard]] std::size_t mutate_records(const RecordShape& shape, std::uint8_t* data, std::size_t size,
                                         std::size_t most, unsigned seed);

}  // namespace viommu::fuzz
