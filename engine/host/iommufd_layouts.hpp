// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Numbers and structs of /dev/iommu, as the kernel's binary interface has them. Each struct begins with its size.
#pragma once

#include <cstddef>
#include <cstdint>

namespace viommu::host::iommufd {

/// Command `n` of iommufd, which counts from 128 on in ';'.
constexpr std::uint32_t command(std::uint32_t n) noexcept { return 0x3B00U + 128U + n; }

inline constexpr std::uint32_t destroy = command(0);
inline constexpr std::uint32_t ioas_alloc = command(1);
inline constexpr std::uint32_t ioas_iova_ranges = command(4);
inline constexpr std::uint32_t ioas_map = command(5);
inline constexpr std::uint32_t ioas_unmap = command(6);
inline constexpr std::uint32_t hwpt_alloc = command(9);
inline constexpr std::uint32_t get_hw_info = command(10);
inline constexpr std::uint32_t set_dirty_tracking = command(11);
inline constexpr std::uint32_t get_dirty_bitmap = command(12);

struct Destroy {
  std::uint32_t size = sizeof(Destroy);
  std::uint32_t id = 0;
};

struct IoasAlloc {
  std::uint32_t size = sizeof(IoasAlloc);
  std::uint32_t flags = 0;
  std::uint32_t out_ioas_id = 0;
};

struct Range {
  std::uint64_t start = 0;
  std::uint64_t last = 0;
};
struct IovaRanges {
  std::uint32_t size = sizeof(IovaRanges);
  std::uint32_t ioas_id = 0;
  std::uint32_t num_iovas = 0;  // room; out: how many there are
  std::uint32_t reserved = 0;
  std::uint64_t allowed_iovas = 0;  // address of an array of Range
  std::uint64_t out_iova_alignment = 0;
};

struct IoasMap {
  std::uint32_t size = sizeof(IoasMap);
  std::uint32_t flags = 0;
  std::uint32_t ioas_id = 0;
  std::uint32_t reserved = 0;
  std::uint64_t user_va = 0;
  std::uint64_t length = 0;
  std::uint64_t iova = 0;
};
inline constexpr std::uint32_t map_fixed_iova = 1;
inline constexpr std::uint32_t map_writeable = 2;
inline constexpr std::uint32_t map_readable = 4;

struct IoasUnmap {
  std::uint32_t size = sizeof(IoasUnmap);
  std::uint32_t ioas_id = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0;  // out: bytes that were unmapped
};
/// With iova 0: all there is.
inline constexpr std::uint64_t unmap_everything = ~std::uint64_t{0};

struct HwptAlloc {
  std::uint32_t size = sizeof(HwptAlloc);
  std::uint32_t flags = 0;
  std::uint32_t dev_id = 0;
  std::uint32_t pt_id = 0;
  std::uint32_t out_hwpt_id = 0;
  std::uint32_t reserved = 0;
  std::uint32_t data_type = 0;
  std::uint32_t data_len = 0;
  std::uint64_t data_uptr = 0;
  std::uint32_t fault_id = 0;
  std::uint32_t reserved2 = 0;
};
inline constexpr std::uint32_t hwpt_dirty_tracking = 2;

struct HwInfo {
  std::uint32_t size = sizeof(HwInfo);
  std::uint32_t flags = 0;
  std::uint32_t dev_id = 0;
  std::uint32_t data_len = 0;   // room; out: how much there is
  std::uint64_t data_uptr = 0;  // address of what out_data_type says
  std::uint32_t out_data_type = 0;
  std::uint32_t out_max_pasid_log2 = 0;
  std::uint64_t out_capabilities = 0;
};
inline constexpr std::uint64_t capability_dirty_tracking = 1;

struct HwInfoVtd {
  std::uint32_t flags = 0;
  std::uint32_t reserved = 0;
  std::uint64_t cap_reg = 0;
  std::uint64_t ecap_reg = 0;
};

struct SetDirty {
  std::uint32_t size = sizeof(SetDirty);
  std::uint32_t flags = 0;
  std::uint32_t hwpt_id = 0;
  std::uint32_t reserved = 0;
};
inline constexpr std::uint32_t dirty_enable = 1;

struct GetDirty {
  std::uint32_t size = sizeof(GetDirty);
  std::uint32_t hwpt_id = 0;
  std::uint32_t flags = 0;
  std::uint32_t reserved = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  std::uint64_t page_size = 0;
  std::uint64_t data = 0;  // address of the bitmap
};
inline constexpr std::uint32_t dirty_no_clear = 1;

static_assert(sizeof(Destroy) == 8 && sizeof(IoasAlloc) == 12 && offsetof(IoasAlloc, out_ioas_id) == 8);
static_assert(sizeof(IovaRanges) == 32 && offsetof(IovaRanges, num_iovas) == 8 && sizeof(Range) == 16);
static_assert(offsetof(IovaRanges, allowed_iovas) == 16 && offsetof(IovaRanges, out_iova_alignment) == 24);
static_assert(sizeof(IoasMap) == 40 && offsetof(IoasMap, ioas_id) == 8 && offsetof(IoasMap, user_va) == 16);
static_assert(offsetof(IoasMap, length) == 24 && offsetof(IoasMap, iova) == 32);
static_assert(sizeof(IoasUnmap) == 24 && offsetof(IoasUnmap, iova) == 8 && offsetof(IoasUnmap, length) == 16);
static_assert(sizeof(HwptAlloc) == 48 && offsetof(HwptAlloc, out_hwpt_id) == 16 &&
              offsetof(HwptAlloc, data_type) == 24);
static_assert(offsetof(HwptAlloc, data_uptr) == 32 && offsetof(HwptAlloc, fault_id) == 40);
static_assert(sizeof(HwInfo) == 40 && offsetof(HwInfo, data_uptr) == 16 && offsetof(HwInfo, out_data_type) == 24);
static_assert(offsetof(HwInfo, out_capabilities) == 32 && sizeof(HwInfoVtd) == 24 && offsetof(HwInfoVtd, cap_reg) == 8);
static_assert(sizeof(SetDirty) == 16 && offsetof(SetDirty, hwpt_id) == 8);
static_assert(sizeof(GetDirty) == 48 && offsetof(GetDirty, flags) == 8 && offsetof(GetDirty, iova) == 16);
static_assert(offsetof(GetDirty, page_size) == 32 && offsetof(GetDirty, data) == 40);

}  // namespace viommu::host::iommufd
