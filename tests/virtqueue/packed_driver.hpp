// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The driver's side of a packed ring, written from the specification: positions count on for ever, and what stands in
// memory is their remainder and the parity of their rounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <vector>

#include "engine/virtqueue/ring.hpp"
#include "tests/virtqueue/guest.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::test {

class PackedDriver {
 public:
  static constexpr std::uint16_t flag_next = 1;
  static constexpr std::uint16_t flag_write = 2;
  static constexpr std::uint16_t flag_indirect = 4;
  static constexpr std::uint16_t flag_available = 0x80;
  static constexpr std::uint16_t flag_used = 0x8000;

  /// @param start  a whole number of rounds
  PackedDriver(RingGuest& guest, std::uint16_t size, bool event_index, std::uint64_t start = 0)
      : guest_{&guest}, size_{size}, event_index_{event_index}, made_{start}, published_{start}, seen_{start} {
    for (std::uint16_t i = 0; i < size; ++i) ids_.push_back(static_cast<std::uint16_t>(0x8000 + 7 * i));
    // Used in the round before, as far as a driver would tell.
    for (std::uint16_t i = 0; i < size; ++i) guest.put<std::uint16_t>(ring + 16ull * i + 14, round(start) ? 0 : 0x8080);
  }

  [[nodiscard]] virtqueue::Config config(bool may_indirect = true) const {
    return {size_, {ring}, {driver_event}, {device_event}, {may_indirect, event_index_, true}};
  }
  [[nodiscard]] std::size_t room() const { return size_ - (made_ - seen_); }

  std::uint16_t add(const RingBuffer& buffer) {
    const std::uint16_t id = ids_.back();
    ids_.pop_back();
    const std::size_t slots = buffer.slots();
    for (std::size_t i = slots; i-- > 0;) {
      const bool last = i + 1 == slots;
      const std::uint16_t more = last ? 0 : flag_next;
      const bool refers = last && buffer.indirect();
      const std::size_t count = buffer.pieces.size() - buffer.direct;
      const Piece piece =
          refers ? Piece{buffer.table, static_cast<std::uint32_t>(16 * count), false} : buffer.pieces[i];
      // The id of the last one counts; the others hold nonsense.
      pend(made_ + i, piece, static_cast<std::uint16_t>(more | (refers ? flag_indirect : 0)),
           last ? id : static_cast<std::uint16_t>(~id));
    }
    for (std::size_t i = buffer.direct; i < buffer.pieces.size(); ++i)
      table_entry(buffer.table, i - buffer.direct, buffer.pieces[i]);
    held_[id] = slots;
    made_ += slots;
    return id;
  }
  /// The flags of all that was added, from the last descriptor to the first.
  void publish() {
    for (std::uint64_t position = made_; position-- > published_;)
      guest_->put<std::uint16_t>(at(position) + 14, pending_.at(position));
    published_ = made_;
    pending_.clear();
  }

  std::vector<UsedBuffer> collect() {
    std::vector<UsedBuffer> found;
    while (seen_ != made_) {
      const std::uint64_t where = at(seen_);
      const auto flags = guest_->get<std::uint16_t>(where + 14);
      const bool a = (flags & flag_available) != 0;
      const bool u = (flags & flag_used) != 0;
      if (a != u || u != round(seen_)) break;
      found.push_back({guest_->get<std::uint16_t>(where + 12), guest_->get<std::uint32_t>(where + 8)});
      if (((flags & flag_write) != 0) != (found.back().length != 0)) throw std::logic_error{"WRITE of a used element"};
      const auto held = held_.find(found.back().id);
      if (held == held_.end()) throw std::logic_error{"a buffer came back that is not out"};
      seen_ += held->second;
      ids_.insert(ids_.begin(), static_cast<std::uint16_t>(found.back().id));
      held_.erase(held);
    }
    return found;
  }

  /// Wants to hear when the entry `n` behind the next one is used. `n` is less than the size.
  void want_after(std::uint64_t n) {
    wanted_ = seen_ + n;
    const std::uint64_t word = wanted_ % size_ | (round(wanted_) ? 0x8000u : 0u) | std::uint64_t{2} << 16;
    guest_->put<std::uint32_t>(driver_event, static_cast<std::uint32_t>(word));
    at_descriptor_ = true;
  }
  void want(bool any) {
    guest_->put<std::uint32_t>(driver_event, any ? 0u : 0x10000u);
    at_descriptor_ = false;
    any_ = any;
  }
  [[nodiscard]] bool due(std::uint64_t before, std::uint64_t after) const {
    if (at_descriptor_) return before <= wanted_ && wanted_ < after;
    return after != before && any_;
  }
  [[nodiscard]] std::uint64_t seen() const { return seen_; }

  [[nodiscard]] bool device_listens() const {
    const auto word = guest_->get<std::uint32_t>(device_event);
    if (!event_index_) return word == 0;
    return word == (made_ % size_ | (round(made_) ? 0x8000u : 0u) | 0x20000u);
  }

  // For what no good driver does.
  void pend(std::uint64_t position, const Piece& piece, std::uint16_t flags, std::uint16_t id) {
    const std::uint64_t where = at(position);
    guest_->put<std::uint64_t>(where, piece.gpa);
    guest_->put<std::uint32_t>(where + 8, piece.length);
    guest_->put<std::uint16_t>(where + 12, id);
    pending_[position] = static_cast<std::uint16_t>(flags | (piece.device_writes ? flag_write : 0) |
                                                    (round(position) ? flag_available : flag_used));
  }
  /// A descriptor with the flags of a driver's, at once.
  void descriptor(std::uint64_t position, const Piece& piece, std::uint16_t flags, std::uint16_t id) {
    pend(position, piece, flags, id);
    guest_->put<std::uint16_t>(at(position) + 14, pending_.at(position));
    pending_.erase(position);
  }
  void table_entry(std::uint64_t table, std::size_t index, const Piece& piece, std::uint16_t flags = 0) {
    const std::uint64_t where = table + 16 * index;
    guest_->put<std::uint64_t>(where, piece.gpa);
    guest_->put<std::uint32_t>(where + 8, piece.length);
    guest_->put<std::uint16_t>(where + 12, 0xDEAD);
    // All flags but WRITE are to be ignored here.
    guest_->put<std::uint16_t>(where + 14, static_cast<std::uint16_t>(flags | (piece.device_writes ? flag_write : 0)));
  }

  static constexpr std::uint64_t ring = RingGuest::first + 0x10;
  static constexpr std::uint64_t driver_event = RingGuest::first + 0x10004;
  static constexpr std::uint64_t device_event = RingGuest::first + 0x1000C;

 private:
  [[nodiscard]] bool round(std::uint64_t position) const { return position / size_ % 2 == 0; }
  [[nodiscard]] std::uint64_t at(std::uint64_t position) const { return ring + 16 * (position % size_); }

  RingGuest* guest_;
  std::uint16_t size_;
  bool event_index_;
  std::uint64_t made_;
  std::uint64_t published_;
  std::uint64_t seen_;
  std::uint64_t wanted_ = 0;
  bool at_descriptor_ = false;
  bool any_ = true;
  std::vector<std::uint16_t> ids_;
  std::map<std::uint32_t, std::size_t> held_;
  std::map<std::uint64_t, std::uint16_t> pending_;
};

}  // namespace viommu::test
