// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The ready-made concurrent table: oneTBB's concurrent_hash_map from {device, page, size} to the translation. Page
// sizes that were ever filled are probed in turn. A lookup takes the bucket's and the entry's reader locks.
#pragma once

#include <oneapi/tbb/concurrent_hash_map.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "bench/peers/table_walk.hpp"

namespace viommu::bench {

class TbbMap {
 public:
  explicit TbbMap(const TableWalk& walk) : walk_{walk} {}

  [[nodiscard]] std::optional<PeerLeaf> translate(std::uint16_t source, std::uint64_t iova) {
    const unsigned sizes = sizes_.load(std::memory_order_relaxed);
    for (unsigned code = 0; code < TableWalk::size_codes; ++code) {
      if ((sizes >> code & 1) == 0) continue;
      Map::const_accessor found;
      if (map_.find(found, key(source, iova, code))) return found->second;
    }
    return fill(source, iova);
  }

  void drop_page(std::uint16_t domain, std::uint64_t iova);
  /// Visits every entry, and no other thread may use the map meanwhile.
  void drop_domain(std::uint16_t domain);
  void drop_all() { map_.clear(); }

 private:
  // The allocator of all others, in place of oneTBB's own.
  using Map = tbb::concurrent_hash_map<std::uint64_t, PeerLeaf, tbb::tbb_hash_compare<std::uint64_t>,
                                       std::allocator<std::pair<const std::uint64_t, PeerLeaf>>>;

  [[nodiscard]] static std::uint64_t key(std::uint16_t source, std::uint64_t iova, unsigned code) noexcept {
    return std::uint64_t{source} << 48 | iova >> size_shift(code) << 2 | code;
  }
  std::optional<PeerLeaf> fill(std::uint16_t source, std::uint64_t iova);

  const TableWalk& walk_;
  Map map_;
  std::atomic<unsigned> sizes_{0};
};

}  // namespace viommu::bench
