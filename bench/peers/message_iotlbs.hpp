// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What back ends keep the translations in that messages bring: a sorted list under a reader/writer spin lock (the shape
// of DPDK's vhost), and an ordered map under a shared mutex (back ends written in Rust).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "bench/peers/rwlock_list.hpp"

namespace viommu::bench {

/// A piece of a buffer, summed up so that nothing of the answer is left out.
struct Translated {
  std::uint64_t bytes = 0;
  std::uint64_t sum = 0;  ///< of targets and lengths of the pieces
  void add(std::uint64_t target, std::uint64_t length) noexcept {
    bytes += length;
    sum += target ^ length;
  }
};

class IotlbList {
 public:
  static constexpr const char* name = "RwlockList";

  void update(std::uint64_t first, std::uint64_t last, std::uint64_t target) {
    const std::lock_guard lock{lock_};
    auto at = ranges_.begin();
    while (at != ranges_.end() && at->first < first) ++at;
    ranges_.insert(at, {first, last, target});
  }

  class Port {
   public:
    explicit Port(IotlbList& list) : list_{list} {}
    [[nodiscard]] Translated translate(std::uint64_t iova, std::uint64_t length) {
      Translated found;
      const std::shared_lock lock{list_.lock_};
      for (const Range& range : list_.ranges_) {
        if (iova > range.last) continue;
        if (iova < range.first) break;
        const std::uint64_t part = std::min(length, range.last - iova + 1);
        found.add(range.target + (iova - range.first), part);
        iova += part;
        length -= part;
        if (length == 0) break;
      }
      return found;
    }

   private:
    IotlbList& list_;
  };

 private:
  struct Range {
    std::uint64_t first;
    std::uint64_t last;
    std::uint64_t target;
  };
  ReaderWriterSpinLock lock_;
  std::list<Range> ranges_;
};

class IotlbMap {
 public:
  static constexpr const char* name = "SharedMutexMap";

  void update(std::uint64_t first, std::uint64_t last, std::uint64_t target) {
    const std::lock_guard lock{mutex_};
    ranges_.insert_or_assign(last, Range{first, target});
  }

  class Port {
   public:
    explicit Port(IotlbMap& map) : map_{map} {}
    [[nodiscard]] Translated translate(std::uint64_t iova, std::uint64_t length) {
      Translated found;
      const std::shared_lock lock{map_.mutex_};
      for (auto at = map_.ranges_.lower_bound(iova); at != map_.ranges_.end() && at->second.first <= iova; ++at) {
        const std::uint64_t part = std::min(length, at->first - iova + 1);
        found.add(at->second.target + (iova - at->second.first), part);
        iova += part;
        length -= part;
        if (length == 0) break;
      }
      return found;
    }

   private:
    IotlbMap& map_;
  };

 private:
  struct Range {
    std::uint64_t first;
    std::uint64_t target;
  };
  std::shared_mutex mutex_;
  std::map<std::uint64_t, Range> ranges_;  // by last address
};

}  // namespace viommu::bench
