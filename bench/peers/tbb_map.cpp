// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/tbb_map.hpp"

namespace viommu::bench {

std::optional<PeerLeaf> TbbMap::fill(const PeerContext& context, std::uint64_t iova) {
  const std::optional<PeerLeaf> leaf = walk_.walk(context.table, iova);
  if (!leaf) return leaf;
  map_.insert({key(context.domain, iova, leaf->size_code), *leaf});
  sizes_.fetch_or(1u << leaf->size_code, std::memory_order_relaxed);
  return leaf;
}

}  // namespace viommu::bench
