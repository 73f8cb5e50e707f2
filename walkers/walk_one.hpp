// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk that starts at any table and looks at its leaf's neighbours. It defines what the batch kernels answer.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/format.hpp"

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// A leaf's line: the asked entry, and WalkAnswer::run as if that entry were a leaf.
struct LeafLine {
  std::uint64_t entry = 0;
  std::uint8_t run = 0;
};

/// Reads a leaf's line word by word. What a kernel has in its place answers the same.
template <PageTableFormat Format>
class LeafLineByWords {
 public:
  explicit LeafLineByWords(const Format& format) noexcept : must_be_zero_{format.masks().leaf[0]} {}

  /// @param host     the line, mapped
  /// @param granted  what the path grants above the leaf (Format::bits_of)
  [[nodiscard]] LeafLine operator()(std::byte* host, std::size_t index, std::uint64_t granted) const noexcept {
    Line line;
    load_mapped_line(host, line, std::memory_order_relaxed);
    const std::uint64_t compared = Format::address_bits | granted;
    const std::uint64_t asked = line.words[index];
    const std::uint64_t base = (asked & compared) - index * page_size_bytes;
    unsigned run = 0;
    for (std::size_t i = 0; i < words_per_line; ++i) {
      std::uint64_t entry = line.words[i];
      // Word by word: loads of pairs would wait until the single words just stored have left the store buffer.
      asm("" : "+r"(entry));
      // No wrap looks like contiguity: addresses have 52 bits, and the differences are taken in 64.
      const std::uint64_t wrong = (((entry & compared) - i * page_size_bytes) ^ base) | (entry & must_be_zero_);
      run |= static_cast<unsigned>(wrong == 0) << i;
    }
    const unsigned own = 1U << index;
    // Two rare things: a path that grants nothing says nothing about presence, and the interrupt window is near.
    constexpr std::uint64_t reach = words_per_line * page_size_bytes;
    const std::uint64_t frame = Format::frame(asked, 0).value;
    const bool near_window = frame + reach >= interrupt_window.first && frame <= interrupt_window.last + reach;
    if ((asked & granted) == 0 || near_window) run &= usable(line, frame);
    return {asked, static_cast<std::uint8_t>(run | own)};
  }

 private:
  /// Present, and outside of the interrupt window; none when the asked frame is inside.
  static unsigned usable(const Line& line, std::uint64_t asked) noexcept {
    unsigned usable = 0;
    if (interrupt_window.contains(asked)) return usable;
    for (std::size_t i = 0; i < words_per_line; ++i) {
      const std::uint64_t entry = line.words[i];
      if ((entry & Format::right_bits) != 0 && !interrupt_window.contains(Format::frame(entry, 0).value))
        usable |= 1U << i;
    }
    return usable;
  }

  std::uint64_t must_be_zero_;
};

/// Follows one table tree from the request's table. At most level + 1 loads; no allocation, no lock.
/// @param read_line  LeafLineByWords, or what answers as it does
/// @param answer  written field by field, and no std::optional on the way: what is copied as a whole right after it was
///                stored in parts waits for the stores, and g++ 12 copies so (twice the time)
template <PageTableFormat Format, class ReadLine>
void walk_one(const Format& format, const MemoryView& memory, Fill fill, const WalkRequest& request, WalkAnswer& answer,
              const ReadLine& read_line) noexcept {
  assert(request.level < second_stage_levels);
  const MemoryView view = memory;  // in registers
  const unsigned top = request.level;
  const Iova iova = request.iova;
  Gpa table{request.table.value & ~low_bits(page_shift)};   // so that a slot never leaves its page
  std::uint64_t granted = Format::bits_of(request.rights);  // above `table`
  const auto end = [&](WalkEnd how, unsigned level, std::uint64_t rights, Gpa frame, std::uint8_t run) {
    answer.end = how;
    answer.level = static_cast<std::uint8_t>(level);
    answer.loads = static_cast<std::uint8_t>(top - level + 1);
    answer.rights = Format::rights(rights);
    answer.frame = frame;
    answer.table = table;
    answer.table_rights = Format::rights(granted);
    answer.run = run;
    std::atomic_thread_fence(std::memory_order_acquire);
  };
  const auto unreadable = [&](unsigned level) {
    const bool root = request.is_root && level == top;
    end(root ? WalkEnd::top_unreadable : WalkEnd::unreadable, level, granted, {}, 0);
  };
  // An entry that names no table. The guest may rewrite it at any time: decisions are taken on the copy.
  const auto last = [&](std::uint64_t entry, EntryKind kind, unsigned level, std::uint8_t run) {
    const std::uint64_t rights = granted & entry;
    if (kind == EntryKind::leaf) return end(WalkEnd::leaf, level, rights, Format::frame(entry, level), run);
    end(kind == EntryKind::absent ? WalkEnd::absent : WalkEnd::malformed, level, rights, {}, 0);
  };
  for (unsigned level = top; level != 0; --level) {
    const Gpa slot = Format::slot(table, iova, level);
    std::uint64_t entry = 0;
    if (std::byte* const host = view.find(slot); host != nullptr) {
      entry = load_mapped_u64(host, std::memory_order_relaxed);
    } else if (const std::optional<std::uint64_t> word = view.any_u64(view.opaque, slot); word) {
      entry = *word;
    } else {
      return unreadable(level);
    }
    const EntryKind kind = format.classify(entry, level);
    if (kind != EntryKind::table) return last(entry, kind, level, 0);
    granted &= entry;
    table = Format::next_table(entry);
  }
  const Gpa slot = Format::slot(table, iova, 0);
  const std::size_t index = slot.value / sizeof(std::uint64_t) % words_per_line;
  const auto own = static_cast<std::uint8_t>(1U << index);
  std::byte* host = view.find(slot);
  Line elsewhere;
  const bool whole_line = fill == Fill::line &&
                          (host != nullptr || view.any_line(view.opaque, {slot.value & ~(line_bytes - 1)}, elsewhere));
  if (whole_line) {
    std::byte* const line =
        host != nullptr ? host - slot.value % line_bytes : reinterpret_cast<std::byte*>(elsewhere.words.data());
    const LeafLine leaf = read_line(line, index, granted);
    last(leaf.entry, format.classify(leaf.entry, 0), 0, leaf.run);
  } else if (host != nullptr) {
    const std::uint64_t entry = load_mapped_u64(host, std::memory_order_relaxed);
    last(entry, format.classify(entry, 0), 0, own);
  } else if (const std::optional<std::uint64_t> word = view.any_u64(view.opaque, slot); word) {
    last(*word, format.classify(*word, 0), 0, own);
  } else {
    unreadable(0);
  }
}

template <PageTableFormat Format>
[[nodiscard]] WalkAnswer walk_one(const Format& format, const MemoryView& memory, Fill fill,
                                  const WalkRequest& request) noexcept {
  WalkAnswer answer;
  walk_one(format, memory, fill, request, answer, LeafLineByWords{format});
  return answer;
}

}  // namespace viommu::walkers
