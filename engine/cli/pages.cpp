// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The page-table part of tables.hpp.
#include <array>
#include <cstddef>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/tables.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace viommu::cli {
namespace {

using walkers::SecondStageMasks;

constexpr unsigned index_bits = 9;
constexpr unsigned entries_of_a_table = 1u << index_bits;

/// Tables looked into before the listing stops: a guest can let tables point to themselves, for 2^36 leaves.
constexpr unsigned tables_at_most = 1u << 16;

constexpr std::array<std::string_view, walkers::second_stage_levels> level_names{"PTE", "PDE", "PDPE", "PML4E",
                                                                                 "PML5E"};

SecondStageMasks masks_of(const vtd::Capabilities& capabilities) {
  walkers::SecondStageRules rules;
  rules.host_address_width = capabilities.host_address_width;
  rules.snoop_control = capabilities.snoop_control;
  rules.pages_2m = capabilities.pages_2m;
  rules.pages_1g = capabilities.pages_1g;
  return walkers::second_stage_masks(rules);
}

/// What one page-table entry is.
struct Entry {
  bool present = false;
  bool leaf = false;
  bool read = false;
  bool write = false;
  std::uint64_t wrong_bits = 0;
  std::uint64_t address = 0;  // of the page or of the next table
};

constexpr unsigned page_bits(unsigned level) noexcept { return page_shift + index_bits * level; }

Entry decode(std::uint64_t raw, unsigned level, const SecondStageMasks& masks) noexcept {
  const walkers::SecondStageTable as_table{raw};
  Entry entry;
  entry.read = get(as_table, walkers::second_stage_table::read);
  entry.write = get(as_table, walkers::second_stage_table::write);
  entry.present = entry.read || entry.write;
  if (!entry.present) return entry;
  const bool large =
      level != 0 && level < walkers::second_stage_leaf_levels && get(as_table, walkers::second_stage_table::page_size);
  entry.leaf = level == 0 || large;
  entry.wrong_bits = raw & (entry.leaf ? masks.leaf[level] : masks.table[level]);
  const std::uint64_t address = get(as_table, walkers::second_stage_table::address).value;
  entry.address = entry.leaf ? address & ~low_bits(page_bits(level)) : address;
  return entry;
}

std::vector<ShownField> entry_fields(std::uint64_t raw, unsigned level, const Entry& entry) {
  if (!entry.leaf)
    return fields_of(walkers::SecondStageTable{raw}, walkers::second_stage_table::rows, entry.wrong_bits);
  switch (level) {
    case 0:  return fields_of(walkers::SecondStageLeaf{raw}, walkers::second_stage_leaf::rows, entry.wrong_bits);
    case 1:  return fields_of(walkers::SecondStageLeaf2M{raw}, walkers::second_stage_leaf_2m::rows, entry.wrong_bits);
    default: return fields_of(walkers::SecondStageLeaf1G{raw}, walkers::second_stage_leaf_1g::rows, entry.wrong_bits);
  }
}

/// The rights a walk ends with, in words.
std::string outcome(const WalkView& view) {
  if (view.read && view.write) return "readable and writable";
  if (view.read) return "readable; a write is fault 5: " + std::string{reason_text(5)};
  if (view.write) return "writable; a read is fault 6: " + std::string{reason_text(6)};
  return "no right: a read is fault 6, a write fault 5";
}

}  // namespace

WalkView walk(const Memory& memory, const TableRules& rules, const ContextView& context, Iova iova) {
  WalkView view;
  if (context.verdict.reason != 0) {
    view.verdict = context.verdict;
    return view;
  }
  if (context.pass_through) {
    if (iova.value > low_bits(rules.capabilities.host_address_width)) {
      view.verdict = verdict(FaultReason::address_beyond_width);
      return view;
    }
    view.mapped = view.read = view.write = true;
    view.gpa = iova.value;
    view.mask = page_size_bytes - 1;
    view.verdict.text = "passes through untranslated: " + outcome(view);
    return view;
  }
  if (iova > context.last) {
    view.verdict = verdict(FaultReason::address_beyond_width);
    return view;
  }
  const SecondStageMasks masks = masks_of(rules.capabilities);
  bool read = true;
  bool write = true;
  std::uint64_t table = context.table;
  for (unsigned level = context.levels - 1;; --level) {  // ends: decode() calls every present entry of level 0 a leaf
    const std::uint64_t index = (iova.value >> page_bits(level)) & (entries_of_a_table - 1);
    WalkStep step;
    step.level = level;
    step.entry = {std::string{level_names[level]}, table + 8 * index, memory.load(table + 8 * index), {}, {}};
    if (!step.entry.raw) {
      view.steps.push_back(std::move(step));
      const bool top = level == context.levels - 1;
      view.verdict = verdict(top ? FaultReason::context_invalid : FaultReason::table_unreadable);
      return view;
    }
    const Entry entry = decode(*step.entry.raw, level, masks);
    step.entry.fields = entry_fields(*step.entry.raw, level, entry);
    step.entry.meaning = !entry.present ? "nothing mapped" : entry.leaf ? "page" : "table";
    view.steps.push_back(std::move(step));
    if (!entry.present) {
      view.verdict = {static_cast<std::uint8_t>(FaultReason::read_denied),
                      "nothing mapped: a read is fault 6, a write fault 5"};
      return view;
    }
    if (entry.wrong_bits != 0) {
      view.verdict = verdict(FaultReason::entry_reserved);
      return view;
    }
    read = read && entry.read;
    write = write && entry.write;
    if (entry.leaf) {
      view.mapped = true;
      view.read = read;
      view.write = write;
      view.mask = low_bits(page_bits(level));
      view.gpa = entry.address | (iova.value & view.mask);
      view.verdict.text = outcome(view);
      return view;
    }
    table = entry.address;
  }
}

namespace {

/// Collects leaves in ascending order and joins neighbours.
class Collector {
 public:
  Collector(MappedView& view, std::size_t most) : view_(view), most_(most) {}

  void leaf(const MappedRange& page) {
    ++view_.pages;
    view_.bytes += page.last - page.first + 1;
    const bool joins = any_ && page.first == run_.last + 1 && page.gpa == run_.gpa + (run_.last - run_.first) + 1 &&
                       page.read == run_.read && page.write == run_.write;
    if (joins) {
      run_.last = page.last;
      return;
    }
    end();
    run_ = page;
    any_ = true;
  }
  void end() {
    if (!any_) return;
    ++view_.ranges_in_all;
    if (view_.ranges.size() < most_) view_.ranges.push_back(run_);
    any_ = false;
  }

 private:
  MappedView& view_;
  std::size_t most_;
  MappedRange run_;
  bool any_ = false;
};

}  // namespace

MappedView mapped_ranges(const Memory& memory, const TableRules& rules, const ContextView& context, std::size_t most) {
  MappedView view;
  if (context.verdict.reason != 0 || context.pass_through) return view;
  const SecondStageMasks masks = masks_of(rules.capabilities);
  Collector collector{view, most};

  struct Place {
    std::uint64_t table = 0;
    unsigned next = 0;  // entry to look at
    std::uint64_t iova = 0;
    bool read = true;
    bool write = true;
  };
  std::array<Place, walkers::second_stage_levels> path{};
  const unsigned top = context.levels - 1;
  unsigned level = top;
  unsigned tables = 1;
  path[top] = {context.table, 0, 0, true, true};
  while (true) {  // ends: each round looks at one entry of one of at most tables_at_most tables
    Place& place = path[level];
    const bool nothing_there = !memory.touched(place.table);
    if (place.next == entries_of_a_table || nothing_there) {
      if (level == top) break;
      ++level;
      continue;
    }
    const unsigned index = place.next++;
    const std::uint64_t iova = place.iova | (std::uint64_t{index} << page_bits(level));
    const std::optional<std::uint64_t> raw = memory.load(place.table + 8 * std::uint64_t{index});
    if (!raw || iova > context.last.value) continue;
    const Entry entry = decode(*raw, level, masks);
    if (!entry.present) continue;
    if (entry.wrong_bits != 0) {
      ++view.malformed;
      continue;
    }
    const bool read = place.read && entry.read;
    const bool write = place.write && entry.write;
    if (entry.leaf) {
      if (read || write) collector.leaf({iova, iova | low_bits(page_bits(level)), entry.address, read, write});
    } else if (++tables > tables_at_most) {
      view.complete = false;
      break;
    } else {
      path[--level] = {entry.address, 0, iova, read, write};
    }
  }
  collector.end();
  return view;
}

}  // namespace viommu::cli
