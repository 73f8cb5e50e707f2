// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A fence in every thread of this process, paid for by the one who asks (Linux: membarrier, private expedited). The
// only system call of the library's core.
#pragma once

namespace viommu {

/// Registers this process with the kernel. @return false where there is no such call, or it is not allowed; then
/// process_barrier() must not be used. Threads: any, any number of times.
[[nodiscard]] bool enable_process_barrier() noexcept;

/// Between call and return every other running thread of the process executes a full fence, and so does the caller.
/// Cost: below a microsecond while no other thread runs, some microseconds else.
void process_barrier() noexcept;

}  // namespace viommu
