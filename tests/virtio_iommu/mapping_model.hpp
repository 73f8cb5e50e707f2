// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the mappings of a domain are by the specification's own words, on an ordered map.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <vector>

#include "engine/virtio_iommu/mappings.hpp"

namespace viommu::test {

class MappingModel {
 public:
  using Mapping = virtio_iommu::Mapping;

  [[nodiscard]] bool overlaps(IovaRange range) const {
    const auto found = from(range.first.value);
    return found != mappings_.end() && found->second.range.first <= range.last;
  }
  void insert(const Mapping& mapping) { mappings_.emplace(mapping.range.last.value, mapping); }
  /// Whether one is only partly covered.
  [[nodiscard]] bool splits(IovaRange range) const {
    for (auto at = from(range.first.value); at != mappings_.end() && at->second.range.first <= range.last; ++at)
      if (at->second.range.first < range.first || at->second.range.last > range.last) return true;
    return false;
  }
  /// Those that went, in order. Nothing splits the range.
  std::vector<Mapping> remove(IovaRange range) {
    std::vector<Mapping> gone;
    for (auto at = from(range.first.value); at != mappings_.end() && at->second.range.last <= range.last;) {
      gone.push_back(at->second);
      at = mappings_.erase(at);
    }
    return gone;
  }
  [[nodiscard]] std::optional<Mapping> find(Iova iova) const {
    const auto found = from(iova.value);
    if (found == mappings_.end() || found->second.range.first > iova) return std::nullopt;
    return found->second;
  }
  [[nodiscard]] std::optional<Mapping> first_from(Iova iova) const {
    const auto found = from(iova.value);
    return found == mappings_.end() ? std::nullopt : std::optional{found->second};
  }
  [[nodiscard]] std::vector<Mapping> all() const {
    std::vector<Mapping> list;
    for (const auto& [last, mapping] : mappings_) list.push_back(mapping);
    return list;
  }
  [[nodiscard]] std::size_t size() const { return mappings_.size(); }
  void clear() { mappings_.clear(); }
  [[nodiscard]] const Mapping& nth(std::size_t index) const {
    return std::next(mappings_.begin(), static_cast<std::ptrdiff_t>(index))->second;
  }

 private:
  using Map = std::map<std::uint64_t, Mapping>;  // by last address
  [[nodiscard]] Map::const_iterator from(std::uint64_t address) const { return mappings_.lower_bound(address); }
  Map mappings_;
};

/// All mappings that have an address of the range, as the store sees them.
inline std::vector<virtio_iommu::Mapping> seen(const virtio_iommu::Mappings& mappings, IovaRange range = all_iovas) {
  std::vector<virtio_iommu::Mapping> list;
  mappings.visit(range, [&](const virtio_iommu::Mapping& mapping) {
    list.push_back(mapping);
    return true;
  });
  return list;
}

}  // namespace viommu::test
