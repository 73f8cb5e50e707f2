// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A /dev/iommu with its address spaces, and the devices bound to it.
// Locks: `mutex` (which spaces there are, who uses which) before a space's own. A consumer's events take the latter
// alone, so that spaces do not wait for each other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/host/ioas.hpp"
#include "engine/host/space.hpp"

struct viommu_iommufd {
  using Space = viommu::host::Space<viommu::host::Ioas>;

  viommu_iommufd(const viommu::host::Kernel& with, std::int32_t own_fd) : kernel{with}, fd{own_fd} {}

  viommu::host::Kernel kernel;
  std::int32_t fd;
  std::mutex mutex;
  std::map<std::uint64_t, std::shared_ptr<Space>> spaces;
  std::optional<viommu_dirty_sink> sink;
};

struct viommu_iommufd_device {
  viommu_iommufd* iommufd = nullptr;
  std::int32_t fd = -1;
  std::uint32_t id = 0;
  int asked = 0;  // what the kernel answered to the question for the rest of this
  viommu_iommufd_information information{};
  std::shared_ptr<viommu_iommufd::Space> space;  // that events are for
  std::shared_ptr<viommu_iommufd::Space> joined;
  std::uint32_t table = 0;  // of `joined`
};

namespace viommu::host {

/// As viommu_iommufd_device_attach(); but where that fails the device is detached, and events are for `space` all the
/// same: it may have other users. `*blocked`: whether it could be detached.
[[nodiscard]] viommu_result attach_or_block(viommu_iommufd_device& device, std::uint64_t space, bool* blocked) noexcept;

/// The space of a number, made if need be (`made`), under the iommufd's lock. @return 0 or a negative errno
[[nodiscard]] int find_or_make(viommu_iommufd& iommufd, std::uint64_t number,
                               std::shared_ptr<viommu_iommufd::Space>& space, bool& made) noexcept;
/// A space that nobody is told of any more: it goes now, or with the last device that uses it.
void give_up_space(viommu_iommufd& iommufd, std::uint64_t number) noexcept;
/// Those that can go by now, under the iommufd's lock.
void destroy_given_up(viommu_iommufd& iommufd) noexcept;

}  // namespace viommu::host
