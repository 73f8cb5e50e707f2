// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/guest_tables.hpp"

#include <array>
#include <optional>

namespace viommu::consumer {
namespace {

constexpr unsigned entry_bytes = 8;

}  // namespace

GuestTable GuestTables::open(Gpa at, std::uint64_t rights) const noexcept {
  return {GuestTable::Kind::real, rights, at, page(at)};
}

GuestEntry GuestTables::entry(const GuestTable& table, unsigned level, std::size_t index) const noexcept {
  if (table.kind == GuestTable::Kind::none) return {};
  if (table.kind == GuestTable::Kind::large_page) {
    const Gpa frame = table.at + (std::uint64_t{index} << shift_of(level));
    return {GuestEntry::Kind::leaf, {GuestTable::Kind::large_page, table.rights, frame, nullptr}};
  }
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
      return {GuestEntry::Kind::table,
              {GuestTable::Kind::real, rights, walkers::SecondStage::next_table(word), nullptr}};
    case walkers::EntryKind::leaf:
      if (rights == 0) return {};
      return {GuestEntry::Kind::leaf,
              {GuestTable::Kind::large_page, rights, walkers::SecondStage::frame(word, level), nullptr}};
  }
  return {};
}

const std::byte* GuestTables::ahead(const GuestTable& table, std::size_t index) const noexcept {
  constexpr std::size_t further = 2;
  if (table.host == nullptr || index + further >= table_pages) return nullptr;
  // A hint, on which nothing is decided.
  const std::uint64_t word = load_mapped_u64(table.host + (index + further) * entry_bytes, std::memory_order_relaxed);
  if (tables_.format.classify(word, 1) != walkers::EntryKind::table) return nullptr;
  return page(walkers::SecondStage::next_table(word));
}

std::uint32_t GuestTables::scan(const GuestEntry& entry, unsigned first, unsigned last, bool merge,
                                const std::byte* ahead, Runs& runs) const noexcept {
  runs.clear();
  if (entry.kind == GuestEntry::Kind::none) return 0;
  if (entry.kind == GuestEntry::Kind::leaf) {
    runs.push(MappedRun::of(0, table_pages, entry.table.at, Rights::in(entry.table.rights)));
    return table_pages;
  }
  const walkers::ScanRules rules{tables_.format.masks().leaf[0], entry.table.rights, ahead};
  const std::byte* table = page(entry.table.at);
  alignas(line_bytes) std::array<std::uint64_t, table_pages> copy;
  if (table == nullptr) {
    copy.fill(0);
    for (unsigned i = first; i <= last; ++i)
      copy[i] = tables_.memory.load_u64(entry.table.at + std::uint64_t{i} * entry_bytes).value_or(0);
    table = reinterpret_cast<const std::byte*>(copy.data());
  }
  const walkers::ScanResult result = tables_.kernels.scan_table(table, first, last, rules, merge, runs.data());
  runs.set_count(result.runs);
  return result.leaves;
}

}  // namespace viommu::consumer
