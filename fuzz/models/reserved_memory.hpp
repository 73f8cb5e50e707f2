// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What an endpoint may not map: doorbells; and, cut by them, what is configured, what its devices have reserved, and
// what their host cannot map. Decided piece by piece between all borders; nothing is shared with the library.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuzz/models/virtio_iommu_model.hpp"

namespace viommu::fuzz {

class ReservedMemory {
 public:
  using Region = VirtioIommuModel::Reserved;

  explicit ReservedMemory(std::span<const Region> configured) {
    for (const Region& region : configured) add(region);
  }
  void add(const Region& region) {
    (region.msi ? doorbells_ : plain_).push_back(region);
    begins_.push_back(region.first);
    if (region.last != top) begins_.push_back(region.last + 1);
  }
  /// Of a host that can map these, ascending; of none it has said nothing.
  void add_holes_of(std::span<const viommu_range> usable) {
    if (usable.empty()) return;
    std::uint64_t next = 0;
    for (const viommu_range& range : usable) {
      if (range.first > next) add({next, range.first - 1});
      if (range.last == top) return;
      next = range.last + 1;
    }
    add({next, top});
  }
  [[nodiscard]] std::vector<Region> regions() {
    std::ranges::sort(begins_);
    begins_.erase(std::unique(begins_.begin(), begins_.end()), begins_.end());
    std::vector<Region> all;
    for (std::size_t i = 0; i < begins_.size(); ++i) {
      const std::uint64_t first = begins_[i];
      const std::uint64_t last = i + 1 < begins_.size() ? begins_[i + 1] - 1 : top;
      const bool msi = covers(doorbells_, first);
      if (!msi && !covers(plain_, first)) continue;
      if (!all.empty() && all.back().msi == msi && all.back().last + 1 == first)
        all.back().last = last;
      else
        all.push_back({first, last, msi});
    }
    return all;
  }

 private:
  static constexpr std::uint64_t top = ~std::uint64_t{0};
  [[nodiscard]] static bool covers(const std::vector<Region>& list, std::uint64_t at) {
    return std::ranges::any_of(list, [&](const Region& one) { return one.first <= at && one.last >= at; });
  }

  std::vector<Region> plain_;
  std::vector<Region> doorbells_;
  std::vector<std::uint64_t> begins_;
};

}  // namespace viommu::fuzz
