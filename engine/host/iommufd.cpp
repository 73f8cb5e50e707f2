// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_iommufd of viommu_host.h: address spaces and logging; devices are in iommufd_device.cpp.
#include "engine/host/iommufd.hpp"

#include <new>

#include "engine/host/sized.hpp"

using namespace viommu::host;

namespace {

[[nodiscard]] std::shared_ptr<viommu_iommufd::Space> find(viommu_iommufd& iommufd, std::uint64_t space) noexcept {
  const std::lock_guard lock{iommufd.mutex};
  const auto at = iommufd.spaces.find(space);
  return at == iommufd.spaces.end() ? nullptr : at->second;
}

/// Nobody looks for it meanwhile.
[[nodiscard]] viommu_result destroy(viommu_iommufd::Space& space) noexcept {
  if (space.with_side([](const Ioas& side, auto) { return side.used(); })) return VIOMMU_E_BUSY;
  if (const viommu_result cleared = space.clear(); cleared != VIOMMU_OK) return cleared;
  return result_of(space.with_side([](Ioas& side, auto) { return side.destroy(); }));
}

}  // namespace

extern "C" {

viommu_result viommu_iommufd_create(const struct viommu_host_kernel* kernel, int32_t fd, viommu_iommufd** iommufd) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  *iommufd = nullptr;
  Kernel with;
  if (const viommu_result taken = Kernel::take(kernel, with); taken != VIOMMU_OK) return taken;
  try {
    *iommufd = std::make_unique<viommu_iommufd>(with, fd).release();
  } catch (const std::bad_alloc&) {
    return VIOMMU_E_MEMORY;
  }
  return VIOMMU_OK;
}

void viommu_iommufd_destroy(viommu_iommufd* iommufd) {
  if (iommufd == nullptr) return;
  for (const auto& [number, space] : iommufd->spaces) {
    space->end_log();
    static_cast<void>(destroy(*space));
  }
  delete iommufd;
}

viommu_result viommu_iommufd_space_destroy(viommu_iommufd* iommufd, uint64_t space) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const std::lock_guard lock{iommufd->mutex};
  const auto at = iommufd->spaces.find(space);
  if (at == iommufd->spaces.end()) return VIOMMU_E_NOT_FOUND;
  const viommu_result destroyed = destroy(*at->second);
  if (destroyed == VIOMMU_OK) iommufd->spaces.erase(at);
  return destroyed;
}

viommu_result viommu_iommufd_dirty(viommu_iommufd* iommufd, const struct viommu_dirty_sink* sink) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  viommu_dirty_sink known{};
  if (sink != nullptr && (take(sink, known, sizeof known) != VIOMMU_OK || known.runs == nullptr))
    return VIOMMU_E_ARGUMENT;
  const std::lock_guard lock{iommufd->mutex};
  if ((sink != nullptr) == iommufd->sink.has_value()) return VIOMMU_OK;
  for (auto at = iommufd->spaces.begin(); at != iommufd->spaces.end(); ++at) {
    const viommu_result done = at->second->log(sink == nullptr ? nullptr : &known);
    if (done == VIOMMU_OK) continue;
    while (at != iommufd->spaces.begin()) static_cast<void>((--at)->second->log(nullptr));  // only a start fails
    return done;
  }
  iommufd->sink.reset();
  if (sink != nullptr) iommufd->sink = known;
  return VIOMMU_OK;
}

viommu_result viommu_iommufd_dirty_fetch(viommu_iommufd* iommufd, uint64_t space) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const auto found = find(*iommufd, space);
  return found ? found->fetch() : VIOMMU_E_NOT_FOUND;
}

viommu_result viommu_iommufd_figures(viommu_iommufd* iommufd, uint64_t space, struct viommu_host_figures* figures) {
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  const auto found = find(*iommufd, space);
  return found ? give(found->figures(), figures) : VIOMMU_E_NOT_FOUND;
}

}  // extern "C"
