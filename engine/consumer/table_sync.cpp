// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/table_sync.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <type_traits>

namespace viommu::consumer {
namespace {

constexpr unsigned entry_bytes = 8;
constexpr std::uint64_t slot_bytes = std::uint64_t{1} << slot_shift;

[[nodiscard]] std::uint8_t rights_of(MappedRun run) noexcept {
  static_assert(MappedRun::mmio_bit == mmio_right);
  return static_cast<std::uint8_t>(run.word & (MappedRun::right_bits | MappedRun::mmio_bit));
}

/// In one comparison of memory, which std::ranges::equal does not make of them.
[[nodiscard]] bool same(std::span<const MappedRun> held, std::span<const MappedRun> wanted) noexcept {
  static_assert(std::has_unique_object_representations_v<MappedRun>);
  return held.size() == wanted.size() &&
         (held.empty() || std::memcmp(held.data(), wanted.data(), held.size_bytes()) == 0);
}

[[nodiscard]] std::uint64_t delivered(std::span<const MappedRun> runs) noexcept {
  return static_cast<std::uint64_t>(std::ranges::count_if(runs, [](MappedRun run) { return !is_left_out(run); }));
}

}  // namespace

TableSync::End TableSync::run(IovaRange range, Iova& next) noexcept {
  Table top;  // of level 4, whatever the guest's top level is
  const Content& content = mirror_.content();
  if (content.view == View::translated && !mirror_.gave_up()) {
    tables_top_ = content.key.top_level;
    top = open(content.key.root, walkers::MappedRun::right_bits);
    // The unit blocks what is beyond the last address.
    if (range.first > content.key.last && mirror_.shadow_.root() == nullptr) return End::done;
  } else if (mirror_.shadow_.root() == nullptr) {
    return End::done;
  }
  if (mirror_.shadow_.root() == nullptr) mirror_.shadow_.root() = mirror_.shadow_.make_node();
  if (mirror_.shadow_.root() == nullptr) return End::no_memory;
  constexpr std::uint64_t reach = low_bits(57);  // of five levels
  const IovaRange inside{range.first, std::min(range.last, Iova{reach})};
  end_ = End::done;
  if (inside.first <= inside.last) static_cast<void>(visit(*mirror_.shadow_.root(), top_level, top, 0, inside));
  mirror_.shadow_.drop_root_if_unused();
  next = next_;
  return end_;
}

TableSync::Table TableSync::open(Gpa at, std::uint64_t rights) const noexcept {
  return {Table::Kind::real, rights, at, tables_.memory.page(at)};
}

TableSync::Entry TableSync::entry(const Table& table, unsigned level, std::size_t index) const noexcept {
  if (table.kind == Table::Kind::none) return {};
  if (table.kind == Table::Kind::large_page) {
    const Gpa frame = table.at + (std::uint64_t{index} << shift_of(level));
    return {Entry::Kind::leaf, {Table::Kind::large_page, table.rights, frame, nullptr}};
  }
  if (level > tables_top_) return index == 0 ? Entry{Entry::Kind::table, table} : Entry{};
  // One load, and everything is decided on this copy.
  std::uint64_t word = 0;
  if (table.host != nullptr) {
    word = load_mapped_u64(table.host + index * entry_bytes, std::memory_order_acquire);
  } else {
    const std::optional<std::uint64_t> read = tables_.memory.load_u64(table.at + index * entry_bytes);
    if (!read) return {};
    word = *read;
  }
  const std::uint64_t rights = table.rights & walkers::SecondStage::rights(word).bits();
  switch (tables_.format.classify(word, level)) {
    case walkers::EntryKind::absent:
    case walkers::EntryKind::malformed: return {};
    case walkers::EntryKind::table:
      return {Entry::Kind::table, {Table::Kind::real, rights, walkers::SecondStage::next_table(word), nullptr}};
    case walkers::EntryKind::leaf:
      if (rights == 0) return {};
      return {Entry::Kind::leaf, {Table::Kind::large_page, rights, walkers::SecondStage::frame(word, level), nullptr}};
  }
  return {};
}

bool TableSync::visit(Shadow::Node& node, unsigned level, const Table& table, std::uint64_t base,
                      IovaRange range) noexcept {
  const unsigned shift = shift_of(level);
  const auto index_of = [&](Iova iova) { return iova.value >> shift & low_bits(9); };
  const std::size_t last = index_of(range.last);
  for (std::size_t i = index_of(range.first); i <= last; ++i) {
    const std::uint64_t at = base + (std::uint64_t{i} << shift);
    const bool nothing_held = node.slots[i].empty();
    if (table.kind == Table::Kind::none && nothing_held) continue;
    const Iova first = std::max(range.first, Iova{at});
    const IovaRange part{first, std::min(range.last, Iova{at + low_bits(shift)})};
    if (slice_.over() || delivery_.failed()) return stop(End::paused, first.value);
    // Beyond the last address of the tables nothing is mapped.
    const bool beyond = mirror_.content().view == View::translated && Iova{at} > mirror_.content().key.last;
    if (level == 1) ahead_ = ahead(table, i);
    const Entry found = beyond ? Entry{} : entry(table, level, i);
    if (found.kind == Entry::Kind::none && nothing_held) continue;
    if (level == 1 ? !sync_slot(node, i, found, at, part) : !visit_child(node, level, i, found, at, part)) return false;
  }
  return true;
}

bool TableSync::visit_child(Shadow::Node& node, unsigned level, std::size_t index, const Entry& entry, std::uint64_t at,
                            IovaRange range) noexcept {
  if (level == 2) {
    const bool was_unit = node.slots[index].is_unit();
    if (keep_large(node, index, entry, at)) return true;
    // What was one unit is gone as a whole, so all of it is to be looked through.
    if (was_unit && (range.first.value != at || range.last.value != at + low_bits(shift_of(2))))
      return stop(End::again, at);
  }
  Table below;
  if (entry.kind == Entry::Kind::table)
    below = level > tables_top_ ? entry.table : open(entry.table.at, entry.table.rights);
  else if (entry.kind == Entry::Kind::leaf)
    below = entry.table;
  Shadow::Node* const child =
      below.kind == Table::Kind::none ? Shadow::node_in(node.slots[index]) : mirror_.shadow_.node_at(node, index);
  if (child == nullptr) return below.kind == Table::Kind::none || stop(End::no_memory, at);
  const bool went_on = visit(*child, level - 1, below, at, range);
  mirror_.shadow_.drop_if_unused(node, index);
  return went_on;
}

bool TableSync::keep_large(Shadow::Node& node, std::size_t index, const Entry& entry, std::uint64_t at) noexcept {
  const Shadow::Slot slot = node.slots[index];
  if (slot.is_pointer()) return false;
  const Declared& declared = mirror_.declared();
  const bool may_be_unit = declared.large || declared.units == Units::leaf;
  MappedRun now;
  if (may_be_unit && entry.kind == Entry::Kind::leaf && mirror_.range_.first.value <= at &&
      mirror_.range_.last.value >= at + low_bits(shift_of(2))) {
    const Gpa frame = entry.table.at;
    const Piece piece = backing_.piece(frame, frame + low_bits(shift_of(2)));
    if (!piece.left_out && !piece.read_only && piece.range.last == frame + low_bits(shift_of(2)))
      now = MappedRun::of(0, table_pages, frame, Rights::in(entry.table.rights), piece.mmio);
  }
  if (slot.word == now.word) return slot.is_unit();
  const std::uint64_t bytes = std::uint64_t{1} << shift_of(2);
  if (slot.is_unit()) {
    const MappedRun was{slot.word};
    delivery_.unmap({{at}, {at + bytes - 1}}, was.frame().value, rights_of(was));
    mirror_.shadow_.put_word(node, index, 0);
    --mirror_.figures_.mappings;
    mirror_.figures_.bytes -= bytes;
  }
  if (now.word == 0) return false;
  delivery_.map({{at}, {at + bytes - 1}}, now.frame(), backing_.piece(now.frame(), now.frame()).host, rights_of(now));
  mirror_.shadow_.put_word(node, index, now.word);
  ++mirror_.figures_.mappings;
  mirror_.figures_.bytes += bytes;
  return true;
}

/// The table after the next one: it comes into the cache while this one is looked through.
const std::byte* TableSync::ahead(const Table& table, std::size_t index) const noexcept {
  constexpr std::size_t further = 2;
  if (table.host == nullptr || index + further >= table_pages) return nullptr;
  // A hint, on which nothing is decided.
  const std::uint64_t word = load_mapped_u64(table.host + (index + further) * entry_bytes, std::memory_order_relaxed);
  if (tables_.format.classify(word, 1) != walkers::EntryKind::table) return nullptr;
  return tables_.memory.page(walkers::SecondStage::next_table(word));
}

void TableSync::look_through(const Entry& entry, unsigned first, unsigned last) noexcept {
  wanted_.clear();
  if (entry.kind == Entry::Kind::none) return;
  if (entry.kind == Entry::Kind::leaf) {
    wanted_.push(MappedRun::of(0, table_pages, entry.table.at, Rights::in(entry.table.rights)));
  } else {
    ++mirror_.figures_.tables;
    slice_.take();
    const walkers::ScanRules rules{tables_.format.masks().leaf[0], entry.table.rights, ahead_};
    const bool merge = mirror_.declared().units != Units::leaf;
    const std::byte* table = tables_.memory.page(entry.table.at);
    alignas(line_bytes) std::array<std::uint64_t, table_pages> copy;
    if (table == nullptr) {
      copy.fill(0);
      for (unsigned i = first; i <= last; ++i)
        copy[i] = tables_.memory.load_u64(entry.table.at + std::uint64_t{i} * entry_bytes).value_or(0);
      table = reinterpret_cast<const std::byte*>(copy.data());
    }
    wanted_.set_count(tables_.kernels.scan_table(table, first, last, rules, merge, wanted_.data()).runs);
  }
}

bool TableSync::all_plain() const noexcept {
  if (backing_.map() == nullptr) return wanted_.size() == 0;
  const MemorySpan first = plain_[0];
  const MemorySpan second = plain_[1];
  bool all = true;
  for (const MappedRun run : wanted_.span()) {
    const std::uint64_t frame = run.frame().value;
    const std::uint64_t last = frame + ((std::uint64_t{run.pages()} << page_shift) - 1);
    const auto in = [&](const MemorySpan& span) {
      return (frame - span.first.value <= span.last_offset) & (last - span.first.value <= span.last_offset);
    };
    all &= in(first) | in(second);
  }
  return all;
}

/// Nothing is held there yet, and all of it is plain memory: as many events as there are runs.
void TableSync::deliver_all(std::uint64_t base) noexcept {
  const MemorySpan first = plain_[0];
  const MemorySpan second = plain_[1];
  for (const MappedRun run : wanted_.span()) {
    const Gpa gpa = run.frame();
    const std::uint64_t iova = base + (std::uint64_t{run.first()} << page_shift);
    const std::uint64_t last = iova + ((std::uint64_t{run.pages()} << page_shift) - 1);
    const MemorySpan& span = first.contains(gpa) ? first : second;
    delivery_.map_plain(iova, last, gpa.value, span.host == nullptr ? nullptr : span.at(gpa), rights_of(run));
  }
}

/// Cuts runs where memory changes its kind, and marks what the consumer does not take.
void TableSync::filter() noexcept {
  after_.clear();
  for (const MappedRun run : wanted_.span()) {
    for (unsigned at = run.first(); at <= run.last();) {  // ends: `at` grows
      const Gpa frame = run.frame() + (std::uint64_t{at - run.first()} << page_shift);
      const Gpa end = frame + ((std::uint64_t{run.last() - at + 1} << page_shift) - 1);
      const Piece piece = backing_.piece(frame, end);
      const auto pages = static_cast<unsigned>((piece.range.last.value - frame.value + 1) >> page_shift);
      const Rights rights = piece.read_only ? run.rights() & read_only : run.rights();
      MappedRun part = MappedRun::of(at, pages, frame, rights, piece.mmio);
      if (piece.left_out) part.word |= left_out_bit;
      if (!rights.none()) after_.push(part);
      at += pages;
    }
  }
  wanted_.assign(after_.span());
}

bool TableSync::sync_slot(Shadow::Node& node, std::size_t index, const Entry& entry, std::uint64_t at,
                          IovaRange range) noexcept {
  const Shadow::Slot slot = node.slots[index];
  std::span<const MappedRun> held = Shadow::runs(slot);
  const bool was_large = slot.is_unit() && is_large(MappedRun{slot.word});
  MappedRun plain_unit{slot.word & ~large_leaf_bit};
  if (was_large) held = {&plain_unit, 1};
  const auto page_of = [&](Iova iova) { return static_cast<unsigned>(iova.value >> page_shift & low_bits(9)); };
  // A large leaf changes as a whole; of single pages only those that were asked for are looked at.
  const bool whole = entry.kind == Entry::Kind::leaf || was_large;
  const unsigned first = whole ? 0 : page_of(range.first);
  const unsigned last = whole ? table_pages - 1 : page_of(range.last);
  look_through(entry, first, last);
  // What is held was looked at as memory before; if that has not changed since, it need not be again.
  const bool large = entry.kind == Entry::Kind::leaf && wanted_.size() == 1;
  if (!mirror_.job_.regions && large == was_large && same(held, wanted_.span())) return true;
  const bool plain = all_plain();
  if (!plain) filter();
  if (first != 0 || last != table_pages - 1) {
    // What is outside is as it was.
    after_.clear();
    for (const MappedRun run : held)
      if (run.first() < first) after_.push(part_of(run, run.first(), std::min(run.last(), first - 1)));
    for (const MappedRun run : wanted_.span()) after_.push(run);
    for (const MappedRun run : held)
      if (run.last() > last) after_.push(part_of(run, std::max(run.first(), last + 1), run.last()));
    wanted_.assign(after_.span());
  }
  const std::span<const MappedRun> wanted = wanted_.span();
  if (same(held, wanted)) {
    if (large != was_large && wanted.size() == 1)
      mirror_.shadow_.put_word(node, index, wanted.front().word | (large ? large_leaf_bit : 0));
    return true;
  }
  if (mirror_.figures_.mappings - delivered(held) + delivered(wanted) > mirror_.quota_) return stop(End::quota, at);
  std::span<const MappedRun> after = wanted;
  const auto give = [&](MappedRun run) { deliver(at, run); };
  const bool inside = mirror_.range_.first.value <= at && mirror_.range_.last.value >= at + (slot_bytes - 1);
  if (held.empty() && plain && inside && delivery_.takes_plain()) {
    deliver_all(at);
  } else if (held.empty()) {
    for (const MappedRun run : wanted) deliver(at, run);
  } else if (mirror_.declared().units == Units::split) {
    diff_pages(held, wanted, [&](MappedRun run) { withdraw(at, run); }, give);
  } else {
    const auto take = [&](MappedRun run) {
      withdraw(at, run);
      auto at_run = std::ranges::lower_bound(wanted, run.first(), {}, [](MappedRun r) { return r.last(); });
      for (; at_run != wanted.end() && at_run->first() <= run.last(); ++at_run) {
        const MappedRun other = *at_run;
        const unsigned from = std::max(run.first(), other.first());
        const unsigned to = std::min(run.last(), other.last());
        if (from <= to && alike(run, other) && !is_left_out(run))
          mirror_.figures_.split_bytes += std::uint64_t{to - from + 1} << page_shift;
      }
    };
    diff_units(held, wanted, after_, take, give);
    after = after_.span();
  }
  count(held, after);
  MappedRun single;
  if (large && after.size() == 1 && after.front().pages() == table_pages) {
    single = {after.front().word | large_leaf_bit};
    after = {&single, 1};
  }
  if (!mirror_.shadow_.put_runs(node, index, after)) {
    for (const MappedRun run : after) withdraw(at, run);
    count(after, {});
    static_cast<void>(mirror_.shadow_.put_runs(node, index, {}));
    return stop(End::no_memory, at);
  }
  if (mirror_.figures_.mappings > mirror_.quota_) return stop(End::quota, at);
  return true;
}

void TableSync::count(std::span<const MappedRun> before, std::span<const MappedRun> after) noexcept {
  const auto add = [&](std::span<const MappedRun> runs, std::uint64_t& mappings, std::uint64_t& bytes) {
    for (const MappedRun run : runs) {
      if (is_left_out(run)) continue;
      ++mappings;
      bytes += std::uint64_t{run.pages()} << page_shift;
    }
  };
  std::uint64_t fewer = 0;
  std::uint64_t fewer_bytes = 0;
  add(before, fewer, fewer_bytes);
  add(after, mirror_.figures_.mappings, mirror_.figures_.bytes);
  mirror_.figures_.mappings -= fewer;
  mirror_.figures_.bytes -= fewer_bytes;
}

bool TableSync::clip(std::uint64_t base, MappedRun run, IovaRange& range, std::uint64_t& inside) const noexcept {
  const std::uint64_t first = base + (std::uint64_t{run.first()} << page_shift);
  const std::uint64_t last = first + ((std::uint64_t{run.pages()} << page_shift) - 1);
  range = {std::max(Iova{first}, mirror_.range_.first), std::min(Iova{last}, mirror_.range_.last)};
  inside = range.first.value - first;
  return range.first <= range.last;
}

void TableSync::deliver(std::uint64_t base, MappedRun run) noexcept {
  IovaRange range{};
  std::uint64_t inside = 0;
  if (!clip(base, run, range, inside)) return;
  const Gpa gpa = run.frame() + inside;
  if (is_left_out(run)) {
    Event event;
    event.iova = range.first.value;
    event.last = range.last.value;
    event.gpa = gpa.value;
    event.rights = rights_of(run);
    return delivery_.report(backing_.piece(gpa, gpa).left_out.value_or(Reported::no_memory), event);
  }
  delivery_.map(range, gpa, backing_.piece(gpa, gpa).host, rights_of(run));
}

void TableSync::withdraw(std::uint64_t base, MappedRun run) noexcept {
  IovaRange range{};
  std::uint64_t inside = 0;
  if (is_left_out(run) || !clip(base, run, range, inside)) return;
  delivery_.unmap(range, run.frame().value + inside, rights_of(run));
}

}  // namespace viommu::consumer
