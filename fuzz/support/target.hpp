// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a fuzz target defines, and what its driver offers it: libFuzzer, or support/replay.cpp with any compiler.
#pragma once

#include <cstddef>
#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming): the names are libFuzzer's
extern "C" {

// ---- Of the target ----
/// One input. Ends the program when an answer is wrong (require.hpp).
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
/// Changes an input in place. @param most  bytes that `data` has room for @return its new size
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed);

// ---- Of the driver ----
/// Changes bytes in place, without knowing what they mean.
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);
}
// NOLINTEND(readability-identifier-naming)
