// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Host address spaces that devices share: each has one content, is told to one of its consumers, and is pinned once.
//
//   a device's content changes   there is a space with that content -> the device goes over to it
//                                it is alone in its own             -> that one is changed, in its place
//                                else                               -> a new one is filled, and the device goes over
//   nobody uses a space          it is emptied and given up
//
// A device goes over in one step, when the space has all it is to have: nothing that is mapped alike before and after
// is ever missing. Threads: as the consumers that use it (consumers.hpp).
#pragma once

#include "engine/base/host_memory.hpp"
#include "engine/consumer/mirror.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::consumer {

/// Consumers that are equal in all of this may share.
struct ShareKey {
  std::uint64_t group = 0;  ///< that the VMM gives: spaces of one host
  std::uint64_t facts = 0;  ///< devices of equal host facts have equal ones
  IovaRange range = all_iovas;
  Declared declared;
  std::uint64_t quota = 0;

  friend bool operator==(const ShareKey&, const ShareKey&) = default;
};

struct Space {
  std::uint64_t id = 0;  ///< 0: free
  ShareKey key;
  Content content;
  std::uint32_t members = 0;  ///< that use it, or are to
  std::uint32_t teller = 0;   ///< slot of the consumer that is told
  Mirror* made = nullptr;     ///< null in a free one
  std::optional<Mirror> room;

  [[nodiscard]] Mirror& mirror() const noexcept { return *made; }
};

class Spaces {
 public:
  /// Numbers below are the VMM's own.
  static constexpr std::uint64_t first_id = std::uint64_t{1} << 32;

  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t count) noexcept {
    return spaces_.reset(allocator, count);
  }
  /// One that somebody uses, or null.
  [[nodiscard]] Space* find(const ShareKey& key, const Content& content) noexcept {
    for (Space& space : spaces_)
      if (space.members != 0 && space.key == key && space.content == content) return &space;
    return nullptr;
  }
  /// An empty one without a mirror and members, or null when there is no room.
  [[nodiscard]] Space* take() noexcept {
    for (Space& space : spaces_) {
      if (space.id != 0) continue;
      space.id = first_id + ids_++;
      return &space;
    }
    return nullptr;
  }
  void put(Space& space) noexcept {
    space.made = nullptr;
    space.room.reset();
    space.members = 0;
    space.id = 0;
  }
  template <class Use>
  void for_each(const Use& use) {
    for (Space& space : spaces_)
      if (space.id != 0) use(space);
  }
  template <class Use>
  void for_each(const Use& use) const {
    for (const Space& space : spaces_)
      if (space.id != 0) use(space);
  }

 private:
  HostArray<Space> spaces_;
  std::uint64_t ids_ = 0;
};

}  // namespace viommu::consumer
