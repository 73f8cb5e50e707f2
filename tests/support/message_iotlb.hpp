// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A viommu_iotlb with one reader, what it told, and its memory.
#pragma once

#include <viommu/viommu_iotlb.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <ostream>
#include <utility>
#include <vector>

#include "tests/support/counting_allocator.hpp"

namespace viommu::test {

inline constexpr std::uint64_t top_address = ~std::uint64_t{0};
inline constexpr std::uint32_t reads = VIOMMU_READ;
inline constexpr std::uint32_t writes = VIOMMU_WRITE;
inline constexpr std::uint32_t reads_and_writes = VIOMMU_READ | VIOMMU_WRITE;

/// A range that was asked for.
struct Asked {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint32_t access = reads;

  friend bool operator==(const Asked&, const Asked&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Asked& asked) {
    return out << std::hex << '[' << asked.first << ", " << asked.last << "] for " << asked.access << std::dec;
  }
};

/// A piece of an answer.
struct Part {
  std::uint64_t iova = 0;
  std::uint64_t target = 0;
  std::uint64_t length = 0;
  std::uint32_t rights = reads_and_writes;

  friend bool operator==(const Part&, const Part&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Part& part) {
    return out << std::hex << '[' << part.iova << " +" << part.length << " -> " << part.target << " " << part.rights
               << ']' << std::dec;
  }
};

/// For one thread, but for the object itself.
class MessageIotlb {
 public:
  /// Misses are kept in `asked`, unless the options have somebody else who is told.
  explicit MessageIotlb(viommu_iotlb_options options = {}) {
    options.size = sizeof options;
    options.opaque = this;
    const auto keep = [](void* opaque, std::uint64_t first, std::uint64_t last, std::uint32_t access) {
      auto& self = *static_cast<MessageIotlb*>(opaque);
      self.asked.push_back({first, last, access});
      if (self.on_miss) self.on_miss(self.asked.back());
    };
    if (options.miss == nullptr) options.miss = keep;
    options.allocate = [](void* opaque, std::size_t size, std::size_t alignment) {
      return static_cast<MessageIotlb*>(opaque)->memory.allocate(size, alignment);
    };
    options.deallocate = [](void* opaque, void* block, std::size_t size, std::size_t alignment) {
      static_cast<MessageIotlb*>(opaque)->memory.deallocate(block, size, alignment);
    };
    REQUIRE(viommu_iotlb_create(&options, &iotlb) == VIOMMU_OK);
    REQUIRE(viommu_iotlb_reader_create(iotlb, &reader) == VIOMMU_OK);
  }
  MessageIotlb(const MessageIotlb&) = delete;
  MessageIotlb& operator=(const MessageIotlb&) = delete;
  ~MessageIotlb() {
    viommu_iotlb_reader_destroy(reader);
    CHECK(viommu_iotlb_destroy(iotlb) == VIOMMU_OK);
    CHECK(memory.open_blocks() == 0);
    CHECK(memory.mistakes() == 0);
  }

  viommu_result update(std::uint64_t first, std::uint64_t last, std::uint64_t target,
                       std::uint32_t access = reads_and_writes) const {
    return viommu_iotlb_update(iotlb, first, last, target, access);
  }
  std::uint64_t invalidate(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t ticket = 0;
    CHECK(viommu_iotlb_invalidate(iotlb, first, last, &ticket) == VIOMMU_OK);
    return ticket;
  }
  [[nodiscard]] bool drained(std::uint64_t ticket) const {
    std::uint32_t done = 2;
    CHECK(viommu_iotlb_drained(iotlb, ticket, &done) == VIOMMU_OK);
    return done == 1;
  }

  /// The pieces of a range; `end` says where it stopped.
  std::vector<Part> parts(std::uint64_t iova, std::uint64_t length, std::uint32_t access = reads,
                          std::uint32_t capacity = 16) {
    std::vector<viommu_iotlb_piece> pieces(capacity);
    const viommu_result result =
        viommu_iotlb_translate_range(reader, iova, length, access, pieces.data(), capacity, &end);
    CHECK((result == VIOMMU_E_FAULT) == (end.stopped == VIOMMU_IOTLB_MISSING || end.stopped == VIOMMU_IOTLB_DENIED));
    std::vector<Part> found;
    found.reserve(end.pieces);
    for (std::uint32_t i = 0; i < end.pieces; ++i)
      found.push_back({pieces[i].iova, pieces[i].target, pieces[i].length, pieces[i].rights});
    return found;
  }
  /// Where one byte is; `top_address` when it is not there.
  std::uint64_t target(std::uint64_t iova, std::uint32_t access = reads) {
    const std::vector<Part> found = parts(iova, 1, access);
    return found.empty() ? top_address : found.front().target;
  }

  [[nodiscard]] viommu_iotlb_figures figures() const {
    viommu_iotlb_figures known{};
    known.size = sizeof known;
    REQUIRE(viommu_iotlb_figures_get(iotlb, &known) == VIOMMU_OK);
    return known;
  }
  std::vector<Asked> take_asked() { return std::exchange(asked, {}); }

  CountingAllocator memory;
  viommu_iotlb* iotlb = nullptr;
  viommu_iotlb_reader* reader = nullptr;
  viommu_iotlb_end end{};
  std::vector<Asked> asked;
  std::function<void(const Asked&)> on_miss;  ///< called inside the callback
};

}  // namespace viommu::test
