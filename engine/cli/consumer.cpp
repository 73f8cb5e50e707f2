// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/consumer.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <span>
#include <utility>

#include "engine/cli/messages.hpp"

namespace viommu::cli {
namespace {

constexpr std::uint64_t split_unit = std::uint64_t{2} << 20;
constexpr std::int32_t injected_failure = -28;

Consumer& consumer_of(void* opaque) noexcept { return *static_cast<Consumer*>(opaque); }

void on_events(void* opaque, viommu_event* events, std::uint32_t count) noexcept {
  for (viommu_event& event : std::span{events, count}) consumer_of(opaque).take(event);
}
void on_report(void* opaque, const viommu_consumer_report*) noexcept { consumer_of(opaque).take_report(); }
void on_attach(void* opaque, std::uint64_t space) noexcept { consumer_of(opaque).attach(space); }
void on_space_gone(void* opaque, std::uint64_t space) noexcept { consumer_of(opaque).give_up(space); }
void on_space_events(void* opaque, std::uint64_t space, viommu_event* events, std::uint32_t count) noexcept {
  for (viommu_event& event : std::span{events, count}) consumer_of(opaque).take_of(space, event);
}

constexpr bool is_aligned_power(Range range) noexcept {
  const std::uint64_t mask = range.last - range.first;  // of all 2^64 it is all ones
  return (mask & (mask + 1)) == 0 && (range.first & mask) == 0;
}

Range range_of(const viommu_event& event) noexcept { return {event.iova, event.last}; }

/// What is held alike before and after.
Ranges unchanged(const std::vector<Extent>& before, const std::vector<Extent>& after) {
  Ranges same;
  for (auto b = before.begin(), a = after.begin(); b != before.end() && a != after.end();) {
    const Range both{std::max(b->range.first, a->range.first), std::min(b->range.last, a->range.last)};
    const bool alike = b->rights == a->rights && b->gpa - b->range.first == a->gpa - a->range.first;
    if (both.first <= both.last && alike) same.push_back(both);
    if (b->range.last < a->range.last)
      ++b;
    else
      ++a;
  }
  return set_of(std::move(same));
}

Ranges ranges_of(const std::vector<Extent>& extents) {
  Ranges ranges;
  for (const Extent& extent : extents) ranges.push_back(extent.range);
  return ranges;
}

Ranges units_around(Ranges ranges) {
  for (Range& range : ranges) {
    range.first &= ~(split_unit - 1);
    range.last |= split_unit - 1;
  }
  return set_of(std::move(ranges));
}

/// The bytes of each range that are not in `left_out`.
void count(trace::Bytes& bytes, const Ranges& ranges, const Ranges& left_out) {
  for (const Range& range : ranges)
    for (const Range& part : without({range}, left_out)) bytes.add(part.first, part.last);
}

std::string length_text(Range range) {
  const std::uint64_t length = range.last - range.first + 1;
  return length == 0 ? "10000000000000000" : hex(length);
}

std::string perm_text(std::uint8_t rights) {
  const trace::Perm perm{(rights & VIOMMU_READ) != 0, (rights & VIOMMU_WRITE) != 0};
  return std::string{trace::spelling(perm)} + ((rights & VIOMMU_MMIO) != 0 ? " mmio" : "");
}

}  // namespace

std::vector<Extent> extents_of(const Holdings& all) {
  std::vector<Extent> extents;
  for (const auto& [first, held] : all) {
    if (!extents.empty()) {
      Extent& left = extents.back();
      const bool goes_on = left.range.last + 1 == first && left.rights == held.rights &&
                           left.gpa + (first - left.range.first) == held.gpa;
      if (goes_on) {
        left.range.last = held.last;
        continue;
      }
    }
    extents.push_back({{first, held.last}, held.gpa, held.rights});
  }
  return extents;
}

std::string text_of(const viommu_event& event) {
  const std::string place = hex(event.iova) + " " + length_text(range_of(event));
  if (event.kind == VIOMMU_EVENT_MAP) return "map " + place + " " + hex(event.gpa) + " " + perm_text(event.rights);
  return (event.kind == VIOMMU_EVENT_UNMAP ? "unmap " : "devunmap ") + place;
}

std::string text_of(const Extent& extent) {
  return "x " + hex(extent.range.first) + " " + length_text(extent.range) + " " + hex(extent.gpa) + " " +
         perm_text(extent.rights);
}

Consumer::Consumer(const trace::Subscribe& line, bool shares, Surroundings& surroundings)
    : source(static_cast<std::uint16_t>(line.source_id)),
      id_(line.id),
      flags_(line.flags),
      range_{line.first, line.last},
      shares_(shares),
      around_(surroundings) {}

std::unique_ptr<Consumer> Consumer::fresh() const {
  trace::Subscribe line;
  line.id = id_;
  line.source_id = source;
  line.flags = flags_;
  line.first = range_.first;
  line.last = range_.last;
  return std::make_unique<Consumer>(line, shares_, around_);
}

viommu_consumer Consumer::table() {
  const auto bit = [](bool set, unsigned value) { return set ? value : 0u; };
  viommu_consumer table{};
  table.size = sizeof table;
  table.opaque = this;
  table.notify = bit(flags_.map, VIOMMU_EVENT_MAP) | bit(flags_.unmap, VIOMMU_EVENT_UNMAP) |
                 bit(flags_.device_unmap, VIOMMU_EVENT_DEVICE_UNMAP);
  table.declares = bit(flags_.leaf, VIOMMU_CONSUMER_LEAF) | bit(flags_.no_blink, VIOMMU_CONSUMER_NO_BLINK) |
                   bit(flags_.split, VIOMMU_CONSUMER_SPLIT) | bit(flags_.pow2, VIOMMU_CONSUMER_POW2) |
                   bit(flags_.snoop, VIOMMU_CONSUMER_SNOOPS) | bit(flags_.mmio, VIOMMU_CONSUMER_MMIO) |
                   bit(flags_.private_memory, VIOMMU_CONSUMER_PRIVATE) | bit(flags_.log, VIOMMU_CONSUMER_LOGS) |
                   bit(shares_ && flags_.map, VIOMMU_CONSUMER_SHARES);
  table.first = range_.first;
  table.last = range_.last;
  table.events = on_events;
  table.report = on_report;
  if (shares_) {
    table.attach = on_attach;
    table.space_gone = on_space_gone;
    table.space_events = on_space_events;
  }
  return table;
}

std::shared_ptr<Holdings> Consumer::space(std::uint64_t number) {
  std::shared_ptr<Holdings>& there = around_.spaces[number];
  if (!there) there = std::make_shared<Holdings>();
  return there;
}

void Consumer::attach(std::uint64_t space_number) {
  begin_line();
  held_ = space(space_number);
}

void Consumer::give_up(std::uint64_t space_number) { around_.spaces.erase(space_number); }

void Consumer::take_of(std::uint64_t space_number, viommu_event& event) {
  const std::shared_ptr<Holdings> named = space(space_number);
  if (named == held_) return take(event);
  begin_line();
  // Another space, which this device does not see.
  const std::shared_ptr<Holdings> own = std::exchange(held_, named);
  const std::size_t mapped = mapped_.size();
  const std::size_t withdrawn = withdrawn_.size();
  take(event);
  mapped_.resize(mapped);
  withdrawn_.resize(withdrawn);
  held_ = own;
}

void Consumer::begin_line() {
  if (std::exchange(in_line_, true)) return;
  before_ = extents();
  const auto view = around_.views.find(source);
  view_before_ = view == around_.views.end() ? std::uint32_t{VIOMMU_VIEW_SYSTEM} : view->second;
}

void Consumer::end_line() {
  if (!std::exchange(in_line_, false)) return;
  const std::vector<Extent> after = extents();
  const Ranges same = unchanged(before_, after);
  const bool keeps = flags_.split || flags_.leaf || flags_.no_blink;
  const auto view = around_.views.find(source);
  const bool same_view = view == around_.views.end() || view->second == view_before_;
  Ranges blinked;
  if (keeps) {
    if (const Ranges taken = common(set_of(withdrawn_), same); same_view && !taken.empty())
      around_.complaints.push_back({"consumer " + id_ + ": " + hex(taken[0].first) + " " + length_text(taken[0]) +
                                        " was taken away and given back",
                                    "what did not change stays"});
  } else {
    Ranges touched = ranges_of(before_);
    const Ranges held = ranges_of(after);
    touched.insert(touched.end(), held.begin(), held.end());
    blinked = common(same, units_around(without(set_of(std::move(touched)), same)));
  }
  count(delta_.mapped, mapped_, blinked);
  count(delta_.unmapped, withdrawn_, blinked);
  mapped_.clear();
  withdrawn_.clear();
}

void Consumer::complain(const viommu_event& event, std::string expected) {
  around_.complaints.push_back({"consumer " + id_ + ": " + text_of(event), std::move(expected)});
}

void Consumer::take(viommu_event& event) {
  begin_line();
  event.status = 0;
  if (ended_) return complain(event, "no event after unsubscribe");
  const bool is_map = event.kind == VIOMMU_EVENT_MAP;
  ++(is_map ? counts_.maps : counts_.unmaps);
  check_place(event);
  std::uint64_t& failing = is_map ? failing_map_ : failing_unmap_;
  const bool fails = failing == 1;
  if (failing != 0) --failing;
  if (fails) {
    event.status = injected_failure;
    return;
  }
  if (is_map)
    map(event);
  else
    unmap(event);
}

void Consumer::check_place(const viommu_event& event) {
  if (event.last < event.iova || event.iova < range_.first || event.last > range_.last)
    complain(event, "only events in " + hex(range_.first) + "-" + hex(range_.last));
  if (flags_.pow2 && !is_aligned_power(range_of(event))) complain(event, "an aligned power of two");
}

bool Consumer::is_leaf(const viommu_event& event) const {
  const auto view = around_.views.find(source);
  if (view == around_.views.end() || view->second != VIOMMU_VIEW_TRANSLATED) return true;
  const Range range = range_of(event);
  constexpr unsigned leaf_bits[] = {12, 21, 30, 39};
  const std::uint64_t most = range.last - range.first;
  const bool whole = is_aligned_power(range) && std::any_of(std::begin(leaf_bits), std::end(leaf_bits),
                                                            [&](unsigned bits) { return most + 1 == 1ull << bits; });
  // Part of a leaf is right where the rest of it is not for this consumer.
  return whole || range.first == range_.first || range.last == range_.last ||
         around_.regions.has_edge({event.gpa, event.gpa + most});
}

void Consumer::map(const viommu_event& event) {
  const Range range = range_of(event);
  const auto next = held_->upper_bound(range.last);
  if (next != held_->begin() && std::prev(next)->second.last >= range.first)
    complain(event, "no map over what it holds");
  if (flags_.leaf && !is_leaf(event)) complain(event, "one leaf at a time");
  const std::optional<bool> mmio =
      around_.regions.usable({event.gpa, event.gpa + (range.last - range.first)}, flags_.private_memory);
  const bool marked = (event.rights & VIOMMU_MMIO) != 0;
  if (!mmio || (*mmio && !flags_.mmio))
    complain(event, "only usable memory is mapped");
  else if (*mmio != marked)
    complain(event, *mmio ? "the mark of a device's memory" : "no mark of a device's memory");
  (*held_)[range.first] = {range.last, event.gpa, event.rights};
  mapped_.push_back(range);
}

void Consumer::check_withdrawal(const viommu_event& event) {
  const Range range = range_of(event);
  const auto after = held_->upper_bound(range.first);
  const bool at_or_before = after != held_->begin() && std::prev(after)->second.last >= range.first;
  const auto first = at_or_before ? std::prev(after) : after;
  if (first == held_->end() || first->first > range.last) return;  // it holds nothing of it
  const bool one = first->first <= range.first && range.last <= first->second.last;
  const std::uint64_t gpa = first->second.gpa + (range.first - first->first);
  if (!one || event.gpa != gpa) complain(event, "while dirty pages are tracked, the gpa of one map");
}

void Consumer::unmap(const viommu_event& event) {
  const Range range = range_of(event);
  const Range clipped{std::max(range.first, range_.first), std::min(range.last, range_.last)};
  if (!flags_.map) {  // it holds nothing: what is named counts
    if (clipped.first <= clipped.last) withdrawn_.push_back(clipped);
    return;
  }
  if (event.kind != VIOMMU_EVENT_UNMAP) return;
  if (around_.dirty_tracking) check_withdrawal(event);
  bool cut = false;
  auto at = held_->upper_bound(range.first);
  if (at != held_->begin() && std::prev(at)->second.last >= range.first) --at;
  while (at != held_->end() && at->first <= range.last) {
    const std::uint64_t first = at->first;
    const Held held = at->second;
    at = held_->erase(at);
    withdrawn_.push_back({std::max(first, range.first), std::min(held.last, range.last)});
    if (first < range.first) {
      cut = true;
      (*held_)[first] = {range.first - 1, held.gpa, held.rights};
    }
    if (held.last > range.last) {
      cut = true;
      (*held_)[range.last + 1] = {held.last, held.gpa + (range.last + 1 - first), held.rights};
      break;
    }
  }
  if (cut && !flags_.split) complain(event, "no unmap that cuts an earlier map");
}

}  // namespace viommu::cli
