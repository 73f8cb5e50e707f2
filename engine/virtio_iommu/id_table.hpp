// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a number of 32 bits that a guest or a VMM chooses to the place of what it names: open addressing in an array
// that is sized once, at most half full. Any choice of numbers is found in a bounded number of steps, the usual one in
// one or two, because a seed that the guest does not know scatters them. Threads: one at a time.
#pragma once

#include "engine/base/host_memory.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace viommu::virtio_iommu {

class IdTable {
 public:
  static constexpr std::uint32_t nothing = ~std::uint32_t{0};

  /// @param most  numbers at a time @return false when the host has no memory
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::uint32_t most, std::uint64_t seed) noexcept {
    const std::size_t size = std::bit_ceil(std::size_t{most} * 2 + 1);
    seed_ = seed | 1;
    shift_ = static_cast<unsigned>(64 - std::countr_zero(size));
    return places_.reset(allocator, size);
  }
  /// @return its place, or `nothing`
  [[nodiscard]] std::uint32_t find(std::uint32_t id) const noexcept {
    for (std::size_t at = first_of(id);; at = next(at)) {  // ends: half of them are free
      const Place& place = places_[at];
      if (place.value == nothing || place.id == id) return place.value;
    }
  }
  /// It is not there, and there is room.
  void insert(std::uint32_t id, std::uint32_t value) noexcept {
    std::size_t at = first_of(id);
    while (places_[at].value != nothing) at = next(at);  // ends: as in find()
    places_[at] = {id, value};
  }
  /// It is there. Those behind it that it was in the way of come forward.
  void erase(std::uint32_t id) noexcept {
    std::size_t at = first_of(id);
    while (places_[at].id != id || places_[at].value == nothing) at = next(at);  // ends: it is there
    for (std::size_t other = next(at); places_[other].value != nothing; other = next(other)) {
      const std::size_t wanted = first_of(places_[other].id);
      const bool may_come = ((other - wanted) & mask()) >= ((other - at) & mask());
      if (!may_come) continue;
      places_[at] = places_[other];
      at = other;
    }
    places_[at] = {};
  }

 private:
  struct Place {
    std::uint32_t id = 0;
    std::uint32_t value = nothing;
  };
  [[nodiscard]] std::size_t mask() const noexcept { return places_.size() - 1; }
  [[nodiscard]] std::size_t next(std::size_t at) const noexcept { return (at + 1) & mask(); }
  [[nodiscard]] std::size_t first_of(std::uint32_t id) const noexcept {
    constexpr std::uint64_t odd = 0x9E37'79B9'7F4A'7C15;
    return ((id ^ seed_ >> 32) * (odd ^ seed_ << 1)) >> shift_ & mask();
  }

  HostArray<Place> places_;
  std::uint64_t seed_ = 1;
  unsigned shift_ = 63;
};

}  // namespace viommu::virtio_iommu
