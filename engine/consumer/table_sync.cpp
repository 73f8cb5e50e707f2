// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/table_sync.hpp"

#include <algorithm>

namespace viommu::consumer {

TableSync::End TableSync::run(IovaRange range) noexcept {
  GuestTable top;  // of level 4, whatever the guest's top level is
  const Content& content = mirror_.content();
  if (content.view == View::translated && !mirror_.gave_up()) {
    if (content.key.interpretation == caches::Interpretation::mappings) {
      tables_top_ = top_level;
      top = KeptMappings::top();
    } else {
      tables_top_ = content.key.top_level;
      top = tables_.open(content.key.root, MappedRun::right_bits);
    }
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
  mirror_.shadow_.settle();
  return end_;
}

/// Above the guest's top table stands one that has only this entry.
GuestEntry TableSync::entry(const GuestTable& table, unsigned level, std::size_t index, Iova at) const noexcept {
  if (table.kind == GuestTable::Kind::kept) return kept_.entry(at, level);
  if (level <= tables_top_ || table.kind != GuestTable::Kind::real) return tables_.entry(table, level, index);
  return index == 0 ? GuestEntry{GuestEntry::Kind::table, table} : GuestEntry{};
}

bool TableSync::visit(Shadow::Node& node, unsigned level, const GuestTable& table, std::uint64_t base,
                      IovaRange range) noexcept {
  const unsigned shift = shift_of(level);
  const auto index_of = [&](Iova iova) { return iova.value >> shift & low_bits(9); };
  const std::size_t last = index_of(range.last);
  for (std::size_t i = index_of(range.first); i <= last; ++i) {
    const std::uint64_t at = base + (std::uint64_t{i} << shift);
    const bool nothing_held = node.slots[i].empty();
    if (table.kind == GuestTable::Kind::none && nothing_held) continue;
    const Iova first = std::max(range.first, Iova{at});
    const IovaRange part{first, std::min(range.last, Iova{at + low_bits(shift)})};
    if (slice_.over() || delivery_.failed()) return stop(End::paused, part);
    // Beyond the last address of the tables nothing is mapped.
    const bool beyond = mirror_.content().view == View::translated && Iova{at} > mirror_.content().key.last;
    const GuestEntry found = beyond ? GuestEntry{} : entry(table, level, i, {at});
    if (found.kind == GuestEntry::Kind::none && nothing_held) continue;
    if (level == 1 ? !visit_slot(node, i, table, found, at, part) : !visit_child(node, level, i, found, at, part))
      return false;
  }
  return true;
}

bool TableSync::visit_slot(Shadow::Node& node, std::size_t index, const GuestTable& table, const GuestEntry& entry,
                           std::uint64_t at, IovaRange range) noexcept {
  if (entry.kind == GuestEntry::Kind::table) {
    ++mirror_.figures_.tables;
    slice_.take();
  } else if (table.kind == GuestTable::Kind::none) {
    slice_.take();  // what is held there goes
  }
  switch (slots_.run(node, index, entry, at, range, tables_.ahead(table, index))) {
    case SlotSync::End::done:      return true;
    case SlotSync::End::again:     return stop(End::again, slots_.broken());
    case SlotSync::End::no_memory: return stop(End::no_memory, range);
    case SlotSync::End::quota:     return stop(End::quota, range);
  }
  return true;
}

bool TableSync::visit_child(Shadow::Node& node, unsigned level, std::size_t index, const GuestEntry& entry,
                            std::uint64_t at, IovaRange range) noexcept {
  if (level == 2) {
    const bool was_unit = node.slots[index].is_unit();
    const std::uint64_t before = mirror_.figures_.mappings;
    if (keep_large(node, index, entry, at))
      return mirror_.figures_.mappings <= before || !mirror_.beyond_quota() || stop(End::quota, range);
    // What was one unit is gone as a whole, so all of it is to be looked through.
    if (was_unit && (range.first.value != at || range.last.value != at + low_bits(shift_of(2))))
      return stop(End::again, {{at}, {at + low_bits(shift_of(2))}});
  }
  GuestTable below;
  if (entry.kind != GuestEntry::Kind::none) below = entry.table;
  if (below.kind == GuestTable::Kind::real && level <= tables_top_) below = tables_.open(below.at, below.rights);
  Shadow::Node* const child =
      below.kind == GuestTable::Kind::none ? Shadow::node_in(node.slots[index]) : mirror_.shadow_.node_at(node, index);
  if (child == nullptr) return below.kind == GuestTable::Kind::none || stop(End::no_memory, range);
  const bool went_on = visit(*child, level - 1, below, at, range);
  slice_.take();  // behind it, so that each slice gets on
  mirror_.shadow_.drop_if_unused(node, index);
  return went_on;
}

bool TableSync::keep_large(Shadow::Node& node, std::size_t index, const GuestEntry& entry, std::uint64_t at) noexcept {
  const Shadow::Slot slot = node.slots[index];
  if (slot.is_pointer()) return false;
  const Declared& declared = mirror_.declared();
  MappedRun now;
  if (declared.takes_large() && entry.kind == GuestEntry::Kind::leaf && mirror_.range_.first.value <= at &&
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
    delivery_.unmap({{at}, {at + bytes - 1}}, was.frame().value, run_rights(was));
    Shadow::put_word(node, index, 0);
    --mirror_.figures_.mappings;
    mirror_.figures_.bytes -= bytes;
  }
  if (now.word == 0) return false;
  delivery_.map({{at}, {at + bytes - 1}}, now.frame(), backing_.piece(now.frame(), now.frame()).host, run_rights(now));
  Shadow::put_word(node, index, now.word);
  ++mirror_.figures_.mappings;
  mirror_.figures_.bytes += bytes;
  return true;
}

}  // namespace viommu::consumer
