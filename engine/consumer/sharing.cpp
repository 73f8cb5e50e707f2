// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Consumers: who uses which host address space (spaces.hpp).
#include "engine/consumer/consumers.hpp"
#include "engine/core/callback.hpp"

#include <algorithm>
#include <utility>

namespace viommu::consumer {
namespace {

/// A consumer's functions, for what is in one space.
[[nodiscard]] Sink sink_for(const Sink& consumer, std::uint64_t space) noexcept {
  Sink sink = consumer;
  sink.space = space;
  sink.events = consumer.space_events;
  return sink;
}

}  // namespace

/// While writes are tracked, what cannot log holds nothing.
Content Consumers::logged(const Content& content, const Declared& declared) const noexcept {
  return tracking_ && !declared.logs ? Content{View::blocked, {}} : content;
}

bool Consumers::has_sharer(SourceId source) const noexcept {
  const std::uint32_t index = index_of(source);
  return std::ranges::any_of(slots_, [&](const Slot& slot) { return slot.device == index && slot.shares; });
}

void Consumers::share(Slot& slot, const Content& content) noexcept {
  const Content held = logged(content, slot.key.declared);
  if (slot.next != nullptr) {
    if (slot.next->content == content) return slot.next->mirror().aim(held);
    leave(*std::exchange(slot.next, nullptr), slot);
  }
  if (slot.space != nullptr && slot.space->content == content) return slot.space->mirror().aim(held);
  slot.next = spaces_.find(slot.key, content);
  if (slot.next != nullptr) {
    ++slot.next->members;
  } else if (!change_alone(slot, content)) {
    slot.next = &make_space(slot, content);
  }
}

/// Changes a space that is the slot's alone. @return false where there is none
bool Consumers::change_alone(Slot& slot, const Content& content) noexcept {
  const bool alone = slot.next == nullptr && slot.space != nullptr && slot.space->members == 1;
  if (!alone) return false;
  slot.space->content = content;
  slot.space->mirror().aim(logged(content, slot.key.declared));
  return true;
}

Space& Consumers::make_space(Slot& slot, const Content& content) noexcept {
  Space* space = spaces_.take();
  if (space == nullptr) {
    // There are as many as are used and waited for, and one more for each slot: what nobody uses any more goes now.
    Slice all{~std::uint32_t{0}};
    spaces_.for_each([&](Space& unused) { empty(unused, all); });
    space = spaces_.take();
  }
  space->key = slot.key;
  space->content = content;
  space->members = 1;
  space->teller = number_of(slot);
  space->made = &space->room.emplace(host_.allocator(), sink_for(slot.sink, space->id), devices_[slot.device].source,
                                     slot.key.declared, slot.key.range, slot.key.quota);
  space->mirror().limit(front_end_.last_address);
  space->mirror().aim(logged(content, slot.key.declared));
  return *space;
}

void Consumers::go_over(Slot& slot) noexcept {
  Space* const before = std::exchange(slot.space, std::exchange(slot.next, nullptr));
  {
    const core::CallbackScope scope{slot.sink.engine};
    slot.sink.attach(slot.sink, slot.space->id);
  }
  if (before != nullptr) leave(*before, slot);
}

void Consumers::leave(Space& space, Slot& slot) noexcept {
  const auto number = number_of(slot);
  if (--space.members == 0) {
    if (space.teller != number) {
      space.teller = number;
      space.mirror().tell(sink_for(slot.sink, space.id), devices_[slot.device].source);
    }
    space.content = {View::blocked, {}};
    space.mirror().aim(space.content);
    Slice slice{slice_tables};
    return empty(space, slice);
  }
  if (space.teller != number) return;
  for (Slot& other : slots_) {
    if (&other == &slot || other.id == 0 || (other.space != &space && other.next != &space)) continue;
    space.teller = number_of(other);
    space.mirror().tell(sink_for(other.sink, space.id), devices_[other.device].source);
    return refresh_view(other.device);
  }
}

/// Goes on with one that nobody uses.
void Consumers::empty(Space& space, Slice& slice) noexcept {
  if (space.members != 0) return;
  if (space.mirror().busy()) space.mirror().advance(tables(), slice);
  if (space.mirror().busy())
    busy_.store(true, std::memory_order_relaxed);
  else
    give_up(space);
}

void Consumers::give_up(Space& space) noexcept {
  const Sink& sink = slots_[space.teller].sink;
  const std::uint64_t id = space.id;
  spaces_.put(space);
  const core::CallbackScope scope{sink.engine};
  sink.space_gone(sink, id);
}

void Consumers::end_sharing(Slot& slot, bool withdraw) noexcept {
  for (Space* const space : {std::exchange(slot.next, nullptr), std::exchange(slot.space, nullptr)}) {
    if (space == nullptr) continue;
    if (space->members > 1 || withdraw) {
      leave(*space, slot);
    } else {
      give_up(*space);
    }
  }
  // Nobody is told later.
  const auto number = number_of(slot);
  spaces_.for_each([&](Space& space) {
    if (space.members != 0 || space.teller != number) return;
    Slice all{~std::uint32_t{0}};
    withdraw ? empty(space, all) : give_up(space);
  });
}

}  // namespace viommu::consumer
