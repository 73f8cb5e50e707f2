// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a difference is judged by: one DMA, one register, or one descriptor, as both sides met it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tests/qemu/world.hpp"
#include "tests/support/oracle.hpp"

namespace viommu::qemu {

/// What can be seen of a DMA from outside.
struct Outcome {
  enum Kind : std::uint8_t {
    recorded,  ///< blocked, and there is a new record
    landed,    ///< it reached memory
    nowhere,   ///< blocked without a record, or gone where no memory is
  };
  Kind kind = nowhere;
  std::uint8_t reason = 0;
  std::uint64_t gpa = 0;
};

/// A context entry that a source has or had, and the page-table entries behind it as they are now, from the root on.
struct Way {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::vector<std::uint64_t> entries;
};

/// What QEMU did in a DMA that no rule allows.
struct DmaObservation {
  const Variant* variant = nullptr;
  std::uint64_t iova = 0;
  bool write = false;
  Outcome qemu;
  bool pending = false;                   ///< an older record is still there, so that no reason can be seen
  bool overflowed = false;                ///< it set PFO then, where the library did not
  std::vector<oracle::Answer> allowed;    ///< by the window rule
  std::vector<oracle::Answer> by_source;  ///< by a window rule that keeps translations beyond their context
  std::vector<Way> ways;                  ///< the last one is in memory now
};

/// A register that reads differently.
struct RegisterObservation {
  const Variant* variant = nullptr;
  std::uint64_t offset = 0;
  std::uint32_t library = 0;
  std::uint32_t qemu = 0;
  std::uint64_t written_offset = 0;  ///< the last write before
  std::uint64_t written = 0;
  bool queue_enabled = false;
};

/// A descriptor that stopped one queue and not the other.
struct DescriptorObservation {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool library_stopped = false;
  bool qemu_stopped = false;
};

}  // namespace viommu::qemu
