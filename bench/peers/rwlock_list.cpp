// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/rwlock_list.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <shared_mutex>
#include <thread>

namespace viommu::bench {
namespace {

// Spinning forever would stop a machine with fewer cores than threads.
class Backoff {
 public:
  void pause() {
    if (++spins_ % 1024 == 0) std::this_thread::yield();
  }

 private:
  unsigned spins_ = 0;
};

}  // namespace

void ReaderWriterSpinLock::lock_shared() noexcept {
  Backoff backoff;
  while ((word_.fetch_add(2, std::memory_order_acquire) & 1) != 0) {
    word_.fetch_sub(2, std::memory_order_relaxed);
    while ((word_.load(std::memory_order_relaxed) & 1) != 0) backoff.pause();
  }
}

void ReaderWriterSpinLock::lock() noexcept {
  Backoff backoff;
  std::uint32_t free = 0;
  while (!word_.compare_exchange_weak(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) {
    free = 0;
    backoff.pause();
  }
}

RwlockList::RwlockList(const TableWalk& walk) : walk_{walk} {
  for (std::size_t source = 0; source < devices_.size(); ++source) {
    if (walk.contexts()[source].table != 0) devices_[source] = std::make_unique<Device>();
  }
}

std::optional<PeerLeaf> RwlockList::translate(std::uint16_t source, std::uint64_t iova) {
  Device* const device = devices_[source & 0xff].get();
  if (device == nullptr) return std::nullopt;
  {
    const std::shared_lock lock{device->lock};
    for (const Entry& entry : device->entries) {
      if (iova < entry.iova) break;
      if (iova - entry.iova <= entry.leaf.mask) return entry.leaf;
    }
  }
  const std::optional<PeerLeaf> leaf = walk_.walk(walk_.context(source).table, iova);
  if (leaf) insert(*device, iova & ~leaf->mask, *leaf);
  return leaf;
}

void RwlockList::insert(Device& device, std::uint64_t iova, const PeerLeaf& leaf) {
  const std::lock_guard lock{device.lock};
  if (device.entries.size() >= capacity) {
    const std::uint64_t victim = ++device.evictions * 0x9E3779B97F4A7C15 >> 53;
    device.entries.erase(std::next(device.entries.begin(), static_cast<std::ptrdiff_t>(victim % capacity)));
  }
  const auto place = std::find_if(device.entries.begin(), device.entries.end(),
                                  [iova](const Entry& entry) { return entry.iova >= iova; });
  if (place == device.entries.end() || place->iova != iova) device.entries.insert(place, {iova, leaf});
}

void RwlockList::drop_page(std::uint16_t domain, std::uint64_t iova) {
  for (const std::uint16_t source : walk_.sources(domain)) {
    Device& device = *devices_[source];
    const std::lock_guard lock{device.lock};
    const auto found = std::find_if(device.entries.begin(), device.entries.end(), [iova](const Entry& entry) {
      return iova >= entry.iova && iova - entry.iova <= entry.leaf.mask;
    });
    if (found != device.entries.end()) device.entries.erase(found);
  }
}

void RwlockList::drop_domain(std::uint16_t domain) {
  for (const std::uint16_t source : walk_.sources(domain)) {
    const std::lock_guard lock{devices_[source]->lock};
    devices_[source]->entries.clear();
  }
}

void RwlockList::drop_all() {
  for (const auto& device : devices_) {
    if (!device) continue;
    const std::lock_guard lock{device->lock};
    device->entries.clear();
  }
}

}  // namespace viommu::bench
