// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtqueue/split_ring.hpp"

#include <algorithm>

#include "engine/virtqueue/common.hpp"
#include "engine/virtqueue/split_layout.hpp"

namespace viommu::virtqueue::split {
namespace {

enum class Table : std::uint8_t { ring, indirect };

[[nodiscard]] Problem gather_indirect(const Memory& memory, const Features& features, const Descriptor& referring,
                                      Chain& chain) noexcept;

/// The chain that begins at `index` of a table. Ends, loop or not, after as many descriptors as the table has.
template <Table kind>
[[nodiscard]] Problem gather(const Memory& memory, const Features& features, Gpa table, std::uint32_t entries,
                             std::uint32_t index, Chain& chain) noexcept {
  const std::uint32_t most = std::min(entries, Chain::most_segments);
  for (std::uint32_t count = 0; count < most; ++count) {
    if (index >= entries) return count == 0 ? Problem::head_index : Problem::next_index;
    const std::optional<DescriptorWords> words = memory.load_descriptor(descriptor_at(table, index));
    if (!words) return kind == Table::ring ? Problem::ring_unreadable : Problem::not_memory;
    const Descriptor descriptor = split_descriptor_of(*words);
    if (descriptor.indirect) {
      if constexpr (kind == Table::indirect) return Problem::indirect_nested;
      return gather_indirect(memory, features, descriptor, chain);
    }
    if (const Problem problem = chain.add(memory, descriptor); problem != Problem::none) return problem;
    if (!descriptor.has_next) return Problem::none;
    index = descriptor.link;
  }
  return Problem::too_long;
}

Problem gather_indirect(const Memory& memory, const Features& features, const Descriptor& referring,
                        Chain& chain) noexcept {
  if (const Problem problem = problem_of_indirect(features, referring); problem != Problem::none) return problem;
  const std::uint32_t entries = referring.length / descriptor_bytes;
  return gather<Table::indirect>(memory, features, referring.address, entries, 0, chain);
}

}  // namespace

Taken take(Ring& ring, const Memory& memory, Chain& chain) noexcept {
  const Config& config = ring.config;
  State& state = ring.state;
  if (state.next_available == ring.announced) {
    // Acquires: the entries that it announces, and their descriptors, are read behind it.
    const std::optional<std::uint16_t> index = memory.load_u16(available_index(config));
    if (!index) return ring.fail(Problem::ring_unreadable);
    if (*index == state.next_available) return Taken::empty;
    if (static_cast<std::uint16_t>(*index - state.next_available) > config.size)
      return ring.fail(Problem::available_index);
    ring.announced = *index;
  }
  const std::optional<std::uint16_t> head = memory.load_u16(available_entry(config, state.next_available));
  if (!head) return ring.fail(Problem::ring_unreadable);
  chain.begin();
  chain.set_token({*head, 1});
  const Problem problem =
      gather<Table::ring>(memory, config.features, config.descriptor_area, config.size, *head, chain);
  if (problem != Problem::none) return ring.fail(problem);
  ++state.next_available;
  if (config.features.event_index) ring.listening = Listening::no;  // the event is behind us now
  return Taken::chain;
}

bool put(Ring& ring, const Memory& memory, Token token, std::uint32_t used_bytes) noexcept {
  const Config& config = ring.config;
  State& state = ring.state;
  const Gpa entry = used_entry(config, state.next_used);
  ++state.next_used;
  ++state.unannounced;
  // An entry is 4-byte aligned, no more. The index releases: what the request did, and the entry, stand before it.
  const bool done = memory.store_u32(entry, token.id) && memory.store_u32(entry + 4, used_bytes) &&
                    memory.store_u16(used_index(config), state.next_used);
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

std::optional<bool> wants_notification(Ring& ring, const Memory& memory) noexcept {
  const Config& config = ring.config;
  const Gpa where = config.features.event_index ? used_event(config) : available_flags(config);
  const std::optional<std::uint16_t> word = memory.load_u16(where);
  if (!word) {
    ring.fail(Problem::ring_unreadable);
    return std::nullopt;
  }
  if (config.features.event_index) return passed(*word, ring.state.next_used, ring.state.unannounced);
  return !get(RingFlags{*word}, ring_flags::no_notification);
}

bool listen(Ring& ring, const Memory& memory) noexcept {
  const Config& config = ring.config;
  ring.listening = Listening::yes;
  // With an event index the flags stay 0.
  const bool done = config.features.event_index ? memory.store_u16(available_event(config), ring.state.next_available)
                                                : memory.store_u16(used_flags(config), 0);
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

bool hush(Ring& ring, const Memory& memory) noexcept {
  ring.listening = Listening::no;
  const RingFlags flags = with(RingFlags{}, ring_flags::no_notification, true);
  const bool done = memory.store_u16(used_flags(ring.config), static_cast<std::uint16_t>(flags.raw));
  if (!done) ring.fail(Problem::ring_unwritable);
  return done;
}

}  // namespace viommu::virtqueue::split
