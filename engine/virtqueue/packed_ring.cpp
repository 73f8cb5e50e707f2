// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtqueue/packed_ring.hpp"

#include <algorithm>

#include "engine/virtqueue/common.hpp"

namespace viommu::virtqueue::packed {
namespace {

[[nodiscard]] Gpa descriptor_at(Gpa table, std::uint32_t index) noexcept {
  return table + std::uint64_t{descriptor_bytes} * index;
}

/// `slots` entries on; the counter turns over at the end of the ring.
void advance(std::uint16_t& position, bool& wrap, std::uint16_t slots, std::uint16_t size) noexcept {
  const unsigned behind = unsigned{position} + slots;  // both at most `size`
  position = static_cast<std::uint16_t>(behind >= size ? behind - size : behind);
  if (behind >= size) wrap = !wrap;
}

/// In a table the descriptors follow one another, and of their flags WRITE alone counts.
[[nodiscard]] Problem gather_indirect(const Memory& memory, const Features& features, const Descriptor& referring,
                                      Chain& chain) noexcept {
  if (const Problem problem = problem_of_indirect(features, referring); problem != Problem::none) return problem;
  const std::uint32_t entries = referring.length / descriptor_bytes;
  if (entries > Chain::most_segments) return Problem::too_long;
  for (std::uint32_t index = 0; index < entries; ++index) {
    const std::optional<DescriptorWords> words = memory.load_descriptor(descriptor_at(referring.address, index));
    if (!words) return Problem::not_memory;
    const Problem problem = chain.add(memory, packed_descriptor_of(*words));
    if (problem != Problem::none) return problem;
  }
  return Problem::none;
}

}  // namespace

Taken take(Ring& ring, const Memory& memory, Chain& chain) noexcept {
  const Config& config = ring.config;
  State& state = ring.state;
  std::uint16_t position = state.next_available;
  bool wrap = state.available_wrap;
  chain.begin();
  const auto most = static_cast<std::uint16_t>(std::min<std::uint32_t>(config.size, Chain::most_segments));
  for (std::uint16_t slots = 1; slots <= most; ++slots) {
    const std::optional<DescriptorWords> words =
        memory.load_descriptor(descriptor_at(config.descriptor_area, position));
    if (!words) return ring.fail(Problem::ring_unreadable);
    if (slots == 1) {
      // The driver releases a chain with the flags of its first descriptor, so those of the others say nothing more.
      const PackedDescriptorHigh high{words->high};
      if (get(high, packed_descriptor::available) != wrap || get(high, packed_descriptor::used) == wrap)
        return Taken::empty;
    }
    const Descriptor descriptor = packed_descriptor_of(*words);
    const Problem problem = descriptor.indirect ? gather_indirect(memory, config.features, descriptor, chain)
                                                : chain.add(memory, descriptor);
    if (problem != Problem::none) return ring.fail(problem);
    advance(position, wrap, 1, config.size);
    if (descriptor.has_next) continue;
    chain.set_token({descriptor.link, slots});
    state.next_available = position;
    state.available_wrap = wrap;
    if (config.features.event_index) ring.listening = Listening::no;  // the event is behind us now
    return Taken::chain;
  }
  return ring.fail(Problem::too_long);
}

bool put(Ring& ring, const Memory& memory, Token token, std::uint32_t used_bytes) noexcept {
  namespace d = packed_descriptor;
  const Config& config = ring.config;
  State& state = ring.state;
  PackedDescriptorHigh high{};
  high = with(high, d::length, used_bytes);
  high = with(high, d::id, token.id);
  high = with(high, d::device_writes, used_bytes != 0);
  high = with(high, d::available, state.used_wrap);
  high = with(high, d::used, state.used_wrap);
  // One store, so that nobody sees the flags before the rest; it releases what the request did.
  const Gpa where = descriptor_at(config.descriptor_area, state.next_used) + sizeof(std::uint64_t);
  advance(state.next_used, state.used_wrap, token.slots, config.size);
  state.unannounced += token.slots;
  const bool done = memory.store_u64(where, high.raw);
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

std::optional<bool> wants_notification(Ring& ring, const Memory& memory) noexcept {
  const Config& config = ring.config;
  const State& state = ring.state;
  const std::optional<std::uint32_t> word = memory.load_u32(config.driver_area);
  if (!word) {
    ring.fail(Problem::ring_unreadable);
    return std::nullopt;
  }
  const EventSuppression event{*word};
  switch (get(event, event_suppression::flags)) {
    case EventFlags::disable:       return false;
    case EventFlags::at_descriptor: {
      if (!config.features.event_index) return true;
      std::uint16_t offset = get(event, event_suppression::offset);
      // One of the round before lies behind by the whole ring.
      if (get(event, event_suppression::wrap) != state.used_wrap)
        offset = static_cast<std::uint16_t>(offset - config.size);
      return passed(offset, state.next_used, state.unannounced);
    }
    case EventFlags::enable: break;
  }
  return true;  // so does a reserved value: a notification too many does no harm
}

bool listen(Ring& ring, const Memory& memory) noexcept {
  namespace e = event_suppression;
  const Config& config = ring.config;
  const State& state = ring.state;
  ring.listening = Listening::yes;
  EventSuppression event = with(EventSuppression{}, e::flags, EventFlags::enable);
  if (config.features.event_index) {
    event = with(event, e::offset, state.next_available);
    event = with(event, e::wrap, state.available_wrap);
    event = with(event, e::flags, EventFlags::at_descriptor);
  }
  const bool done = memory.store_u32(config.device_area, event.raw);
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

bool hush(Ring& ring, const Memory& memory) noexcept {
  ring.listening = Listening::no;
  const EventSuppression event = with(EventSuppression{}, event_suppression::flags, EventFlags::disable);
  const bool done = memory.store_u32(ring.config.device_area, event.raw);
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

}  // namespace viommu::virtqueue::packed
