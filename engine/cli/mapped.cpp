// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a source has mapped: all tables, where the engine ever only follows one path.
#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "engine/base/bits.hpp"
#include "engine/cli/shown.hpp"
#include "engine/cli/tables.hpp"
#include "engine/vtd/page_formats.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/second_stage.hpp"
#include "walkers/walk.hpp"

namespace viommu::cli {
namespace {

using walkers::EntryKind;

constexpr unsigned entries_of_a_table = 512;

/// Tables looked into before the listing stops: a guest can let tables point to themselves, for 2^36 leaves.
constexpr unsigned tables_at_most = 1U << 16;
/// And pages of a second stage behind pages of a first one.
constexpr unsigned pieces_at_most = 1U << 20;

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

/// The pages and tables of a first stage lie behind it; without one they lie where they say.
class Behind {
 public:
  Behind(const Memory& memory, const TableRules& rules, const caches::AddressSpaceKey& key)
      : guest_{guest_memory(memory)},
        format_{vtd::second_stage_rules(rules.capabilities)},
        key_{key},
        nested_{key.interpretation == caches::Interpretation::nested} {}

  struct Place {
    std::uint64_t gpa = 0;
    std::uint64_t mask = ~std::uint64_t{0};  // size - 1 of the page it is in
    Rights rights = read_write;
  };
  [[nodiscard]] std::optional<Place> find(std::uint64_t address) const {
    if (!nested_) return Place{address};
    if (address > low_bits(key_.second_width)) return std::nullopt;
    const walkers::Walk walk = walkers::walk(format_, guest_, key_.second_root, key_.second_top_level, {address});
    if (walk.end != walkers::WalkEnd::leaf || walk.rights.none()) return std::nullopt;
    const std::uint64_t mask = low_bits(walkers::SecondStage::page_shift(walk.level));
    return Place{walk.frame.value + (address & mask), mask, walk.rights};
  }

 private:
  const GuestMemory guest_;
  const walkers::SecondStage format_;
  const caches::AddressSpaceKey& key_;
  const bool nested_;
};

/// Goes through one table tree in ascending order of addresses.
template <walkers::PageTableFormat Format>
class Lister {
 public:
  Lister(const Format& format, const Memory& memory, const TableRules& rules, const caches::AddressSpaceKey& key,
         MappedView& view, std::size_t most)
      : format_{format}, memory_{memory}, key_{key}, behind_{memory, rules, key}, view_{view}, collector_{view, most} {}

  void list() {
    struct Place {
      std::uint64_t table = 0;
      unsigned next = 0;  // entry to look at
      std::uint64_t iova = 0;
      Rights rights = read_write;
    };
    std::array<Place, walkers::second_stage_levels> path{};
    const unsigned top = key_.top_level;
    unsigned level = top;
    unsigned tables = 1;
    path[top] = {key_.root.value};
    while (view_.complete) {  // ends: each round looks at one entry of one of at most tables_at_most tables
      Place& place = path[level];
      const auto lies = behind_.find(place.table);
      if (place.next == entries_of_a_table || !lies || !memory_.touched(lies->gpa)) {
        if (level == top) break;
        ++level;
        continue;
      }
      const unsigned index = place.next++;
      const std::uint64_t iova = place.iova | (std::uint64_t{index} << Format::page_shift(level));
      const std::optional<std::uint64_t> raw = memory_.load(lies->gpa + 8 * std::uint64_t{index});
      const std::uint64_t address = address_of(iova);
      if (!raw || (Iova{address} > key_.last && !key_.is_upper({address}))) continue;
      switch (format_.classify(*raw, level)) {
        case EntryKind::absent:    break;
        case EntryKind::malformed: ++view_.malformed; break;
        case EntryKind::leaf:
          add_page(address, Format::frame(*raw, level).value, level, place.rights & Format::rights(*raw));
          break;
        case EntryKind::table:
          view_.complete = ++tables <= tables_at_most;
          if (view_.complete)
            path[--level] = {Format::next_table(*raw).value, 0, iova, place.rights & Format::rights(*raw)};
          break;
      }
    }
    collector_.end();
  }

 private:
  /// The address that indexes stand for: of a first stage with copies of its highest bit.
  [[nodiscard]] std::uint64_t address_of(std::uint64_t indexes) const {
    return key_.has_first_stage() && indexes > key_.last.value ? indexes | ~key_.last.value : indexes;
  }
  /// A page, in the pieces that a second stage makes of it.
  void add_page(std::uint64_t iova, std::uint64_t gpa, unsigned level, Rights rights) {
    constexpr Behind::Place nowhere{0, low_bits(page_shift), {}};
    const std::uint64_t page_mask = low_bits(Format::page_shift(level));
    for (std::uint64_t into = 0; into <= page_mask;) {  // ends: by pages of 4 KiB at least, and pieces_at_most in all
      const auto lies = behind_.find(gpa + into).value_or(nowhere);
      const std::uint64_t mask = std::min(page_mask, lies.mask);
      const Rights both = rights & lies.rights;
      if (!both.none()) collector_.leaf({iova + into, iova + into + mask, lies.gpa, both.read(), both.write()});
      into += mask + 1;
      if (++pieces_ > pieces_at_most) {
        view_.complete = false;
        return;
      }
    }
  }

  const Format& format_;
  const Memory& memory_;
  const caches::AddressSpaceKey& key_;
  const Behind behind_;
  MappedView& view_;
  Collector collector_;
  unsigned pieces_ = 0;
};

}  // namespace

MappedView mapped_ranges(const Memory& memory, const TableRules& rules, const ContextView& context, std::size_t most) {
  MappedView view;
  const caches::AddressSpaceKey& key = context.key;
  if (context.verdict.reason != 0 || key.interpretation == caches::Interpretation::pass_through) return view;
  if (key.has_first_stage()) {
    const walkers::FirstStage format{vtd::first_stage_rules(rules.capabilities), {}};
    Lister{format, memory, rules, key, view, most}.list();
  } else {
    const walkers::SecondStage format{vtd::second_stage_rules(rules.capabilities)};
    Lister{format, memory, rules, key, view, most}.list();
  }
  return view;
}

}  // namespace viommu::cli
