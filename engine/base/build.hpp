// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the compiler says about this build, asked in one place.
#pragma once

#include <atomic>

namespace viommu {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool thread_sanitizer = true;
#else
inline constexpr bool thread_sanitizer = false;
#endif
#else
inline constexpr bool thread_sanitizer = false;
#endif

/// A stand-alone sequentially consistent fence; for atomic.hpp. Declared apart because g++ warns of any fence in a
/// build for the thread sanitizer, reached or not.
inline void fence_of_this_build() noexcept {
#if !defined(__SANITIZE_THREAD__)
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace viommu
