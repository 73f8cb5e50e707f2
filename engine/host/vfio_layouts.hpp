// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Numbers and structs of VFIO's type1 container and of device files, as the kernel's binary interface has them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace viommu::host::vfio {

/// Request `n` of VFIO, which counts from 100 on in ';'.
constexpr std::uint32_t request(std::uint32_t n) noexcept { return 0x3B00U + 100U + n; }

inline constexpr std::uint32_t get_api_version = request(0);
inline constexpr std::uint32_t check_extension = request(1);  // argument: one of Extension
inline constexpr std::uint32_t set_iommu = request(2);        // argument: one of Extension
inline constexpr std::uint32_t group_set_container = request(4);
inline constexpr std::uint32_t group_unset_container = request(5);
inline constexpr std::uint32_t get_info = request(12);
inline constexpr std::uint32_t map_dma = request(13);
inline constexpr std::uint32_t unmap_dma = request(14);
inline constexpr std::uint32_t dirty_pages = request(17);
inline constexpr std::uint32_t bind_iommufd = request(18);
inline constexpr std::uint32_t attach_pt = request(19);
inline constexpr std::uint32_t detach_pt = request(20);

inline constexpr int api_version = 0;
/// What check_extension asks for.
enum Extension : std::uintptr_t { type1v2 = 3, cache_coherent = 4, unmap_all = 9 };

struct Map {
  std::uint32_t argsz = sizeof(Map);
  std::uint32_t flags = 0;
  std::uint64_t vaddr = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
};
inline constexpr std::uint32_t map_read = 1;
inline constexpr std::uint32_t map_write = 2;

struct Bitmap {
  std::uint64_t pgsize = 0;
  std::uint64_t size = 0;  // bytes
  std::uint64_t data = 0;  // address
};

struct Unmap {
  std::uint32_t argsz = sizeof(Unmap);
  std::uint32_t flags = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;  // out: bytes that were unmapped
};
struct UnmapDirty {
  Unmap unmap{.argsz = sizeof(UnmapDirty)};
  Bitmap bitmap;
};
inline constexpr std::uint32_t unmap_get_dirty = 1;
inline constexpr std::uint32_t unmap_everything = 2;  // with iova and size 0

struct Dirty {
  std::uint32_t argsz = sizeof(Dirty);
  std::uint32_t flags = 0;
};
struct DirtyGet {
  Dirty dirty{.argsz = sizeof(DirtyGet)};
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  Bitmap bitmap;
};
inline constexpr std::uint32_t dirty_start = 1;
inline constexpr std::uint32_t dirty_stop = 2;
inline constexpr std::uint32_t dirty_get = 4;

struct Info {
  std::uint32_t argsz = sizeof(Info);
  std::uint32_t flags = 0;
  std::uint64_t iova_pgsizes = 0;
  std::uint32_t cap_offset = 0;  // from the start of this struct
  std::uint32_t pad = 0;
};
inline constexpr std::uint32_t info_pgsizes = 1;
inline constexpr std::uint32_t info_caps = 2;

/// Begins each capability of the chain.
struct Capability {
  std::uint16_t id = 0;
  std::uint16_t version = 0;
  std::uint32_t next = 0;  // from the start of Info; 0 ends
};
inline constexpr std::uint16_t capability_ranges = 1;
inline constexpr std::uint16_t capability_migration = 2;
inline constexpr std::uint16_t capability_available = 3;

struct Range {
  std::uint64_t start = 0;
  std::uint64_t end = 0;  // inclusive
};
struct Ranges {  // `count` Range follow
  Capability header;
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
};
struct Migration {
  Capability header;
  std::uint32_t flags = 0;
  std::uint32_t pad = 0;
  std::uint64_t pgsize_bitmap = 0;
  std::uint64_t max_dirty_bitmap_size = 0;
};
struct Available {
  Capability header;
  std::uint32_t avail = 0;
};

struct Bind {
  std::uint32_t argsz = sizeof(Bind);
  std::uint32_t flags = 0;
  std::int32_t iommufd = -1;
  std::uint32_t out_devid = 0;
};
/// Without the PASID that later kernels take behind it: they accept this length as well.
struct Attach {
  std::uint32_t argsz = sizeof(Attach);
  std::uint32_t flags = 0;
  std::uint32_t pt_id = 0;
};
struct Detach {
  std::uint32_t argsz = sizeof(Detach);
  std::uint32_t flags = 0;
};

static_assert(sizeof(Map) == 32 && offsetof(Map, vaddr) == 8 && offsetof(Map, iova) == 16 && offsetof(Map, size) == 24);
static_assert(sizeof(Bitmap) == 24 && offsetof(Bitmap, size) == 8 && offsetof(Bitmap, data) == 16);
static_assert(sizeof(Unmap) == 24 && offsetof(Unmap, iova) == 8 && offsetof(Unmap, size) == 16);
static_assert(sizeof(UnmapDirty) == 48 && offsetof(UnmapDirty, bitmap) == 24);
static_assert(sizeof(Dirty) == 8 && sizeof(DirtyGet) == 48 && offsetof(DirtyGet, iova) == 8);
static_assert(offsetof(DirtyGet, size) == 16 && offsetof(DirtyGet, bitmap) == 24);
static_assert(sizeof(Info) == 24 && offsetof(Info, iova_pgsizes) == 8 && offsetof(Info, cap_offset) == 16);
static_assert(sizeof(Capability) == 8 && sizeof(Ranges) == 16 && sizeof(Range) == 16 && sizeof(Available) == 12);
static_assert(sizeof(Migration) == 32 && offsetof(Migration, pgsize_bitmap) == 16);
static_assert(sizeof(Bind) == 16 && sizeof(Attach) == 12 && sizeof(Detach) == 8);

}  // namespace viommu::host::vfio
