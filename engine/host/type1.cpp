// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/host/type1.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace viommu::host {
namespace {

/// A struct at `offset` of what the kernel wrote, if all of it is there.
template <class Struct>
[[nodiscard]] bool read(std::span<const std::byte> bytes, std::size_t offset, Struct& out) noexcept {
  if (offset > bytes.size() || bytes.size() - offset < sizeof out) return false;
  std::memcpy(&out, bytes.data() + offset, sizeof out);
  return true;
}

void read_ranges(std::span<const std::byte> bytes, std::size_t offset, std::vector<viommu_range>& ranges) {
  vfio::Ranges head;
  if (!read(bytes, offset, head)) return;
  for (std::uint32_t i = 0; i < head.count; ++i) {  // ends: where the bytes do, at the latest
    vfio::Range range;
    if (!read(bytes, offset + sizeof head + std::size_t{i} * sizeof range, range)) return;
    ranges.push_back({range.start, range.end});
  }
}

vfio::Bitmap bitmap_of(std::span<std::uint64_t> bits, std::uint64_t page_bytes) noexcept {
  return {page_bytes, bits.size_bytes(), reinterpret_cast<std::uintptr_t>(bits.data())};
}

}  // namespace

Type1::Type1(const Kernel& kernel, std::int32_t fd) noexcept : kernel_{kernel}, fd_{fd} {}

int Type1::information(Type1Information& information) const {
  // The kernel says how long its answer is; it may grow between two calls, but not for ever.
  constexpr std::size_t longest = std::size_t{1} << 20;
  constexpr unsigned tries = 8;
  std::vector<std::byte> bytes(sizeof(vfio::Info));
  vfio::Info info;
  for (unsigned i = 0;; ++i) {
    info = {};
    info.argsz = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &info, sizeof info);
    const int done = kernel_.number(fd_, vfio::get_info, reinterpret_cast<std::uintptr_t>(bytes.data()));
    if (done < 0) return done;
    std::memcpy(&info, bytes.data(), sizeof info);
    if (info.argsz <= bytes.size()) break;
    if (i == tries || info.argsz > longest) return -EMSGSIZE;
    bytes.assign(info.argsz, std::byte{});
  }

  information = {};
  if ((info.flags & vfio::info_pgsizes) != 0) information.page_sizes = info.iova_pgsizes;
  if ((info.flags & vfio::info_caps) == 0) return 0;
  std::size_t offset = info.cap_offset;
  for (std::size_t left = bytes.size() / sizeof(vfio::Capability); offset != 0 && left != 0; --left) {  // no circles
    vfio::Capability header;
    if (!read(bytes, offset, header)) break;
    vfio::Migration migration;
    vfio::Available available;
    switch (header.id) {
      case vfio::capability_ranges: read_ranges(bytes, offset, information.ranges); break;
      case vfio::capability_migration:
        if (!read(bytes, offset, migration)) break;
        information.dirty_page_sizes = migration.pgsize_bitmap;
        information.dirty_bitmap_bytes = migration.max_dirty_bitmap_size;
        break;
      case vfio::capability_available:
        if (read(bytes, offset, available)) information.mappings_left = available.avail;
        break;
      default: break;  // of a later kernel
    }
    offset = header.next;
  }
  return 0;
}

int Type1::learn() {
  Type1Information known;
  if (const int done = information(known); done < 0) return done;
  if (known.page_sizes != 0) page_bytes_ = known.page_sizes & -known.page_sizes;
  if ((known.dirty_page_sizes & page_bytes_) != 0) longest_bitmap_bytes_ = known.dirty_bitmap_bytes;
  can_unmap_all_ = kernel_.number(fd_, vfio::check_extension, vfio::unmap_all) > 0;
  return 0;
}

int Type1::map(const Mapping& mapping) const noexcept {
  vfio::Map map;
  if ((mapping.rights & VIOMMU_READ) != 0) map.flags |= vfio::map_read;
  if ((mapping.rights & VIOMMU_WRITE) != 0) map.flags |= vfio::map_write;
  map.vaddr = mapping.hva;
  map.iova = mapping.range.first;
  map.size = length_of(mapping.range);
  return kernel_(fd_, vfio::map_dma, map);
}

int Type1::unmap(Range range) const noexcept {
  vfio::Unmap unmap;
  unmap.iova = range.first;
  unmap.size = length_of(range);
  return kernel_(fd_, vfio::unmap_dma, unmap);
}

int Type1::log(bool on) const noexcept {
  if (longest_bitmap_bytes_ == 0) return -EOPNOTSUPP;
  vfio::Dirty dirty;
  dirty.flags = on ? vfio::dirty_start : vfio::dirty_stop;
  return kernel_(fd_, vfio::dirty_pages, dirty);
}

int Type1::dirty(Range range, std::span<std::uint64_t> bits) const noexcept {
  vfio::DirtyGet get;
  get.dirty.flags = vfio::dirty_get;
  get.iova = range.first;
  get.size = length_of(range);
  get.bitmap = bitmap_of(bits, page_bytes_);
  return kernel_(fd_, vfio::dirty_pages, get);
}

int Type1::unmap_logged(Range range, std::span<std::uint64_t> bits) const noexcept {
  vfio::UnmapDirty unmap;
  unmap.unmap.flags = vfio::unmap_get_dirty;
  unmap.unmap.iova = range.first;
  unmap.unmap.size = length_of(range);
  unmap.bitmap = bitmap_of(bits, page_bytes_);
  return kernel_(fd_, vfio::unmap_dma, unmap);
}

}  // namespace viommu::host
