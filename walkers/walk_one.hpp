// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk that starts at any table and looks at its leaf's neighbours. It defines what the batch kernels answer.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/format.hpp"

#include <array>
#include <atomic>
#include <bit>
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

/// A walk on its way.
struct Path {
  Gpa table;              ///< is looked at next
  std::uint64_t granted;  ///< above it (Format::bits_of)
};

/// Answers are written field by field, and loads come without std::optional where memory is mapped: what is copied as a
/// whole right after it was stored in parts waits for the stores, and g++ 12 copies so (twice the time).
/// @tparam ReadLine  LeafLineByWords, or what answers as it does; a kernel's own type makes this class its own too
template <PageTableFormat Format, class ReadLine>
class WalkOne {
 public:
  WalkOne(const Format& format, const MemoryView& memory, const ReadLine& read_line) noexcept
      : format_{format}, memory_{memory}, read_line_{read_line} {}

  /// From the request's table to the one of level 0, or to what ends the walk further up.
  /// @return whether `path` leads to a table of level 0; else `answer` is the whole answer
  [[nodiscard]] bool descend(const WalkRequest& request, Path& path, WalkAnswer& answer) const noexcept {
    assert(request.level < second_stage_levels);
    const Iova iova = request.iova;
    Path at{{request.table.value & ~low_bits(page_shift)}, Format::bits_of(request.rights)};  // no slot leaves its page
    for (unsigned level = request.level; level != 0; --level) {
      const Gpa slot = Format::slot(at.table, iova, level);
      std::uint64_t entry = 0;
      if (std::byte* const host = memory_.find(slot); host != nullptr) {
        entry = load_mapped_u64(host, std::memory_order_relaxed);
      } else if (const std::optional<std::uint64_t> word = memory_.any_u64(memory_.opaque, slot); word) {
        entry = *word;
      } else {
        unreadable(request, level, at, answer);
        return false;
      }
      // The guest may rewrite an entry at any time: every decision is taken on the copy.
      const EntryKind kind = format_.classify(entry, level);
      if (kind != EntryKind::table) {
        last(request, level, at, entry, kind, 0, answer);
        return false;
      }
      at = {Format::next_table(entry), at.granted & entry};
    }
    path = at;
    return true;
  }

  /// The last step, at a table of level 0.
  void finish(const WalkRequest& request, const Path& path, Fill fill, WalkAnswer& answer) const noexcept {
    const Gpa slot = Format::slot(path.table, request.iova, 0);
    const std::size_t index = slot.value / sizeof(std::uint64_t) % words_per_line;
    const auto own = static_cast<std::uint8_t>(1U << index);
    std::byte* const host = memory_.find(slot);
    if (host != nullptr && fill == Fill::line) {
      const LeafLine leaf = read_line_(host - slot.value % line_bytes, index, path.granted);
      last(request, 0, path, leaf.entry, format_.classify(leaf.entry, 0), leaf.run, answer);
    } else if (host != nullptr) {
      const std::uint64_t entry = load_mapped_u64(host, std::memory_order_relaxed);
      last(request, 0, path, entry, format_.classify(entry, 0), own, answer);
    } else if (Line line;
               fill == Fill::line && memory_.any_line(memory_.opaque, {slot.value & ~(line_bytes - 1)}, line)) {
      const LeafLine leaf = read_line_(reinterpret_cast<std::byte*>(line.words.data()), index, path.granted);
      last(request, 0, path, leaf.entry, format_.classify(leaf.entry, 0), leaf.run, answer);
    } else if (const std::optional<std::uint64_t> word = memory_.any_u64(memory_.opaque, slot); word) {
      last(request, 0, path, *word, format_.classify(*word, 0), own, answer);
    } else {
      unreadable(request, 0, path, answer);
    }
  }

  /// For a prefetch: where finish() will look. Null when that is not mapped.
  [[nodiscard]] const std::byte* leaf_of(const WalkRequest& request, const Path& path) const noexcept {
    return memory_.find(Format::slot(path.table, request.iova, 0));
  }

 private:
  static void end(const WalkRequest& request, unsigned level, const Path& path, WalkEnd how, std::uint64_t rights,
                  Gpa frame, std::uint8_t run, WalkAnswer& answer) noexcept {
    answer.end = how;
    answer.level = static_cast<std::uint8_t>(level);
    answer.loads = static_cast<std::uint8_t>(request.level - level + 1);
    answer.rights = Format::rights(rights);
    answer.frame = frame;
    answer.table = path.table;
    answer.table_rights = Format::rights(path.granted);
    answer.run = run;
  }
  static void unreadable(const WalkRequest& request, unsigned level, const Path& path, WalkAnswer& answer) noexcept {
    const bool root = request.is_root && level == request.level;
    end(request, level, path, root ? WalkEnd::top_unreadable : WalkEnd::unreadable, path.granted, {}, 0, answer);
  }
  /// An entry that names no table.
  static void last(const WalkRequest& request, unsigned level, const Path& path, std::uint64_t entry, EntryKind kind,
                   std::uint8_t run, WalkAnswer& answer) noexcept {
    const std::uint64_t rights = path.granted & entry;
    if (kind == EntryKind::leaf)
      return end(request, level, path, WalkEnd::leaf, rights, Format::frame(entry, level), run, answer);
    end(request, level, path, kind == EntryKind::absent ? WalkEnd::absent : WalkEnd::malformed, rights, {}, 0, answer);
  }

  // Where they lie: a copy of what the caller has just made would wait for its stores.
  const Format& format_;
  const MemoryView& memory_;
  const ReadLine& read_line_;
};

/// Follows one table tree from the request's table. At most level + 1 loads; no allocation, no lock.
/// @param read_line  LeafLineByWords, or what answers as it does
template <PageTableFormat Format, class ReadLine>
void walk_one(const Format& format, const MemoryView& memory, Fill fill, const WalkRequest& request, WalkAnswer& answer,
              const ReadLine& read_line) noexcept {
  const WalkOne walk{format, memory, read_line};
  if (Path path{}; walk.descend(request, path, answer)) walk.finish(request, path, fill, answer);
  std::atomic_thread_fence(std::memory_order_acquire);  // behind it, no look at anything else is older than these loads
}

inline constexpr std::size_t walk_group_size = 64;  ///< as many misses as a core keeps open, and some to follow

/// At most walk_group_size walks: all of them down to their leaf tables, then the leaves, which were on their way to
/// the cache meanwhile.
template <PageTableFormat Format, class ReadLine>
void walk_group(const Format& format, const MemoryView& memory, Fill fill, const WalkRequest* requests,
                WalkAnswer* answers, std::size_t count, const ReadLine& read_line) noexcept {
  if (count == 1) return walk_one(format, memory, fill, *requests, *answers, read_line);
  const WalkOne walk{format, memory, read_line};
  std::array<Path, walk_group_size> paths;
  std::uint64_t going_on = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!walk.descend(requests[i], paths[i], answers[i])) continue;
    going_on |= std::uint64_t{1} << i;
    __builtin_prefetch(walk.leaf_of(requests[i], paths[i]));
  }
  for (; going_on != 0; going_on &= going_on - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(going_on));
    walk.finish(requests[i], paths[i], fill, answers[i]);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
}

template <PageTableFormat Format>
[[nodiscard]] WalkAnswer walk_one(const Format& format, const MemoryView& memory, Fill fill,
                                  const WalkRequest& request) noexcept {
  WalkAnswer answer;
  walk_one(format, memory, fill, request, answer, LeafLineByWords{format});
  return answer;
}

}  // namespace viommu::walkers
