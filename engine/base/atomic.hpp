// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one name under which shared state is declared, so that a test build can put an instrumented type in its place.
#pragma once

#include <atomic>
#include <cstddef>

namespace viommu {

template <class T>
using Atomic = std::atomic<T>;

/// Two cache lines: neighbours that different threads write must not share one, nor the line fetched along with it.
inline constexpr std::size_t shared_line_bytes = 128;

}  // namespace viommu
