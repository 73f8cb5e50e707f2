// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one way to the kernel, and what its errors are called here.
#pragma once

#include <viommu/viommu_host.h>

#include <cstdint>

namespace viommu::host {

class Kernel {
 public:
  Kernel() noexcept;
  /// @param given  NULL: the process' own ioctl(2)
  [[nodiscard]] static viommu_result take(const viommu_host_kernel* given, Kernel& kernel) noexcept;

  /// Not negative, or a negative errno.
  [[nodiscard]] int number(std::int32_t fd, std::uint32_t request, std::uintptr_t argument) const noexcept {
    return table_.ioctl(table_.opaque, fd, request, argument);
  }
  template <class Struct>
  [[nodiscard]] int operator()(std::int32_t fd, std::uint32_t request, Struct& argument) const noexcept {
    return number(fd, request, reinterpret_cast<std::uintptr_t>(&argument));
  }

 private:
  viommu_host_kernel table_;
};

/// The result for what a call returned.
[[nodiscard]] viommu_result result_of(int returned) noexcept;

}  // namespace viommu::host
