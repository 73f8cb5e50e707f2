// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The page-table part of tables.hpp.
#include <array>
#include <cstddef>
#include <utility>

#include "engine/base/bits.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/tables.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned index_bits = 9;
constexpr unsigned entries_of_a_table = 1u << index_bits;

/// Tables looked into before the listing stops: a guest can let tables point to themselves, for 2^36 leaves.
constexpr unsigned tables_at_most = 1u << 16;

constexpr std::array<std::string_view, walkers::second_stage_levels> level_names{"PTE", "PDE", "PDPE", "PML4E",
                                                                                 "PML5E"};

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

/// How one kind of tables is read.
class Tables {
 public:
  Tables(StageView stage, const vtd::Capabilities& capabilities)
      : stage_{stage},
        first_{walkers::first_stage_masks(
            {capabilities.host_address_width, get(vtd::CapabilityRegister{capabilities.cap}, vtd::cap::fs1gp)})},
        second_{walkers::second_stage_masks({capabilities.host_address_width, capabilities.snoop_control,
                                             capabilities.pages_2m, capabilities.pages_1g})} {}

  [[nodiscard]] Entry decode(std::uint64_t raw, unsigned level) const noexcept {
    Entry entry;
    if (is_first()) {
      const walkers::FirstStageTable as_table{raw};
      entry.present = get(as_table, walkers::first_stage_table::present);
      entry.read = entry.present && get(as_table, walkers::first_stage_table::user);
      entry.write = entry.read && get(as_table, walkers::first_stage_table::write);
    } else {
      const walkers::SecondStageTable as_table{raw};
      entry.read = get(as_table, walkers::second_stage_table::read);
      entry.write = get(as_table, walkers::second_stage_table::write);
      entry.present = entry.read || entry.write;
    }
    if (!entry.present) return entry;
    // These two lie at the same place in both kinds.
    const walkers::SecondStageTable word{raw};
    const bool large =
        level != 0 && level < walkers::second_stage_leaf_levels && get(word, walkers::second_stage_table::page_size);
    const std::uint64_t address = get(word, walkers::second_stage_table::address).value;
    entry.leaf = level == 0 || large;
    entry.wrong_bits = raw & (entry.leaf ? leaf_mask(level) : table_mask(level));
    entry.address = entry.leaf ? address & ~low_bits(page_bits(level)) : address;
    return entry;
  }

  [[nodiscard]] std::vector<ShownField> fields(std::uint64_t raw, unsigned level, const Entry& entry) const {
    using namespace walkers;
    const std::uint64_t wrong = entry.wrong_bits;
    if (!entry.leaf)
      return is_first() ? fields_of(FirstStageTable{raw}, first_stage_table::rows, wrong)
                        : fields_of(SecondStageTable{raw}, second_stage_table::rows, wrong);
    switch (level) {
      case 0:
        return is_first() ? fields_of(FirstStageLeaf{raw}, first_stage_leaf::rows, wrong)
                          : fields_of(SecondStageLeaf{raw}, second_stage_leaf::rows, wrong);
      case 1:
        return is_first() ? fields_of(FirstStageLeaf2M{raw}, first_stage_leaf_2m::rows, wrong)
                          : fields_of(SecondStageLeaf2M{raw}, second_stage_leaf_2m::rows, wrong);
      default:
        return is_first() ? fields_of(FirstStageLeaf1G{raw}, first_stage_leaf_1g::rows, wrong)
                          : fields_of(SecondStageLeaf1G{raw}, second_stage_leaf_1g::rows, wrong);
    }
  }

  /// Whether the tables have something to say about an address.
  [[nodiscard]] bool reaches(Iova iova, Iova last) const noexcept {
    return iova <= last || (is_first() && (iova.value | last.value) == ~std::uint64_t{0});
  }
  /// The address that the indexes stand for: of a first stage with copies of its highest bit.
  [[nodiscard]] std::uint64_t address_of(std::uint64_t indexes, Iova last) const noexcept {
    return is_first() && indexes > last.value ? indexes | ~last.value : indexes;
  }

  /// Codes of the stage, in the order in which they are declared.
  struct Codes {
    FaultReason beyond;
    FaultReason top_unreadable;
    FaultReason unreadable;
    FaultReason absent;
    FaultReason malformed;
    FaultReason read_denied;
    FaultReason write_denied;
  };
  [[nodiscard]] const Codes& codes() const noexcept {
    using enum FaultReason;
    static constexpr Codes legacy{address_beyond_width, context_invalid, table_unreadable, read_denied,
                                  entry_reserved,       read_denied,     write_denied};
    static constexpr Codes second{second_beyond_width,      second_top_table_unreadable, second_table_unreadable,
                                  second_entry_not_present, second_entry_reserved,       stage_read_denied,
                                  stage_write_denied};
    static constexpr Codes first{address_not_canonical,   first_top_table_unreadable, first_table_unreadable,
                                 first_entry_not_present, first_entry_reserved,       user_denied,
                                 stage_write_denied};
    return stage_ == StageView::legacy ? legacy : is_first() ? first : second;
  }
  /// The rights a walk ends with, in words.
  [[nodiscard]] std::string outcome(const WalkView& view) const {
    if (view.read && view.write) return "readable and writable";
    if (view.read) return "readable; a write is " + verdict(codes().write_denied).text;
    if (view.write) return "writable; a read is " + verdict(codes().read_denied).text;
    if (stage_ == StageView::legacy) return "no right: a read is fault 6, a write fault 5";
    return "no right: " + verdict(is_first() ? codes().read_denied : codes().absent).text;
  }
  [[nodiscard]] Verdict absent() const {
    if (stage_ != StageView::legacy) return verdict(codes().absent);
    return {static_cast<std::uint8_t>(FaultReason::read_denied), "nothing mapped: a read is fault 6, a write fault 5"};
  }

 private:
  [[nodiscard]] bool is_first() const noexcept { return stage_ == StageView::first; }
  [[nodiscard]] std::uint64_t leaf_mask(unsigned level) const noexcept {
    return is_first() ? first_.leaf[level] : second_.leaf[level];
  }
  [[nodiscard]] std::uint64_t table_mask(unsigned level) const noexcept {
    return is_first() ? first_.table[level] : second_.table[level];
  }

  StageView stage_;
  walkers::FirstStageMasks first_;
  walkers::SecondStageMasks second_;
};

}  // namespace

WalkView walk(const Memory& memory, const TableRules& rules, const ContextView& context, Iova iova) {
  WalkView view;
  if (context.verdict.reason != 0) {
    view.verdict = context.verdict;
    return view;
  }
  if (context.nested) {
    view.verdict.text = "nested: the tables of its first stage lie behind the second, and are not followed here";
    return view;
  }
  const Tables tables{context.stage, rules.capabilities};
  if (context.pass_through) {
    if (iova.value > low_bits(rules.capabilities.host_address_width)) {
      view.verdict = verdict(context.stage == StageView::legacy ? FaultReason::address_beyond_width
                                                                : FaultReason::address_beyond_host_width);
      return view;
    }
    view.mapped = view.read = view.write = true;
    view.gpa = iova.value;
    view.mask = page_size_bytes - 1;
    view.verdict.text = "passes through untranslated: " + tables.outcome(view);
    return view;
  }
  if (!tables.reaches(iova, context.last)) {
    view.verdict = verdict(tables.codes().beyond);
    return view;
  }
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
      view.verdict = verdict(top ? tables.codes().top_unreadable : tables.codes().unreadable);
      return view;
    }
    const Entry entry = tables.decode(*step.entry.raw, level);
    step.entry.fields = tables.fields(*step.entry.raw, level, entry);
    step.entry.meaning = !entry.present ? "nothing mapped" : entry.leaf ? "page" : "table";
    view.steps.push_back(std::move(step));
    if (!entry.present) {
      view.verdict = tables.absent();
      return view;
    }
    if (entry.wrong_bits != 0) {
      view.verdict = verdict(tables.codes().malformed);
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
      view.verdict.text = tables.outcome(view);
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
  if (context.nested) {
    view.complete = false;
    return view;
  }
  const Tables stage{context.stage, rules.capabilities};
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
    const std::uint64_t address = stage.address_of(iova, context.last);
    if (!raw || !stage.reaches({address}, context.last)) continue;
    const Entry entry = stage.decode(*raw, level);
    if (!entry.present) continue;
    if (entry.wrong_bits != 0) {
      ++view.malformed;
      continue;
    }
    const bool read = place.read && entry.read;
    const bool write = place.write && entry.write;
    if (entry.leaf) {
      if (read || write) collector.leaf({address, address | low_bits(page_bits(level)), entry.address, read, write});
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
