// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/shared_mutex_map.hpp"

#include <mutex>

namespace viommu::bench {

SharedMutexMap::Intervals::const_iterator SharedMutexMap::find(const Intervals& intervals, std::uint64_t iova) {
  auto after = intervals.upper_bound(iova);
  if (after == intervals.begin()) return intervals.end();
  --after;
  return iova - after->first <= after->second.mask ? after : intervals.end();
}

std::optional<PeerLeaf> SharedMutexMap::translate(std::uint16_t source, std::uint64_t iova) {
  const PeerContext& context = walk_.context(source);
  {
    const std::shared_lock lock{mutex_};
    if (const auto domain = domains_.find(context.domain); domain != domains_.end()) {
      if (const auto found = find(domain->second, iova); found != domain->second.end()) return found->second;
    }
  }
  const std::optional<PeerLeaf> leaf = walk_.walk(context.table, iova);
  if (leaf) {
    const std::lock_guard lock{mutex_};
    domains_[context.domain].emplace(iova & ~leaf->mask, *leaf);
  }
  return leaf;
}

void SharedMutexMap::drop_page(std::uint16_t domain, std::uint64_t iova) {
  const std::lock_guard lock{mutex_};
  const auto intervals = domains_.find(domain);
  if (intervals == domains_.end()) return;
  const auto found = find(intervals->second, iova);
  if (found != intervals->second.end()) intervals->second.erase(found);
}

void SharedMutexMap::drop_domain(std::uint16_t domain) {
  const std::lock_guard lock{mutex_};
  domains_.erase(domain);
}

void SharedMutexMap::drop_all() {
  const std::lock_guard lock{mutex_};
  domains_.clear();
}

}  // namespace viommu::bench
