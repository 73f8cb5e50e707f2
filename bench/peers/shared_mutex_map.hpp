// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The shape of VMMs written in Rust: domains in an ordered map, each with an ordered map of intervals, all under one
// reader/writer lock. A domain has one table: devices of one domain id with tables of their own are beyond it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <shared_mutex>

#include "bench/peers/table_walk.hpp"

namespace viommu::bench {

class SharedMutexMap {
 public:
  explicit SharedMutexMap(const TableWalk& walk) : walk_{walk} {}

  [[nodiscard]] std::optional<PeerLeaf> translate(std::uint16_t source, std::uint64_t iova);
  void drop_page(std::uint16_t domain, std::uint64_t iova);
  void drop_domain(std::uint16_t domain);
  void drop_all();

 private:
  using Intervals = std::map<std::uint64_t, PeerLeaf>;  // by first address

  [[nodiscard]] static Intervals::const_iterator find(const Intervals& intervals, std::uint64_t iova);

  const TableWalk& walk_;
  std::shared_mutex mutex_;
  std::map<std::uint16_t, Intervals> domains_;
};

}  // namespace viommu::bench
