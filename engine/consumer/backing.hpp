// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which part of what tables map is memory that a consumer takes.
#pragma once

#include "engine/base/guest_memory.hpp"
#include "engine/consumer/event.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::consumer {

/// A piece of guest-physical memory that is all alike.
struct Piece {
  GpaRange range{};
  std::byte* host = nullptr;
  bool mmio = false;
  bool read_only = false;
  std::optional<Reported> left_out;  ///< why it is not delivered
};

/// The regions in force, for one consumer. Good as long as the map is: whoever has the unit's work frees maps.
class Backing {
 public:
  Backing(const RegionMap* map, const Declared& declared) noexcept : map_{map}, declared_{declared} {}

  /// The piece that `gpa` is in, cut to `last`.
  [[nodiscard]] Piece piece(Gpa gpa, Gpa last) const noexcept {
    const Region* const region = find(gpa);
    if (region == nullptr) return {{gpa, before_next(gpa, last)}, nullptr, false, false, Reported::no_memory};
    Piece piece{
        {gpa, std::min(region->range.last, last)}, region->host_at(gpa), region->mmio, region->read_only, std::nullopt};
    if (region->mmio && !declared_.mmio) piece.left_out = Reported::mmio;
    const bool takes_private = region->part == Part::private_to && declared_.private_memory;
    if (region->part != Part::shared && !takes_private) piece.left_out = Reported::discarded;
    return piece;
  }
  [[nodiscard]] const RegionMap* map() const noexcept { return map_; }
  [[nodiscard]] const Declared& declared() const noexcept { return declared_; }

 private:
  [[nodiscard]] const Region* find(Gpa gpa) const noexcept {
    if (last_ != nullptr && last_->range.contains(gpa)) return last_;
    return last_ = map_ == nullptr ? nullptr : map_->find(gpa);
  }
  /// Last address before a region begins, at most `last`.
  [[nodiscard]] Gpa before_next(Gpa gpa, Gpa last) const noexcept {
    if (map_ == nullptr) return last;
    const auto regions = map_->regions();
    const auto next = std::ranges::upper_bound(regions, gpa, {}, [](const Region& r) { return r.range.first; });
    return next == regions.end() ? last : std::min(last, Gpa{next->range.first.value - 1});
  }

  const RegionMap* map_;
  const Declared& declared_;
  mutable const Region* last_ = nullptr;
};

}  // namespace viommu::consumer
