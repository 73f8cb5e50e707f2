// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#pragma once

#include <cstdint>

#include "engine/host/space.hpp"
#include "engine/host/type1.hpp"

/// A VFIO container and what is mapped in it.
struct viommu_vfio_container {
  viommu_vfio_container(const viommu::host::Kernel& with, std::int32_t container_fd)
      : kernel{with}, fd{container_fd}, space{with, container_fd} {}

  viommu::host::Kernel kernel;
  std::int32_t fd;
  viommu::host::Space<viommu::host::Type1> space;
};
