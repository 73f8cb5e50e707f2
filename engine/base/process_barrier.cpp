// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/process_barrier.hpp"

#include "engine/base/atomic.hpp"

#if defined(__linux__)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace viommu {

#if defined(__linux__)

bool enable_process_barrier() noexcept {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0U, 0) == 0;
}

void process_barrier() noexcept {
  full_fence();
  // Cannot fail once registered: both arguments are constants, and a registration is never taken back.
  static_cast<void>(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0U, 0));
}

#else

bool enable_process_barrier() noexcept { return false; }
void process_barrier() noexcept { full_fence(); }

#endif

}  // namespace viommu
