// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel's side of a VFIO container: one ioctl a call, and what it told about itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/host/kernel.hpp"
#include "engine/host/mappings.hpp"
#include "engine/host/vfio_layouts.hpp"

namespace viommu::host {

/// What VFIO_IOMMU_GET_INFO and its chain of capabilities say.
struct Type1Information {
  std::uint64_t page_sizes = 0;
  std::uint64_t dirty_page_sizes = 0;
  std::uint64_t dirty_bitmap_bytes = 0;
  std::uint32_t mappings_left = ~std::uint32_t{0};
  std::vector<viommu_range> ranges;
};

class Type1 {
 public:
  static constexpr bool bitmaps_span_holes = true;

  Type1(const Kernel& kernel, std::int32_t fd) noexcept;

  /// May throw std::bad_alloc.
  [[nodiscard]] int information(Type1Information& information) const;
  /// Asked once the container has its type: page size and bitmap length of the calls below.
  [[nodiscard]] int learn();

  [[nodiscard]] int map(const Mapping& mapping) const noexcept;
  /// `range` is not everything.
  [[nodiscard]] int unmap(Range range) const noexcept;
  /// In one call, or in two halves where the kernel cannot: the whole has no length. Each part that is gone is told.
  template <class Count, class Gone>
  [[nodiscard]] int unmap_all(Count count, Gone gone) const noexcept {
    if (can_unmap_all_) {
      vfio::Unmap all;
      all.flags = vfio::unmap_everything;
      const int done = count(kernel_(fd_, vfio::unmap_dma, all));
      if (done >= 0) gone(everything);
      return done;
    }
    constexpr std::uint64_t half = std::uint64_t{1} << 63;
    int failed = 0;
    for (const Range part : {Range{0, half - 1}, Range{half, top_address}}) {
      const int done = count(unmap(part));
      if (done >= 0)
        gone(part);
      else
        failed = done;
    }
    return failed;
  }

  [[nodiscard]] int log(bool on) const noexcept;
  /// `range` is one or more whole mappings; `bits` are zero.
  [[nodiscard]] int dirty(Range range, std::span<std::uint64_t> bits) const noexcept;
  [[nodiscard]] int unmap_logged(Range range, std::span<std::uint64_t> bits) const noexcept;
  [[nodiscard]] static bool tells_all() noexcept { return true; }
  [[nodiscard]] std::uint64_t page_bytes() const noexcept { return page_bytes_; }
  [[nodiscard]] std::uint64_t longest_bitmap_bytes() const noexcept { return longest_bitmap_bytes_; }

 private:
  Kernel kernel_;
  std::int32_t fd_;
  bool can_unmap_all_ = false;
  std::uint64_t page_bytes_ = 4096;
  std::uint64_t longest_bitmap_bytes_ = 0;
};

}  // namespace viommu::host
