// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a consumer of a virtio-iommu's endpoint is to hold: the mappings of its view, page by page, as far as they lead
// to memory that it takes. Nothing is shared with the library.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fuzz/models/virtio_iommu_model.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::fuzz {

/// A region of guest memory, or a part that is another way.
struct GuestPart {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool mmio = false;
  bool read_only = false;
  bool there = true;  ///< else it was discarded
};

class GuestParts {
 public:
  void add(const GuestPart& part) {
    parts_.push_back(part);
    std::ranges::sort(parts_, {}, &GuestPart::first);
  }
  void remove(std::uint64_t first, std::uint64_t last) {
    std::erase_if(parts_, [&](const GuestPart& part) { return part.first >= first && part.last <= last; });
  }
  /// Of a piece that lies in one region.
  void set_there(std::uint64_t first, std::uint64_t last, bool there) {
    std::vector<GuestPart> after;
    for (const GuestPart& part : parts_) {
      if (part.first > last || part.last < first) {
        after.push_back(part);
        continue;
      }
      const auto keep = [&](std::uint64_t from, std::uint64_t to, bool is) {
        GuestPart piece = part;
        piece.first = from;
        piece.last = to;
        piece.there = is;
        if (from <= to) after.push_back(piece);
      };
      if (part.first < first) keep(part.first, first - 1, part.there);
      keep(std::max(part.first, first), std::min(part.last, last), there);
      if (part.last > last) keep(last + 1, part.last, part.there);
    }
    parts_ = std::move(after);
  }
  [[nodiscard]] const GuestPart* find(std::uint64_t gpa) const {
    for (const GuestPart& part : parts_)
      if (part.first <= gpa && gpa <= part.last) return &part;
    return nullptr;
  }
  /// The last address, `last` at most, up to which memory goes on as it is at `gpa`.
  [[nodiscard]] std::uint64_t alike_up_to(std::uint64_t gpa, std::uint64_t last) const {
    if (const GuestPart* const part = find(gpa)) return std::min(part->last, last);
    for (const GuestPart& part : parts_)
      if (part.first > gpa) return std::min(part.first - 1, last);
    return last;
  }
  [[nodiscard]] bool is_mmio(std::uint64_t gpa) const {
    const GuestPart* const part = find(gpa);
    return part != nullptr && part->mmio;
  }
  /// The same of being a device's.
  [[nodiscard]] std::uint64_t device_alike_up_to(std::uint64_t gpa, std::uint64_t last) const {
    const bool is = is_mmio(gpa);
    for (std::uint64_t at = gpa;;) {
      const std::uint64_t end = alike_up_to(at, last);
      if (end == last || is_mmio(end + 1) != is) return end;
      at = end + 1;
    }
  }
  [[nodiscard]] const std::vector<GuestPart>& all() const { return parts_; }

 private:
  std::vector<GuestPart> parts_;
};

/// Runs that go on in all are one.
class ConsumerView {
 public:
  ConsumerView(const GuestParts& parts, const viommu_consumer& consumer) : parts_{parts}, consumer_{consumer} {}

  /// All of memory at its own addresses.
  [[nodiscard]] std::vector<test::Extent> system() {
    for (const GuestPart& part : parts_.all()) put(part.first, part.last, part.first, 3);
    return std::move(extents_);
  }
  [[nodiscard]] std::vector<test::Extent> translated(const VirtioIommuModel::Intervals& mappings) {
    constexpr std::uint64_t page = 0x1000;
    constexpr std::uint64_t end_of_frames = std::uint64_t{1} << 52;
    for (const auto& [first, mapping] : mappings) {
      const std::uint64_t from = (first + page - 1) & ~(page - 1);
      // Whole pages that lead to whole pages; more than addresses have bits nobody maps.
      const std::uint64_t to = (mapping.last + 1) & ~(page - 1);
      if (from < first || (to != 0 && to <= from)) continue;
      const std::uint64_t gpa = mapping.gpa + (from - first);
      if (gpa % page != 0 || gpa >= end_of_frames) continue;
      std::uint64_t last = to - 1;
      last = std::min(last, from + (end_of_frames - 1 - gpa));
      put(from, last, gpa, mapping.flags & 3);
    }
    return std::move(extents_);
  }

 private:
  void put(std::uint64_t first, std::uint64_t last, std::uint64_t gpa, unsigned rights) {
    for (std::uint64_t at = first;;) {
      const std::uint64_t gpa_at = gpa + (at - first);
      const std::uint64_t end = at + (parts_.alike_up_to(gpa_at, gpa + (last - first)) - gpa_at);
      const GuestPart* const part = parts_.find(gpa_at);
      if (part != nullptr && part->there && takes(*part)) {
        const unsigned left = (part->read_only ? rights & 1 : rights);
        if (left != 0) put_clipped(at, end, gpa_at, left | (part->mmio ? unsigned{VIOMMU_MMIO} : 0U));
      }
      if (end == last) return;
      at = end + 1;
    }
  }
  [[nodiscard]] bool takes(const GuestPart& part) const {
    return !part.mmio || (consumer_.declares & VIOMMU_CONSUMER_MMIO) != 0;
  }
  void put_clipped(std::uint64_t first, std::uint64_t last, std::uint64_t gpa, unsigned rights) {
    const std::uint64_t from = std::max(first, consumer_.first);
    const std::uint64_t to = std::min(last, consumer_.last);
    if (to < from) return;
    const test::Extent piece{from, to - from + 1, gpa + (from - first), rights};
    if (!extents_.empty()) {
      test::Extent& before = extents_.back();
      if (before.iova + before.length == piece.iova && before.gpa + before.length == piece.gpa &&
          before.rights == piece.rights) {
        before.length += piece.length;
        return;
      }
    }
    extents_.push_back(piece);
  }

  const GuestParts& parts_;
  const viommu_consumer& consumer_;
  std::vector<test::Extent> extents_;
};

}  // namespace viommu::fuzz
