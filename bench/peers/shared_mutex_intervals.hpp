// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The mappings of a virtio-iommu domain as VMMs written in Rust keep them: an ordered map under a reader/writer lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>

namespace viommu::bench {

class SharedMutexIntervals {
 public:
  static constexpr const char* name = "SharedMutexMap";

  [[nodiscard]] bool map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa) {
    const std::lock_guard lock{mutex_};
    const auto next = intervals_.lower_bound(first);
    if (next != intervals_.end() && next->second.first <= last) return false;
    intervals_.emplace_hint(next, last, Interval{first, gpa});
    return true;
  }
  [[nodiscard]] bool unmap(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock{mutex_};
    const auto begin = intervals_.lower_bound(first);
    auto end = begin;
    for (; end != intervals_.end() && end->second.first <= last; ++end)
      if (end->second.first < first || end->first > last) return false;
    intervals_.erase(begin, end);
    return true;
  }
  void settle() {}

  class Port {
   public:
    Port(SharedMutexIntervals& map, std::size_t /*thread*/) : map_{map} {}
    [[nodiscard]] std::uint64_t translate(std::uint64_t iova) {
      const std::shared_lock lock{map_.mutex_};
      const auto found = map_.intervals_.lower_bound(iova);
      if (found == map_.intervals_.end() || found->second.first > iova) return ~std::uint64_t{0};
      return found->second.gpa + (iova - found->second.first);
    }

   private:
    SharedMutexIntervals& map_;
  };

 private:
  struct Interval {
    std::uint64_t first;
    std::uint64_t gpa;
  };
  std::shared_mutex mutex_;
  std::map<std::uint64_t, Interval> intervals_;  // by last address
};

}  // namespace viommu::bench
