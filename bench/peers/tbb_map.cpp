// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/tbb_map.hpp"

#include <vector>

namespace viommu::bench {

std::optional<PeerLeaf> TbbMap::fill(std::uint16_t source, std::uint64_t iova) {
  const std::optional<PeerLeaf> leaf = walk_.walk(walk_.context(source).table, iova);
  if (!leaf) return leaf;
  map_.insert({key(source, iova, leaf->size_code), *leaf});
  sizes_.fetch_or(1u << leaf->size_code, std::memory_order_relaxed);
  return leaf;
}

void TbbMap::drop_page(std::uint16_t domain, std::uint64_t iova) {
  const unsigned sizes = sizes_.load(std::memory_order_relaxed);
  for (const std::uint16_t source : walk_.sources(domain)) {
    for (unsigned code = 0; code < TableWalk::size_codes; ++code) {
      if ((sizes >> code & 1) != 0) map_.erase(key(source, iova, code));
    }
  }
}

void TbbMap::drop_domain(std::uint16_t domain) {
  std::vector<std::uint64_t> keys;
  for (const auto& [key, leaf] : map_) {
    if (walk_.context(static_cast<std::uint16_t>(key >> 48)).domain == domain) keys.push_back(key);
  }
  for (const std::uint64_t key : keys) map_.erase(key);
}

}  // namespace viommu::bench
