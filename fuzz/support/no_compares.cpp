// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Of a target without value profile: comparisons of the library are traced for nobody, at a fifth of the search's time.
// The linker sends the calls here (--wrap).
#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming, bugprone-reserved-identifier): the names are the linker's and clang's
extern "C" {

void __wrap___sanitizer_cov_trace_cmp1(std::uint8_t, std::uint8_t) {}
void __wrap___sanitizer_cov_trace_cmp2(std::uint16_t, std::uint16_t) {}
void __wrap___sanitizer_cov_trace_cmp4(std::uint32_t, std::uint32_t) {}
void __wrap___sanitizer_cov_trace_cmp8(std::uint64_t, std::uint64_t) {}
void __wrap___sanitizer_cov_trace_const_cmp1(std::uint8_t, std::uint8_t) {}
void __wrap___sanitizer_cov_trace_const_cmp2(std::uint16_t, std::uint16_t) {}
void __wrap___sanitizer_cov_trace_const_cmp4(std::uint32_t, std::uint32_t) {}
void __wrap___sanitizer_cov_trace_const_cmp8(std::uint64_t, std::uint64_t) {}
void __wrap___sanitizer_cov_trace_switch(std::uint64_t, std::uint64_t*) {}
}
// NOLINTEND(readability-identifier-naming, bugprone-reserved-identifier)
