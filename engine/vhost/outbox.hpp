// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The messages to one back end, in one order, and which answers an invalidation has overtaken.
//
//   an answer       O1 stamp() -> the engine is asked -> O2 post(): has a range been withdrawn since? if not, queued
//   invalidation    the engine drops its caches -> event: O3 noted as withdrawn, O4 queued, O5 sent -> it returns
//
// *No UPDATE behind an INVALIDATE that covers it carries the older translation.* O1 to O4 are each under the lock, and
// messages leave in the order in which they were queued. Take an UPDATE that is queued behind the INVALIDATE: O2 is
// behind O4, and O3 before that.
// - O1 before O3: the note is between the two, so O2 finds it and nothing is queued. The notes are kept in a ring; an
//   answer that is older than all of them counts as overtaken.
// - O1 behind O3: the engine had dropped its caches before the event, which happens before O3 and so before O1 and all
//   that the engine was asked from then on. By its window rule (P1) no answer is from before that invalidation.
// An UPDATE that is queued before the INVALIDATE may carry either, and goes with it.
// *The guest sees no completion before the INVALIDATE is with the back end.* O5: the event returns when send() has.
// *No lock across send().* One thread at a time sends, without the lock; who needs a message sent that another thread
// has on its hands waits for that thread. A message that is posted from inside send() is sent there and then, behind
// all that was queued before it: that thread cannot wait for itself, and the order stays.
// Bounded: a full queue makes whoever posts wait, and what is posted at a time fits.
#pragma once

#include <viommu/viommu_vhost.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>

#include "engine/vhost/range.hpp"

namespace viommu::vhost {

class Outbox {
 public:
  static constexpr std::size_t most_at_once = 64;
  using Send = void (*)(void* opaque, const viommu_vhost_message& message);

  Outbox(Send send, void* opaque) noexcept : send_{send}, opaque_{opaque} {}
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  /// For post(): before the engine is asked.
  [[nodiscard]] std::uint64_t stamp() {
    const std::lock_guard lock{lock_};
    return withdrawn_;  // O1
  }
  /// An answer about `ranges`, sent when it returns. @return false when it was overtaken: nothing is sent
  [[nodiscard]] bool post(std::uint64_t stamp, std::span<const Range> ranges,
                          std::span<const viommu_vhost_message> messages) {
    std::unique_lock lock{lock_};
    make_room(lock, messages.size());
    for (const Range& range : ranges)
      if (overtaken(stamp, range)) return false;  // O2
    queue(messages);
    send_up_to(lock, last_);
    return true;
  }
  /// The range has been withdrawn: `messages`, which say so, are sent when it returns.
  void withdraw(const Range& range, std::span<const viommu_vhost_message> messages) {
    std::unique_lock lock{lock_};
    notes_[withdrawn_++ % notes_.size()] = range;  // O3
    make_room(lock, messages.size());
    queue(messages);  // O4
    send_up_to(lock, last_);
  }

 private:
  static constexpr std::size_t capacity = 4 * most_at_once;
  static constexpr std::size_t most_notes = 64;

  [[nodiscard]] bool overtaken(std::uint64_t stamp, const Range& range) const noexcept {
    if (withdrawn_ - stamp > most_notes) return true;
    for (std::uint64_t at = stamp; at != withdrawn_; ++at)
      if (notes_[at % most_notes].overlaps(range)) return true;
    return false;
  }
  [[nodiscard]] bool may_send() const noexcept { return depth_ == 0 || sender_ == std::this_thread::get_id(); }
  void make_room(std::unique_lock<std::mutex>& lock, std::size_t count) {
    while (last_ + count - next_ > capacity) {  // ends: whoever sends makes room
      if (may_send())
        send_up_to(lock, last_);
      else
        moved_.wait(lock);
    }
  }
  void queue(std::span<const viommu_vhost_message> messages) noexcept {
    for (const viommu_vhost_message& message : messages) messages_[last_++ % capacity] = message;
  }
  /// Returns when send() has returned for all messages up to there; inside send(), when it has been called for them.
  void send_up_to(std::unique_lock<std::mutex>& lock, std::uint64_t end) {
    while (sent_ < end) {  // ends: nobody waits for a message behind its own
      if (!may_send()) {
        moved_.wait(lock);
        continue;
      }
      sender_ = std::this_thread::get_id();
      ++depth_;
      while (next_ < end) {
        const viommu_vhost_message message = messages_[next_++ % capacity];
        lock.unlock();
        send_(opaque_, message);  // O5
        lock.lock();
      }
      if (--depth_ != 0) return;
      sent_ = next_;
      moved_.notify_all();
    }
  }

  const Send send_;
  void* const opaque_;
  std::mutex lock_;
  std::condition_variable moved_;  // a sender has ended, and there is room
  std::array<viommu_vhost_message, capacity> messages_;
  std::uint64_t last_ = 0;  // messages queued, so far
  std::uint64_t next_ = 0;  // of these, given to send()
  std::uint64_t sent_ = 0;  // of these, returned from it
  std::thread::id sender_;  // while depth_ is not 0
  unsigned depth_ = 0;      // calls of send() inside each other
  std::array<Range, most_notes> notes_;
  std::uint64_t withdrawn_ = 0;  // ranges, so far
};

}  // namespace viommu::vhost
