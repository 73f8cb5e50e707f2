// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The driver's side of a split ring, written from the specification: plain offsets and counters that never wrap. It
// knows nothing of the engine but the queue's configuration.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "engine/virtqueue/ring.hpp"
#include "tests/virtqueue/guest.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::test {

class SplitDriver {
 public:
  static constexpr std::uint16_t flag_next = 1;
  static constexpr std::uint16_t flag_write = 2;
  static constexpr std::uint16_t flag_indirect = 4;

  SplitDriver(RingGuest& guest, std::uint16_t size, bool event_index, std::uint16_t start = 0)
      : guest_{&guest}, size_{size}, event_index_{event_index}, made_{start}, seen_{start} {
    for (std::uint16_t i = size; i-- > 0;) free_.push_back(i);
    guest.put<std::uint16_t>(available + 2, start);
    guest.put<std::uint16_t>(used + 2, start);
  }

  [[nodiscard]] virtqueue::Config config(bool may_indirect = true) const {
    return {size_, {table}, {available}, {used}, {may_indirect, event_index_, false}};
  }
  [[nodiscard]] std::size_t room() const { return free_.size(); }

  /// Descriptors and the ring's entry; the device sees it after publish(). @return the id
  std::uint16_t add(const RingBuffer& buffer) {
    std::vector<std::uint16_t> taken;
    for (std::size_t i = 0; i < buffer.slots(); ++i) {
      taken.push_back(free_.back());
      free_.pop_back();
    }
    for (std::size_t i = 0; i < buffer.direct; ++i) {
      const bool more = i + 1 < taken.size();
      descriptor(table, taken[i], buffer.pieces[i], more ? flag_next : 0, more ? taken[i + 1] : 0);
    }
    if (buffer.indirect()) {
      const std::size_t count = buffer.pieces.size() - buffer.direct;
      descriptor(table, taken.back(), {buffer.table, static_cast<std::uint32_t>(16 * count), false}, flag_indirect, 0);
      // Backwards in its table, but for the first: the device is to follow `next`.
      const auto place = [&](std::size_t i) { return static_cast<std::uint16_t>(i == 0 ? 0 : count - i); };
      for (std::size_t i = 0; i < count; ++i) {
        const bool more = i + 1 < count;
        descriptor(buffer.table, place(i), buffer.pieces[buffer.direct + i], more ? flag_next : 0,
                   more ? place(i + 1) : 0);
      }
    }
    held_[taken[0]] = taken;
    entry(made_++, taken[0]);
    return taken[0];
  }
  void publish() { guest_->put<std::uint16_t>(available + 2, static_cast<std::uint16_t>(made_)); }

  /// What came back since the last time.
  std::vector<UsedBuffer> collect() {
    std::vector<UsedBuffer> found;
    const auto index = guest_->get<std::uint16_t>(used + 2);
    while (static_cast<std::uint16_t>(seen_) != index) {
      const std::uint64_t element = used + 4 + 8 * (seen_++ % size_);
      found.push_back({guest_->get<std::uint32_t>(element), guest_->get<std::uint32_t>(element + 4)});
      const auto held = held_.find(found.back().id);
      if (held == held_.end()) throw std::logic_error{"a buffer came back that is not out"};
      free_.insert(free_.end(), held->second.begin(), held->second.end());
      held_.erase(held);
    }
    return found;
  }

  /// The driver wants a notification when the (n+1)th buffer from now comes back.
  void want_after(std::uint64_t n) {
    wanted_ = seen_ + n;
    if (event_index_) guest_->put(used_event(size_), static_cast<std::uint16_t>(wanted_));
  }
  void want(bool any) { guest_->put<std::uint16_t>(available, any ? 0 : 1); }
  /// Whether a notification is due when the buffers from `before` up to `after` came back: by counters without wraps.
  [[nodiscard]] bool due(std::uint64_t before, std::uint64_t after) const {
    if (event_index_) return before <= wanted_ && wanted_ < after;
    return after != before && guest_->get<std::uint16_t>(available) == 0;
  }
  [[nodiscard]] std::uint64_t seen() const { return seen_; }

  /// Whether the device asked to be notified of the next buffer.
  [[nodiscard]] bool device_listens() const {
    if (!event_index_) return guest_->get<std::uint16_t>(used) == 0;
    return guest_->get<std::uint16_t>(used) == 0 &&
           guest_->get<std::uint16_t>(available_event(size_)) == static_cast<std::uint16_t>(made_);
  }

  // For what no good driver does.
  void descriptor(std::uint64_t in, std::uint32_t index, const Piece& piece, std::uint16_t flags, std::uint16_t next) {
    const std::uint64_t at = in + std::uint64_t{16} * index;
    guest_->put<std::uint64_t>(at, piece.gpa);
    guest_->put<std::uint32_t>(at + 8, piece.length);
    guest_->put<std::uint16_t>(at + 12, static_cast<std::uint16_t>(flags | (piece.device_writes ? flag_write : 0)));
    guest_->put<std::uint16_t>(at + 14, next);
  }
  void entry(std::uint64_t position, std::uint16_t head) {
    guest_->put<std::uint16_t>(available + 4 + 2 * (position % size_), head);
  }
  void announce(std::uint16_t index) { guest_->put<std::uint16_t>(available + 2, index); }

  // As badly aligned as they may be.
  static constexpr std::uint64_t table = RingGuest::first + 0x10;
  static constexpr std::uint64_t available = RingGuest::first + 0x10002;
  static constexpr std::uint64_t used = RingGuest::first + 0x18004;
  static constexpr std::uint64_t used_event(std::uint64_t size) { return available + 4 + 2 * size; }
  static constexpr std::uint64_t available_event(std::uint64_t size) { return used + 4 + 8 * size; }

 private:
  RingGuest* guest_;
  std::uint16_t size_;
  bool event_index_;
  std::uint64_t made_;
  std::uint64_t seen_;
  std::uint64_t wanted_ = 0;
  std::vector<std::uint16_t> free_;
  std::map<std::uint32_t, std::vector<std::uint16_t>> held_;
};

}  // namespace viommu::test
