// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Events on their way to a consumer: gathered, told in batches, and what it says became of them.
#pragma once

#include "engine/base/scratch.hpp"
#include "engine/consumer/backing.hpp"
#include "engine/consumer/event.hpp"
#include "walkers/run_events.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace viommu::consumer {

// As walkers::spread_runs() writes them.
static_assert(sizeof(Event) == walkers::event_words * sizeof(std::uint64_t) && offsetof(Event, iova) == 0 &&
              offsetof(Event, last) == 8 && offsetof(Event, gpa) == 16 && offsetof(Event, hva) == 24 &&
              offsetof(Event, kind) == 32 && offsetof(Event, rights) == 32 + walkers::event_rights_shift / 8);

/// What was told, since the subscription.
struct Told {
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t failures = 0;
  std::uint64_t left_out = 0;
};

/// One batch. Threads: one at a time. Calls the consumer when it is full, and in flush(); the failed ones are kept
/// until they are taken.
class Delivery {
 public:
  static constexpr std::size_t batch = 256;
  /// Between two looks at them: what is in a batch, and all of one slot of a shadow.
  static constexpr std::size_t most_failures = batch + std::size_t{2} * 512;

  /// @param merge  neighbours that go on alike are one event; with `powers_of_two` where both are one together
  Delivery(const Sink& sink, SourceId source, bool merge, bool powers_of_two, Told& told) noexcept
      : sink_{sink}, source_{source}, merge_{merge}, powers_of_two_{powers_of_two}, told_{told} {}
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;
  ~Delivery() { flush(); }

  /// Whether room() may be filled: events are told as they are.
  [[nodiscard]] bool takes_plain() const noexcept { return !merge_ && !powers_of_two_; }
  /// Room for events in a row, `least` and maybe more, and slack for lanes behind it; who filled some says how many.
  [[nodiscard]] std::span<Event> room(std::size_t least = 1) noexcept {
    if (batch - count_ < least) flush();
    return {events_.data() + count_, batch - count_};
  }
  void commit(std::size_t count, std::size_t maps) noexcept {
    count_ += count;
    map_count_ += maps;
  }
  void map(IovaRange range, Gpa gpa, std::byte* host, std::uint8_t rights) noexcept {
    put_any({range.first.value, range.last.value, gpa.value, host, EventKind::map, rights});
  }
  /// Makes the last event longer. @return false where that is told already, or does not go on there
  [[nodiscard]] bool extend_map(IovaRange range, Gpa gpa, std::byte* host, std::uint8_t rights) noexcept;
  /// @param gpa  no_gpa where it is not one run
  void unmap(IovaRange range, std::uint64_t gpa, std::uint8_t rights = 0) noexcept {
    put_any({range.first.value, range.last.value, gpa, nullptr, EventKind::unmap, rights});
  }
  void device_unmap(IovaRange range) noexcept {
    put_any({range.first.value, range.last.value, no_gpa, nullptr, EventKind::device_unmap});
  }
  void report(Reported what, const Event& event) noexcept;
  void flush() noexcept;

  /// Whether something failed that has not been taken: then nothing more is to be put in.
  [[nodiscard]] bool failed() const noexcept { return failure_count_ != 0; }
  [[nodiscard]] std::span<const Event> failures() const noexcept { return {failures_.data(), failure_count_}; }
  void forget_failures() noexcept { failure_count_ = 0; }

 private:
  void put_any(const Event& event) noexcept {
    if (!takes_plain()) [[unlikely]]
      return put_pieces(event);
    if (count_ == batch) flush();
    events_.put(count_++, event);
    map_count_ += event.kind == EventKind::map ? 1U : 0U;
  }
  void put(Event next) noexcept;
  void put_pieces(Event event) noexcept;

  const Sink& sink_;
  SourceId source_;
  bool merge_;
  bool powers_of_two_;
  Told& told_;
  std::size_t count_ = 0;
  std::size_t map_count_ = 0;  ///< of these
  std::size_t failure_count_ = 0;
  alignas(64) Scratch<Event, batch + walkers::spread_slack> events_;  // vectors of four or eight cross no more lines
  Scratch<Event, most_failures> failures_;
};

/// Calls piece(first, last) for aligned powers of two that make up the range, ascending.
template <class Use>
void for_each_power_of_two(IovaRange range, Use&& piece) noexcept {
  std::uint64_t first = range.first.value;
  for (;;) {                                              // ends: at most 128 pieces
    const std::uint64_t left = range.last.value - first;  // size - 1
    const std::uint64_t aligned = first == 0 ? ~std::uint64_t{0} : (first & (~first + 1)) - 1;
    // The largest 2^n - 1 that is neither above what is left nor above the alignment.
    const std::uint64_t fits =
        left == ~std::uint64_t{0} ? left : low_bits(static_cast<unsigned>(std::bit_width(left + 1)) - 1);
    const std::uint64_t mask = std::min(aligned, fits);
    piece(first, first + mask);
    if (mask == left) return;
    first += mask + 1;
  }
}

}  // namespace viommu::consumer
