// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/reserved.hpp"

#include <algorithm>
#include <cstddef>

namespace viommu::virtio_iommu {
namespace {

constexpr std::uint64_t top = ~std::uint64_t{0};

[[nodiscard]] bool by_first(const ReservedRegion& a, const ReservedRegion& b) noexcept {
  return a.range.first < b.range.first;
}

/// As many as there is room for, which is counted before.
class RangeList {
 public:
  explicit RangeList(HostArray<ReservedRegion>& into) noexcept : into_{into} {}

  void push(IovaRange range, ReservedMemoryKind kind) noexcept { into_[count_++] = {range, kind}; }
  [[nodiscard]] std::span<ReservedRegion> all() noexcept { return {into_.begin(), count_}; }
  /// Sorts, and joins what overlaps or goes on.
  void merge() noexcept {
    std::ranges::sort(all(), by_first);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const IovaRange range = into_[i].range;
      IovaRange* const last = kept == 0 ? nullptr : &into_[kept - 1].range;
      if (last != nullptr && (last->last.value == top || range.first <= last->last + 1))
        last->last = std::max(last->last, range.last);
      else
        into_[kept++] = into_[i];
    }
    count_ = kept;
  }

 private:
  HostArray<ReservedRegion>& into_;
  std::size_t count_ = 0;
};

/// What the host cannot map lies between what it can.
template <class Push>
void for_each_hole(std::span<const IovaRange> usable, const Push& push) noexcept {
  Iova next{0};
  for (const IovaRange& range : usable) {
    if (range.first > next) push(IovaRange{next, {range.first.value - 1}});
    if (range.last.value == top) return;
    next = range.last + 1;
  }
  push(IovaRange{next, {top}});
}

}  // namespace

bool collect_reserved(const ReservedSources& sources, const HostAllocator& allocator,
                      HostArray<ReservedRegion>& regions) noexcept {
  const auto doorbells = static_cast<std::size_t>(std::ranges::count_if(
      sources.configured, [](const ReservedRegion& region) { return region.kind == ReservedMemoryKind::msi; }));
  const std::size_t most = sources.configured.size() + sources.device.size() + sources.usable.size() + 1;
  HostArray<ReservedRegion> merged_room;
  HostArray<ReservedRegion> room;
  if (!merged_room.reset(allocator, most) || !room.reset(allocator, most + doorbells)) return false;

  RangeList merged{merged_room};
  for (const ReservedRegion& region : sources.configured)
    if (region.kind == ReservedMemoryKind::reserved) merged.push(region.range, region.kind);
  for (const GpaRange& range : sources.device)
    merged.push({{range.first.value}, {range.last.value}}, ReservedMemoryKind::reserved);
  if (sources.has_usable)
    for_each_hole(sources.usable, [&](IovaRange hole) { merged.push(hole, ReservedMemoryKind::reserved); });
  merged.merge();

  // Each doorbell cuts at most one more piece out of what is around it.
  RangeList all{room};
  for (const ReservedRegion& region : sources.configured)
    if (region.kind == ReservedMemoryKind::msi) all.push(region.range, region.kind);
  std::ranges::sort(all.all(), by_first);
  const std::size_t count = all.all().size();
  for (const ReservedRegion& region : merged.all()) {
    Iova first = region.range.first;
    bool is_left = true;
    for (const ReservedRegion& doorbell : all.all().first(count)) {
      if (!is_left || doorbell.range.last < first || doorbell.range.first > region.range.last) continue;
      if (doorbell.range.first > first) all.push({first, {doorbell.range.first.value - 1}}, region.kind);
      is_left = doorbell.range.last < region.range.last;
      if (is_left) first = doorbell.range.last + 1;
    }
    if (is_left) all.push({first, region.range.last}, region.kind);
  }
  std::ranges::sort(all.all(), by_first);
  if (!regions.reset(allocator, all.all().size())) return false;
  std::ranges::copy(all.all(), regions.begin());
  return true;
}

}  // namespace viommu::virtio_iommu
