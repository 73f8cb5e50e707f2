// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/host/ioas.hpp"

#include <algorithm>
#include <cstddef>

#include "engine/host/vfio_layouts.hpp"

namespace viommu::host {

Ioas::Ioas(const Kernel& kernel, std::int32_t fd, std::uint32_t id) noexcept : kernel_{kernel}, fd_{fd}, id_{id} {}

int Ioas::ranges(IoasRanges& out) const {
  constexpr unsigned tries = 8;
  constexpr std::size_t most = std::size_t{1} << 16;
  std::vector<iommufd::Range> found(8);
  for (unsigned i = 0;; ++i) {
    iommufd::IovaRanges get;
    get.ioas_id = id_;
    get.num_iovas = static_cast<std::uint32_t>(found.size());
    get.allowed_iovas = reinterpret_cast<std::uintptr_t>(found.data());
    const int done = kernel_(fd_, iommufd::ioas_iova_ranges, get);
    if (done >= 0 && get.num_iovas <= found.size()) {
      found.resize(get.num_iovas);
      out.ranges.clear();
      for (const iommufd::Range& range : found) out.ranges.push_back({range.start, range.last});
      out.alignment = get.out_iova_alignment;
      return 0;
    }
    if (done < 0 && done != -EMSGSIZE) return done;
    // A device that came meanwhile may have made more of them.
    if (i == tries || get.num_iovas <= found.size() || get.num_iovas > most) return -EMSGSIZE;
    found.assign(get.num_iovas, {});
  }
}

int Ioas::map(const Mapping& mapping) const noexcept {
  iommufd::IoasMap map;
  map.flags = iommufd::map_fixed_iova;
  if ((mapping.rights & VIOMMU_READ) != 0) map.flags |= iommufd::map_readable;
  if ((mapping.rights & VIOMMU_WRITE) != 0) map.flags |= iommufd::map_writeable;
  map.ioas_id = id_;
  map.user_va = mapping.hva;
  map.length = length_of(mapping.range);
  map.iova = mapping.range.first;
  return kernel_(fd_, iommufd::ioas_map, map);
}

int Ioas::unmap(Range range) const noexcept {
  iommufd::IoasUnmap unmap;
  unmap.ioas_id = id_;
  unmap.iova = range.first;
  unmap.length = length_of(range);
  return kernel_(fd_, iommufd::ioas_unmap, unmap);
}

int Ioas::unmap_everything() const noexcept {
  iommufd::IoasUnmap unmap;
  unmap.ioas_id = id_;
  unmap.length = iommufd::unmap_everything;
  return kernel_(fd_, iommufd::ioas_unmap, unmap);
}

int Ioas::set_logging(std::uint32_t table, bool on) const noexcept {
  iommufd::SetDirty set;
  set.flags = on ? iommufd::dirty_enable : 0;
  set.hwpt_id = table;
  return kernel_(fd_, iommufd::set_dirty_tracking, set);
}

int Ioas::log(bool on) noexcept {
  if (on && unlogged_ != 0) return -EOPNOTSUPP;
  int failed = 0;
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const int done = set_logging(tables_[i].id, on);
    if (done >= 0) continue;
    failed = done;
    if (!on) continue;  // the others are to end at any rate
    while (i != 0) static_cast<void>(set_logging(tables_[--i].id, false));
    return failed;
  }
  // One that could not be ended goes on for nothing; nobody asks it any more.
  logging_ = on;
  return 0;
}

int Ioas::get_dirty(Range range, std::span<std::uint64_t> bits, std::uint32_t flags) const noexcept {
  for (const Table& table : tables_) {  // each adds its bits
    iommufd::GetDirty get;
    get.hwpt_id = table.id;
    get.flags = flags;
    get.iova = range.first;
    get.length = length_of(range);
    get.page_size = page_bytes_;
    get.data = reinterpret_cast<std::uintptr_t>(bits.data());
    if (const int done = kernel_(fd_, iommufd::get_dirty_bitmap, get); done < 0) return done;
  }
  return 0;
}

int Ioas::dirty(Range range, std::span<std::uint64_t> bits) const noexcept { return get_dirty(range, bits, 0); }

int Ioas::unmap_logged(Range range, std::span<std::uint64_t> bits) const noexcept {
  // Not cleared: the flags go with the mapping, and clearing them would cost a flush of the IOMMU's cache.
  const int done = get_dirty(range, bits, iommufd::dirty_no_clear);
  return done < 0 ? done : unmap(range);
}

int Ioas::join(std::int32_t device_fd, std::uint32_t device, bool logs, std::uint32_t& table) {
  vfio::Attach attach;
  if (!logs) {
    attach.pt_id = id_;
    const int done = kernel_(device_fd, vfio::attach_pt, attach);
    if (done < 0) return done;
    ++unlogged_;
    table = id_;
    return done;
  }
  for (Table& there : tables_) {
    attach.pt_id = there.id;
    const int done = kernel_(device_fd, vfio::attach_pt, attach);
    if (done < 0 && done != -EINVAL) return done;
    if (done < 0) continue;  // this device's IOMMU cannot use it
    ++there.users;
    table = there.id;
    return done;
  }
  tables_.reserve(tables_.size() + 1);  // nothing can fail once the kernel has made one
  iommufd::HwptAlloc make;
  make.flags = iommufd::hwpt_dirty_tracking;
  make.dev_id = device;
  make.pt_id = id_;
  int done = kernel_(fd_, iommufd::hwpt_alloc, make);
  if (done < 0) return done;
  tables_.push_back({make.out_hwpt_id, 0});
  attach.pt_id = make.out_hwpt_id;
  if (logging_) done = set_logging(make.out_hwpt_id, true);
  if (done >= 0) done = kernel_(device_fd, vfio::attach_pt, attach);
  if (done < 0) {
    destroy_unused();
    return done;
  }
  tables_.back().users = 1;
  table = make.out_hwpt_id;
  return done;
}

void Ioas::leave(std::uint32_t table) noexcept {
  if (table == id_) {
    --unlogged_;
    return;
  }
  for (Table& there : tables_)
    if (there.id == table) --there.users;
  destroy_unused();
}

bool Ioas::used() const noexcept {
  return unlogged_ != 0 || std::ranges::any_of(tables_, [](const Table& table) { return table.users != 0; });
}

int Ioas::destroy(std::uint32_t id) const noexcept {
  iommufd::Destroy destroy;
  destroy.id = id;
  return kernel_(fd_, iommufd::destroy, destroy);
}

/// One that the kernel keeps stays, for the next device or the next try.
void Ioas::destroy_unused() noexcept {
  std::erase_if(tables_, [this](const Table& table) { return table.users == 0 && destroy(table.id) >= 0; });
}

int Ioas::destroy() noexcept {
  destroy_unused();
  return destroy(id_);
}

}  // namespace viommu::host
