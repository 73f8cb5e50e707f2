// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/slot_sync.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

namespace viommu::consumer {
namespace {

constexpr std::uint64_t slot_bytes = std::uint64_t{1} << slot_shift;

/// In one comparison of memory, which std::ranges::equal does not make of them.
[[nodiscard]] bool same(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept {
  static_assert(std::has_unique_object_representations_v<MappedRun>);
  if (held.size() != wanted.size()) return false;
  if (held.size() == 1) return held.front().word == wanted.front().word;
  return held.empty() || std::memcmp(held.data(), wanted.data(), held.size_bytes()) == 0;
}

[[nodiscard]] walkers::RunWindow window_of(const MemorySpan& span) noexcept {
  walkers::RunWindow window{span.first, span.last_offset, 0, 0};
  if (span.host == nullptr) return window;
  window.host_bits = ~std::uint64_t{0};
  window.host_offset = reinterpret_cast<std::uint64_t>(span.host) - span.first.value;
  return window;
}

}  // namespace

SlotSync::SlotSync(Mirror& mirror, const Tables& tables, const KeptMappings& kept, Delivery& delivery) noexcept
    : mirror_{mirror},
      tables_{tables},
      kept_{kept},
      kernels_{tables.kernels},
      delivery_{delivery},
      backing_{tables.memory.map(), mirror.declared()} {
  mirror.shadow_.stream_with(kernels_.stream_words);
  spread_.kind = static_cast<std::uint64_t>(EventKind::map);
  if (backing_.map() == nullptr) return;
  for (std::size_t i = 0; i < spread_.windows.size(); ++i) spread_.windows[i] = window_of(backing_.map()->plain()[i]);
}

SlotSync::End SlotSync::run(Shadow::Node& node, std::size_t index, const GuestEntry& entry, std::uint64_t at,
                            IovaRange range, const std::byte* ahead) noexcept {
  const Shadow::Slot slot = node.slots[index];
  const std::uint64_t held_marks = slot.is_unit() ? slot.word & unit_marks : 0;
  const MappedRun unmarked{slot.word & ~unit_marks};
  const std::span<const MappedRun> held = slot.is_unit() ? std::span{&unmarked, 1} : Shadow::runs(node, index);
  const auto page_of = [](Iova iova) { return static_cast<unsigned>(iova.value >> page_shift & low_bits(9)); };
  // A large leaf changes as a whole; of single pages only those that were asked for are looked at.
  const bool whole = entry.kind == GuestEntry::Kind::leaf || (held_marks & large_leaf_bit) != 0;
  const unsigned first = whole ? 0 : page_of(range.first);
  const unsigned last = whole ? table_pages - 1 : page_of(range.last);
  const bool partial = first != 0 || last != table_pages - 1;
  const bool merge = mirror_.declared().units != Units::leaf;
  const bool from_kept = entry.table.kind == GuestTable::Kind::kept;
  const std::uint32_t leaves = from_kept ? kept_.scan({at}, first, last, merge, wanted_)
                                         : tables_.scan(entry, first, last, merge, ahead, wanted_);
  const std::uint64_t marks = entry.kind == GuestEntry::Kind::leaf ? large_leaf_bit : 0;
  // What is held was looked at as memory before; if that has not changed since, it need not be again.
  if (!mirror_.job_.regions && marks == (held_marks & large_leaf_bit) && same(held, wanted_.span())) return End::done;
  const bool as_it_is = held.empty() && !partial && inside(at) && delivery_.takes_plain() &&
                        !(from_kept && std::ranges::any_of(wanted_.span(), is_left_out));
  if (as_it_is && leaves == table_pages && wanted_.size() == 1 && join(node, index, at, marks)) return End::done;
  if (as_it_is && !mirror_.beyond_quota(wanted_.size())) return add(node, index, at, marks, leaves);
  const bool plain = all_plain();
  if (!plain) {
    filter(0);
    wanted_.assign(after_.span());
  }
  Window window{held, 0, held.size()};
  if (partial) {
    window = look_at(held, first, last);
    // Not cut as it was looked at: units that stay are what they were.
    if (same_pages(window.runs(), wanted_.span())) return End::done;
  } else if (same(held, wanted_.span())) {
    if (wanted_.size() == 1 && wanted_[0].pages() == table_pages)
      Shadow::put_word(node, index, wanted_[0].word | marks | (held_marks & joined_bit));
    return End::done;
  }
  const bool joined_behind = index + 1 < table_pages && node.slots[index + 1].is_joined();
  if ((held_marks & joined_bit) != 0 || joined_behind) {
    break_unit(node, index, at);
    return End::again;
  }
  // A unit of which a part is looked at is not at the place of that part, so it is not among those that are replaced.
  return change(node, index, at, marks, window, plain && inside(at) && delivery_.takes_plain());
}

/// The runs that have pages of [first, last]; what they have outside is wanted as it was.
SlotSync::Window SlotSync::look_at(std::span<const MappedRun> held, unsigned first, unsigned last) noexcept {
  const auto ends_before = [](MappedRun run, unsigned page) { return run.last() < page; };
  const auto begins_behind = [](unsigned page, MappedRun run) { return page < run.first(); };
  const auto from = std::lower_bound(held.begin(), held.end(), first, ends_before);
  const auto to = std::upper_bound(from, held.end(), last, begins_behind);
  const Window window{held, static_cast<std::size_t>(from - held.begin()), static_cast<std::size_t>(to - from)};
  if (window.count == 0) return window;
  const MappedRun front = window.runs().front();
  const MappedRun back = window.runs().back();
  if (front.first() >= first && back.last() <= last) return window;
  after_.clear();
  if (front.first() < first) after_.push(part_of(front, front.first(), first - 1));
  after_.append(wanted_.span());
  if (back.last() > last) after_.push(part_of(back, last + 1, back.last()));
  wanted_.assign(after_.span());
  return window;
}

bool SlotSync::inside(std::uint64_t at) const noexcept {
  return mirror_.range_.first.value <= at && mirror_.range_.last.value >= at + (slot_bytes - 1);
}

bool SlotSync::all_plain() const noexcept {
  const auto& windows = spread_.windows;
  constexpr std::uint64_t top_bit = std::uint64_t{1} << 63;  // as no address is above 2^62
  const auto outside = [](const walkers::RunWindow& window, MappedRun run) {
    const std::uint64_t offset = run.frame().value - window.first.value;
    const std::uint64_t size_less_one = (std::uint64_t{run.pages()} << page_shift) - 1;
    return offset | (window.last_offset - (offset + size_less_one));
  };
  std::uint64_t other = 0;
  for (const MappedRun run : wanted_.span())
    other |= (outside(windows[0], run) & outside(windows[1], run)) | (is_left_out(run) ? top_bit : 0);
  return (other & top_bit) == 0;
}

void SlotSync::filter(std::size_t from) noexcept {
  after_.clear();
  for (const MappedRun run : wanted_.span().subspan(from)) {
    for (unsigned at = run.first(); at <= run.last();) {  // ends: `at` grows
      const Gpa frame = run.frame() + (std::uint64_t{at - run.first()} << page_shift);
      const Gpa end = frame + ((std::uint64_t{run.last() - at + 1} << page_shift) - 1);
      const Piece piece = backing_.piece(frame, end);
      const auto pages = static_cast<unsigned>((piece.range.last.value - frame.value + 1) >> page_shift);
      const Rights rights = piece.read_only ? run.rights() & read_only : run.rights();
      MappedRun part = MappedRun::of(at, pages, frame, rights, piece.mmio);
      if (piece.left_out || is_left_out(run)) part.word |= left_out_bit;
      if (!rights.none()) after_.push(part);
      at += pages;
    }
  }
}

/// Nothing is held there yet. As many events as there are runs, as long as they lie in plain memory; then the others.
SlotSync::End SlotSync::add(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                            std::uint32_t leaves) noexcept {
  const std::size_t all = wanted_.size();
  Mirror::Figures& figures = mirror_.figures_;
  spread_.iova = at;
  std::size_t told = 0;
  while (told < all) {  // ends: room() has some
    const std::span<Event> room = delivery_.room();
    const std::size_t some = std::min(room.size(), all - told);
    constexpr std::size_t few = 3;  // whose constants in lanes take longer than they do
    auto* const words = reinterpret_cast<std::uint64_t*>(room.data());
    const std::size_t plain = some <= few ? walkers::spread_runs(wanted_.data() + told, some, spread_, words)
                                          : kernels_.spread_runs(wanted_.data() + told, some, spread_, words);
    delivery_.commit(plain, plain);
    told += plain;
    if (plain < some) break;
  }
  if (told == all) {
    figures.mappings += told;
    figures.bytes += std::uint64_t{leaves} << page_shift;
  } else {
    filter(told);
    for (const MappedRun run : after_.span()) deliver(at, run);
    wanted_.set_count(told);
    for (const MappedRun run : after_.span()) wanted_.push(run);
    count({}, wanted_.span());
  }
  count_split(at, wanted_.span());
  return keep(node, index, at, marks, wanted_.span(), true);
}

SlotSync::End SlotSync::change(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                               const Window& window, bool plain) noexcept {
  const std::span<const MappedRun> held = window.runs();
  const std::span<const MappedRun> wanted = wanted_.span();
  if (wanted.size() > held.size() && mirror_.beyond_quota(wanted.size() - held.size())) return End::quota;
  std::span<const MappedRun> after = wanted;
  const bool replaced = plain && !held.empty() && same_places(held, wanted);
  const auto give = [&](MappedRun run) { deliver(at, run); };
  if (held.empty()) {
    for (const MappedRun run : wanted) deliver(at, run);
    count_split(at, wanted);
  } else if (replaced) {
    replace(at, held);
  } else if (mirror_.declared().units == Units::split) {
    diff_pages(held, wanted, [&](MappedRun run) { withdraw(at, run); }, give);
  } else {
    auto next = wanted.begin();
    const auto take = [&](MappedRun run) {
      withdraw(at, run);
      if (run.pages() == 1) return;  // has no rest
      while (next != wanted.end() && next->last() < run.first()) ++next;
      for (auto other = next; other != wanted.end() && other->first() <= run.last(); ++other) {
        const unsigned from = std::max(run.first(), other->first());
        const unsigned to = std::min(run.last(), other->last());
        if (alike(run, *other) && !is_left_out(run))
          mirror_.figures_.split_bytes += std::uint64_t{to - from + 1} << page_shift;
      }
    };
    diff_units(held, wanted, after_, take, give);
    after = after_.span();
  }
  if (!replaced) count(held, after);
  const bool more = after.size() > held.size();
  if (held.size() != window.all.size()) {
    all_.assign(window.all.first(window.first));
    all_.append(after);
    all_.append(window.all.subspan(window.first + window.count));
    after = all_.span();
  }
  return keep(node, index, at, marks, after, more);
}

SlotSync::End SlotSync::keep(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks,
                             std::span<const MappedRun> runs, bool more) noexcept {
  MappedRun single;
  if (marks != 0 && runs.size() == 1 && runs.front().pages() == table_pages) {
    single = {runs.front().word | marks};
    runs = {&single, 1};
  }
  if (!mirror_.shadow_.put_runs(node, index, runs)) {
    for (const MappedRun run : runs) withdraw(at, run);
    count(runs, {});
    static_cast<void>(mirror_.shadow_.put_runs(node, index, {}));
    return End::no_memory;
  }
  return more && mirror_.beyond_quota() ? End::quota : End::done;
}

void SlotSync::replace(std::uint64_t at, std::span<const MappedRun> held) noexcept {
  constexpr auto map = static_cast<std::uint64_t>(EventKind::map);
  constexpr auto unmap = static_cast<std::uint64_t>(EventKind::unmap);
  const MappedRun* const wanted = wanted_.data();
  const std::array<walkers::RunWindow, 2> windows = spread_.windows;  // which no store changes
  for (std::size_t i = 0; i < held.size();) {                         // ends: there is room for two
    const std::span<Event> room = delivery_.room(2);
    auto* const words = reinterpret_cast<std::uint64_t*>(room.data());
    std::size_t told = 0;
    std::size_t maps = 0;
    for (; i < held.size() && told + 2 <= room.size(); ++i) {
      const MappedRun was = held[i];
      const MappedRun is = wanted[i];
      if (was == is) continue;
      const std::uint64_t bytes = std::uint64_t{is.pages()} << page_shift;
      const std::uint64_t first = at + (std::uint64_t{is.first()} << page_shift);
      const std::uint64_t last = first + (bytes - 1);
      if (!is_left_out(was)) [[likely]] {
        walkers::put_event(words + walkers::event_words * told++, unmap, first, last, was.frame().value, 0,
                           run_rights(was));
      } else {
        --mirror_.left_out_;
        ++mirror_.figures_.mappings;
        mirror_.figures_.bytes += bytes;
      }
      const Gpa frame = is.frame();
      const walkers::RunWindow& window = windows[windows[0].contains(frame, frame) ? 0 : 1];
      walkers::put_event(words + walkers::event_words * told++, map, first, last, frame.value, window.host(frame),
                         run_rights(is));
      ++maps;
    }
    delivery_.commit(told, maps);
  }
}

// ---- Units of more than a slot ----

/// @return false where the slot does not go on with the one before it, or that has been told already
bool SlotSync::join(Shadow::Node& node, std::size_t index, std::uint64_t at, std::uint64_t marks) noexcept {
  if (!mirror_.declared().joins() || index == 0 || !inside(at - slot_bytes)) return false;
  const Shadow::Slot before = node.slots[index - 1];
  const MappedRun run = wanted_[0];
  if (!before.is_unit() || MappedRun{before.word}.pages() != table_pages) return false;
  if (MappedRun{before.word & ~unit_marks}.word != run.word - (slot_bytes)) return false;
  const Gpa frame = run.frame();
  const Piece piece = backing_.piece(frame, frame + (slot_bytes - 1));
  if (piece.left_out || piece.mmio || piece.read_only || piece.range.last != frame + (slot_bytes - 1)) return false;
  if (!delivery_.extend_map({{at}, {at + (slot_bytes - 1)}}, frame, piece.host, run_rights(run))) return false;
  mirror_.figures_.bytes += slot_bytes;
  count_split(at, wanted_.span());
  Shadow::put_word(node, index, run.word | marks | joined_bit);
  return true;
}

void SlotSync::break_unit(Shadow::Node& node, std::size_t index, std::uint64_t at) noexcept {
  std::size_t first = index;
  while (first > 0 && node.slots[first].is_joined()) --first;
  std::size_t last = index;
  while (last + 1 < table_pages && node.slots[last + 1].is_joined()) ++last;
  const MappedRun run{node.slots[first].word & ~unit_marks};
  broken_ = {{at - (index - first) * slot_bytes}, {at + (last - index) * slot_bytes + (slot_bytes - 1)}};
  delivery_.unmap(broken_, run.frame().value, run_rights(run));
  for (std::size_t i = first; i <= last; ++i) Shadow::put_word(node, i, 0);
  --mirror_.figures_.mappings;
  mirror_.figures_.bytes -= (last - first + 1) * slot_bytes;
  mirror_.broken_ = {broken_, run.frame().value - broken_.first.value, run_rights(run)};
}

/// What was part of a unit that went as a whole, and is as it was.
void SlotSync::count_split(std::uint64_t at, std::span<const MappedRun> given) noexcept {
  const Mirror::Broken& broken = mirror_.broken_;
  if (broken.range.last < Iova{at} || broken.range.first > Iova{at + (slot_bytes - 1)}) [[likely]]
    return;
  for (const MappedRun run : given) {
    const std::uint64_t iova = at + (std::uint64_t{run.first()} << page_shift);
    if (!is_left_out(run) && run.frame().value - iova == broken.offset && run_rights(run) == broken.rights)
      mirror_.figures_.split_bytes += std::uint64_t{run.pages()} << page_shift;
  }
}

// ---- Events ----

void SlotSync::count(std::span<const MappedRun> before, std::span<const MappedRun> after) noexcept {
  struct Sum {
    std::uint64_t mappings = 0;
    std::uint64_t left_out = 0;
    std::uint64_t bytes = 0;
  };
  const auto sum_of = [](std::span<const MappedRun> runs) {
    Sum sum;
    for (const MappedRun run : runs) {
      const std::uint64_t delivered = is_left_out(run) ? 0 : 1;
      sum.mappings += delivered;
      sum.bytes += delivered * run.pages() << page_shift;
    }
    sum.left_out = runs.size() - sum.mappings;
    return sum;
  };
  const Sum fewer = sum_of(before);
  const Sum more = sum_of(after);
  mirror_.figures_.mappings += more.mappings - fewer.mappings;
  mirror_.figures_.bytes += more.bytes - fewer.bytes;
  mirror_.left_out_ += more.left_out - fewer.left_out;
}

bool SlotSync::clip(std::uint64_t base, MappedRun run, IovaRange& range, std::uint64_t& inside) const noexcept {
  const std::uint64_t first = base + (std::uint64_t{run.first()} << page_shift);
  const std::uint64_t last = first + ((std::uint64_t{run.pages()} << page_shift) - 1);
  range = {std::max(Iova{first}, mirror_.range_.first), std::min(Iova{last}, mirror_.range_.last)};
  inside = range.first.value - first;
  return range.first <= range.last;
}

void SlotSync::deliver(std::uint64_t base, MappedRun run) noexcept {
  IovaRange range{};
  std::uint64_t inside = 0;
  if (!clip(base, run, range, inside)) return;
  const Gpa gpa = run.frame() + inside;
  if (is_left_out(run)) {
    Event event;
    event.iova = range.first.value;
    event.last = range.last.value;
    event.gpa = gpa.value;
    event.rights = run_rights(run);
    return delivery_.report(backing_.piece(gpa, gpa).left_out.value_or(Reported::unsupported), event);
  }
  delivery_.map(range, gpa, backing_.piece(gpa, gpa).host, run_rights(run));
}

void SlotSync::withdraw(std::uint64_t base, MappedRun run) noexcept {
  IovaRange range{};
  std::uint64_t inside = 0;
  if (is_left_out(run) || !clip(base, run, range, inside)) return;
  delivery_.unmap(range, run.frame().value + inside, run_rights(run));
}

}  // namespace viommu::consumer
