// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/capi/range_cache.hpp"

#include <mutex>

namespace viommu::capi {
namespace {

using virtio_iommu::Inserted;
using virtio_iommu::Removed;

constexpr std::uint64_t top_address = ~std::uint64_t{0};
constexpr unsigned most_evicted = 32;             // to make room for one
constexpr std::uint32_t changes_a_settling = 64;  // a look at the guards costs more than a change

/// The part of a mapping that is in `range`, which lies in it.
[[nodiscard]] Mapping part_of(const Mapping& mapping, IovaRange range) noexcept {
  return {range, mapping.gpa + (range.first.value - mapping.range.first.value), mapping.rights, false};
}

/// Whether `second` begins where `first` ends, in both spaces.
[[nodiscard]] bool goes_on(const Mapping& first, const Mapping& second) noexcept {
  const std::uint64_t last_target = first.gpa.value + (first.range.last.value - first.range.first.value);
  return first.rights == second.rights && first.range.last.value + 1 == second.range.first.value &&
         second.range.first.value != 0 && last_target != top_address && last_target + 1 == second.gpa.value;
}

}  // namespace

// ---- Readers ----

RangeCache::Look RangeCache::look(Iova at) const noexcept {
  for (unsigned round = 1;; ++round) {                                      // ends: `most_looks`
    const std::uint64_t before = changes_.load(std::memory_order_acquire);  // G3
    if (const std::optional<Mapping> found = mappings_.find(at)) return {found, found->range.last};
    const std::optional<Mapping> next = mappings_.first_from(at);
    const bool steady = before % 2 == 0 && changes_.load(std::memory_order_relaxed) == before;  // G4
    // What came between the two looks.
    if (next && next->range.contains(at)) return {next, next->range.last};
    if (steady || round == most_looks) {
      const std::uint64_t end = next && next->range.first > at ? next->range.first.value - 1 : top_address;
      return {std::nullopt, {end}};
    }
    spin_pause(round);
  }
}

// ---- Feeding ----

RangeCache::End RangeCache::head_of(IovaRange range) const noexcept {
  if (range.first.value == 0) return {};
  const std::optional<Mapping> before = mappings_.find({range.first.value - 1});
  if (!before) return {};
  return {before, part_of(*before, {before->range.first, {range.first.value - 1}})};
}

RangeCache::End RangeCache::tail_of(IovaRange range) const noexcept {
  if (range.last.value == top_address) return {};
  const std::optional<Mapping> behind = mappings_.find({range.last.value + 1});
  if (!behind) return {};
  return {behind, part_of(*behind, {{range.last.value + 1}, behind->range.last})};
}

std::optional<IovaRange> RangeCache::between(IovaRange range, const End& head, const End& tail) noexcept {
  if (head.out) {
    if (head.out->range.last >= range.last) return std::nullopt;
    range.first = Iova{head.out->range.last.value + 1};
  }
  if (tail.out) {
    if (tail.out->range.first <= range.first) return std::nullopt;
    range.last = Iova{tail.out->range.first.value - 1};
  }
  return range;
}

void RangeCache::begin_change() noexcept {
  changes_.store(changes_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // G1
}
void RangeCache::end_change() noexcept {
  changes_.store(changes_.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // G2
}

void RangeCache::remove(IovaRange range) noexcept {
  while (mappings_.remove(range, slice, [](const Mapping&) {}) == Removed::more) settle();  // ends: some go each time
}

void RangeCache::take_out(const End& end) noexcept {
  if (end.out) remove(end.out->range);
}

void RangeCache::put_back(const End& end) noexcept {
  if (end.back && insert(*end.back) != Updated::ok) ++forgotten_;
}

RangeCache::Updated RangeCache::insert(const Mapping& mapping) noexcept {
  for (unsigned attempt = 0;; ++attempt) {  // ends: `most_evicted`, and one more
    switch (mappings_.insert(mapping)) {
      case Inserted::ok:    return Updated::ok;
      case Inserted::limit: {
        // The quota counts ranges, so one that goes makes room for one.
        if (attempt >= most_evicted || !evict(mapping.range)) return Updated::no_memory;
        break;
      }
      case Inserted::later: {
        if (attempt > most_evicted) return Updated::later;
        attempt = most_evicted;
        settle();
        break;
      }
      default: {
        // Ranges that lie far apart take more memory than others.
        if (attempt >= most_evicted || !evict(mapping.range)) return Updated::no_memory;
        settle();
        break;
      }
    }
  }
}

bool RangeCache::evict(IovaRange but) noexcept {
  std::optional<Mapping> next = mappings_.first_from({hand_});
  if (next && next->range.overlaps(but))
    next = but.last.value == top_address ? std::nullopt : mappings_.first_from({but.last.value + 1});
  if (!next) next = mappings_.first_from({0});
  if (!next) return false;
  hand_ = next->range.last.value + 1;  // behind the last address: from the beginning again
  remove(next->range);
  ++evicted_;
  return true;
}

RangeCache::Updated RangeCache::update(const Mapping& wanted) noexcept {
  const std::lock_guard lock{feeding_};
  const std::optional<Mapping> there = mappings_.find(wanted.range.first);
  if (there && there->range.last >= wanted.range.last && there->rights == wanted.rights &&
      part_of(*there, wanted.range) == wanted)
    return Updated::ok;
  End head = head_of(wanted.range);
  End tail = tail_of(wanted.range);
  Mapping all = wanted;
  if (head.back && goes_on(*head.back, all)) {
    all = {{head.back->range.first, all.range.last}, head.back->gpa, all.rights, false};
    head.back.reset();
  }
  if (tail.back && goes_on(all, *tail.back)) {
    all.range.last = tail.back->range.last;
    tail.back.reset();
  }
  // What only touches, and does not join, stays where it is.
  if (head.back == head.out) head = {};
  if (tail.back == tail.out) tail = {};
  begin_change();
  take_out(head);
  take_out(tail);  // perhaps the same one, and gone already
  remove(wanted.range);
  const Updated updated = insert(all);
  put_back(head);
  put_back(tail);
  end_change();
  if (++unsettled_ >= changes_a_settling) settle();
  return updated;
}

std::uint64_t RangeCache::invalidate(IovaRange range) noexcept {
  const std::lock_guard lock{feeding_};
  if (range == all_iovas) {
    mappings_.clear();
  } else {
    End head = head_of(range);
    End tail = tail_of(range);
    if (head.back == head.out) head = {};
    if (tail.back == tail.out) tail = {};
    if (const std::optional<IovaRange> whole = between(range, head, tail)) remove(*whole);
    if (head.out || tail.out) {
      begin_change();
      take_out(head);
      take_out(tail);
      put_back(head);
      put_back(tail);
      end_change();
    }
  }
  const std::uint64_t ticket = epochs_.advance();
  nodes_.seal(ticket);
  if (++unsettled_ >= changes_a_settling) settle();
  return ticket;
}

void RangeCache::settle() noexcept {
  unsettled_ = 0;
  const std::uint64_t ticket = epochs_.advance();
  nodes_.seal(ticket);
  static_cast<void>(epochs_.scan(ticket));
  static_cast<void>(nodes_.reclaim(epochs_.completed(), slice));
}

bool RangeCache::drained(std::uint64_t ticket) noexcept {
  if (epochs_.passed(ticket)) return true;
  const std::lock_guard lock{feeding_};
  const bool passed = epochs_.scan(ticket);
  static_cast<void>(nodes_.reclaim(epochs_.completed(), slice));
  return passed;
}

RangeCache::Figures RangeCache::figures() const noexcept {
  const std::lock_guard lock{feeding_};
  return {mappings_.size(), nodes_.bytes(), evicted_, forgotten_};
}

}  // namespace viommu::capi
