// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The library's own definitions against the headers of the kernel, where they are installed and know the part.
#include <catch2/catch.hpp>
#include <cstddef>

#include "engine/host/iommufd_layouts.hpp"
#include "engine/host/vfio_layouts.hpp"

#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#endif
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

namespace viommu::host {

TEST_CASE("numbers and structs of VFIO are those of the kernel's header", "[host][vfio]") {
#ifdef VFIO_IOMMU_MAP_DMA
  CHECK(vfio::get_api_version == VFIO_GET_API_VERSION);
  CHECK(vfio::api_version == VFIO_API_VERSION);
  CHECK(vfio::check_extension == VFIO_CHECK_EXTENSION);
  CHECK(vfio::set_iommu == VFIO_SET_IOMMU);
  CHECK(vfio::group_set_container == VFIO_GROUP_SET_CONTAINER);
  CHECK(vfio::group_unset_container == VFIO_GROUP_UNSET_CONTAINER);
  CHECK(vfio::get_info == VFIO_IOMMU_GET_INFO);
  CHECK(vfio::map_dma == VFIO_IOMMU_MAP_DMA);
  CHECK(vfio::unmap_dma == VFIO_IOMMU_UNMAP_DMA);
  CHECK(vfio::dirty_pages == VFIO_IOMMU_DIRTY_PAGES);
  CHECK(vfio::type1v2 == VFIO_TYPE1v2_IOMMU);
  CHECK(vfio::cache_coherent == VFIO_DMA_CC_IOMMU);
  CHECK(vfio::unmap_all == VFIO_UNMAP_ALL);
  CHECK(vfio::map_read == VFIO_DMA_MAP_FLAG_READ);
  CHECK(vfio::map_write == VFIO_DMA_MAP_FLAG_WRITE);
  CHECK(vfio::unmap_get_dirty == VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
  CHECK(vfio::unmap_everything == VFIO_DMA_UNMAP_FLAG_ALL);
  CHECK(vfio::dirty_start == VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
  CHECK(vfio::dirty_stop == VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
  CHECK(vfio::dirty_get == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
  CHECK(vfio::info_pgsizes == VFIO_IOMMU_INFO_PGSIZES);
  CHECK(vfio::info_caps == VFIO_IOMMU_INFO_CAPS);
  CHECK(vfio::capability_ranges == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
  CHECK(vfio::capability_migration == VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
  CHECK(vfio::capability_available == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);

  CHECK(sizeof(vfio::Map) == sizeof(vfio_iommu_type1_dma_map));
  CHECK(offsetof(vfio::Map, vaddr) == offsetof(vfio_iommu_type1_dma_map, vaddr));
  CHECK(offsetof(vfio::Map, iova) == offsetof(vfio_iommu_type1_dma_map, iova));
  CHECK(offsetof(vfio::Map, size) == offsetof(vfio_iommu_type1_dma_map, size));
  CHECK(sizeof(vfio::Unmap) == sizeof(vfio_iommu_type1_dma_unmap));
  CHECK(offsetof(vfio::Unmap, iova) == offsetof(vfio_iommu_type1_dma_unmap, iova));
  CHECK(offsetof(vfio::Unmap, size) == offsetof(vfio_iommu_type1_dma_unmap, size));
  CHECK(offsetof(vfio::UnmapDirty, bitmap) == sizeof(vfio_iommu_type1_dma_unmap));
  CHECK(sizeof(vfio::Bitmap) == sizeof(vfio_bitmap));
  CHECK(offsetof(vfio::Bitmap, size) == offsetof(vfio_bitmap, size));
  CHECK(offsetof(vfio::Bitmap, data) == offsetof(vfio_bitmap, data));
  CHECK(sizeof(vfio::Dirty) == sizeof(vfio_iommu_type1_dirty_bitmap));
  CHECK(sizeof(vfio::DirtyGet) == sizeof(vfio_iommu_type1_dirty_bitmap) + sizeof(vfio_iommu_type1_dirty_bitmap_get));
  CHECK(offsetof(vfio::DirtyGet, bitmap) ==
        sizeof(vfio_iommu_type1_dirty_bitmap) + offsetof(vfio_iommu_type1_dirty_bitmap_get, bitmap));
  CHECK(sizeof(vfio::Info) == sizeof(vfio_iommu_type1_info));
  CHECK(offsetof(vfio::Info, iova_pgsizes) == offsetof(vfio_iommu_type1_info, iova_pgsizes));
  CHECK(offsetof(vfio::Info, cap_offset) == offsetof(vfio_iommu_type1_info, cap_offset));
  CHECK(sizeof(vfio::Capability) == sizeof(vfio_info_cap_header));
  CHECK(offsetof(vfio::Capability, next) == offsetof(vfio_info_cap_header, next));
  CHECK(offsetof(vfio::Ranges, count) == offsetof(vfio_iommu_type1_info_cap_iova_range, nr_iovas));
  CHECK(sizeof(vfio::Ranges) == offsetof(vfio_iommu_type1_info_cap_iova_range, iova_ranges));
  CHECK(sizeof(vfio::Range) == sizeof(vfio_iova_range));
  CHECK(sizeof(vfio::Migration) == sizeof(vfio_iommu_type1_info_cap_migration));
  CHECK(offsetof(vfio::Migration, pgsize_bitmap) == offsetof(vfio_iommu_type1_info_cap_migration, pgsize_bitmap));
  CHECK(offsetof(vfio::Migration, max_dirty_bitmap_size) ==
        offsetof(vfio_iommu_type1_info_cap_migration, max_dirty_bitmap_size));
  CHECK(offsetof(vfio::Available, avail) == offsetof(vfio_iommu_type1_info_dma_avail, avail));
#else
  WARN("skipped: <linux/vfio.h> is not installed");
#endif
#ifdef VFIO_DEVICE_BIND_IOMMUFD
  CHECK(vfio::bind_iommufd == VFIO_DEVICE_BIND_IOMMUFD);
  CHECK(vfio::attach_pt == VFIO_DEVICE_ATTACH_IOMMUFD_PT);
  CHECK(vfio::detach_pt == VFIO_DEVICE_DETACH_IOMMUFD_PT);
  CHECK(sizeof(vfio::Bind) == sizeof(vfio_device_bind_iommufd));
  CHECK(offsetof(vfio::Bind, out_devid) == offsetof(vfio_device_bind_iommufd, out_devid));
  CHECK(offsetof(vfio::Attach, pt_id) == offsetof(vfio_device_attach_iommufd_pt, pt_id));
#else
  WARN("skipped in part: <linux/vfio.h> knows no iommufd");
#endif
}

TEST_CASE("numbers and structs of iommufd are those of the kernel's header", "[host][iommufd]") {
#ifdef IOMMU_IOAS_MAP
  CHECK(iommufd::destroy == IOMMU_DESTROY);
  CHECK(iommufd::ioas_alloc == IOMMU_IOAS_ALLOC);
  CHECK(iommufd::ioas_iova_ranges == IOMMU_IOAS_IOVA_RANGES);
  CHECK(iommufd::ioas_map == IOMMU_IOAS_MAP);
  CHECK(iommufd::ioas_unmap == IOMMU_IOAS_UNMAP);
  CHECK(sizeof(iommufd::IoasMap) == sizeof(iommu_ioas_map));
  CHECK(offsetof(iommufd::IoasMap, iova) == offsetof(iommu_ioas_map, iova));
  CHECK(sizeof(iommufd::IoasUnmap) == sizeof(iommu_ioas_unmap));
  CHECK(sizeof(iommufd::IovaRanges) == sizeof(iommu_ioas_iova_ranges));
  CHECK(offsetof(iommufd::IovaRanges, allowed_iovas) == offsetof(iommu_ioas_iova_ranges, allowed_iovas));
#else
  WARN("skipped: <linux/iommufd.h> is not installed");
#endif
#ifdef IOMMU_HWPT_GET_DIRTY_BITMAP
  CHECK(iommufd::hwpt_alloc == IOMMU_HWPT_ALLOC);
  CHECK(iommufd::get_hw_info == IOMMU_GET_HW_INFO);
  CHECK(iommufd::set_dirty_tracking == IOMMU_HWPT_SET_DIRTY_TRACKING);
  CHECK(iommufd::get_dirty_bitmap == IOMMU_HWPT_GET_DIRTY_BITMAP);
  CHECK(sizeof(iommufd::GetDirty) == sizeof(iommu_hwpt_get_dirty_bitmap));
  CHECK(offsetof(iommufd::GetDirty, data) == offsetof(iommu_hwpt_get_dirty_bitmap, data));
  CHECK(offsetof(iommufd::HwInfo, out_capabilities) == offsetof(iommu_hw_info, out_capabilities));
  CHECK(offsetof(iommufd::HwptAlloc, out_hwpt_id) == offsetof(iommu_hwpt_alloc, out_hwpt_id));
  CHECK(sizeof(iommufd::HwInfoVtd) == sizeof(iommu_hw_info_vtd));
#endif
}

}  // namespace viommu::host
