// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_iommufd_device of viommu_host.h: what the host's IOMMU can do for it, and which address space it uses.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <new>
#include <span>

#include "engine/host/facts.hpp"
#include "engine/host/iommufd.hpp"
#include "engine/host/sized.hpp"
#include "engine/host/vfio_layouts.hpp"

namespace viommu::host {
namespace {

using SpacePointer = std::shared_ptr<viommu_iommufd::Space>;

/// What GET_HW_INFO says. A device whose IOMMU says nothing can be used all the same.
void ask(viommu_iommufd_device& device) noexcept {
  iommufd::HwInfoVtd vtd;
  iommufd::HwInfo info;
  info.dev_id = device.id;
  info.data_len = sizeof vtd;
  info.data_uptr = reinterpret_cast<std::uintptr_t>(&vtd);
  device.asked = device.iommufd->kernel(device.iommufd->fd, iommufd::get_hw_info, info);
  if (device.asked < 0) return;
  device.information.kind = info.out_data_type;
  device.information.logs = (info.out_capabilities & iommufd::capability_dirty_tracking) != 0 ? 1 : 0;
  if (info.out_data_type != VIOMMU_HOST_KIND_VTD) return;
  device.information.capability = vtd.cap_reg;
  device.information.extended_capability = vtd.ecap_reg;
}

void leave(SpacePointer& space, std::uint32_t table) noexcept {
  if (!space) return;
  space->with_side([&](Ioas& side, auto fetch) {
    static_cast<void>(fetch());  // what was written by way of this table goes with it
    side.leave(table);
  });
  space.reset();
}

/// Under the iommufd's lock.
[[nodiscard]] int join(viommu_iommufd_device& device, const SpacePointer& space) noexcept {
  if (device.joined == space) return 0;
  std::uint32_t table = 0;
  int done = 0;
  try {
    done = space->with_side(
        [&](Ioas& side, auto) { return side.join(device.fd, device.id, device.information.logs != 0, table); });
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  if (done < 0) return done;
  leave(device.joined, device.table);
  device.joined = space;
  device.table = table;
  destroy_given_up(*device.iommufd);
  return 0;
}

[[nodiscard]] int detach(viommu_iommufd_device& device) noexcept {
  if (!device.joined) return 0;
  vfio::Detach detach;
  const int done = device.iommufd->kernel(device.fd, vfio::detach_pt, detach);
  if (done < 0) return done;
  leave(device.joined, device.table);
  destroy_given_up(*device.iommufd);
  return done;
}

[[nodiscard]] int ranges_of(viommu_iommufd_device& device, IoasRanges& ranges) noexcept {
  const std::lock_guard lock{device.iommufd->mutex};
  if (!device.joined) return -ENODEV;
  try {
    return device.joined->with_side([&](const Ioas& side, auto) { return side.ranges(ranges); });
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

std::int32_t kind(void* opaque, std::uint32_t* kind) {
  const auto& device = *static_cast<const viommu_iommufd_device*>(opaque);
  if (device.asked >= 0) *kind = device.information.kind;
  return std::min(device.asked, 0);
}

std::int32_t capabilities(void* opaque, std::uint64_t* cap, std::uint64_t* ecap) {
  const auto& device = *static_cast<const viommu_iommufd_device*>(opaque);
  if (device.asked < 0) return device.asked;
  if (device.information.kind != VIOMMU_HOST_KIND_VTD) return -EOPNOTSUPP;
  *cap = device.information.capability;
  *ecap = device.information.extended_capability;
  return 0;
}

std::int32_t width(void* opaque, std::uint32_t* bits) {
  IoasRanges ranges;
  const int done = ranges_of(*static_cast<viommu_iommufd_device*>(opaque), ranges);
  if (done >= 0) *bits = width_of(ranges.ranges);
  return std::min(done, 0);
}

std::int32_t iova_ranges(void* opaque, viommu_range* to, std::uint32_t capacity, std::uint32_t* count) {
  IoasRanges ranges;
  const int done = ranges_of(*static_cast<viommu_iommufd_device*>(opaque), ranges);
  if (done < 0) return done;
  give(ranges.ranges, to, capacity);
  *count = static_cast<std::uint32_t>(ranges.ranges.size());
  return 0;
}

/// Any multiple of the alignment will do.
std::int32_t page_sizes(void* opaque, std::uint64_t* mask) {
  IoasRanges ranges;
  const int done = ranges_of(*static_cast<viommu_iommufd_device*>(opaque), ranges);
  if (done < 0) return done;
  if (ranges.alignment == 0) return -EOPNOTSUPP;
  *mask = ~(ranges.alignment - 1);
  return 0;
}

}  // namespace

viommu_result attach_or_block(viommu_iommufd_device& device, std::uint64_t number, bool* blocked) noexcept {
  const std::lock_guard lock{device.iommufd->mutex};
  *blocked = false;
  SpacePointer space;
  bool made = false;
  int done = find_or_make(*device.iommufd, number, space, made);
  if (done >= 0) done = join(device, space);
  if (done < 0) *blocked = detach(device) >= 0;
  device.space = space;
  return result_of(done);
}

}  // namespace viommu::host

using namespace viommu::host;

extern "C" {

viommu_result viommu_iommufd_device_create(viommu_iommufd* iommufd, int32_t fd, viommu_iommufd_device** device) {
  if (device == nullptr) return VIOMMU_E_ARGUMENT;
  *device = nullptr;
  if (iommufd == nullptr) return VIOMMU_E_ARGUMENT;
  try {
    auto made = std::make_unique<viommu_iommufd_device>();
    made->iommufd = iommufd;
    made->fd = fd;
    vfio::Bind bind;
    bind.iommufd = iommufd->fd;
    if (const int done = iommufd->kernel(fd, vfio::bind_iommufd, bind); done < 0) return result_of(done);
    made->id = bind.out_devid;
    ask(*made);
    *device = made.release();
  } catch (const std::bad_alloc&) {
    return VIOMMU_E_MEMORY;
  }
  return VIOMMU_OK;
}

void viommu_iommufd_device_destroy(viommu_iommufd_device* device) {
  if (device == nullptr) return;
  static_cast<void>(viommu_iommufd_device_detach(device));
  delete device;
}

viommu_result viommu_iommufd_device_information(viommu_iommufd_device* device,
                                                struct viommu_iommufd_information* information) {
  if (device == nullptr) return VIOMMU_E_ARGUMENT;
  if (device->asked < 0) return result_of(device->asked);
  return give(device->information, information);
}

viommu_result viommu_iommufd_device_attach(viommu_iommufd_device* device, uint64_t space) {
  if (device == nullptr) return VIOMMU_E_ARGUMENT;
  viommu_iommufd& iommufd = *device->iommufd;
  const std::lock_guard lock{iommufd.mutex};
  SpacePointer found;
  bool made = false;
  int done = find_or_make(iommufd, space, found, made);
  if (done >= 0) done = join(*device, found);
  if (done >= 0) {
    device->space = found;
  } else if (found && made) {
    static_cast<void>(found->with_side([](Ioas& side, auto) { return side.destroy(); }));
    iommufd.spaces.erase(space);
  }
  return result_of(done);
}

viommu_result viommu_iommufd_device_detach(viommu_iommufd_device* device) {
  if (device == nullptr) return VIOMMU_E_ARGUMENT;
  const std::lock_guard lock{device->iommufd->mutex};
  return result_of(detach(*device));
}

void viommu_iommufd_device_events(viommu_iommufd_device* device, struct viommu_event* events, uint32_t count) {
  if (device == nullptr || events == nullptr) return;
  if (device->space) return device->space->apply({events, count});
  for (viommu_event& event : std::span{events, count}) event.status = VIOMMU_E_NOT_FOUND;
}

viommu_result viommu_iommufd_device_facts(viommu_iommufd_device* device, struct viommu_host_facts* facts) {
  if (device == nullptr) return VIOMMU_E_ARGUMENT;
  viommu_host_facts found{};
  found.opaque = device;
  found.backend = VIOMMU_BACKEND_IOMMUFD;
  found.kind = kind;
  found.width = width;
  found.capabilities = capabilities;
  found.iova_ranges = iova_ranges;
  found.page_sizes = page_sizes;
  return give(found, facts);
}

}  // extern "C"
