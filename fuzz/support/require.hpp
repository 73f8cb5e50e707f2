// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How a target says that an answer is wrong.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace viommu::fuzz {

/// Says what is wrong and ends the program, so that the driver keeps the input.
[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "WRONG ANSWER: %s\n", what);
  std::abort();
}

inline void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

/// The same with both values.
inline void require_equal(std::uint64_t found, std::uint64_t right, const char* what) {
  if (found == right) return;
  std::fprintf(stderr, "found 0x%llx, right is 0x%llx\n", static_cast<unsigned long long>(found),
               static_cast<unsigned long long>(right));
  fail(what);
}

}  // namespace viommu::fuzz
