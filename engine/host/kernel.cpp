// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/host/kernel.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>

#include "engine/host/sized.hpp"

namespace viommu::host {
namespace {

std::int32_t own_ioctl(void* /*opaque*/, std::int32_t fd, std::uint32_t request, std::uintptr_t argument) noexcept {
  const int returned = ::ioctl(fd, request, argument);
  return returned < 0 ? -errno : returned;
}

// The results are negative errno values, which is what makes result_of() short.
static_assert(VIOMMU_E_NOT_FOUND == -ENOENT && VIOMMU_E_MEMORY == -ENOMEM && VIOMMU_E_FAULT == -EFAULT);
static_assert(VIOMMU_E_BUSY == -EBUSY && VIOMMU_E_EXISTS == -EEXIST && VIOMMU_E_ARGUMENT == -EINVAL);
static_assert(VIOMMU_E_LIMIT == -ENOSPC && VIOMMU_E_RANGE == -ERANGE && VIOMMU_E_UNSUPPORTED == -EOPNOTSUPP);

}  // namespace

Kernel::Kernel() noexcept : table_{sizeof table_, nullptr, own_ioctl} {}

viommu_result Kernel::take(const viommu_host_kernel* given, Kernel& kernel) noexcept {
  if (given == nullptr) return VIOMMU_OK;
  constexpr std::size_t first_version = sizeof(viommu_host_kernel);
  if (const viommu_result taken = host::take(given, kernel.table_, first_version); taken != VIOMMU_OK) return taken;
  return kernel.table_.ioctl == nullptr ? VIOMMU_E_ARGUMENT : VIOMMU_OK;
}

viommu_result result_of(int returned) noexcept {
  if (returned >= 0) return VIOMMU_OK;
  switch (returned) {
    case -ENOENT:
    case -ENOMEM:
    case -EFAULT:
    case -EBUSY:
    case -EEXIST:
    case -EINVAL:
    case -ENOSPC:
    case -ERANGE:
    case -EOPNOTSUPP: return returned;
    case -ENOTTY:     return VIOMMU_E_UNSUPPORTED;
    case -EOVERFLOW:
    case -EMSGSIZE:   return VIOMMU_E_RANGE;
    default:          return VIOMMU_E_REFUSED;
  }
}

}  // namespace viommu::host
