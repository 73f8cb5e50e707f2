// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One walk that starts at any table and looks at its leaf's neighbours. It defines what the batch kernels answer.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/format.hpp"

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// WalkAnswer::run of the leaf at `index` of its line. `rights`: what the path above grants.
template <PageTableFormat Format>
[[nodiscard]] constexpr std::uint8_t run_of(const Format& format, const Line& line, std::size_t index,
                                            Rights rights) noexcept {
  const auto outside = [](std::uint64_t frame) { return !interrupt_window.contains(frame); };
  const std::uint64_t asked = Format::frame(line.words[index], 0).value;
  const Rights granted = rights & Format::rights(line.words[index]);
  unsigned run = 1U << index;
  if (!outside(asked)) return static_cast<std::uint8_t>(run);
  for (std::size_t i = 0; i < words_per_line; ++i) {
    const std::uint64_t entry = line.words[i];
    const std::uint64_t frame = Format::frame(entry, 0).value;
    // Cannot wrap into a match: addresses have 52 bits, and the differences are taken in 64.
    const bool follows = frame - i * page_size_bytes == asked - index * page_size_bytes;
    const bool same = (rights & Format::rights(entry)) == granted;
    const bool leaf = format.classify(entry, 0) == EntryKind::leaf;
    run |= static_cast<unsigned>(follows & same & leaf & outside(frame)) << i;
  }
  return static_cast<std::uint8_t>(run);
}

/// Follows one table tree from the request's table. At most level + 1 loads; no allocation, no lock.
/// @param memory  a MemoryView or a GuestMemory
template <PageTableFormat Format, class Memory>
[[nodiscard]] WalkAnswer walk_one(const Format& format, const Memory& memory, Fill fill,
                                  const WalkRequest& request) noexcept {
  assert(request.level < second_stage_levels);
  WalkAnswer answer;
  answer.table = {request.table.value & ~low_bits(page_shift)};  // so that a slot never leaves its page
  answer.table_rights = request.rights;
  for (unsigned level = request.level;; --level) {  // ends: no format has a table entry at level 0
    const Gpa slot = Format::slot(answer.table, request.iova, level);
    const std::size_t index = (slot.value / sizeof(std::uint64_t)) % words_per_line;
    answer.level = static_cast<std::uint8_t>(level);
    answer.rights = answer.table_rights;
    ++answer.loads;
    Line line;
    std::uint64_t entry = 0;
    const bool whole_line =
        level == 0 && fill == Fill::line && memory.load_line({slot.value & ~(line_bytes - 1)}, line);
    if (whole_line) {
      entry = line.words[index];
    } else if (const std::optional<std::uint64_t> word = memory.load_u64(slot); word) {
      entry = *word;
    } else {
      answer.end = request.is_root && level == request.level ? WalkEnd::top_unreadable : WalkEnd::unreadable;
      return answer;
    }
    // The guest may rewrite the entry at any time: every decision below uses this one copy.
    const EntryKind kind = format.classify(entry, level);
    answer.rights = answer.table_rights & Format::rights(entry);
    if (kind == EntryKind::table) {
      answer.table = Format::next_table(entry);
      answer.table_rights = answer.rights;
      continue;
    }
    answer.end = kind == EntryKind::leaf     ? WalkEnd::leaf
                 : kind == EntryKind::absent ? WalkEnd::absent
                                             : WalkEnd::malformed;
    if (kind != EntryKind::leaf) return answer;
    answer.frame = Format::frame(entry, level);
    if (level == 0)
      answer.run =
          whole_line ? run_of(format, line, index, answer.table_rights) : static_cast<std::uint8_t>(1U << index);
    return answer;
  }
}

}  // namespace viommu::walkers
