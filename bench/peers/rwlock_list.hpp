// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The shape of DPDK's vhost IOTLB: a linked list for each device, sorted by address, of at most 2,048 entries, under a
// reader/writer spin lock whose readers count themselves in one word. A full list loses a random entry.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "bench/peers/table_walk.hpp"

namespace viommu::bench {

/// Readers add 2; a writer waits for 0 and sets 1.
class ReaderWriterSpinLock {
 public:
  void lock_shared() noexcept;
  void unlock_shared() noexcept { word_.fetch_sub(2, std::memory_order_release); }
  void lock() noexcept;
  void unlock() noexcept { word_.fetch_sub(1, std::memory_order_release); }

 private:
  std::atomic<std::uint32_t> word_{0};
};

class RwlockList {
 public:
  static constexpr std::size_t capacity = 2048;  // of a device

  explicit RwlockList(const TableWalk& walk);

  [[nodiscard]] std::optional<PeerLeaf> translate(std::uint16_t source, std::uint64_t iova);
  void drop_page(std::uint16_t domain, std::uint64_t iova);
  void drop_domain(std::uint16_t domain);
  void drop_all();

 private:
  struct Entry {
    std::uint64_t iova = 0;
    PeerLeaf leaf;
  };
  struct Device {
    ReaderWriterSpinLock lock;
    std::list<Entry> entries;
    std::uint64_t evictions = 0;
  };

  static void insert(Device& device, std::uint64_t iova, const PeerLeaf& leaf);

  const TableWalk& walk_;
  std::array<std::unique_ptr<Device>, 256> devices_;  // null where there is none
};

}  // namespace viommu::bench
