// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// An IOTLB of a test, with the calls in the order in which the engine makes them.
#pragma once

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "caches/iotlb.hpp"

namespace viommu::test {

inline constexpr std::uint64_t hash_seed = 0x1234567;

/// Where a call names no place, that of domain 0. A tag is live from its first fill on.
class TestIotlb {
 public:
  explicit TestIotlb(std::size_t pages = 4096, unsigned shards = 1, std::uint64_t seed = hash_seed) {
    REQUIRE(iotlb.reset({}, pages, shards, seed));
  }
  [[nodiscard]] caches::Place place(caches::Tag tag) const { return iotlb.place(tag, 0); }
  [[nodiscard]] std::optional<caches::CachedTranslation> find(caches::Tag tag, Iova iova,
                                                              caches::Sizes sizes = caches::all_sizes) const {
    return iotlb.lookup(place(tag), iova, sizes);
  }
  [[nodiscard]] caches::FillGuard sample(caches::Tag tag, Iova iova) const {
    return iotlb.sample(place(tag), iova, caches::all_sizes);
  }
  /// Sample, walk, fill with nothing in between. Of a block only the page asked for.
  bool fill(caches::Tag tag, Iova iova, std::uint64_t frame, caches::PageSize size = caches::PageSize::kib4,
            Rights rights = read_write) {
    const auto page = static_cast<std::uint8_t>(1U << caches::page_in_block(iova));
    return fill_page(tag, iova, {{frame}, size, rights, page});
  }
  bool fill_page(caches::Tag tag, Iova iova, const caches::CachedPage& page, caches::Recent* recent = nullptr) {
    iotlb.set_live(tag, true);
    return iotlb.fill(sample(tag, iova), place(tag), iova, page, recent);
  }
  bool fill_at(caches::Place at, Iova iova, std::uint64_t frame) {
    iotlb.set_live(at.tag(), true);
    return iotlb.fill(iotlb.sample(at, iova, caches::all_sizes), at, iova,
                      {{frame}, caches::PageSize::kib4, read_write}, nullptr);
  }
  void drop(caches::Tag tag, Iova first, std::uint64_t length = page_size_bytes) {
    drop_range(tag, {first, first + (length - 1)});
  }
  void drop_range(caches::Tag tag, IovaRange range, caches::Sizes sizes = caches::all_sizes) {
    const Atomic<caches::Sizes> known{sizes};
    iotlb.drop_pages(place(tag), range, known);
  }
  caches::Iotlb iotlb;
};

}  // namespace viommu::test
