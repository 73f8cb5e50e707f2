// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which ranges a feeder has been asked for, so that threads which poll do not ask again and again.
//
//   asked    a range for which nothing is remembered: to be told
//   settled  something was said about it: forgotten
//
// A table of fixed size; when it is full the oldest is forgotten, and may be told again. Both calls are rare: a miss, a
// message. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"

namespace viommu::capi {

struct Miss {
  IovaRange range{};
  Rights access;
};

class ToldMisses {
 public:
  struct Figures {
    std::uint64_t told;
    std::uint64_t repeated;
  };

  /// @param repeat  how often a miss is held back before it is told again
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t most, std::uint32_t repeat) noexcept {
    repeat_ = repeat;
    return places_.reset(allocator, most);
  }

  /// Whether it is to be told.
  [[nodiscard]] bool asked(const Miss& miss) noexcept {
    const std::lock_guard lock{lock_};
    for (Place& place : places_) {
      if (!place.used || !place.miss.access.covers(miss.access)) continue;
      if (place.miss.range.first > miss.range.first || miss.range.last > place.miss.range.last) continue;
      if (++place.asked % repeat_ != 0) {
        ++repeated_;
        return false;
      }
      ++told_;
      return true;
    }
    Place& place = places_[next_];
    next_ = (next_ + 1) % places_.size();
    used_ += place.used ? 0 : 1;
    place = {miss, 0, true};
    ++told_;
    return true;
  }

  void settled(IovaRange range) noexcept {
    const std::lock_guard lock{lock_};
    if (used_ == 0) return;
    for (Place& place : places_) {
      if (!place.used || !place.miss.range.overlaps(range)) continue;
      place.used = false;
      --used_;
    }
  }

  [[nodiscard]] Figures figures() noexcept {
    const std::lock_guard lock{lock_};
    return {told_, repeated_};
  }

 private:
  struct Place {
    Miss miss;
    std::uint32_t asked = 0;
    bool used = false;
  };
  Mutex lock_;
  HostArray<Place> places_;
  std::size_t next_ = 0;
  std::size_t used_ = 0;
  std::uint32_t repeat_ = 1;
  std::uint64_t told_ = 0;
  std::uint64_t repeated_ = 0;
};

}  // namespace viommu::capi
