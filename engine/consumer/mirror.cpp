// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/mirror.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/consumer/section_sync.hpp"
#include "engine/consumer/table_sync.hpp"

namespace viommu::consumer {
namespace {

constexpr Iova page_first(Iova iova) noexcept { return {iova.value & ~low_bits(page_shift)}; }
constexpr Iova page_last(Iova iova) noexcept { return {iova.value | low_bits(page_shift)}; }

}  // namespace

void Mirror::aim(const Content& content) noexcept {
  content_ = content;
  unsupported_ = !supports(content);
  gave_up_ = unsupported_;
  undone_.reset();
  touch(range_);
}

void Mirror::touch(IovaRange range) noexcept {
  if (!declared_.map) return;
  // Whole pages: what is cut off a page is cut when it is told.
  IovaRange part{std::max(page_first(range_.first), page_first(range.first)),
                 std::min(page_last(range_.last), page_last(range.last))};
  if (part.last < part.first) return;
  if (!job_.pending) {
    job_ = {true, false, part, part.first};
    return;
  }
  // What was looked through already is looked through again where that is asked for since.
  const bool behind = part.first < job_.next;
  job_.range = {std::min(job_.range.first, part.first), std::max(job_.range.last, part.last)};
  if (behind) job_.next = part.first;
}

template <class Say>
void Mirror::tell(IovaRange range, const Say& say) noexcept {
  const IovaRange part{std::max(range_.first, range.first), std::min(range_.last, range.last)};
  if (part.last < part.first) return;
  Delivery delivery{sink_, source_, false, declared_.powers_of_two, figures_.told};
  say(delivery, part);
}

void Mirror::tell_unmapped(IovaRange range) noexcept {
  if (declared_.map || !declared_.unmap) return;
  // Beyond the width of tables too: what bypasses is answered anywhere.
  tell(range, [](Delivery& delivery, IovaRange part) { delivery.unmap(part, no_gpa); });
}

void Mirror::tell_device_unmapped(IovaRange range) noexcept {
  if (!declared_.device_unmap) return;
  tell(range, [](Delivery& delivery, IovaRange part) { delivery.device_unmap(part); });
}

bool Mirror::withdraw_whole_range() noexcept {
  if (!declared_.map || !(declared_.powers_of_two || declared_.whole_range)) return false;
  const IovaRange part{range_.first, std::min(range_.last, reach_)};
  if (part.last < part.first) return false;
  Delivery delivery{sink_, source_, false, declared_.powers_of_two, figures_.told};
  delivery.unmap(part, no_gpa);
  delivery.flush();
  if (delivery.failed()) return false;  // then one by one
  shadow_.clear();
  sections_.clear();
  left_out_ = 0;
  figures_.mappings = 0;
  figures_.bytes = 0;
  return true;
}

void Mirror::advance(const Tables& tables, Slice& slice) noexcept {
  Delivery delivery{sink_, source_, declared_.units == Units::split, declared_.powers_of_two, figures_.told};
  if (std::exchange(unsupported_, false)) delivery.report(Reported::unsupported, Event{});
  while (job_.pending && !slice.over()) {  // ends: each round goes on in the range, or has a failure less to tell
    // What goes, goes first.
    if (content_.view != View::system && !SectionSync{*this, tables, delivery}.run()) return give_up(delivery);
    TableSync look{*this, tables, delivery, slice};
    const TableSync::End end = look.run({job_.next, job_.range.last});
    delivery.flush();
    const bool failed = delivery.failed();
    const bool stayed = failed && std::ranges::any_of(delivery.failures(), [&](const Event& event) {
                          return event.kind == EventKind::unmap && event.iova <= look.next().last.value &&
                                 event.last >= look.next().first.value;
                        });
    apply_failures(delivery);
    const bool refused = failed || end == TableSync::End::no_memory || end == TableSync::End::quota;
    if (refused && terms_ == Terms::all_or_nothing)
      return refuse(delivery, !failed, end == TableSync::End::done ? job_.range : look.next());
    bool done = end == TableSync::End::done;
    switch (end) {
      case TableSync::End::done: break;
      case TableSync::End::paused:
        job_.next = look.next().first;
        if (!failed) return;
        break;
      case TableSync::End::again:
        if (stayed) {  // it is there as it was, until something changes
          done = look.next().last >= job_.range.last;
          job_.next = {look.next().last.value + 1};
          break;
        }
        job_.next = look.next().first;
        job_.range.first = std::min(job_.range.first, look.next().first);
        job_.range.last = std::max(job_.range.last, look.next().last);
        break;
      case TableSync::End::no_memory:
      case TableSync::End::quota:     give_up(delivery); break;
    }
    if (!done) continue;
    if (content_.view == View::system && !SectionSync{*this, tables, delivery}.run()) return give_up(delivery);
    job_.pending = false;
    broken_ = {};
  }
}

bool Mirror::change(IovaRange range, const Tables& tables, bool undo) noexcept {
  if (const std::optional undone = std::exchange(undone_, std::nullopt)) touch(*undone);
  touch(range);
  const std::uint64_t failures = figures_.told.failures;
  const bool gave_up = gave_up_;
  terms_ = undo ? Terms::undo : Terms::all_or_nothing;
  refused_ = false;
  while (job_.pending) {  // ends: what is mapped is bounded by the quota, and what was held before
    Slice all{~std::uint32_t{0}};
    advance(tables, all);
  }
  terms_ = Terms::usual;
  return !refused_ && figures_.told.failures == failures && gave_up_ == gave_up;
}

void Mirror::refuse(Delivery& delivery, bool quota, IovaRange looked) noexcept {
  // What was part of a longer unit, or shares 2 MiB with what no memory was found for, may be gone with it.
  const IovaRange all{std::min(job_.range.first, looked.first), std::max(job_.range.last, looked.last)};
  undone_ = {{all.first.value & ~low_bits(slot_shift)}, {all.last.value | low_bits(slot_shift)}};
  refused_ = true;
  job_.pending = false;
  broken_ = {};
  if (!quota) return;
  Event event;
  event.iova = job_.range.first.value;
  event.last = job_.range.last.value;
  delivery.report(Reported::quota, event);
}

void Mirror::give_up(Delivery& delivery) noexcept {
  gave_up_ = true;
  job_ = {true, true, range_, page_first(range_.first)};
  delivery.report(Reported::quota, Event{});
}

void Mirror::apply_failures(Delivery& delivery) noexcept {
  // What failed to come is not there; then what failed to go is, unless something took its place.
  for (const Event& event : delivery.failures())
    if (event.kind == EventKind::map) erase({{event.iova}, {event.last}});
  for (const Event& event : delivery.failures())
    if (event.kind == EventKind::unmap && event.gpa != no_gpa) put_back(event);
  delivery.forget_failures();
}

void Mirror::erase(IovaRange range) noexcept {
  std::uint64_t at = range.first.value & ~low_bits(slot_shift);
  for (;;) {  // ends: an event of tables is at most as long as what was delivered without a hole
    const Iova first = std::max(range.first, Iova{at});
    const Iova last = std::min(range.last, Iova{at | low_bits(slot_shift)});
    edit_slot({at}, false, static_cast<unsigned>(first.value >> page_shift & low_bits(9)),
              static_cast<unsigned>(last.value >> page_shift & low_bits(9)), nullptr);
    if (last == range.last) return;
    at += std::uint64_t{1} << slot_shift;
    if (shadow_.root() == nullptr) return;
  }
}

void Mirror::put_back(const Event& event) noexcept {
  const bool mmio = (event.rights & mmio_right) != 0;
  const std::uint64_t first = event.iova & ~low_bits(page_shift);
  const std::uint64_t frame = event.gpa - (event.iova - first);
  std::uint64_t at = first;
  for (;;) {  // ends: as in erase()
    const std::uint64_t large_last = at | low_bits(shift_of(2));
    if ((at & low_bits(shift_of(2))) == 0 && large_last <= event.last && declared_.takes_large() &&
        put_back_large({at}, MappedRun::of(0, table_pages, {frame + (at - first)}, Rights::in(event.rights), mmio))) {
      if (large_last == event.last) return;
      at = large_last + 1;
      continue;
    }
    const std::uint64_t slot = at & ~low_bits(slot_shift);
    const std::uint64_t last = std::min(event.last, slot | low_bits(slot_shift));
    const auto from = static_cast<unsigned>(at >> page_shift & low_bits(9));
    const auto to = static_cast<unsigned>(last >> page_shift & low_bits(9));
    MappedRun run = MappedRun::of(from, to - from + 1, {frame + (at - first)}, Rights::in(event.rights), mmio);
    if (at != first && declared_.joins()) run.word |= joined_bit;
    edit_slot({slot}, true, from, to, &run);
    if (last == event.last) return;
    at = slot + (std::uint64_t{1} << slot_shift);
  }
}

/// Forgets what was left out of 1 GiB. @return whether there was nothing else
bool Mirror::clear_left_out(Shadow::Node& node, std::size_t index) noexcept {
  Shadow::Node* const below = Shadow::node_in(node.slots[index]);
  if (below == nullptr) return node.slots[index].empty();
  for (std::size_t i = 0; i < table_pages; ++i)
    if (!std::ranges::all_of(Shadow::runs(*below, i), is_left_out)) return false;
  for (std::size_t i = 0; i < table_pages; ++i) {
    left_out_ -= Shadow::runs(*below, i).size();
    static_cast<void>(shadow_.put_runs(*below, i, {}));  // takes no memory
  }
  shadow_.drop_if_unused(node, index);
  return true;
}

/// A unit of 1 GiB, where nothing is that was delivered. @return false where something is, or may be
bool Mirror::put_back_large(Iova iova, const MappedRun& run) noexcept {
  if (shadow_.root() == nullptr) shadow_.root() = shadow_.make_node();
  Shadow::Node* node = shadow_.root();
  for (unsigned level = top_level; node != nullptr && level > 2; --level)
    node = shadow_.node_at(*node, iova.value >> shift_of(level) & low_bits(9));
  const std::size_t index = iova.value >> shift_of(2) & low_bits(9);
  if (node == nullptr || !clear_left_out(*node, index)) return false;
  Shadow::put_word(*node, index, run.word);
  ++figures_.mappings;
  figures_.bytes += std::uint64_t{1} << shift_of(2);
  return true;
}

/// Takes pages out of a slot of level 1, or puts a run in where nothing is.
void Mirror::edit_slot(Iova slot, bool make, unsigned first, unsigned last, const MappedRun* instead) noexcept {
  if (shadow_.root() == nullptr && make) shadow_.root() = shadow_.make_node();
  if (shadow_.root() == nullptr) return;
  std::array<Shadow::Node*, top_level + 1> path{};
  std::array<std::size_t, top_level + 1> indexes{};
  Shadow::Node* node = shadow_.root();
  for (unsigned level = top_level;; --level) {
    indexes[level] = slot.value >> shift_of(level) & low_bits(9);
    path[level] = node;
    if (level == 1) break;
    if (level == 2 && node->slots[indexes[2]].is_unit()) {
      if (make) return;
      Shadow::put_word(*node, indexes[2], 0);
      --figures_.mappings;
      figures_.bytes -= std::uint64_t{1} << shift_of(2);
    }
    node = make ? shadow_.node_at(*node, indexes[level]) : Shadow::node_in(node->slots[indexes[level]]);
    if (node == nullptr) return;
  }
  Runs after;
  std::uint64_t mappings = 0;
  std::uint64_t left_out = 0;
  std::uint64_t bytes = 0;
  const Shadow::Slot held = node->slots[indexes[1]];
  if (make && held.is_joined()) return;  // something took its place
  const auto keep = [&](MappedRun run) {
    after.push(run);
    if (is_left_out(run)) {
      ++left_out;
      return;
    }
    mappings += is_joined(run) ? 0U : 1U;
    bytes += std::uint64_t{run.pages()} << page_shift;
  };
  bool placed = instead == nullptr;
  for (MappedRun run : Shadow::runs(*node, indexes[1])) {
    if (is_left_out(run)) {
      --left_out_;
    } else {
      figures_.mappings -= is_joined(run) ? 0U : 1U;
      figures_.bytes -= std::uint64_t{run.pages()} << page_shift;
    }
    run.word &= ~unit_marks;
    const bool overlaps = run.first() <= last && run.last() >= first;
    // What is left out was never delivered: what did not go is still there.
    const bool stands = instead != nullptr && !is_left_out(run);
    if (stands && overlaps) placed = true;  // something took its place
    if (!placed && run.first() > last) {
      keep(*instead);
      placed = true;
    }
    if (!overlaps || stands) {
      keep(run);
      continue;
    }
    if (run.first() < first) keep(part_of(run, run.first(), first - 1));
    if (!placed && run.last() > last) {
      keep(*instead);
      placed = true;
    }
    if (run.last() > last) keep(part_of(run, last + 1, run.last()));
  }
  if (!placed) keep(*instead);
  const bool put = shadow_.put_runs(*node, indexes[1], after.span());
  shadow_.settle();
  if (put) {
    figures_.mappings += mappings;
    figures_.bytes += bytes;
    left_out_ += left_out;
  } else {
    static_cast<void>(shadow_.put_runs(*node, indexes[1], {}));
  }
  for (unsigned level = 2; level <= top_level; ++level) shadow_.drop_if_unused(*path[level], indexes[level]);
  shadow_.drop_root_if_unused();
}

}  // namespace viommu::consumer
